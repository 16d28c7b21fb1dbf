"""Runs of a scenario, and their reports.

runner     `run`, the entry point: runs a scenario from beginning to end
sweep      runs a scenario under many seeds, in many processes
trial      runs one of these seeds, in the worker
progress   the progress line of a sweep, on a terminal
command    ``tcpip-wasm sweep``
log        log records with the virtual time and the host
task_dump  describes what tasks wait for
leaked     lists tasks, sockets and stacks that a scenario has not closed
"""
