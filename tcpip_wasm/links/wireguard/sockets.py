"""Where a tunnel's messages travel: the machine's UDP (`MachineSocket`), or a stack's (`StackSocket`).

Owns the sockets, segmentation offload where the kernel has it (UDP_SEGMENT and UDP_GRO, Linux 4.18 and 5.0), and how
long a sender waits. Must not know what is in a message.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from tcpip_wasm.links.wireguard.peer import SocketAddress

if TYPE_CHECKING:
    from tcpip_wasm.stack import NetworkStack

_NATIVE: Final = sys.byteorder

UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
_SOL_UDP: Final = 17

_READ_BYTES: Final = 65536
_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Of the socket, where the kernel grants it: what arrives while the program computes."""

_QUEUE_BYTES: Final = 256 * 1024
"""Of messages that wait for a stack's socket at most."""

Receive = Callable[[memoryview, int, SocketAddress], bool]
"""Takes messages in a row, the size of each but the last, and their source; returns whether more may be read."""


class MessageSocketPort(Protocol):
    """What a `WireGuard` needs of a socket."""

    @property
    def port(self) -> int: ...

    async def resolve(self, host: str, port: int, /) -> SocketAddress: ...

    def begin(self, receive: Receive, writable: Callable[[], None], /) -> None: ...

    def send(self, data: memoryview, size: int, endpoint: SocketAddress, /) -> int: ...

    def watch_writable(self) -> None: ...

    def watch_readable(self, watched: bool, /) -> None: ...

    def close(self) -> None: ...


async def bind_machine_socket(host: str | None, port: int) -> socket.socket:
    """Return a UDP socket of the machine.

    Args:
        host: the address to bind to; None is all addresses, of IPv6 and IPv4.
        port: 0 is any.

    Raises:
        OSError: the address is in use or none of this machine.
    """
    if host is None:
        try:
            return _bind(socket.AF_INET6, ("::", port))
        except OSError as problem:
            if problem.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
        return _bind(socket.AF_INET, ("0.0.0.0", port))
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    return _bind(found[0][0], found[0][4])


def _bind(family: int, address: SocketAddress) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


