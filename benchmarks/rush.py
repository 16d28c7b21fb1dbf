"""Many connects at once to a server with asyncio's default backlog: the time until all are open."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from time import perf_counter
from typing import Final

from benchmarks.networks import PLACES, KernelLoopback, Place
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "connects at once"
UNIT: Final = "s"
BOUND: Final = 60.0
BACKLOG: Final = 100
"""The default backlog of `asyncio.start_server`."""


async def rush(place: Place, count: int) -> float:
    """Open `count` connections at once, and return the seconds until all are open; then use each.

    The kernel drops handshakes that end while the backlog is full, and resets some of these connections when their data
    arrives: the data is checked on the stacks only.

    Raises:
        OSError: a connect failed, or a connection of a stack.
        ValueError: an answer was wrong.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        writer.close()

    async def exchange(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % number)
        writer.write_eof()
        answer = await reader.read()
        if answer != (b"%d" % number)[::-1]:
            raise ValueError(f"connection {number} got a wrong answer: {answer!r}")
        writer.close()
        await writer.wait_closed()

    async with place() as network, asyncio.timeout(BOUND):
        server = await network.start_server(serve, backlog=BACKLOG)
        started = perf_counter()
        opened = await asyncio.gather(*[network.open_connection() for _ in range(count)])
        seconds = perf_counter() - started
        if isinstance(network, KernelLoopback):
            for _, writer in opened:
                writer.transport.abort()
        else:
            await asyncio.gather(*[exchange(number, *streams) for number, streams in enumerate(opened)])
        server.close()
    return seconds


async def measure(counts: list[int], rounds: int) -> list[Measure]:
    """Compare the networks.

    Args:
        counts: connections at once. The kernel needs two descriptors for each.
        rounds: how often each is measured.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 3 * max(counts)), hard), hard))
    measures = []
    reference, *ours = PLACES
    for count in counts:
        contenders = {name: partial(rush, place, count) for name, place in PLACES.items()}
        figures = await alternate(contenders, rounds)
        goal = Goal(10.0, of="value", most=True)
        measures += [
            compared(GROUP, f"{count:,}, {name}", UNIT, figures[name], figures[reference], goal) for name in ours
        ]
    return measures
