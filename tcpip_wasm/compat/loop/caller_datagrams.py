"""Real UDP sockets that represent one of a stack: `sock_sendto`, `sock_recvfrom`, `create_datagram_endpoint(sock=…)`.

Like those of `caller_sockets` they carry no data themselves. The stack's socket gets the address and ``SO_BROADCAST``
of the caller's; multicast groups that the caller's has joined on the machine are not joined, because the kernel has no
call that lists them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Any

from tcpip_wasm.compat.loop.caller_sockets import Endpoint
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets.udp.udp_handle import DatagramQueue


def is_datagrams(sock: Any) -> bool:
    """Whether a socket could represent a UDP socket of a stack."""
    return (
        isinstance(sock, socket.socket)
        and sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_DGRAM
    )


def own_address(sock: socket.socket) -> tuple[Any, ...] | None:
    """Return the address that a socket is bound to, or None."""
    name = sock.getsockname()
    return name if name[1] else None


def peer_address(sock: socket.socket) -> tuple[Any, ...] | None:
    """Return the address that a socket is connected to, or None."""
    try:
        peer: tuple[Any, ...] = sock.getpeername()
    except OSError:
        return None
    return peer


def wants_broadcasts(sock: socket.socket) -> bool:
    """Whether a socket may send to broadcast addresses."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))


class DatagramEndpoint(Endpoint, asyncio.DatagramProtocol):
    """The protocol of a stack's UDP socket that a real socket represents.

    Attributes:
        dropped: datagrams that arrived while the queue was full.
    """

    error: BaseException | None

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop)
        self._arrived: DatagramQueue[tuple[bytes, Any]] = DatagramQueue()
        self.dropped: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._arrived.put((data, addr), len(data)):
            self._changed.fire()
        else:
            self.dropped += 1

    def error_received(self, exc: Exception) -> None:
        self.error = exc
        self._changed.fire()

    def connection_lost(self, error: BaseException | None) -> None:
        self.ended = True
        self.error = error or self.error
        self._changed.fire()

    def _check(self) -> None:
        error = self.error
        if not self.ended:
            self.error = None  # an ICMP error is raised once
        if error is not None:
            raise error
        if self.ended:
            raise network_error(errno.EBADF, "the socket was closed")

    async def receive_from(self, count: int) -> tuple[bytes, Any]:
        """Return at most `count` bytes of the next datagram, and its source. Cancelled, it removes none."""
        while not self._arrived:
            self._check()
            await self._changed.wait()
        data, source = self._arrived.take()
        return data[:count], source

    async def receive(self, count: int) -> bytes:
        """Return at most `count` bytes of the next datagram."""
        return (await self.receive_from(count))[0]

    async def send_to(self, data: Any, address: Any) -> int:
        """Send a datagram, once there is room, and return its length."""
        self._check()
        while self._full and not self.ended:
            await self._changed.wait()
        self.transport.sendto(data, address)
        self._check()
        return len(data)

    async def send(self, data: Any) -> None:
        """Send a datagram to the peer."""
        if self.transport.get_extra_info("peername") is None:
            raise network_error(errno.EDESTADDRREQ)
        await self.send_to(data, None)

    def hand_over(self, protocol: asyncio.DatagramProtocol) -> Any:
        """Pass the stack's socket and the queued datagrams to another protocol; return the transport."""
        self._check()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        while self._arrived:
            protocol.datagram_received(*self._arrived.take())
        return self.transport


def discard(sock: socket.socket) -> None:
    """Close a caller's socket that is no longer needed; errors are ignored."""
    with suppress(OSError):
        sock.close()