class MachineSocket:
    """A UDP socket of the machine, with the offloads of its kernel.

    Args:
        sock: bound; it is closed with this one.

    Raises:
        ValueError: it is no UDP socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_DGRAM:
            raise ValueError("sock: a UDP socket is needed")
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._segments = self._coalesces = False
        try:
            sock.setsockopt(_SOL_UDP, UDP_GRO, 1)
            self._coalesces = True
            sock.getsockopt(_SOL_UDP, UDP_SEGMENT)
            self._segments = True
        except OSError:
            pass  # an older kernel, or another system
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._reading = self._writing = False
        self._receive: Receive = _ignore
        self._writable: Callable[[], None] = _nothing

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return int(self._sock.getsockname()[1])

    async def resolve(self, host: str, port: int) -> SocketAddress:
        """Return the address of a host in the form of this socket. Raises `OSError` where it has none."""
        flags = socket.AI_V4MAPPED | socket.AI_ALL if self._sock.family == socket.AF_INET6 else 0
        found = await self._loop.getaddrinfo(host, port, family=self._sock.family, type=socket.SOCK_DGRAM, flags=flags)
        address: SocketAddress = found[0][4]
        return address

    def begin(self, receive: Receive, writable: Callable[[], None]) -> None:
        """Read from now on."""
        self._receive, self._writable = receive, writable
        self.watch_readable(True)

    def watch_readable(self, watched: bool) -> None:
        """Read, or leave messages to the kernel, which drops them when its buffer is full."""
        if watched != self._reading:
            self._reading = watched
            if watched:
                self._loop.add_reader(self._sock, self._readable)
            else:
                self._loop.remove_reader(self._sock)

    def watch_writable(self) -> None:
        """Call back once when the socket takes messages again."""
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock, self._on_writable)

    def _on_writable(self) -> None:
        self._writing = False
        self._loop.remove_writer(self._sock)
        self._writable()

    def send(self, data: memoryview, size: int, endpoint: SocketAddress) -> int:
        """Send messages in a row and return how many bytes the socket has taken.

        Args:
            data: messages of `size` bytes, the last of at most that.
            size: bytes.
            endpoint: where to.

        Raises:
            OSError: they are lost; `BlockingIOError` is not raised.
        """
        sock, total = self._sock, len(data)
        if total > size and self._segments:
            try:
                sock.sendmsg([data], [(_SOL_UDP, UDP_SEGMENT, size.to_bytes(2, _NATIVE))], 0, endpoint)
                return total
            except BlockingIOError:
                return 0
            except OSError as problem:
                if problem.errno not in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                    raise
                # EIO: a device without checksums. EINVAL, EMSGSIZE: a path with a smaller MTU: singly, they fragment.
                self._segments = problem.errno != errno.EIO
        for at in range(0, total, size):
            try:
                sock.sendto(data[at : at + size], endpoint)
            except BlockingIOError:
                return at
        return total

    def _readable(self) -> None:
        try:
            if self._coalesces:
                count, ancillary, _, source = self._sock.recvmsg_into([self._buffer], 64)
                size = next(
                    (int.from_bytes(data[:4], _NATIVE) for _, kind, data in ancillary if kind == UDP_GRO), count
                )
            else:
                count, source = self._sock.recvfrom_into(self._buffer)
                size = count
        except OSError:  # nothing to read after all, or an error of ICMP, which is not authenticated
            return
        self._receive(self._buffer[:count], size or count, source)

    def close(self) -> None:
        """Close the socket."""
        self.watch_readable(False)
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)
        self._sock.close()


class StackSocket(asyncio.DatagramProtocol):
    """A UDP socket of a stack. Messages leave in the loop's next iteration: `send` may be called from inside a poll of
    the same stack."""

    def __init__(self, stack: NetworkStack) -> None:
        self._stack = stack
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._waiting: deque[tuple[bytes, SocketAddress]] = deque()
        self._waiting_bytes = 0
        self._scheduled = self._paused = self._wanted = False
        self._receive: Receive = _ignore
        self._writable: Callable[[], None] = _nothing

    @classmethod
    async def bind(cls, stack: NetworkStack, host: str | None, port: int) -> StackSocket:
        """Return a socket of a stack. Raises `OSError` where the address is in use or none of the stack."""
        _, made = await stack.create_datagram_endpoint(lambda: cls(stack), local_addr=(host, port))  # type: ignore[arg-type]
        return made

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return int(self._transport.get_extra_info("sockname")[1])

    async def resolve(self, host: str, port: int) -> SocketAddress:
        """Return the address of a host. Raises `OSError` where it has none."""
        found = await self._stack.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        return found[0][4][:2]

    def begin(self, receive: Receive, writable: Callable[[], None]) -> None:
        """Take messages from now on."""
        self._receive, self._writable = receive, writable

    def watch_readable(self, watched: bool) -> None:
        """A stack's socket hands messages over as they arrive; those for which there is no room are lost."""

    def watch_writable(self) -> None:
        """Call back once when messages may be sent again."""
        self._wanted = True

    def send(self, data: memoryview, size: int, endpoint: SocketAddress) -> int:
        """See `MachineSocket.send`."""
        if self._waiting_bytes >= _QUEUE_BYTES:
            return 0
        for at in range(0, len(data), size):
            self._waiting.append((bytes(data[at : at + size]), endpoint))
        self._waiting_bytes += len(data)
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return len(data)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and not self._paused:
            message, endpoint = self._waiting.popleft()
            self._waiting_bytes -= len(message)
            if not self._transport.is_closing():
                self._transport.sendto(message, endpoint)
        if self._wanted and self._waiting_bytes < _QUEUE_BYTES:
            self._wanted = False
            self._writable()

    def close(self) -> None:
        """Close the socket."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._receive, self._writable = _ignore, _nothing
        self._transport.close()

    # --- asyncio's protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._receive(memoryview(data), len(data), addr[:2])

    def error_received(self, exc: Exception) -> None:
        """An error of ICMP: UDP goes on."""

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)


def _ignore(data: memoryview, size: int, source: SocketAddress) -> bool:
    return True


def _nothing() -> None:
    pass
