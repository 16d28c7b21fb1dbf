"""Virtual time.

loop     the event loop, whose clock jumps to the next timer
clock    the process's clocks and random numbers, which follow the loop
dates    `datetime.now`, which follows these clocks
nested   lets the loop run inside of Pyodide's
threads  finds the threads that the loop has to wait for
"""
