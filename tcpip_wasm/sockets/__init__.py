"""Sockets: TCP as asyncio knows it, and as streams.

    transport    one connection as an `asyncio.Transport`
    server       a listener that gives each connection a transport
    connection   connections and listeners in the stream-style interface
"""

from tcpip_wasm.sockets.connection import TcpConnection, TcpListener
from tcpip_wasm.sockets.server import TcpServer
from tcpip_wasm.sockets.transport import TcpTransport

__all__ = ["TcpConnection", "TcpListener", "TcpServer", "TcpTransport"]
