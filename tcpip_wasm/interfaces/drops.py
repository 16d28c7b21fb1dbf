"""Log records of what a stack drops, by cause, from the counters that the module and the interfaces keep anyway.

Owns the limit: one record a minute for each cause and interface, by the event loop's clock. The counters are read on
three occasions, none of which is on the path of a frame:

- a timer of the stack fires (at most one reading a second);
- an interface is removed, or the stack ends: what was not reported yet is reported then;
- the stack was polled, only while the level INFO is enabled for one of the loggers below. A stack that only receives
  may have no timer at all.

There is no timer for this purpose: an idle stack stays idle, and a run in virtual time is the same with and without
logging. Reading the counters runs no timer of the stack either (`Core.counted`).
"""

from __future__ import annotations

import logging
from typing import Final

from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import Statistics
from tcpip_wasm.errors import StackError
from tcpip_wasm.interfaces.interface import Interface, InterfaceStatistics
from tcpip_wasm.interfaces.table import InterfaceTable

PERIOD: Final = 60.0
"""Seconds between two records of one cause."""

LOOK_INTERVAL: Final = 1.0
"""Seconds between two readings of the counters."""

_log: Final = logging.getLogger("tcpip_wasm.interfaces")
_stack_log: Final = logging.getLogger("tcpip_wasm.stack")

_INTERFACE_CAUSES: Final = {
    "malformed": "impossible lengths or addresses",
    "transmit_full": "the transmit buffer was full",
    "foreign": "addressed to another station",
    "too_long": "longer than the MTU of a bridge's port",
    "unheard": "nothing is attached",
    "oversized": "longer than any frame the interface takes",
}

_STACK_CAUSES: Final = {
    "checksum_errors": "packets dropped, wrong checksum",
    "malformed": "packets dropped, malformed",
    "protocol": "packets dropped, not for this host, or of no protocol it has",
    "memory_errors": "packets dropped, the stack's memory is full",
    "udp_no_port": "datagrams refused, no socket has the port",
    "udp_drops": "datagrams dropped, wrong length or checksum",
    "fragment_drops": "fragments dropped, overlapping, contradictory, or too many",
    "forward_drops": "packets not forwarded",
    "inconsistencies": "connections reset or packets dropped by failed checks of the stack's own state",
    "syn_cookies": "connection requests answered with a cookie, too many are half-open",
    "backlog_drops": "connection requests dropped, a listener's backlog is full",
    "icmp_limited": "ICMP errors not sent, too many",
}

_WARNINGS: Final = frozenset({"memory_errors", "inconsistencies"})
"""Causes that call for action; all others are reported with the level INFO."""


class DropLog:
    """Writes the records of one stack.

    Args:
        driver: the stack's driver.
        interfaces: the stack's interfaces.
    """

    def __init__(self, driver: Driver, interfaces: InterfaceTable) -> None:
        self._driver = driver
        self._interfaces = interfaces
        self._next_look = 0.0
        self._reported: dict[tuple[Interface | None, str], tuple[int, float]] = {}  # the count, and when
        self._watching = False
        self._follow_level()

    def look(self, now: float) -> None:
        """Write what has been dropped, if the latest reading was some time ago.

        Args:
            now: the time of the event loop's clock.
        """
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        self._follow_level()
        self._report(now, last=False)
        for interface in self._interfaces:
            interface._look()  # noqa: SLF001  for this package alone: interfaces are public

    def forget(self, interface: Interface) -> None:
        """An interface will be removed: write what was not reported of it."""
        if _log.isEnabledFor(logging.INFO):
            self._report_interface(interface, self._driver.loop.time(), last=True)
        for key in [key for key in self._reported if key[0] is interface]:
            del self._reported[key]

    def end(self) -> None:
        """The stack ends: write what was not reported."""
        self._report(self._driver.loop.time(), last=True)

    def _follow_level(self) -> None:
        wanted = _log.isEnabledFor(logging.INFO) or _stack_log.isEnabledFor(logging.INFO)
        if wanted and not self._watching:
            self._driver.watch(self._after_poll)
        elif self._watching and not wanted:
            self._driver.unwatch(self._after_poll)
        self._watching = wanted

    def _after_poll(self) -> None:
        now = self._driver.loop.time()
        if now >= self._next_look and self._driver.error is None:
            self.look(now)

    def _report(self, now: float, *, last: bool) -> None:
        if _stack_log.isEnabledFor(logging.WARNING):
            try:
                statistics = self._driver.core.counted()
            except StackError:
                pass  # the module has trapped
            else:
                self._report_stack(statistics, now, last)
        if _log.isEnabledFor(logging.INFO):
            for interface in self._interfaces:
                self._report_interface(interface, now, last=last)

    def _report_stack(self, statistics: Statistics, now: float, last: bool) -> None:
        for cause, text in _STACK_CAUSES.items():
            if cause == "protocol":
                count = statistics.protocol_drops - statistics.udp_no_port - statistics.udp_drops
            else:
                count = getattr(statistics, cause)
            level = logging.WARNING if cause in _WARNINGS else logging.INFO
            if not _stack_log.isEnabledFor(level):
                continue
            more = self._take(None, cause, count, now, last)
            if more:
                _stack_log.log(level, "%s: %d more, %d in all", text, more, count)

    def _report_interface(self, interface: Interface, now: float, *, last: bool) -> None:
        statistics: InterfaceStatistics = interface.statistics()
        for cause, text in _INTERFACE_CAUSES.items():
            count = getattr(statistics, cause)
            more = self._take(interface, cause, count, now, last)
            if more:
                _log.info("%s: frames dropped, %s: %d more, %d in all", interface.name, text, more, count)

    def _take(self, interface: Interface | None, cause: str, count: int, now: float, last: bool) -> int:
        """Return how many to report of a cause now, and note them as reported."""
        before, when = self._reported.get((interface, cause), (0, -PERIOD))
        if count <= before or (not last and now - when < PERIOD):
            return 0
        self._reported[interface, cause] = count, now
        return count - before
