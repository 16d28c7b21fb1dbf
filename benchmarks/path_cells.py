"""The matrix of paths: links, how long a transfer over each is watched, and bursts of loss that are measured in time.

Owns the cells, which are the same for simulated hosts (`paths`) and for this machine's kernel (`kernel_paths`). It must
not know how a transfer is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from random import Random
from typing import Final

from tcpip_wasm.simulation import Channel, CoDel, DropTail, LinkSettings

FRAME: Final = 1514
"""Bytes of a full Ethernet frame."""

BURST_FRAMES: Final = 10
"""Mean length of a burst of loss, in the time that full frames take."""

BURST_SHARE: Final = 0.01
"""The share of the time that bursts take."""

LOSSES: Final = {"0.1 %": 0.001, "1 %": 0.01, "3 %": 0.03}
LATE: Final = {"reorder": 0.01, "reorder_delay": 0.003}
JITTER: Final = {"jitter": 0.002}
DUPLICATES: Final = {"duplicate": 0.01}


@dataclass(frozen=True, slots=True)
class Cell:
    """A path, and what is carried over it.

    Attributes:
        name: bandwidth, one-way delay, what happens to frames, queue, and other circumstances.
        settings: of both directions of the link.
        seconds: how long the transfer is watched, from the call of connect on.
        after: seconds of these, at their beginning, in which nothing is counted.
        bursts: whether bursts of loss come by time (`start_bursts`).
        flows: connections that begin at once; the share of the bandwidth is that of all.
        version: of IP.
        kernel: whether this machine's kernel is measured on it, too.
    """

    name: str
    settings: LinkSettings
    seconds: float
    after: float = 0.0
    bursts: bool = False
    flows: int = 1
    version: int = 4
    kernel: bool = True

    @property
    def random(self) -> bool:
        """Whether chance decides over frames, so that several seeds are needed."""
        settings = self.settings
        return self.bursts or any((settings.loss, settings.reorder, settings.jitter, settings.duplicate))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, of which the median counts."""
        return (1, 2, 3) if self.random else (1,)

    @property
    def bandwidth(self) -> float:
        """Bit/s."""
        assert self.settings.bandwidth is not None
        return self.settings.bandwidth

    def share(self, received: int) -> float:
        """Return the share of the bandwidth that so many bytes of payload are."""
        return received * 8 / (self.bandwidth * (self.seconds - self.after))


def _cell(megabits: int, milliseconds: int, what: str, queue: float | str, **others: object) -> Cell:
    """Return a cell; a queue is given in bandwidth-delay products (of a round trip), or is ``CoDel``."""
    bandwidth, delay = megabits * 1e6, milliseconds / 1e3
    changes = {name: others.pop(name) for name in tuple(others) if name in LinkSettings.__dataclass_fields__}
    of_queue = CoDel() if isinstance(queue, str) else DropTail(packets=packets(bandwidth, delay, queue))
    settings = LinkSettings(bandwidth=bandwidth, delay=delay, queue=of_queue, **changes)  # type: ignore[arg-type]
    label = queue if isinstance(queue, str) else f"{queue:g} BDP"
    name = f"{megabits} Mbit/s, {milliseconds} ms, {what}, {label}"
    seconds = 20.0 if megabits == 10 else 10.0
    return replace(Cell(name, settings, seconds), **others)  # type: ignore[arg-type]


def packets(bandwidth: float, delay: float, products: float) -> int:
    """Return the frames of a queue; with less than two, a burst of two segments would never get through."""
    return max(2, round(products * bandwidth * 2 * delay / 8 / FRAME))


def _matrix() -> Iterable[Cell]:
    for megabits in (10, 100):
        for milliseconds in (1, 20, 50, 100):
            for queue in (0.1, 0.5, 1, "CoDel"):
                yield _cell(megabits, milliseconds, "none", queue)
            for name, loss in LOSSES.items():
                yield _cell(megabits, milliseconds, name, 1, loss=loss)
            yield _cell(megabits, milliseconds, "bursts", 1, bursts=True)
            if milliseconds <= 20:
                yield _cell(megabits, milliseconds, "1 % late by 3 ms", 1, **LATE)
                yield _cell(megabits, milliseconds, "jitter of 2 ms", 1, **JITTER)
                yield _cell(megabits, milliseconds, "1 % duplicates", 1, **DUPLICATES)
                yield _cell(megabits, milliseconds, "two flows", 1, flows=2)


def _over_ipv6(cells: list[Cell]) -> Iterable[Cell]:
    for megabits in (10, 100):
        for path in (
            "1 ms, none, 1 BDP",
            "20 ms, none, 1 BDP",
            "20 ms, 1 %, 1 BDP",
            "20 ms, 1 % late by 3 ms, 1 BDP",
            "50 ms, bursts, 1 BDP",
            "100 ms, none, 1 BDP",
        ):
            (cell,) = (cell for cell in cells if cell.name == f"{megabits} Mbit/s, {path}")
            yield replace(cell, name=f"{cell.name}, IPv6", version=6)


def _gigabit() -> Iterable[Cell]:
    """Cells that are held against the bandwidth alone: the kernel's figures on two cores mean nothing there."""
    for milliseconds in (1, 20, 50):
        yield _cell(1000, milliseconds, "none", 1, kernel=False, after=5.0)


def _all() -> dict[str, Cell]:
    cells = list(_matrix())
    return {cell.name: cell for cell in (*cells, *_over_ipv6(cells), *_gigabit())}


CELLS: Final = _all()
"""All cells, by their names."""


def chosen(patterns: Iterable[str]) -> list[Cell]:
    """Return the cells of which the name holds one of the patterns (``*`` is any text); all without a pattern.

    Raises:
        ValueError: a pattern fits none.
    """
    found: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in CELLS if fnmatchcase(name, f"*{pattern}*")}
        if not fitting:
            raise ValueError(f"cells: no name of a cell holds {pattern!r}; one is {next(iter(CELLS))!r}")
        found |= fitting
    return [cell for cell in CELLS.values() if not patterns or cell.name in found]


def burst_times(bandwidth: float, random: Random) -> Iterator[float]:
    """Yield when bursts of loss begin and end, in turn, in seconds.

    Gilbert's chain of two states in continuous time: both states last an exponentially distributed time, whatever is
    sent. By the frame (`GilbertElliott`), a burst would wait for a sender that has fallen silent.
    """
    burst = BURST_FRAMES * FRAME * 8 / bandwidth
    pause = burst * (1 - BURST_SHARE) / BURST_SHARE
    time = 0.0
    while True:
        for mean in (pause, burst):
            time += random.expovariate(1 / mean)
            yield time


def start_bursts(loop: asyncio.AbstractEventLoop, channel: Channel, random: Random) -> Callable[[], None]:
    """Let a channel lose all that is sent to it within bursts, from now on; return what ends them."""
    calm = channel.settings
    assert calm.bandwidth is not None
    times = burst_times(calm.bandwidth, random)
    began, lost = loop.time(), replace(calm, loss=1.0)

    timer: list[asyncio.TimerHandle] = []

    def arm() -> None:
        timer[:] = [loop.call_at(began + next(times), toggle)]

    def toggle() -> None:
        channel.settings = lost if channel.settings is calm else calm
        arm()

    arm()
    return lambda: timer[0].cancel()
