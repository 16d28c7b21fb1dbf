"""TCP listeners: `TcpServer`, which is an `asyncio.Server` in all but class, over listening handles of the core.

The reasons are in docs/explanation/tcp-rules.md.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import StackError
from tcpip_wasm.interfaces.table import InterfaceTable
from tcpip_wasm.sockets.endpoints import peer_text
from tcpip_wasm.sockets.options import CONGESTION, REUSE_PORT
from tcpip_wasm.sockets.tcp.transport import TcpTransport
from tcpip_wasm.sockets.transport_socket import ListeningSocket
from tcpip_wasm.streams.locks import Signal

_log: Final = logging.getLogger("tcpip_wasm.sockets")

_Own = tuple[Address | None, int]
"""An own address, None for all of them, and the handle of its scope or 0."""


class TcpServer(asyncio.AbstractServer):
    """Accepts connections and gives each a transport and a protocol.

    Args:
        driver: the stack's driver.
        factory: makes a protocol for each connection; where it makes none, that is reset.
        addresses: own addresses to listen on, each with the handle of its scope or 0; None among them is all of them,
            IPv4 and IPv6.
        port: the port; 0 takes a free one, the same on all addresses.
        backlog: connections that may wait for the loop, 1 to 4096.
        interfaces: the stack's, for the names of scopes.
        share: bits of the ABI's ``SHARE_``.
        congestion: the ABI's number of the algorithm that controls congestion.
        hold_backlog: whether a connection keeps its place in the backlog until `TcpTransport._leave_backlog`.

    Attributes:
        on_gone: called once nothing listens any more.
        keep_alive: whether connections begin with keep-alive switched on.

    Raises:
        OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL`` or ``ENOBUFS``; then nothing listens.
    """

    def __init__(
        self,
        driver: Driver,
        factory: Callable[[], asyncio.BaseProtocol | None],
        addresses: list[_Own],
        port: int,
        backlog: int,
        *,
        interfaces: InterfaceTable,
        hold_backlog: bool = False,
        share: int = 0,
        congestion: int = 0,
    ) -> None:
        self._hold_backlog = hold_backlog
        self._share = share
        self._congestion = congestion
        self.on_gone: Callable[[], None] | None = None
        self.keep_alive = False
        self._driver = driver
        self._factory = factory
        self._interfaces = interfaces
        self._connections: dict[TcpTransport, None] = {}  # in the order in which they came
        self._end = Signal()
        self._forever: asyncio.Future[None] | None = None
        self._handles: dict[int, _Own] = {}
        self._held: list[_Own] = []  # where `start_serving` will listen
        self._backlog = backlog
        self.port: int = port
        self._listen(addresses)

    def _listen(self, addresses: list[_Own]) -> None:
        core = self._driver.core
        try:
            for own in addresses:
                handle = core.tcp_listen(own[0], self.port, self._backlog, scope=own[1], share=self._share)
                self.port = core.tcp_local_port(handle)
                self._handles[handle] = own
                self._driver.handlers[handle] = self
                _log.debug("listening on %s port %d", self._host(own), self.port)
        except BaseException:
            self._release()
            raise

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if getattr(self, "_handles", None) and self._driver.error is None:
            _warn(f"unclosed server {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        where = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        return f"<TcpServer {'on ' + where if where else 'closed'}>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each listening address; the host is ``*`` where it is all of them."""
        return [(self._host(own), self.port) for own in self._own()]

    @property
    def sockets(self) -> tuple[Any, ...]:
        """A `ListeningSocket` for each listening address, as users of asyncio expect."""
        sockets = tuple(ListeningSocket(self._socket_name(own)) for own in self._own())
        for one in sockets:
            one.values.given[CONGESTION] = self._congestion
            if self._share:
                one.values.given[REUSE_PORT] = 1
        return sockets

    def _own(self) -> list[_Own]:
        return [*self._handles.values(), *self._held]

    def _host(self, own: _Own) -> str:
        address, scope = own
        if address is None:
            return "*"
        return self._interfaces.text(address, scope)

    def _socket_name(self, own: _Own) -> tuple[Any, ...]:
        """Return the address as a socket's `getsockname` would."""
        address, scope = own
        if address is None:
            return "::", self.port, 0, 0
        return (str(address), self.port) if address.version == 4 else (self._host(own), self.port, 0, scope)

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """A connection was accepted: `value` is its handle."""
        try:
            protocol = self._factory()
        except BaseException as error:
            self._driver.core.tcp_abort(value)
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise
            self._driver.report(error, "a protocol factory failed")
            return
        if protocol is None:
            self._driver.core.tcp_abort(value)
            self._driver.wake()
            _log.debug("port %d: connection refused by the program", self.port)
            return
        transport = TcpTransport(self._driver, value, protocol, endpoints=payload, interfaces=self._interfaces)
        self._connections[transport] = None
        transport.on_lost = self._lost
        if self._congestion:
            with suppress(OSError):  # it has ended already; the event that reports it follows
                transport.set_option(abi.OPTION_CONGESTION_CONTROL, self._congestion)
        if self.keep_alive:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._hold_backlog:
            transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("port %d: connection accepted from %s", self.port, peer_text(transport))
        transport._begin()  # noqa: SLF001  for this package alone: the class is public

    def adopt(self, transport: TcpTransport) -> None:
        """Take over a connection that another listener has accepted; its protocol is set, and not yet connected."""
        self._connections[transport] = None
        transport.on_lost = self._lost
        transport._begin()  # noqa: SLF001  for this package alone: the class is public
        transport.resume_reading()

    def _lost(self, transport: TcpTransport) -> None:
        self._connections.pop(transport, None)
        self._maybe_closed()

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and nothing listens."""
        self._handles.clear()
        self._held.clear()
        if self._forever is not None and not self._forever.done():
            self._forever.set_exception(error)
        self._stopped()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._driver.loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._handles)

    def stop_serving(self) -> None:
        """Refuse connections until `start_serving`. The port is not reserved meanwhile."""
        self._held = list(self._handles.values())
        self._release()

    async def start_serving(self) -> None:
        """Listen, if the server was made without, or begin again after `stop_serving`.

        Raises:
            OSError: ``EADDRINUSE`` where another socket has taken the port since; it may be called again.
        """
        if self._held:
            self._driver.check()
            self._listen(self._held)
            self._held = []

    async def serve_forever(self) -> None:
        """Serve until cancelled, then close.

        Raises:
            RuntimeError: the server is closed, or another call of it is pending.
            StackError: the stack is gone.
        """
        self._driver.check()
        await self.start_serving()
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
        self._held = []
        self._release()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._stopped()

    def _release(self) -> None:
        handles, self._handles = self._handles, {}
        for handle, own in handles.items():
            _log.debug("no longer listening on %s port %d", self._host(own), self.port)
            if self._driver.error is None:
                self._driver.handlers.pop(handle, None)
                self._driver.core.tcp_close(handle)

    def close_clients(self) -> None:
        """Close every open connection of this server."""
        for transport in list(self._connections):
            transport.close()

    def abort_clients(self) -> None:
        """Reset every open connection of this server."""
        for transport in list(self._connections):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its connections have ended. Cancelled, it leaves nothing behind."""
        if not self._has_ended():
            await self._end.wait()

    def _stopped(self) -> None:
        if self.on_gone is not None:
            self.on_gone()
        self._maybe_closed()

    def _has_ended(self) -> bool:
        return not self._own() and not self._connections

    def _maybe_closed(self) -> None:
        if self._has_ended():
            self._end.fire()
