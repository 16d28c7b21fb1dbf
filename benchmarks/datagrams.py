"""UDP datagrams per second, every one compared with the data sent, and the round trip of a ping.

Both sides of a comparison are asyncio's datagram endpoints, on one event loop. Senders pause after `pause_writing`, and
at most a window of datagrams is under way, so that the kernel's socket buffer drops none: any loss is an error.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from benchmarks.networks import PLACES, Place, VirtualNetwork
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "UDP"
BOUND: Final = 120.0
WINDOW: Final = 64
"""Most datagrams under way: as many of 1,400 bytes as fit the kernel's default socket buffer, 208 KiB."""
SIZES: Final = (64, 1400)
_RANDOM: Final = random.Random(768).randbytes(64 * 1024)


def datagram(number: int, size: int) -> bytes:
    """Return the bytes of a datagram, which differ from those of every other."""
    at = number % (len(_RANDOM) - size)
    return number.to_bytes(8, "big") + _RANDOM[at : at + size - 8]


class Receiver(asyncio.DatagramProtocol):
    """Compares each datagram, and reports when a number of them has arrived."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self._size = size
        self._target = -1
        self._reached: asyncio.Future[None] | None = None

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Check the next datagram. Raises ValueError for a wrong one."""
        if data != datagram(self.count, self._size):
            raise ValueError(f"datagram {self.count} is not what was sent")
        self.count += 1
        if self.count >= self._target and self._reached is not None:
            self._reached.set_result(None)
            self._reached = None

    async def reached(self, count: int) -> None:
        """Wait until `count` datagrams have arrived."""
        if self.count < count:
            self._target = count
            self._reached = asyncio.get_running_loop().create_future()
            await self._reached


Open = Callable[..., Any]


@asynccontextmanager
async def ends(place: Place) -> AsyncIterator[tuple[Open, Open, str]]:
    """Yield `create_datagram_endpoint` of the sender and of the receiver, and the receiver's address."""
    async with place() as network:
        if isinstance(network, VirtualNetwork):
            yield network.client.create_datagram_endpoint, network.server.create_datagram_endpoint, network.host
        else:
            loop = asyncio.get_running_loop()
            yield loop.create_datagram_endpoint, loop.create_datagram_endpoint, "127.0.0.1"


async def rate(place: Place, size: int, count: int) -> float:
    """Return datagrams per second.

    Raises:
        ValueError: one was wrong.
        TimeoutError: one was lost.
    """
    # Built in advance: only sending is measured.
    ready = [datagram(number, size) for number in range(count)]
    async with ends(place) as (here, there, host), asyncio.timeout(BOUND):
        far, receiver = await there(lambda: Receiver(size), local_addr=(host, 0))
        near, _ = await here(asyncio.DatagramProtocol, remote_addr=far.get_extra_info("sockname"))
        started = perf_counter()
        for at in range(0, count, WINDOW // 2):
            for data in ready[at : at + WINDOW // 2]:
                near.sendto(data)
            await receiver.reached(at)
        await receiver.reached(count)
        seconds = perf_counter() - started
        near.close()
        far.close()
    return count / seconds


async def ping_times(count: int) -> list[float]:
    """Return the round trips of `count` pings of 56 bytes over a tap cable, in microseconds.

    Raises:
        ValueError: a reply was wrong.
    """
    times = []
    payload = _RANDOM[:56]
    async with PLACES["tap cable"]() as network, asyncio.timeout(BOUND):
        assert isinstance(network, VirtualNetwork)
        async with await network.client.create_ping_session(network.host) as session:
            for _ in range(count):
                reply = await session.ping(payload)
                if reply.payload != payload:
                    raise ValueError("a reply is not what was sent")
                times.append(reply.round_trip_time * 1e6)
    return times


async def measure(count: int, pings: int, rounds: int) -> list[Measure]:
    """Compare the datagrams per second of the networks, and measure the round trip of a ping.

    Args:
        count: datagrams of each size and network a round.
        pings: how many pings.
        rounds: how often each network is measured, alternately.
    """
    measures = []
    reference, *ours = PLACES
    for size in SIZES:
        figures = await alternate({name: partial(rate, PLACES[name], size, count) for name in PLACES}, rounds)
        for name in ours:
            goal = Goal(1.0) if name == "tap cable" else None
            label = f"{size} bytes, {name}"
            measures.append(compared(GROUP, label, "1/s", figures[name], figures[reference], goal))
    times = await ping_times(pings)
    measures.append(Measure("ping", "tap cable, p50", median(times), "µs"))
    measures.append(Measure("ping", "tap cable, p99", quantiles(times, n=100)[98], "µs"))
    return measures
