"""Links and switches of a simulated network.

settings  what one direction of a link does to frames
channel   one direction of a link
link      two channels between two ends
queue     the queue before a transmitter: drop-tail and CoDel
loss      loss models: independent, and in bursts
switch    learning switches
"""
