"""Runs of a scenario, and what they report.

runner     a scenario from beginning to end: `run`, which is where to start
sweep      a scenario under many seeds, in many processes
trial      one of these seeds, where it runs
progress   how far a sweep is, on a terminal
command    ``tcpip-wasm sweep``
log        log records with the virtual time and the host
task_dump  what tasks wait for, in words
leaked     what a scenario has left open
"""
