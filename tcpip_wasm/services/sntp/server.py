"""`SntpServer`: the time for the hosts of a network, by the event loop's clock.

Owns the date at which the loop's clock began: from then on that clock alone decides, which in a simulation is virtual.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tcpip_wasm.addresses import Host
from tcpip_wasm.arguments import check_int, check_port
from tcpip_wasm.services.datagrams import open_datagrams
from tcpip_wasm.services.rate import RateLimit
from tcpip_wasm.services.service import Service
from tcpip_wasm.services.sntp import wire
from tcpip_wasm.sockets import UdpTransport
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of


@dataclass(slots=True)
class SntpStatistics:
    """What a server counted.

    Attributes:
        answered: requests that got an answer.
        malformed: datagrams that are no request.
        limited: requests above a client's rate limit.
    """

    answered: int = 0
    malformed: int = 0
    limited: int = 0


class SntpServer(Service):
    """An SNTP server (RFC 4330).

    Args:
        stack: the stack.
        host: own address, a name of it, or None for all.
        port: own port.
        date: seconds since 1970 that it is now; None takes the date of `time.time`. From then on the loop's clock
            counts, so that a step of the machine's date changes nothing.
        stratum: 1 to 15, the distance from a reference clock that answers name.
        rate_limit: requests a second for each client's address; None sets no limit.

    Attributes:
        statistics: what it counted.
        port: own port.

    Raises:
        ValueError, TypeError: a malformed argument.
    """

    def __init__(
        self,
        stack: NetworkStack,
        *,
        host: Host | None = None,
        port: int = 123,
        date: float | None = None,
        stratum: int = 1,
        rate_limit: float | None = 100.0,
    ) -> None:
        self._parts = parts_of(stack)
        super().__init__(self._parts.driver, max_tasks=0)
        self._driver.check()
        self._host = None if host is None else str(host)
        self.port: int = check_port("port", port)
        self._stratum = check_int("stratum", stratum, 1, 15)
        self._limit = RateLimit(rate_limit)
        self._began = (time.time() if date is None else date) - self._driver.loop.time()
        self._statistics = SntpStatistics()
        self._transport: UdpTransport | None = None

    def __repr__(self) -> str:
        return f"<SntpServer on port {self.port}>"

    @property
    def date(self) -> float:
        """The date that it gives: seconds since 1970."""
        return self._began + self._driver.loop.time()

    @property
    def statistics(self) -> SntpStatistics:
        """What it counted so far."""
        counted = self._statistics
        return SntpStatistics(counted.answered, counted.malformed, self._limit.limited)

    async def _open(self) -> None:
        self._transport = await open_datagrams(self._parts, self._on_datagram, self._host, self.port)
        self.port = self._transport.get_extra_info("sockname")[1]

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _on_datagram(self, data: bytes, source: tuple[Any, ...]) -> None:
        arrived = self.date
        try:
            request = wire.parse_request(data)
        except wire.BadMessage:
            self._statistics.malformed += 1
            return
        if not self._limit.allows(source[0], self._driver.loop.time()):
            return
        assert self._transport is not None
        self._statistics.answered += 1
        answer = wire.build_answer(request, arrived=arrived, leaves=self.date, stratum=self._stratum, reference=b"LOCL")
        self._transport.sendto(answer, source)
