"""Sockets: TCP and UDP as asyncio's transports and as streams, and ping.

    tcp               connections, listeners
    udp               datagram sockets
    tls               TLS over a TCP transport
    ping              echo requests to one host
    transport_socket  what `get_extra_info("socket")` gives
    congestion        names of the algorithms that control congestion
    options           socket options: defaults, values, and what the core carries out
    payload           the form of data, and how much of it waits or is delivered at once
    endpoints         addresses as callers write them and as the core has them

The reasons are in docs/explanation/tcp.md.
"""

from tcpip_wasm.sockets.ping import PingReply, PingSession
from tcpip_wasm.sockets.tcp.connection import TcpConnection, TcpListener
from tcpip_wasm.sockets.tcp.server import TcpServer
from tcpip_wasm.sockets.tcp.transport import TcpTransport
from tcpip_wasm.sockets.udp.udp_socket import UdpDatagram, UdpSocket
from tcpip_wasm.sockets.udp.udp_transport import UdpTransport

__all__ = [
    "PingReply",
    "PingSession",
    "TcpConnection",
    "TcpListener",
    "TcpServer",
    "TcpTransport",
    "UdpDatagram",
    "UdpSocket",
    "UdpTransport",
]
