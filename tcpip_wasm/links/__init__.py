"""Links: what an interface of a stack is joined to outside of the process.

A link carries whole frames (tap) or packets (tun) between an interface and something that is not a stack: a device of
the machine's kernel, a virtual machine's socket. It knows transports and the event loop, and never looks into a frame.
Importing this package opens nothing.

    link        the base: records, flow control, counters, bounds, the end
    descriptor  descriptors of which one read or write is one frame
    tuntap      the TUN and TAP devices of a Linux machine
"""

from tcpip_wasm.links.descriptor import DatagramSocketLink, DescriptorLink
from tcpip_wasm.links.link import FrameInterface, Link, LinkCounters
from tcpip_wasm.links.tuntap import HostDevice, open_tuntap

__all__ = [
    "DatagramSocketLink",
    "DescriptorLink",
    "FrameInterface",
    "HostDevice",
    "Link",
    "LinkCounters",
    "open_tuntap",
]
