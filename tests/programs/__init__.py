"""Programs that exist, unmodified: servers, and one client function each for all places where a server may run.

A server runs on a virtual host, or in a namespace of the kernel as `python -m tests.programs`.
Nothing here knows which.
"""
