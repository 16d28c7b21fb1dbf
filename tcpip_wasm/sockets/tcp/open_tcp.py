"""Opening TCP connections and listeners: `TcpOpener`, which adds TLS to them where it is wanted.

The reasons are in docs/explanation/tcp-rules.md.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from tcpip_wasm.addresses import VERSIONS, Address
from tcpip_wasm.arguments import check_int, check_port, check_timeout
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.interfaces.interface import MOST_NAMED
from tcpip_wasm.interfaces.routing_table import RoutingTable
from tcpip_wasm.names.address_selection import Candidate
from tcpip_wasm.sockets.congestion import congestion_number
from tcpip_wasm.sockets.endpoints import peer_text
from tcpip_wasm.sockets.tcp.connect import connect_first
from tcpip_wasm.sockets.tcp.connection import TcpListener
from tcpip_wasm.sockets.tcp.server import TcpServer
from tcpip_wasm.sockets.tls.tls_connection import Handshakes
from tcpip_wasm.sockets.tls.tls_transport import Tls, discard, secured

_log: Final = logging.getLogger("tcpip_wasm.sockets")

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
Addresses = list[tuple[Address | None, int]]


class TcpOpener:
    """Opens the TCP connections and listeners of one stack.

    Args:
        driver: the stack's driver.
        routing: the stack's routes.
        congestion: the ABI's number of the algorithm that controls congestion where a caller names none.
        ecn: whether connects ask for explicit congestion notification.
    """

    def __init__(self, driver: Driver, routing: RoutingTable, congestion: int = 0, ecn: bool = False) -> None:
        self._driver = driver
        self._routing = routing
        self.congestion: int = congestion
        self._ecn = ecn

    async def connect(
        self,
        factory: Callable[[], ProtocolT],
        candidates: Sequence[Candidate],
        port: int,
        tls: Tls | None,
        *,
        delay: float | None,
        all_errors: bool,
        congestion_control: str | None = None,
    ) -> tuple[Any, ProtocolT]:
        """See `NetworkStack.create_connection`, of which this is what follows when the addresses are known."""
        congestion = congestion_number(congestion_control, self.congestion)
        protocol = factory()
        waiter: asyncio.Future[None] = self._driver.loop.create_future()
        wrapper = tls.wrap(self._driver.loop, protocol, waiter) if tls else None
        try:
            transport = await connect_first(
                self._driver,
                self._routing,
                wrapper or protocol,
                candidates,
                port,
                delay=delay,
                all_errors=all_errors,
                congestion=congestion,
                ecn=self._ecn,
            )
        except BaseException as error:
            if wrapper:
                discard(wrapper)
            if isinstance(error, OSError):
                _log.debug("connect to %s port %d failed: %s", _text(candidates), port, error)
            raise
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("connected to %s", peer_text(transport))
        return (await secured(wrapper, waiter) if wrapper else transport), protocol

    def serve(
        self,
        factory: Callable[[], asyncio.BaseProtocol | None],
        addresses: Addresses,
        port: int,
        backlog: int,
        *,
        tls: Tls | None = None,
        hold_backlog: bool = False,
        share: int = 0,
        congestion_control: str | None = None,
    ) -> TcpServer:
        """See `NetworkStack.create_server`.

        Args:
            factory: makes a protocol for each connection.
            addresses: own ones and their scopes, to listen on each.
            port, backlog: as callers write them.
            tls: TLS of every connection, or None.
            hold_backlog, share: see `TcpServer`.
            congestion_control: see `NetworkStack.create_server`.
        """
        self._driver.check()
        check_port("port", port)
        if not isinstance(backlog, int):
            raise TypeError(f"backlog must be an int, not {type(backlog).__name__}")
        if backlog < 1:
            raise ValueError(f"backlog: {backlog} is not at least 1")
        return TcpServer(
            self._driver,
            partial(_wrapped, tls, self._driver.loop, factory) if tls else factory,
            addresses,
            port,
            min(backlog, abi.MAX_BACKLOG),
            interfaces=self._routing.interfaces,
            hold_backlog=hold_backlog,
            share=share,
            congestion=congestion_number(congestion_control, self.congestion),
        )

    def listen(
        self, addresses: Addresses, port: int, backlog: int, tls: Tls | None, congestion_control: str | None = None
    ) -> TcpListener:
        """See `NetworkStack.listen_tcp`."""
        serve = partial(self.serve, congestion_control=congestion_control)
        if tls is None:
            return TcpListener(lambda factory: serve(factory, addresses, port, backlog, hold_backlog=True))
        most = min(check_int("backlog", backlog, 1, sys.maxsize), abi.MAX_BACKLOG)
        handshakes = Handshakes(tls, self._driver.loop, most)
        return TcpListener(lambda factory: serve(factory, addresses, port, most), handshakes, most)


def check_connect(port: int, local_addr: tuple[Any, int] | None, family: int, proto: int, delay: float | None) -> None:
    """Check arguments of `NetworkStack.create_connection`.

    Raises:
        ValueError, TypeError: one of them is malformed.
    """
    check_port("port", port, 1)
    check_timeout("happy_eyeballs_delay", delay)
    if local_addr is not None:
        check_port("local port", local_addr[1])
    if family not in VERSIONS:
        raise ValueError(f"family: {family} is neither 0 nor AF_INET nor AF_INET6")
    if proto not in (0, socket.IPPROTO_TCP):
        raise ValueError(f"proto: {proto} is neither 0 nor IPPROTO_TCP")


def _text(candidates: Sequence[Candidate]) -> str:
    return ", ".join(str(one.remote) for one in candidates[:MOST_NAMED])


def _wrapped(tls: Tls, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any]) -> asyncio.BaseProtocol:
    return tls.wrap(loop, factory())
