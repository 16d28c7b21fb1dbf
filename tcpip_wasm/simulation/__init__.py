"""Networks that repeat themselves: links with bandwidth, delay, queues and losses, between stacks and switches.

    loss       loss models: independent, and in bursts
    queue      what waits for a transmitter: drop-tail and CoDel
    settings   what one direction of a link does to frames
    channel    one direction of a link
    link       two channels between two ends
    switch     learning switches
"""

from tcpip_wasm.simulation.channel import Channel, ChannelStatistics
from tcpip_wasm.simulation.link import InterfaceEnd, Link, LinkEnd
from tcpip_wasm.simulation.loss import GilbertElliott
from tcpip_wasm.simulation.queue import CoDel, DropTail
from tcpip_wasm.simulation.settings import LinkSettings
from tcpip_wasm.simulation.switch import Switch, SwitchPort

__all__ = [
    "Channel",
    "ChannelStatistics",
    "CoDel",
    "DropTail",
    "GilbertElliott",
    "InterfaceEnd",
    "Link",
    "LinkEnd",
    "LinkSettings",
    "Switch",
    "SwitchPort",
]
