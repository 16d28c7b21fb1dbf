"""The lateness of a 10 ms timer of the application during a transfer at full speed."""

from __future__ import annotations

import asyncio
from functools import partial
from statistics import median, quantiles
from typing import Final

from benchmarks.bulk import transfer
from benchmarks.networks import Place, kernel_loopback, two_stacks
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "10 ms timer in a transfer"
UNIT: Final = "ms late"
PERIOD: Final = 0.010


class Ticker:
    """Fires every 10 ms, and records its lateness in milliseconds."""

    def __init__(self) -> None:
        self.lateness: list[float] = []
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + PERIOD
        self._handle = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        self.lateness.append((now - self._due) * 1e3)
        # Ticks that were missed are not repeated: this one's lateness includes theirs.
        self._due = max(self._due + PERIOD, now)
        self._handle = self._loop.call_at(self._due, self._fire)

    def stop(self) -> None:
        """Stop the timer."""
        self._handle.cancel()


async def lateness(place: Place, size: int) -> list[float]:
    """Return the lateness of each tick during a transfer of `size` bytes, in milliseconds."""
    async with place() as network:
        ticker = Ticker()
        try:
            await transfer(network, size)
        finally:
            ticker.stop()
    if len(ticker.lateness) < 2:
        raise ValueError(f"the timer fired {len(ticker.lateness)} times during {size} bytes")
    return ticker.lateness


async def measure(size: int, rounds: int) -> list[Measure]:
    """Compare a tap cable with the kernel's loopback: p50 and p99.

    Args:
        size: bytes of one transfer.
        rounds: how often each is measured, alternately.
    """
    places: dict[str, Place] = {"kernel": kernel_loopback, "tap": two_stacks}
    p50: dict[str, list[float]] = {name: [] for name in places}

    async def measure_once(name: str) -> float:
        late = await lateness(places[name], size)
        p50[name].append(median(late))
        return quantiles(late, n=100, method="inclusive")[98]

    p99 = await alternate({name: partial(measure_once, name) for name in places}, rounds)
    goal = Goal(20.0, "value", most=True)
    return [
        compared(GROUP, "p50", UNIT, p50["tap"], p50["kernel"]),
        compared(GROUP, "p99", UNIT, p99["tap"], p99["kernel"], goal),
    ]
