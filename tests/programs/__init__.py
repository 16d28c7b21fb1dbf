"""Existing programs, unmodified: servers, and a client function for each, wherever the server runs.

A server runs on a virtual host, or in a namespace of the kernel as `python -m tests.programs`.
Nothing here knows which.
"""
