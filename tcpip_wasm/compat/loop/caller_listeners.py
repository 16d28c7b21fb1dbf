"""Real sockets that represent an address or a listener of a stack: `bind`, `listen`, `sock_accept`, servers.

Like those of `caller_sockets` they carry no data themselves; they are not bound on the machine. The loop accepts their
connections: by `sock_accept`, or by a server that is created with the socket.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tcpip_wasm.addresses import Address
from tcpip_wasm.compat.loop.caller_sockets import ConnectionEndpoint, Endpoint, attach, run_without_waiting
from tcpip_wasm.compat.loop.guard import REAL
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets import TcpServer, TcpTransport
from tcpip_wasm.sockets.options import REUSE_PORT, V6_ONLY, Key
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.compat.loop.caller_sockets import CallerSockets


def _is_set(sock: socket.socket, key: Key) -> bool:
    """Whether an option of a socket of the machine is on; False where the system or the family lacks the option."""
    with suppress(OSError):
        return bool(sock.getsockopt(*key))
    return False


class BoundEndpoint(Endpoint):
    """An address of the stack that a TCP socket is bound to, before it listens or connects.

    Args:
        stack: the stack.
        sock: the caller's.
        host: an address of the stack, a name that its hosts table has, or ``""`` for all addresses.
        port: the port; 0 chooses a free one.
        table: the table that records a listener.

    Raises:
        OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
    """

    def __init__(self, stack: NetworkStack, sock: Any, host: str, port: int, table: CallerSockets) -> None:
        super().__init__(stack.loop)
        self.stack = stack
        self._table = table
        self.transport = self  # a socket closes its endpoint's transport, and gets its addresses from it
        any_host = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}[sock.family]
        everywhere = host in ("", "::") and sock.family == socket.AF_INET6 and not _is_set(sock, V6_ONLY)
        self.host: str | None = None if everywhere else host or any_host
        self.addresses: list[tuple[Address | None, int]] = run_without_waiting(
            parts_of(stack).lookup.listening(self.host)
        )
        self.share = abi.SHARE_PORT if _is_set(sock, REUSE_PORT) else 0
        probe = parts_of(stack).tcp.serve(asyncio.Protocol, self.addresses, port, 1, share=self.share)
        port = probe.port
        self.port: int = port
        probe.close()
        shown = self.addresses[0][0]
        text = any_host if shown is None else str(shown)
        scope = self.addresses[0][1]
        self.name: tuple[Any, ...] = (text, port) if sock.family == socket.AF_INET else (text, port, 0, scope)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``."""
        return self.name if name == "sockname" else default

    def get_protocol(self) -> Any:
        """Return itself: no other protocol can take the socket over."""
        return self

    def close(self) -> None:
        """Release the address."""
        self.ended = True

    abort = close

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Listen; see `CallerSocket.listen`."""
        self._table.put(sock, ListenerEndpoint(self, backlog))


class ListenerEndpoint(Endpoint):
    """A listener of the stack that a socket represents, with the connections that wait to be accepted.

    Args:
        bound: the address.
        backlog: most connections that may wait.

    Raises:
        OSError: ``EADDRINUSE``.
    """

    def __init__(self, bound: BoundEndpoint, backlog: int) -> None:
        super().__init__(bound.stack.loop)
        self.bound = bound
        self.transport = self
        self._accepted: deque[_PendingEndpoint] = deque()
        self.server: TcpServer | None = parts_of(bound.stack).tcp.serve(
            partial(_PendingEndpoint, self, self.loop),
            bound.addresses,
            bound.port,
            max(1, backlog),
            hold_backlog=True,
            share=bound.share,
        )

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``."""
        return self.bound.get_extra_info(name, default)

    def get_protocol(self) -> Any:
        """Return itself: no other protocol can take the socket over."""
        return self

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Do nothing: it listens already."""

    def add_connection(self, endpoint: _PendingEndpoint) -> None:
        """Queue an established connection."""
        self._accepted.append(endpoint)
        self._changed.fire()

    async def accept(self) -> ConnectionEndpoint:
        """Return the next connection. Cancelled, it removes none.

        Raises:
            OSError: ``EBADF`` where the socket was closed.
        """
        while not self._accepted:
            if self.ended:
                raise network_error(errno.EBADF, "the socket was closed")
            await self._changed.wait()
        endpoint = self._accepted.popleft()
        endpoint.transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
        return endpoint

    def stop(self) -> deque[_PendingEndpoint]:
        """Stop listening, and return the connections that wait."""
        if self.server is not None:
            self.server.close()
            self.server = None
        waiting, self._accepted = self._accepted, deque()
        return waiting

    def close(self) -> None:
        """Stop listening, and reset the connections that wait."""
        self.ended = True
        for endpoint in self.stop():
            endpoint.transport.abort()
        self._changed.fire()

    abort = close


class _PendingEndpoint(ConnectionEndpoint):
    """A connection that waits to be accepted."""

    def __init__(self, listener: ListenerEndpoint, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.add_connection(self)


class ServerEndpoint(Endpoint):
    """A server of the stack that was created with a socket: the socket has its address, and closing it ends the server.

    Args:
        bound: the address.
        server: the server.
        sock: the socket.
    """

    def __init__(self, bound: BoundEndpoint, server: TcpServer, sock: socket.socket) -> None:
        super().__init__(bound.stack.loop)
        self.bound = bound
        self.server = server
        self.transport = self
        server.on_gone = sock.close
        attach(sock, self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``."""
        return self.bound.get_extra_info(name, default)

    def close(self) -> None:
        """Close the server."""
        if not self.ended:
            self.ended = True
            self.server.close()


def adopt(server: TcpServer, waiting: deque[_PendingEndpoint], wrap: Callable[[], asyncio.BaseProtocol]) -> None:
    """Pass connections that waited at a listening socket to the server that was created with it."""
    for endpoint in waiting:
        transport: TcpTransport = endpoint.transport
        if endpoint.ended:
            continue
        transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
        endpoint.release()
        transport.set_protocol(wrap())
        server.adopt(transport)


def unbind_from_machine(sock: socket.socket) -> None:
    """Release the machine's address of a socket that was bound there; the descriptor stays an unbound socket."""
    with REAL(sock.family, sock.type, sock.proto) as fresh, suppress(OSError):
        for key in (REUSE_PORT, V6_ONLY):
            if _is_set(sock, key):
                fresh.setsockopt(*key, 1)
        os.dup2(fresh.fileno(), sock.fileno(), inheritable=False)
    sock.setblocking(False)
