"""Real sockets that stand for an address or a listener of a stack: `bind`, `listen`, `sock_accept`, servers.

Like those in `placed` they carry nothing themselves; they are not bound on the machine. What arrives is accepted by the
loop: by `sock_accept`, or by a server to which the socket is given.
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
from tcpip_wasm.compat.loop.caller_sockets import End, SocketEnd, at_once, stand_for
from tcpip_wasm.compat.loop.guard import REAL
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets import TcpServer, TcpTransport
from tcpip_wasm.sockets.options import REUSE_PORT, V6_ONLY, Key
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.compat.loop.caller_sockets import PlacedSockets


def _is_set(sock: socket.socket, key: Key) -> bool:
    """Whether an option of a socket of the machine is on; one that the system or the family lacks is not."""
    with suppress(OSError):
        return bool(sock.getsockopt(*key))
    return False


class BoundEnd(End):
    """An address of the stack that a TCP socket is bound to, and that nothing uses yet.

    Args:
        stack: the stack.
        sock: the caller's.
        host: an own address, a name of the stack's own, or ``""`` for all.
        port: the port; 0 finds a free one.
        table: where a listener is noted.

    Raises:
        OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
    """

    def __init__(self, stack: NetworkStack, sock: Any, host: str, port: int, table: PlacedSockets) -> None:
        super().__init__(stack.loop)
        self.stack = stack
        self._table = table
        self.transport = self  # what a socket closes, and asks for addresses
        any_host = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}[sock.family]
        everywhere = host in ("", "::") and sock.family == socket.AF_INET6 and not _is_set(sock, V6_ONLY)
        self.host: str | None = None if everywhere else host or any_host
        self.addresses: list[tuple[Address | None, int]] = at_once(parts_of(stack).lookup.listening(self.host))
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
        """Return what waits for something: itself."""
        return self

    def close(self) -> None:
        """Give the address up."""
        self.ended = True

    abort = close

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Listen; see `PlacedSocket.listen`."""
        self._table.put(sock, ListenEnd(self, backlog))


class ListenEnd(End):
    """A listener of the stack that a socket stands for, with the connections that wait to be accepted.

    Args:
        bound: the address.
        backlog: connections that may wait.

    Raises:
        OSError: ``EADDRINUSE``.
    """

    def __init__(self, bound: BoundEnd, backlog: int) -> None:
        super().__init__(bound.stack.loop)
        self.bound = bound
        self.transport = self
        self._accepted: deque[_AcceptedEnd] = deque()
        self.server: TcpServer | None = parts_of(bound.stack).tcp.serve(
            partial(_AcceptedEnd, self, self.loop),
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
        """Return what waits for something: itself."""
        return self

    def listen(self, sock: socket.socket, backlog: int) -> None:
        """Nothing to do: it listens."""

    def arrived(self, end: _AcceptedEnd) -> None:
        """A connection is open."""
        self._accepted.append(end)
        self._changed.fire()

    async def accept(self) -> SocketEnd:
        """Return the next connection. Cancelled, it takes none.

        Raises:
            OSError: ``EBADF`` where the socket was closed.
        """
        while not self._accepted:
            if self.ended:
                raise network_error(errno.EBADF, "the socket was closed")
            await self._changed.wait()
        end = self._accepted.popleft()
        end.transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
        return end

    def stop(self) -> deque[_AcceptedEnd]:
        """Stop listening, and return the connections that wait."""
        if self.server is not None:
            self.server.close()
            self.server = None
        waiting, self._accepted = self._accepted, deque()
        return waiting

    def close(self) -> None:
        """Stop listening, and reset the connections that wait."""
        self.ended = True
        for end in self.stop():
            end.transport.abort()
        self._changed.fire()

    abort = close


class _AcceptedEnd(SocketEnd):
    """A connection that waits to be accepted."""

    def __init__(self, listener: ListenEnd, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.arrived(self)


class ServerEnd(End):
    """A server of the stack to which a socket was given: the socket has its address, and ends with it.

    Args:
        bound: the address.
        server: the server.
        sock: the socket.
    """

    def __init__(self, bound: BoundEnd, server: TcpServer, sock: socket.socket) -> None:
        super().__init__(bound.stack.loop)
        self.bound = bound
        self.server = server
        self.transport = self
        server.on_gone = sock.close
        stand_for(sock, self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``."""
        return self.bound.get_extra_info(name, default)

    def close(self) -> None:
        """Close the server."""
        if not self.ended:
            self.ended = True
            self.server.close()


def adopt(server: TcpServer, waiting: deque[_AcceptedEnd], wrap: Callable[[], asyncio.BaseProtocol]) -> None:
    """Give connections that waited at a socket to the server that it was given to."""
    for end in waiting:
        transport: TcpTransport = end.transport
        if end.ended:
            continue
        transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
        transport.set_protocol(wrap())
        server.adopt(transport)


def leave_machine(sock: socket.socket) -> None:
    """Release the machine's address of a socket that was bound there; its descriptor stays a socket, without one."""
    with REAL(sock.family, sock.type, sock.proto) as fresh, suppress(OSError):
        for key in (REUSE_PORT, V6_ONLY):
            if _is_set(sock, key):
                fresh.setsockopt(*key, 1)
        os.dup2(fresh.fileno(), sock.fileno(), inheritable=False)
    sock.setblocking(False)
