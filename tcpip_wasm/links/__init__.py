"""Links: what an interface of a stack is joined to outside of the process.

A link carries whole frames (tap) or packets (tun) between an interface and something that is not a stack: a device of
the machine's kernel, a virtual machine's socket. It knows transports and the event loop, and never looks into a frame.
Importing this package opens nothing.

    link               the base: records, flow control, counters, bounds, the end
    descriptor         descriptors of which one read or write is one frame
    tuntap             the TUN and TAP devices of a Linux machine
    stream             byte streams in which each frame has its length before it
    qemu               virtual machines over such streams, both ends
    datagrams          sockets of which one datagram is one frame: QEMU, user-mode Linux, vfkit
    guest_listener     what accepts virtual machines
    transport_address  ``unix:PATH``, ``tcp:HOST:PORT``, ``udp:HOST:PORT``
"""

from tcpip_wasm.links.datagrams import DatagramLink, accept_vfkit, bind_datagrams, connect_bess, listen_bess
from tcpip_wasm.links.descriptor import DatagramSocketLink, DescriptorLink
from tcpip_wasm.links.guest_listener import GuestListener
from tcpip_wasm.links.link import FrameInterface, Link, LinkCounters
from tcpip_wasm.links.qemu import QemuLink, connect_qemu, listen_qemu
from tcpip_wasm.links.stream import StreamLink
from tcpip_wasm.links.tuntap import HostDevice, open_tuntap

__all__ = [
    "DatagramLink",
    "DatagramSocketLink",
    "DescriptorLink",
    "FrameInterface",
    "GuestListener",
    "HostDevice",
    "Link",
    "LinkCounters",
    "QemuLink",
    "StreamLink",
    "accept_vfkit",
    "bind_datagrams",
    "connect_bess",
    "connect_qemu",
    "listen_bess",
    "listen_qemu",
    "open_tuntap",
]
