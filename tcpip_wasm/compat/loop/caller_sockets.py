"""Real sockets that represent connections of a stack.

Some programs create a socket themselves, pass it to `loop.sock_connect`, and then to `loop.create_connection(sock=…)`
or to `loop.sock_sendall` and `loop.sock_recv`. Such a socket is never connected: it is the key under which the stack's
connection is found. This module owns that table, and closes connections whose socket was closed or garbage-collected.
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


def run_without_waiting(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that does not suspend, and return its result.

    Raises:
        NameResolutionError: it would suspend, to wait for a name server.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise NameResolutionError(socket.EAI_AGAIN, "bind() to a name that needs a name server: use an address")


class Endpoint:
    """What a caller's socket represents, and the futures of the tasks that wait for a change of it.

    Attributes:
        transport: the stack's transport.
        ended: whether the connection or the socket of the stack is closed.
        error: the reason, or an error that ICMP reported.
    """

    transport: Any

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop: asyncio.AbstractEventLoop = loop or asyncio.get_running_loop()
        self._changed = Signal()
        self.ended = False
        self.error: BaseException | None = None
        self._full = False  # the transport takes no more for now

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._changed.fire()


class ConnectionEndpoint(Endpoint, asyncio.Protocol):
    """The protocol of a connection that no other protocol has taken over yet. It reads only while a task receives."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop)
        self._received = bytearray()
        self._eof = False
        self.transport: TcpTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        self.transport = transport
        transport.auto_credit = False  # data is read when a task receives it
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

    async def receive(self, count: int) -> bytes:
        """Return at most `count` bytes once some have arrived, ``b""`` at the end. Cancelled, it removes nothing."""
        while not self._received:
            if self.error is not None:
                raise self.error
            if self._eof:
                return b""
            self.transport.resume_reading()
            await self._changed.wait()
        data = bytes(self._received[:count])
        del self._received[:count]
        self.transport.credit(len(data))
        return data

    async def send(self, data: Any) -> None:
        """Return once the data is sent, or is buffered below the high-water mark."""
        self._check()
        self.transport.write(data)
        while self._full and not self.ended:
            await self._changed.wait()
        self._check()

    def _check(self) -> None:
        if self.ended:
            raise self.error or network_error(errno.EPIPE, "the connection has ended")

    def take_over(self) -> TcpTransport:
        """Return the transport for another protocol, which reads from the first byte that was not received here.

        Raises:
            OSError: the connection has ended in the meantime.
        """
        self._check()
        self.release()
        return self.transport

    def release(self) -> None:
        """Leave the transport to a protocol whose data counts as read once it has it."""
        self.transport.auto_credit = True


_attached: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()


def _endpoint_of(sock: socket.socket) -> Any:
    """Return the endpoint of a `CallerSocket`.

    Raises:
        OSError: ``EBADF`` where it was closed.
    """
    endpoint = _attached.get(sock)
    if endpoint is None:
        raise network_error(errno.EBADF, "the socket was closed")
    return endpoint


