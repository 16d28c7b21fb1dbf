"""TCP listeners: `TcpServer`, which is an `asyncio.Server` in all but class, over listening handles of the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import Address
from tcpip_wasm.errors import StackError
from tcpip_wasm.sockets.transport import TcpTransport


class TcpServer(asyncio.AbstractServer):
    """Accepts connections and gives each a transport and a protocol.

    Args:
        driver: the stack's driver.
        factory: makes a protocol for each connection.
        addresses: own addresses to listen on, each with the handle of its scope or 0; None among them is all of them,
            IPv4 and IPv6.
        port: the port; 0 takes a free one, the same on all addresses.
        backlog: connections that may wait for the loop, 1 to 255.
        scope_name: see `TcpTransport`.
        hold_backlog: whether a connection keeps its place in the backlog until `TcpTransport.leave_backlog`.

    Attributes:
        on_gone: called once nothing listens any more.

    Raises:
        OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL`` or ``ENOBUFS``; then nothing listens.
    """

    def __init__(
        self,
        driver: Driver,
        factory: Callable[[], asyncio.BaseProtocol],
        addresses: list[tuple[Address | None, int]],
        port: int,
        backlog: int,
        scope_name: Any = None,
        hold_backlog: bool = False,
    ) -> None:
        self._hold_backlog = hold_backlog
        self.on_gone: Callable[[], None] | None = None
        self._driver = driver
        self._factory = factory
        self._scope_name = scope_name
        self._connections: set[TcpTransport] = set()
        self._closed: asyncio.Future[None] = driver.loop.create_future()
        self._forever: asyncio.Future[None] | None = None
        self._handles: dict[int, str] = {}
        self.port = port
        try:
            for address, scope in addresses:
                handle = driver.core.tcp_listen(address, self.port, backlog, scope=scope)
                self.port = driver.core.tcp_local_port(handle)
                name = f"%{scope_name(scope)}" if scope and scope_name is not None else ""
                self._handles[handle] = f"{address}{name}" if address is not None else "*"
                driver.handlers[handle] = self
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        where = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        return f"<TcpServer {'on ' + where if where else 'closed'}>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each listening address; the host is ``*`` where it is all of them."""
        return [(host, self.port) for host in self._handles.values()]

    @property
    def sockets(self) -> tuple[Any, ...]:
        """One object with `getsockname` for each listening address, as users of asyncio expect."""
        return tuple(_ListeningSocket(a, self.port) for a in self._handles.values())

    def on_event(self, kind: int, value: int, payload: bytes) -> None:
        """A connection was accepted: `value` is its handle."""
        try:
            protocol = self._factory()
        except BaseException as error:
            self._driver.core.tcp_abort(value)
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise
            self._driver.report(error, "a protocol factory failed")
            return
        transport = TcpTransport(
            self._driver, value, protocol, endpoints=payload, scope_name=self._scope_name
        )
        self._connections.add(transport)
        transport.on_lost = self._lost
        if not self._hold_backlog:
            transport.leave_backlog()
        transport.begin()

    def _lost(self, transport: TcpTransport) -> None:
        self._connections.discard(transport)
        self._maybe_closed()

    def on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and nothing listens."""
        self._handles.clear()
        self._stopped()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._driver.loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._handles)

    async def start_serving(self) -> None:
        """Nothing to do: a server serves from the start."""

    async def serve_forever(self) -> None:
        """Serve until cancelled, then close."""
        self._driver.check()
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if not self._handles:
            raise RuntimeError(f"server {self!r} is closed")
        self._forever = self._driver.loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()

    def close(self) -> None:
        """Stop listening. Open connections go on. Idempotent."""
        handles, self._handles = self._handles, {}
        for handle in handles:
            if self._driver.error is None:
                self._driver.handlers.pop(handle, None)
                self._driver.core.tcp_close(handle)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._stopped()

    def close_clients(self) -> None:
        """Close every open connection of this server."""
        for transport in list(self._connections):
            transport.close()

    def abort_clients(self) -> None:
        """Reset every open connection of this server."""
        for transport in list(self._connections):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its connections have ended."""
        await asyncio.shield(self._closed)

    def _stopped(self) -> None:
        if self.on_gone is not None:
            self.on_gone()
        self._maybe_closed()

    def _maybe_closed(self) -> None:
        if not self._handles and not self._connections and not self._closed.done():
            self._closed.set_result(None)


class _ListeningSocket:
    """Just enough of a socket to ask a server where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    def getsockname(self) -> tuple[Any, ...]:
        """Return the address as a socket would."""
        if self._host == "*":
            return "::", self._port, 0, 0
        return (self._host, self._port, 0, 0) if ":" in self._host else (self._host, self._port)


