"""Connections opened and closed one after the other: the cost of a connection without data."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import Final

from benchmarks.networks import PLACES, Place
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "connect and close"
UNIT: Final = "1/s"
BOUND: Final = 60.0


async def connects(place: Place, count: int) -> float:
    """Open and close `count` connections one after the other, and return connections per second.

    The client closes first; the server answers the end of the data with one byte and closes; the client reads to
    the end, so that every connection is closed at both ends before the next one.

    Raises:
        ValueError: a server's byte was wrong.
    """
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await reader.read()
        writer.write(bytes([served % 256]))
        served += 1
        writer.close()

    async with place() as network, asyncio.timeout(BOUND):
        server = await network.start_server(serve)
        started = perf_counter()
        for number in range(count):
            reader, writer = await network.open_connection()
            writer.write_eof()
            if await reader.read() != bytes([number % 256]):
                raise ValueError(f"connection {number} did not get its byte")
            writer.close()
            await writer.wait_closed()
        seconds = perf_counter() - started
        server.close()
    return count / seconds


async def measure(count: int, rounds: int) -> list[Measure]:
    """Compare the networks.

    Args:
        count: connections of each network a round. The kernel keeps the ports of closed ones for a minute.
        rounds: how often each is measured, alternately.
    """
    contenders = {name: partial(connects, place, count) for name, place in PLACES.items()}
    figures = await alternate(contenders, rounds)
    reference, *ours = PLACES
    goals = {"tap cable": Goal(1.0)}
    return [compared(GROUP, name, UNIT, figures[name], figures[reference], goals.get(name)) for name in ours]
