"""Ping: `PingSession`, echo requests to one host and the answers (RFC 792, RFC 4443).

Owns the requests in flight: a reply or an error belongs to the one with its sequence number, and what belongs to none,
because it is late, doubled or forged, is dropped.

The reasons are in docs/explanation/udp-icmp.md.
"""

from __future__ import annotations

import asyncio
import errno
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.arguments import check_int, check_timeout
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import ECHO_DATA, abi, decode_endpoint
from tcpip_wasm.errors import (
    DestinationUnreachableError,
    NetworkError,
    StackError,
    TimeExceededError,
    network_error,
)
from tcpip_wasm.interfaces.routing_table import RoutingTable
from tcpip_wasm.streams.locks import Signal

DEFAULT_PAYLOAD: Final = bytes(range(56))
"""As long as that of the usual `ping` programs."""

DEFAULT_TTL: Final = 64

_UNREACHABLE4: Final = {0: errno.ENETUNREACH, 3: errno.ECONNREFUSED, 6: errno.ENETUNREACH}
_UNREACHABLE6: Final = {0: errno.ENETUNREACH, 4: errno.ECONNREFUSED}
_TIME_EXCEEDED: Final = {4: 11, 6: 3}


@dataclass(frozen=True, slots=True)
class PingReply:
    """An echo reply.

    Attributes:
        host: the sender.
        identifier: the session's.
        sequence_number: the request's.
        payload: the bytes that came back; those that were sent, unless they were changed on the way.
        round_trip_time: seconds of the event loop's clock from the request to the reply.
    """

    host: str
    identifier: int
    sequence_number: int
    payload: bytes
    round_trip_time: float


