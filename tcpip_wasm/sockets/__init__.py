"""Sockets: TCP and UDP as asyncio knows them and as streams, and ping.

    transport       one TCP connection as an `asyncio.Transport`
    payload         the form of data, and how much of it waits or is handed up at once
    weak_handler    events of a transport that only a paused program may still use
    handlers        how handlers of `start_server` end with their stack
    draining        what a closing stack waits for, and how it ends its connections
    sendfile        a file over a transport
    connect         one transport to a name's addresses
    tcp_open        opening connections and listeners, with TLS or without
    server          a listener that gives each connection a transport
    connection      connections and listeners in the stream-style interface
    stream_reader   the reader of `open_connection`, which does not copy
    tls             TLS over a transport
    tls_connection  the same in the stream-style interface
    sendfile        sending a file by a transport
    draining        the end of a stack's connections
    handlers        handlers of `start_server` that a closing stack ends
    stand_in        what `get_extra_info("socket")` gives
    options         socket options: defaults, values, and what the core carries out
    endpoints       addresses as callers write them and as the core has them
    udp_transport   one UDP socket as an `asyncio.DatagramTransport`
    udp             UDP sockets in the stream-style interface
    udp_open        opening them
    ping            echo requests to one host

The reasons are in docs/explanation/tcp.md.
"""

from tcpip_wasm.sockets.connection import TcpConnection, TcpListener
from tcpip_wasm.sockets.ping import PingReply, PingSession
from tcpip_wasm.sockets.server import TcpServer
from tcpip_wasm.sockets.transport import TcpTransport
from tcpip_wasm.sockets.udp import UdpDatagram, UdpSocket
from tcpip_wasm.sockets.udp_transport import UdpTransport

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
