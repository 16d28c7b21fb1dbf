"""Connecting to a name's addresses: one after the other, or staggered as RFC 8305 (Happy Eyeballs) has it.

Owns the race: which attempt is next, which one has won, and that the others leave no connection. It is handed addresses
in the order in which to try them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, cast

from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import NetworkError, StackError, network_error
from tcpip_wasm.interfaces.routing_table import RoutingTable
from tcpip_wasm.names.address_selection import Candidate
from tcpip_wasm.sockets.tcp.transport import TcpTransport

CONNECTION_ATTEMPT_DELAY: Final = 0.25
"""Seconds between attempts (RFC 8305, section 5)."""

MAX_ATTEMPTS: Final = 32
"""Addresses of one name that are tried: a name must not make a stack connect to hundreds of hosts."""


async def connect_first(
    driver: Driver,
    routing: RoutingTable,
    protocol: asyncio.BaseProtocol,
    candidates: Sequence[Candidate],
    port: int,
    *,
    delay: float | None,
    all_errors: bool = False,
    congestion: int = 0,
    ecn: bool = False,
) -> TcpTransport:
    """Connect to the first candidate that answers, and return the transport, on which the protocol is.

    Args:
        driver: the stack's driver.
        routing: the stack's routes, and the causes of errors.
        protocol: is notified of the one connection that is made, and of no other.
        candidates: at least one; the first 32 are tried.
        port: of the peer.
        delay: seconds after which the next is tried beside those under way; None tries it when the one before failed.
        all_errors: whether the attempts' errors are raised as they are.
        congestion: the ABI's number of the algorithm that controls congestion.
        ecn: whether to ask the peer for explicit congestion notification.

    Raises:
        OSError: the error of the only attempt; or of all of them, where they are the same; or one that lists
            them, of their common class where they have one.
        ExceptionGroup: with `all_errors`, in place of those.
        StackError: the stack is gone.

    Cancelled, it leaves no connection behind.
    """
    candidates = candidates[:MAX_ATTEMPTS]
    if len(candidates) == 1 and not all_errors:
        transport = _begin(driver, routing, protocol, candidates[0], port, congestion, ecn)
        assert transport.connected is not None
        try:
            await transport.connected
        except asyncio.CancelledError:
            transport.abort()
            raise
        return transport
    race = _Race(protocol, all_errors)
    try:
        return await race.run([(driver, routing, race, one, port, congestion, ecn) for one in candidates], delay)
    finally:
        race.end()


def _begin(
    driver: Driver,
    routing: RoutingTable,
    protocol: asyncio.BaseProtocol,
    candidate: Candidate,
    port: int,
    congestion: int,
    ecn: bool,
) -> TcpTransport:
    routing.check(candidate.remote, port, candidate.scope)
    try:
        handle = driver.core.tcp_connect(
            candidate.remote,
            port,
            local=candidate.local,
            local_port=candidate.local_port,
            scope=candidate.scope,
            ecn=ecn,
        )
    except NetworkError as error:
        raise routing.explained(error, candidate.remote, candidate.scope) from None
    transport = TcpTransport(driver, handle, protocol, remote=(candidate.remote, port), interfaces=routing.interfaces)
    if congestion:
        transport.set_option(abi.OPTION_CONGESTION_CONTROL, congestion)
    transport.connected = driver.loop.create_future()
    transport.explained = partial(routing.explained, remote=candidate.remote, scope=candidate.scope)
    driver.wake()
    return transport


class _Race(asyncio.Protocol):
    """Takes the protocol's place on every transport until one of them is open: that one gets the protocol at once,
    within the very event, before any data can come for it."""

    def __init__(self, protocol: asyncio.BaseProtocol, all_errors: bool) -> None:
        self._protocol = protocol
        self._all_errors = all_errors
        self._under_way: dict[asyncio.Future[None], TcpTransport] = {}
        self._winner: TcpTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        if self._winner is not None:
            transport.abort()
            return
        self._winner = transport
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)

    async def run(self, attempts: list[tuple[Any, ...]], delay: float | None) -> TcpTransport:
        """Make attempts until one succeeds or all have failed."""
        errors: list[OSError] = []
        waiting = iter(attempts)
        more = True
        while True:
            attempt = next(waiting, None) if more else None
            more = attempt is not None
            if attempt is not None:
                try:
                    transport = _begin(*attempt)
                except OSError as failure:
                    if not _is_of_the_network(failure):
                        raise
                    errors.append(failure)
                    continue
                assert transport.connected is not None
                self._under_way[transport.connected] = transport
            elif not self._under_way:
                raise ExceptionGroup("create_connection failed", errors) if self._all_errors else _combined(errors)
            done, _ = await asyncio.wait(
                self._under_way, timeout=delay if more else None, return_when=asyncio.FIRST_COMPLETED
            )
            for future in done:
                transport = self._under_way[future]
                error = future.exception()
                if transport is self._winner and error is None:
                    del self._under_way[future]
                    return transport
                if transport is self._winner or (error is not None and not _is_of_the_network(error)):
                    assert error is not None
                    raise error
                del self._under_way[future]  # it failed, or was second
                if error is not None:
                    errors.append(cast(OSError, error))

    def end(self) -> None:
        """Abort the attempts that are under way."""
        for future, transport in self._under_way.items():
            if future.done() and not future.cancelled():
                future.exception()  # so that asyncio does not report it
            transport.abort()
        self._under_way.clear()


def _combined(errors: Sequence[OSError]) -> OSError:
    """Return what stands for several errors, as asyncio words it."""
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    text = f"Multiple exceptions: {', '.join(map(str, errors))}"
    numbers = {error.errno for error in errors}
    number = errors[0].errno
    return network_error(number, text) if len(numbers) == 1 and number is not None else NetworkError(text)


def _is_of_the_network(error: BaseException) -> bool:
    """Whether another address may do better."""
    return isinstance(error, OSError) and not isinstance(error, StackError)
