"""Bulk transfer in one direction: 64 KiB writes, streams at both ends, every byte checked by the receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.networks import Network, Place, VirtualNetwork, kernel_loopback, stack_loopback, two_stacks
from benchmarks.payload import READ, WRITE, Check, writes
from benchmarks.report import Goal, Measure, alternate, compared, progress

GROUP: Final = "bulk"
UNIT: Final = "Gbit/s"
GIGABYTE: Final = 2**30
BOUND: Final = 120.0
"""Time limit of one transfer in seconds: it catches a hang, not a slow transfer."""


def rate(size: int, seconds: float) -> float:
    """Return Gbit/s."""
    return size * 8 / seconds / 1e9


async def transfer(network: Network, size: int) -> float:
    """Send `size` bytes from the client to the server over a new connection, and return Gbit/s.

    Raises:
        ValueError: the received data is incomplete or wrong.
    """
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        check = Check()
        try:
            while chunk := await reader.read(READ):
                check.take(chunk)
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
            async for chunk in connection.readable:
                check.take(chunk)
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
        rounds: how often each is measured, alternately.
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
    figures = await alternate(contenders, rounds)
    reference = figures[KERNEL]
    measures = [compared(GROUP, name, UNIT, figures[name], reference, goal) for name, goal in _GOALS.items()]
    # As fast as the cable: less than a twentieth slower, which is the noise of a few rounds.
    as_the_cable = Goal(0.95 * median(figures[TAP]), "value")
    return [*measures, compared(GROUP, LOOPBACK, UNIT, figures[LOOPBACK], reference, as_the_cable)]


class _Connection:
    """A connection that stays open, and the bytes that went over it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._check = Check()
        self._sent = 0
        self._arrived = asyncio.Event()
        self._failed: Exception | None = None

    async def __aenter__(self) -> _Connection:
        self._server = await self._network.start_server(self._serve)
        _, self._writer = await self._network.open_connection()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(READ):
                self._check.take(chunk)
                if self._check.received >= self._sent:
                    self._arrived.set()
        except (OSError, ValueError) as error:
            self._failed = error
            self._arrived.set()
        writer.close()

    async def move(self, data: Iterable[bytes], size: int) -> float:
        """Send the next `size` bytes, and return the seconds until all of them had arrived and were checked."""
        self._sent += size
        self._arrived.clear()
        started = perf_counter()
        for chunk in data:
            self._writer.write(chunk)
            await self._writer.drain()
        await self._arrived.wait()
        if self._failed is not None:
            raise self._failed
        return perf_counter() - started


async def measure_long(gigabytes: int = 10) -> list[Measure]:
    """Send gigabyte after gigabyte over one connection, and compare the later half with the earlier one.

    The machine's own speed may change by half in that time, so the kernel's loopback is measured after each part.
    """
    chunk = GIGABYTE // 16
    ours: list[float] = []
    theirs: list[float] = []
    async with kernel_loopback() as kernel, two_stacks() as network:
        async with _Connection(network) as a, _Connection(kernel) as b:
            data = [writes(gigabytes * GIGABYTE) for _ in range(2)]
            for number in range(gigabytes):
                seconds = [0.0, 0.0]
                for _ in range(GIGABYTE // chunk):
                    for which, connection in enumerate((a, b)):
                        seconds[which] += await connection.move(islice(data[which], chunk // WRITE), chunk)
                ours.append(rate(GIGABYTE, seconds[0]))
                theirs.append(rate(GIGABYTE, seconds[1]))
                progress(f"gigabyte {number + 1}: {ours[-1]:.3g}, the kernel's {theirs[-1]:.3g}")
        heap = network.client.stats().core.memory
    ratios = [own / kernels for own, kernels in zip(ours, theirs, strict=True)]
    note = "ratio by gigabyte: " + ", ".join(f"{each:.2f}" for each in ratios)
    half = len(ratios) // 2
    return [
        Measure("long", f"gigabyte {gigabytes} of one connection", ours[-1], UNIT, theirs[-1], ratios[-1]),
        Measure(
            "long",
            "later half against earlier half, both relative to the kernel",
            median(ratios[-half:]) / median(ratios[:half]),
            "×",
            goal=Goal(0.95, "value"),
            note=note,
        ),
        Measure("long", "the sender's linear memory afterwards", heap / 2**20, "MiB"),
    ]