class PingSession:
    """Echo requests to one host; made by `NetworkStack.create_ping_session`. Any number may be in flight.

    Args:
        driver: the driver of the stack it belongs to.
        routing: the stack's routes.
        address: the host.
        scope: handle of the interface that a link-local address belongs to, or 0.
        ttl: TTL or hop limit of requests.

    Attributes:
        host: the host, as text.
        identifier: distinguishes this session's replies from others'.
        ttl: TTL or hop limit of requests that do not name their own.
    """

    def __init__(
        self,
        driver: Driver,
        routing: RoutingTable,
        address: Address,
        scope: int,
        *,
        ttl: int,
    ) -> None:
        self._driver = driver
        self._routing = routing
        self._address = address
        self._scope = scope
        self._ping = driver.core.ping
        self._handle = self._ping.open(address, scope)
        self._version = address.version
        self._pending: dict[int, tuple[asyncio.Future[PingReply], float]] = {}
        self._room = Signal()
        self._end_error: StackError | NetworkError | None = None
        self._sequence = 0
        self.host: str = routing.interfaces.text(address, scope)
        self.identifier: int = self._ping.identifier(self._handle)
        self.ttl = ttl
        driver.handlers[self._handle] = self

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if getattr(self, "_end_error", self) is None and self._driver.error is None:
            _warn(f"unclosed ping session {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        return f"<PingSession {self.host}{' closed' if self._end_error else ''}>"

    async def __aenter__(self) -> PingSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ping(
        self, payload: bytes | None = None, timeout: float | None = 1.0, *, ttl: int | None = None
    ) -> PingReply:
        """Send an echo request, and wait for what comes back.

        Args:
            payload: at most 65,507 bytes, to an IPv6 address 65,487; None sends 56.
            timeout: seconds to wait at most, for room in the interface's buffer too; None waits for ever.
            ttl: TTL or hop limit, 1 to 255; None takes the session's.

        Returns:
            The reply.

        Raises:
            TimeoutError: nothing came back in time.
            TimeExceededError: a router dropped the request, or the reassembly of its fragments took too long.
            DestinationUnreachableError: a router or the host reports that it cannot be delivered.
            OSError: ``ENETUNREACH`` without a route, ``EMSGSIZE`` for a payload that is too long, ``ECONNABORTED``
                where the session was closed, the stack's error where that is gone.
            ValueError, TypeError: a malformed argument.

        Cancelled, it forgets the request; a reply is dropped.
        """
        data = DEFAULT_PAYLOAD if payload is None else payload
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"payload must be bytes-like or None, not {type(payload).__name__}")
        timeout = check_timeout("timeout", timeout)
        hop_limit = self.ttl if ttl is None else check_ttl(ttl)
        future: asyncio.Future[PingReply] = self._driver.loop.create_future()
        sequence = self._take_sequence()
        self._pending[sequence] = (future, 0.0)
        try:
            async with asyncio.timeout(timeout):
                await self._send(sequence, bytes(data), hop_limit, future)
                return await future
        except TimeoutError as error:
            if error.errno is not None:
                raise
            timed_out = network_error(errno.ETIMEDOUT, f"ping {self.host}")
            raise self._routing.explained(timed_out, self._address, self._scope) from None
        finally:
            del self._pending[sequence]

    def _take_sequence(self) -> int:
        self._check()
        if len(self._pending) > 0xFFFF:
            raise network_error(errno.ENOBUFS, f"65,536 pings to {self.host} are in flight")
        while True:
            self._sequence = (self._sequence + 1) & 0xFFFF
            if self._sequence not in self._pending:
                return self._sequence

    async def _send(self, sequence: int, data: bytes, hop_limit: int, future: asyncio.Future[PingReply]) -> None:
        loop = self._driver.loop
        while True:
            self._check()
            self._pending[sequence] = (future, loop.time())
            try:
                sent = self._ping.send(self._handle, sequence, data, hop_limit)
            except NetworkError as error:
                raise self._routing.explained(error, self._address, self._scope) from None
            self._driver.wake()
            if sent:
                return
            await self._room.wait()

    # --- Events of the core ---------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that concerns this session."""
        if kind == abi.EVENT_WRITABLE:
            self._room.fire()
            return
        address, sequence, scope = decode_endpoint(payload)
        future, sent = self._pending.get(sequence, (None, 0.0))
        if future is None or future.done():
            return
        host = self._routing.interfaces.text(address, scope)
        if kind == abi.EVENT_ECHO_REPLY:
            time = self._driver.loop.time() - sent
            data = payload[ECHO_DATA : ECHO_DATA + value]
            future.set_result(PingReply(host, self.identifier, sequence, data, time))
        else:
            future.set_exception(self._error(host, value >> 8, value & 0xFF))

    def _error(self, reporter: str, kind: int, code: int) -> NetworkError:
        if kind == _TIME_EXCEEDED[self._version]:
            text = f"ping {self.host}: time exceeded, says {reporter}"
            return TimeExceededError(errno.EHOSTUNREACH, text, reporter, code)
        number = (_UNREACHABLE4 if self._version == 4 else _UNREACHABLE6).get(code, errno.EHOSTUNREACH)
        return DestinationUnreachableError(number, f"ping {self.host}: unreachable, says {reporter}", reporter, code)

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and so is this session."""
        self._end(error)

    # --- The end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the session: pings in flight raise ``ECONNABORTED``. Idempotent."""
        self._end(network_error(errno.ECONNABORTED, "the ping session was closed"))

    def _end(self, error: StackError | NetworkError) -> None:
        if self._end_error is not None:
            return
        self._end_error = error
        if self._driver.error is None:
            self._driver.handlers.pop(self._handle, None)
            with suppress(StackError):  # it has trapped, which the next poll reports
                self._ping.close(self._handle)
        for future, _ in self._pending.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # a ping that still waits for room raises it by itself
        self._room.fire()

    def _check(self) -> None:
        if self._end_error is not None:
            raise self._end_error


def check_ttl(ttl: int) -> int:
    """Return a TTL or hop limit, 1 to 255.

    Raises:
        TypeError: not an int.
        ValueError: out of range.
    """
    return check_int("ttl", ttl, 1, 255)
