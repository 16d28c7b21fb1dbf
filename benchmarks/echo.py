"""The round trip of a request of one byte and its answer of one byte."""

from __future__ import annotations

import asyncio
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Final

from benchmarks.networks import PLACES, Place
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "1-byte echo"
UNIT: Final = "µs"
BOUND: Final = 60.0


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


async def round_trips(place: Place, count: int) -> list[float]:
    """Return the times of `count` round trips over one connection, in microseconds.

    Raises:
        ValueError: an answer was wrong.
    """
    times = []
    async with place() as network, asyncio.timeout(BOUND):
        server = await network.start_server(_echo)
        reader, writer = await network.open_connection()
        for number in range(count):
            request = bytes([number % 256])
            started = perf_counter()
            writer.write(request)
            answer = await reader.readexactly(1)
            times.append((perf_counter() - started) * 1e6)
            if answer != request:
                raise ValueError(f"{request!r} came back as {answer!r}")
        writer.close()
        await writer.wait_closed()
        server.close()
    return times


async def measure(count: int, rounds: int) -> list[Measure]:
    """Compare the round trips of the networks: p50 and p99.

    Args:
        count: round trips of each network a round.
        rounds: how often each is measured, alternately.
    """
    p99: dict[str, list[float]] = {name: [] for name in PLACES}

    async def measure_once(name: str) -> float:
        times = await round_trips(PLACES[name], count)
        p99[name].append(quantiles(times, n=100)[98])
        return median(times)

    p50 = await alternate({name: partial(measure_once, name) for name in PLACES}, rounds)
    reference, *ours = PLACES
    goals = {"tap cable": Goal(1.5, most=True)}
    return [
        compared(GROUP, f"{name}, {label}", UNIT, figures[name], figures[reference], goal)
        for name in ours
        for label, figures, goal in (("p50", p50, goals.get(name)), ("p99", p99, None))
    ]
