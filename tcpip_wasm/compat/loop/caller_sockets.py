"""Real sockets that stand for connections of a stack.

Some programs make a socket themselves, hand it to `loop.sock_connect`, and then to `loop.create_connection(sock=…)` or
to `loop.sock_sendall` and `loop.sock_recv`. Such a socket is never connected: it is the key under which the stack's
connection is found. Owns that table, and ends connections whose socket was closed or forgotten.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, cast

from tcpip_wasm.compat.loop.guard import REAL
from tcpip_wasm.errors import NameResolutionError, network_error
from tcpip_wasm.sockets import TcpTransport
from tcpip_wasm.streams.locks import Signal


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that need not wait, and return what it returns.

    Raises:
        NameResolutionError: it would have to wait, for a name server.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise NameResolutionError(socket.EAI_AGAIN, "bind() to a name that a server has to be asked for: use an address")


class End:
    """What a socket stands for, and who waits for it.

    Attributes:
        transport: the stack's.
        ended: whether that is over.
        error: why, or what was reported.
    """

    transport: Any

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop: asyncio.AbstractEventLoop = loop or asyncio.get_running_loop()
        self._changed = Signal()
        self.ended = False
        self.error: BaseException | None = None


class SocketEnd(End, asyncio.Protocol):
    """The protocol of a connection nobody has taken over yet. It reads only while somebody receives."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop)
        self._received = bytearray()
        self._eof = False
        self._full = False
        self.transport: TcpTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self.transport.pause_reading()
        self._changed.fire()

    def eof_received(self) -> bool:
        self._eof = True
        self._changed.fire()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self.ended = self._eof = True
        self._changed.fire()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._changed.fire()

    async def receive(self, count: int) -> bytes:
        """Return at most so many bytes as soon as there are some, ``b""`` at the end. Cancelled, it takes nothing."""
        while not self._received:
            if self.error is not None:
                raise self.error
            if self._eof:
                return b""
            self.transport.resume_reading()
            await self._changed.wait()
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def send(self, data: Any) -> None:
        """Return once the data is on its way, or waits below the high-water mark."""
        self._check()
        self.transport.write(data)
        while self._full and not self.ended:
            await self._changed.wait()
        self._check()

    def _check(self) -> None:
        if self.ended:
            raise self.error or network_error(errno.EPIPE, "the connection has ended")

    def take_over(self) -> TcpTransport:
        """Return the transport for another protocol, which begins to read where nobody has read before.

        Raises:
            OSError: the connection has ended meanwhile.
        """
        self._check()
        return self.transport


_standing: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()


def _end_of(sock: socket.socket) -> Any:
    """Return what a `PlacedSocket` stands for.

    Raises:
        OSError: ``EBADF`` where it was closed.
    """
    end = _standing.get(sock)
    if end is None:
        raise network_error(errno.EBADF, "the socket was closed")
    return end


class PlacedSocket(socket.socket):
    """What a plain socket becomes while it stands for a connection: it has its addresses, and ends with it."""

    __slots__ = ()

    def _real_close(self, *arguments: Any) -> None:
        end = _standing.pop(self, None)
        super()._real_close(*arguments)  # type: ignore[misc]
        if end is not None:
            end.transport.close()

    def getpeername(self) -> Any:
        """Return the address of the connection's peer."""
        peer = _end_of(self).transport.get_extra_info("peername")
        if peer is None:
            raise network_error(errno.ENOTCONN)
        return peer

    def getsockname(self) -> Any:
        """Return the connection's own address."""
        return _end_of(self).transport.get_extra_info("sockname")

    def listen(self, backlog: int = 128, /) -> None:
        """Listen on the stack, at the address that `bind` has taken.

        Raises:
            OSError: ``EINVAL`` of a connection, ``EADDRINUSE``.
        """
        listen = getattr(_end_of(self), "listen", None)
        if listen is None:
            raise network_error(errno.EINVAL, "the socket stands for a connection")
        listen(self, backlog)

    def dup(self) -> NoReturn:
        """Raises OSError: ``EOPNOTSUPP``; a second descriptor would stand for nothing."""
        raise network_error(errno.EOPNOTSUPP, "socket.dup() of a socket that stands for one of a stack")

    def _cannot(self, call: str) -> NoReturn:
        raise network_error(
            errno.EOPNOTSUPP,
            f"socket.{call}() of a socket that stands for one of a stack: use loop.sock_{call}() or an asyncio server, "
            "or run the program in another thread inside polyfill_socket()",
        )

    def accept(self) -> NoReturn:
        """Raises OSError: ``EOPNOTSUPP``; connections are accepted by `loop.sock_accept` or a server."""
        self._cannot("accept")

    def connect(self, address: Any, /) -> NoReturn:
        """Raises OSError: ``EOPNOTSUPP``; `loop.sock_connect` connects."""
        self._cannot("connect")

    def connect_ex(self, address: Any, /) -> int:
        """Return ``EOPNOTSUPP``; `loop.sock_connect` connects."""
        return errno.EOPNOTSUPP

    def shutdown(self, how: int, /) -> None:
        """Say FIN, unless only receiving ends."""
        transport = _end_of(self).transport
        if not isinstance(transport, TcpTransport):
            raise network_error(errno.EOPNOTSUPP, "nothing to shut down of a socket of datagrams")
        if how != socket.SHUT_RD:
            transport.write_eof()


