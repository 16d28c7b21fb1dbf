"""Links and switches of a simulated network.

settings  the parameters of one direction of a link
channel   one direction of a link
link      two channels between two ends
queue     queues of a transmitter: drop-tail and CoDel
marks     marks of explicit congestion notification, which CoDel sets
loss      loss models: independent, and in bursts
switch    learning switches
"""
