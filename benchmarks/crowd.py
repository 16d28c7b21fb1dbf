"""What idle connections cost the others: the CPU time of a 100-byte message and its answer among many of them.

Two stacks on a cable have so many open connections that exchange nothing, and one more, on which a message is sent
after each pause of two milliseconds; TCP's clock ticks in one of some ten messages. What is measured is the time that
the thread works, from the message to its answer, so that other processes of the machine do not count.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles
from time import thread_time_ns
from typing import Final

from benchmarks.networks import VirtualNetwork, two_stacks
from benchmarks.report import Goal, Measure, progress

GROUP: Final = "crowd"
FEW: Final = 10
MESSAGE: Final = bytes(range(100))
PAUSE: Final = 0.002
"""Seconds between messages."""
AT_ONCE: Final = 500
"""Connections that are opened at a time."""
BOUND: Final = 600.0
GOALS: Final = {"median": Goal(1.5, most=True), "p99": Goal(1.0, "value", most=True)}


class _Idle(asyncio.Protocol):
    """Keeps its transport, and does nothing."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class _Echo(asyncio.Protocol):
    """Answers each chunk with itself."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _Client(asyncio.Protocol):
    """Sends a message, and notes the time that the thread has worked when all of the answer is there."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._left = 0
        self._answered: asyncio.Future[int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left == 0:
            self._answered.set_result(thread_time_ns())

    async def exchange(self) -> float:
        """Return the milliseconds that the thread worked for a message and its answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self._left = len(MESSAGE)
        began = thread_time_ns()
        self.transport.write(MESSAGE)
        return (await self._answered - began) / 1e6


@asynccontextmanager
async def crowd(count: int) -> AsyncIterator[VirtualNetwork]:
    """Two stacks with so many idle connections between them.

    Args:
        count: connections, at most 60,000 from one address to one port.
    """
    async with two_stacks() as network:
        server = await network.server.create_server(_Idle, network.host, 80, backlog=4096)
        for begun in range(0, count, AT_ONCE):
            some = range(min(AT_ONCE, count - begun))
            await asyncio.gather(*[network.client.create_connection(_Idle, network.host, 80) for _ in some])
        server.close()
        yield network
        network.client.abort()
        network.server.abort()


async def work(count: int, messages: int) -> list[float]:
    """Return the milliseconds of each message among so many idle connections."""
    async with asyncio.timeout(BOUND), crowd(count) as network:
        server = await network.server.create_server(_Echo, network.host, 81)
        _, client = await network.client.create_connection(_Client, network.host, 81)
        gc.collect()
        gc.freeze()  # the interpreter's walks over the objects of idle connections are not the stack's
        try:
            for _ in range(20):
                await client.exchange()
            spent = []
            for _ in range(messages):
                await asyncio.sleep(PAUSE)
                spent.append(await client.exchange())
        finally:
            gc.unfreeze()
        server.close()
        return spent


async def measure(counts: list[int], messages: int) -> list[Measure]:
    """Measure a message among few idle connections, then among many.

    Args:
        counts: idle connections.
        messages: how many are sent.
    """
    measures = []
    least: dict[str, float] = {}
    for count in [FEW, *counts]:
        spent = await work(count, messages)
        gc.collect()
        figures = {"median": median(spent), "p99": quantiles(spent, n=100, method="inclusive")[98]}
        progress(f"{count:,} idle connections: median {figures['median']:.3f} ms, p99 {figures['p99']:.3f} ms")
        least = least or figures
        for name, value in figures.items():
            measures.append(
                Measure(
                    GROUP,
                    f"100-byte message and answer, {count:,} idle connections, {name}",
                    value,
                    "ms of CPU",
                    least[name],
                    value / least[name],
                    GOALS[name] if count > FEW else None,
                    beside=f"{FEW} idle connections",
                )
            )
    return measures
