"""Links: what an interface of a stack is joined to outside of the process.

A link carries whole frames (tap) or packets (tun) between an interface and something that is not a stack: a device of
the machine's kernel, a virtual machine's socket. It knows transports and the event loop, and never looks into a frame.
Importing this package opens nothing. WebSockets need the extra ``websocket``, WireGuard and encrypted datagrams the
extra ``wireguard``; their libraries are imported with the first use of such a name.

    link               the base: records, flow control, counters, bounds, the end
    descriptor         descriptors of which one read or write is one frame
    tuntap             the TUN and TAP devices of a Linux machine
    stream             byte streams in which each frame has its length before it
    qemu               virtual machines over such streams, both ends
    datagrams          sockets of which one datagram is one frame: QEMU, user-mode Linux, vfkit
    encrypted_link     UDP with an authenticated cipher; encrypted_datagrams: its protocol, without a socket
    websocket          Ethernet over WebSockets, both ends
    message_socket     one WebSocket connection as messages; message_server: the base of servers that accept them
    wisp_server        TCP and UDP streams for clients of Wisp; wisp_client, wisp_wire: the other side, the packets
    wireguard          WireGuard as what carries a tun's packets
    machine_network    the machine's network, less what must not be reached
    guests             the interfaces of guests that connect
    guest_listener     what accepts virtual machines
    transport_address  ``unix:PATH``, ``tcp:HOST:PORT``, ``udp:HOST:PORT``
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tcpip_wasm.links.datagrams import DatagramLink, accept_vfkit, bind_datagrams, connect_bess, listen_bess
from tcpip_wasm.links.descriptor import DatagramSocketLink, DescriptorLink
from tcpip_wasm.links.guest_listener import GuestListener
from tcpip_wasm.links.guests import bridge_port
from tcpip_wasm.links.link import FrameInterface, Link, LinkCounters
from tcpip_wasm.links.machine_network import MachineNetwork
from tcpip_wasm.links.qemu import QemuLink, connect_qemu, listen_qemu
from tcpip_wasm.links.stream import StreamLink
from tcpip_wasm.links.tuntap import HostDevice, open_tuntap

if TYPE_CHECKING:
    from tcpip_wasm.links.encrypted_link import EncryptedLink
    from tcpip_wasm.links.websocket import WebSocketLink, WebSocketRelay, connect_websocket
    from tcpip_wasm.links.wireguard import (
        TunnelCounters,
        WireGuard,
        WireGuardConfiguration,
        WireGuardPeer,
        WireGuardPeerStatus,
        read_wireguard_configuration,
    )
    from tcpip_wasm.links.wisp_client import WispClient
    from tcpip_wasm.links.wisp_server import WispServer

__all__ = [
    "DatagramLink",
    "DatagramSocketLink",
    "DescriptorLink",
    "EncryptedLink",
    "FrameInterface",
    "GuestListener",
    "HostDevice",
    "Link",
    "LinkCounters",
    "MachineNetwork",
    "QemuLink",
    "StreamLink",
    "TunnelCounters",
    "WebSocketLink",
    "WebSocketRelay",
    "WireGuard",
    "WireGuardConfiguration",
    "WireGuardPeer",
    "WireGuardPeerStatus",
    "WispClient",
    "WispServer",
    "accept_vfkit",
    "bind_datagrams",
    "bridge_port",
    "connect_bess",
    "connect_qemu",
    "connect_websocket",
    "listen_bess",
    "listen_qemu",
    "open_tuntap",
    "read_wireguard_configuration",
]

_LAZY = {
    "EncryptedLink": "encrypted_link",
    "TunnelCounters": "wireguard",
    "WebSocketLink": "websocket",
    "WebSocketRelay": "websocket",
    "WireGuard": "wireguard",
    "WireGuardConfiguration": "wireguard",
    "WireGuardPeer": "wireguard",
    "WireGuardPeerStatus": "wireguard",
    "WispClient": "wisp_client",
    "WispServer": "wisp_server",
    "connect_websocket": "websocket",
    "read_wireguard_configuration": "wireguard",
}

_EXTRAS = {"websockets": "websocket", "cryptography": "wireguard"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(import_module(f"tcpip_wasm.links.{_LAZY[name]}"), name)
        except ModuleNotFoundError as missing:
            if missing.name not in _EXTRAS:
                raise
            extra = _EXTRAS[missing.name]
            raise ImportError(f"{name} needs {missing.name}: pip install 'tcpip-wasm[{extra}]'") from missing
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