class CallerSocket(socket.socket):
    """The class of a plain socket while it represents an endpoint: it has its addresses, and closing it closes that."""

    __slots__ = ()

    def _real_close(self, *arguments: Any) -> None:
        endpoint = _attached.pop(self, None)
        super()._real_close(*arguments)  # type: ignore[misc]
        if endpoint is not None:
            endpoint.transport.close()

    def getpeername(self) -> Any:
        """Return the address of the connection's peer."""
        peer = _endpoint_of(self).transport.get_extra_info("peername")
        if peer is None:
            raise network_error(errno.ENOTCONN)
        return peer

    def getsockname(self) -> Any:
        """Return the connection's own address."""
        return _endpoint_of(self).transport.get_extra_info("sockname")

    def listen(self, backlog: int = 128, /) -> None:
        """Listen on the stack, at the address that `bind` has taken.

        Raises:
            OSError: ``EINVAL`` of a connection, ``EADDRINUSE``.
        """
        listen = getattr(_endpoint_of(self), "listen", None)
        if listen is None:
            raise network_error(errno.EINVAL, "the socket represents a connection")
        listen(self, backlog)

    def dup(self) -> NoReturn:
        """Raises OSError: ``EOPNOTSUPP``; a second descriptor would represent nothing."""
        raise network_error(errno.EOPNOTSUPP, "socket.dup() of a socket that represents one of a stack")

    def _cannot(self, call: str) -> NoReturn:
        raise network_error(
            errno.EOPNOTSUPP,
            f"socket.{call}() of a socket that represents one of a stack: use loop.sock_{call}() or an asyncio server, "
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
        """Send FIN, unless only receiving is shut down."""
        transport = _endpoint_of(self).transport
        if not isinstance(transport, TcpTransport):
            raise network_error(errno.EOPNOTSUPP, "a UDP socket cannot be shut down")
        if how != socket.SHUT_RD:
            transport.write_eof()


def _detach(sock: Any) -> None:
    if isinstance(sock, CallerSocket):
        cast(Any, sock).__class__ = REAL
    _attached.pop(sock, None)


def attach(sock: socket.socket, endpoint: Any) -> None:
    """Let a plain socket represent an endpoint: it gets its addresses, and closing it closes the endpoint."""
    if type(sock) in (REAL, CallerSocket):  # that a socket of another class was closed, `sweep` finds out
        _attached[sock] = endpoint
        sock.__class__ = CallerSocket


def attached(sock: Any) -> Any:
    """Return the endpoint that a socket represents, or None."""
    return _attached.get(sock) if isinstance(sock, CallerSocket) else None


class CallerSockets:
    """The table of callers' sockets and the endpoints that they represent."""

    def __init__(self) -> None:
        self._endpoints: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._endpoints)

    def find(self, sock: Any) -> Any:
        """Return the endpoint that a socket represents, or None for a socket of the machine."""
        return self._endpoints.get(sock) if isinstance(sock, socket.socket) else None

    def take(self, sock: Any) -> Any:
        """Remove a socket from the table, and return the endpoint that it represented, or None."""
        if not isinstance(sock, socket.socket):
            return None
        _detach(sock)
        return self._endpoints.pop(sock, None)

    async def connect(self, sock: socket.socket, make: Callable[[], Awaitable[tuple[Any, Any]]]) -> None:
        """Let a socket represent a new connection. Cancelled or failed, it represents nothing.

        Args:
            sock: a non-blocking socket.
            make: connects.

        Raises:
            ValueError: the socket is blocking.
            OSError: ``EISCONN`` where it represents a connection already, or the error that connecting raised.
        """
        self.sweep()
        if sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock in self._endpoints:
            raise network_error(errno.EISCONN, "the socket represents a connection already")
        _, endpoint = await make()
        if sock.fileno() == -1:  # closed while we connected
            endpoint.transport.close()
            raise network_error(errno.EBADF, "the socket was closed")
        self.put(sock, endpoint)

    def put(self, sock: socket.socket, endpoint: Any) -> None:
        """Let a socket represent an open endpoint."""
        self._endpoints[sock] = endpoint
        attach(sock, endpoint)
        weakref.finalize(sock, _close_collected, endpoint).atexit = False

    def bind(self, sock: socket.socket, endpoint: Any) -> None:
        """Let a socket represent the address that it is bound to on the stack."""
        self.sweep()
        attach(sock, endpoint)

    def forget(self, sock: socket.socket) -> None:
        """Remove a socket from the table; it represents its endpoint even after the polyfill has ended."""
        self._endpoints.pop(sock, None)

    def has_descriptor(self, descriptor: Any) -> bool:
        """Whether a descriptor, or an object with one, is that of a socket in the table."""
        if not self._endpoints:
            return False
        if isinstance(descriptor, socket.socket):
            return descriptor in self._endpoints
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        return any(sock.fileno() == number for sock in self._endpoints)

    def sweep(self) -> None:
        """Close the connections of sockets that were closed."""
        for sock in [sock for sock in self._endpoints if sock.fileno() == -1]:
            self._endpoints.pop(sock).transport.close()

    def clear(self) -> None:
        """Close the connections that no protocol took over."""
        while self._endpoints:
            sock, endpoint = self._endpoints.popitem()
            _detach(sock)
            endpoint.transport.close()


def _close_collected(endpoint: Any) -> None:
    """Close the endpoint of a socket that was garbage-collected, unless another protocol has its transport."""
    if endpoint.transport.get_protocol() is endpoint and not endpoint.ended:
        with suppress(RuntimeError):  # the loop is closed
            endpoint.loop.call_soon_threadsafe(endpoint.transport.close)
