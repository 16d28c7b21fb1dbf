"""Bulk transfer in one direction: 64 KiB writes, streams at both ends, every byte checked by the receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.networks import Network, Place, VirtualNetwork, kernel_loopback, stack_loopback, two_stacks
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, compared, progress, take_turns

GROUP: Final = "bulk"
UNIT: Final = "Gbit/s"
GIGABYTE: Final = 2**30
BOUND: Final = 120.0
"""Seconds for one transfer: this is for what hangs, not for what is slow."""


def rate(size: int, seconds: float) -> float:
    """Return Gbit/s."""
    return size * 8 / seconds / 1e9


async def transfer(network: Network, size: int) -> float:
    """Move so many bytes from the client to the server over a new connection, and return Gbit/s.

    Raises:
        ValueError: not all of it arrived, or something else did.
    """
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        check = Check()
        try:
            while piece := await reader.read(READ):
                check.take(piece)
            check.finish(size)
            done.set_result(perf_counter())
        except (OSError, ValueError) as error:
            done.set_exception(error)
        writer.close()

    server = await network.start_server(serve)
    try:
        async with asyncio.timeout(BOUND):
            _, writer = await network.open_connection()
            started = perf_counter()
            for data in writes(size):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
            seconds = await done - started
            writer.close()
            await writer.wait_closed()
    finally:
        server.close()
    return rate(size, seconds)


async def transfer_by_streams(network: VirtualNetwork, size: int) -> float:
    """The same through `writable` and `readable`."""
    listener = await network.server.listen_tcp(0, network.host)

    async def receive() -> float:
        check = Check()
        async with await listener.accept() as connection:
            async for piece in connection.readable:
                check.take(piece)
            check.finish(size)
            return perf_counter()

    async with asyncio.timeout(BOUND), listener, asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(receive())
        async with await network.client.connect_tcp(network.host, listener.port) as connection:
            writer = connection.writable.get_writer()
            started = perf_counter()
            for data in writes(size):
                await writer.write(data)
            await writer.close()
            return rate(size, await receiving - started)


async def _at(place: Place, size: int) -> float:
    async with place() as network:
        return await transfer(network, size)


async def _by_streams(size: int) -> float:
    async with two_stacks() as network:
        return await transfer_by_streams(network, size)


KERNEL: Final = "asyncio over the kernel's loopback"
TAP: Final = "tap cable, MTU 1500, checksums on"
LOOPBACK: Final = "a stack's own loopback"

_GOALS: Final = {
    TAP: Goal(0.6),
    "tap cable, MTU 1500, checksums off": Goal(0.8),
    "tap cable, MTU 65535": Goal(1.0),
    "tun cable, MTU 1500": None,
    "tap cable, by readable and writable": Goal(0.5),
}


async def measure(size: int, rounds: int) -> list[Measure]:
    """Compare all kinds of networks.

    Args:
        size: bytes of one transfer.
        rounds: how often each takes its turn.
    """
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        KERNEL: partial(_at, kernel_loopback, size),
        TAP: partial(_at, two_stacks, size),
        "tap cable, MTU 1500, checksums off": partial(_at, partial(two_stacks, checksums=False), size),
        "tap cable, MTU 65535": partial(_at, partial(two_stacks, mtu=65535), size),
        "tun cable, MTU 1500": partial(_at, partial(two_stacks, "tun"), size),
        LOOPBACK: partial(_at, stack_loopback, size),
        "tap cable, by readable and writable": partial(_by_streams, size),
    }
    figures = await take_turns(contenders, rounds)
    reference = figures[KERNEL]
    measures = [compared(GROUP, name, UNIT, figures[name], reference, goal) for name, goal in _GOALS.items()]
    # As fast as the cable: with the noise of a few rounds, less than a twentieth slower.
    as_the_cable = Goal(0.95 * median(figures[TAP]), "value")
    return [*measures, compared(GROUP, LOOPBACK, UNIT, figures[LOOPBACK], reference, as_the_cable)]


async def measure_long(gigabytes: int = 10) -> list[Measure]:
    """Send gigabyte after gigabyte over one connection, and compare the last with the first."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    marks = [0.0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        check = Check()
        try:
            while piece := await reader.read(READ):
                check.take(piece)
                if check.received >= len(marks) * GIGABYTE:
                    marks.append(perf_counter())
                    progress(f"gigabyte {len(marks) - 1}: {rate(GIGABYTE, marks[-1] - marks[-2]):.3g}")
            check.finish(gigabytes * GIGABYTE)
            done.set_result(None)
        except (OSError, ValueError) as error:
            done.set_exception(error)
        writer.close()

    async with two_stacks() as network:
        server = await network.start_server(serve)
        _, writer = await network.open_connection()
        marks[0] = perf_counter()
        for data in writes(gigabytes * GIGABYTE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        await done
        server.close()
        heap = network.client.stats().core.memory
    rates = [rate(GIGABYTE, after - before) for before, after in pairwise(marks)]
    note = "by gigabyte: " + ", ".join(f"{each:.2f}" for each in rates)
    return [
        Measure("long", f"gigabyte {gigabytes} of one connection", rates[-1], UNIT, note=note),
        # A median on both sides, since a single second on a shared machine is luck.
        Measure(
            "long",
            "later half against earlier half",
            median(rates[len(rates) // 2 :]) / median(rates[: len(rates) // 2]),
            "×",
            goal=Goal(0.95, "value"),
            note=note,
        ),
        Measure("long", "the sender's linear memory afterwards", heap / 2**20, "MiB"),
    ]
