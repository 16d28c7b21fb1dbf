"""Virtual time.

loop     the event loop whose clock jumps to the next timer
clock    the process's clocks and random numbers, which follow it
dates    `datetime.now`, which follows these clocks
threads  the threads for whose results the loop has to wait
"""
