"""Links: where an interface of a stack meets the world outside the process.

A link carries whole frames (tap) or packets (tun) between an interface and something that is not a stack: a
device of the host's kernel, a virtual machine's socket. It knows file descriptors and the event loop; it
never looks into a frame. All of it is in `tuntap`. Importing this package needs nothing but the standard
library, and opens nothing.
"""

from .tuntap import (
    DatagramSocketLink,
    DescriptorLink,
    FrameInterface,
    HostDevice,
    LinkCounters,
    open_tuntap,
)

__all__ = [
    "DatagramSocketLink",
    "DescriptorLink",
    "FrameInterface",
    "HostDevice",
    "LinkCounters",
    "open_tuntap",
]