def _stand_for_itself(sock: Any) -> None:
    if isinstance(sock, PlacedSocket):
        cast(Any, sock).__class__ = REAL
    _standing.pop(sock, None)


def stand_for(sock: socket.socket, end: Any) -> None:
    """Let a plain socket have the addresses of what it stands for, and end with it."""
    if type(sock) in (REAL, PlacedSocket):  # of other kinds the end is noticed by `sweep`
        _standing[sock] = end
        sock.__class__ = PlacedSocket


def standing(sock: Any) -> Any:
    """Return what a socket has the addresses of, or None."""
    return _standing.get(sock) if isinstance(sock, PlacedSocket) else None


class PlacedSockets:
    """The table of sockets and what they stand for."""

    def __init__(self) -> None:
        self._ends: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._ends)

    def find(self, sock: Any) -> Any:
        """Return what a socket stands for, or None for one that stands for itself."""
        return self._ends.get(sock) if isinstance(sock, socket.socket) else None

    def take(self, sock: Any) -> Any:
        """Like `find`, and forget it."""
        if not isinstance(sock, socket.socket):
            return None
        _stand_for_itself(sock)
        return self._ends.pop(sock, None)

    async def connect(self, sock: socket.socket, make: Callable[[], Awaitable[tuple[Any, Any]]]) -> None:
        """Let a socket stand for a new connection. Cancelled or failed, it stands for nothing.

        Args:
            sock: not blocking.
            make: connects.

        Raises:
            ValueError: the socket would block.
            OSError: ``EISCONN`` where it stands for one already, or as connecting failed.
        """
        self.sweep()
        if sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock in self._ends:
            raise network_error(errno.EISCONN, "the socket stands for a connection already")
        _, end = await make()
        if sock.fileno() == -1:  # closed while we connected
            end.transport.close()
            raise network_error(errno.EBADF, "the socket was closed")
        self.put(sock, end)

    def put(self, sock: socket.socket, end: Any) -> None:
        """Let a socket stand for what is open already."""
        self._ends[sock] = end
        stand_for(sock, end)
        weakref.finalize(sock, _forgotten, end).atexit = False

    def bind(self, sock: socket.socket, end: Any) -> None:
        """Let a socket have the address that it is bound to on the stack."""
        self.sweep()
        stand_for(sock, end)

    def leave(self, sock: socket.socket) -> None:
        """Forget what a socket stands for; it goes on to stand for it when the polyfill ends."""
        self._ends.pop(sock, None)

    def has_descriptor(self, descriptor: Any) -> bool:
        """Whether a descriptor, or an object with one, is that of a socket in the table."""
        if not self._ends:
            return False
        if isinstance(descriptor, socket.socket):
            return descriptor in self._ends
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        return any(sock.fileno() == number for sock in self._ends)

    def sweep(self) -> None:
        """Close the connections of sockets that were closed."""
        for sock in [sock for sock in self._ends if sock.fileno() == -1]:
            self._ends.pop(sock).transport.close()

    def clear(self) -> None:
        """Close the connections that nobody took over."""
        while self._ends:
            sock, end = self._ends.popitem()
            _stand_for_itself(sock)
            end.transport.close()


def _forgotten(end: Any) -> None:
    """Nobody has the socket any more. A transport that was taken over has another protocol by then."""
    if end.transport.get_protocol() is end and not end.ended:
        with suppress(RuntimeError):  # the loop is closed
            end.loop.call_soon_threadsafe(end.transport.close)
