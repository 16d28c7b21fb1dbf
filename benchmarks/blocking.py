"""Blocking sockets in two threads: `compat.socket` over a stack's loopback, and real sockets over the kernel's."""

from __future__ import annotations

import asyncio
import socket as real
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from benchmarks.bulk import rate
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Measure, alternate, compared
from tcpip_wasm.compat import StackThread
from tcpip_wasm.compat import socket as stand_in

GROUP: Final = "blocking sockets"
KERNEL: Final = "real sockets in two threads"
STACK: Final = "a stack's own loopback, in a third thread"
BOUND: Final = 120.0


@contextmanager
def _pair(place: str) -> Iterator[tuple[Any, Any]]:
    """Yield two connected sockets, without Nagle's algorithm, as on a stack."""
    if place == STACK:
        with StackThread() as thread:
            host = stand_in.use(thread)
            try:
                first, second = stand_in.socketpair(real.AF_INET)
            finally:
                stand_in.leave(host)
            with first, second:
                yield first, second
        return
    with real.create_server(("127.0.0.1", 0)) as listener:
        first = real.create_connection(listener.getsockname())
        second, _ = listener.accept()
    with first, second:
        for each in (first, second):
            each.setsockopt(real.IPPROTO_TCP, real.TCP_NODELAY, 1)
        yield first, second


def bulk(place: str, size: int) -> float:
    """Return the Gbit/s of one transfer, every byte checked by the receiver."""
    with _pair(place) as (sender, receiver), ThreadPoolExecutor(1) as threads:
        for each in (sender, receiver):
            each.settimeout(BOUND)

        def receive() -> float:
            check = Check()
            while chunk := receiver.recv(READ):
                check.take(chunk)
            check.finish(size)
            return perf_counter()

        done = threads.submit(receive)
        started = perf_counter()
        for data in writes(size):
            sender.sendall(data)
        sender.shutdown(real.SHUT_WR)
        return rate(size, done.result(BOUND) - started)


def round_trips(place: str, count: int) -> list[float]:
    """Return the times of `count` round trips of one byte, in microseconds."""
    times = []
    with _pair(place) as (client, server), ThreadPoolExecutor(1) as threads:
        for each in (client, server):
            each.settimeout(BOUND)

        def echo() -> None:
            while data := server.recv(1024):
                server.sendall(data)

        done = threads.submit(echo)
        for number in range(count):
            request = bytes([number % 256])
            started = perf_counter()
            client.sendall(request)
            answer = client.recv(1)
            times.append((perf_counter() - started) * 1e6)
            if answer != request:
                raise ValueError(f"{request!r} came back as {answer!r}")
        client.shutdown(real.SHUT_WR)
        done.result(BOUND)
    return times


async def measure(count: int, size: int, rounds: int) -> list[Measure]:
    """Compare bulk and echo.

    Args:
        count: round trips a round.
        size: bytes of one transfer.
        rounds: how often each is measured, alternately.
    """
    p99: dict[str, list[float]] = {KERNEL: [], STACK: []}

    async def transfer(place: str) -> float:
        return await asyncio.to_thread(bulk, place, size)

    async def trip(place: str) -> float:
        times = await asyncio.to_thread(round_trips, place, count)
        p99[place].append(quantiles(times, n=100)[98])
        return median(times)

    rates = await alternate({place: partial(transfer, place) for place in (KERNEL, STACK)}, rounds)
    p50 = await alternate({place: partial(trip, place) for place in (KERNEL, STACK)}, rounds)
    return [
        compared(GROUP, f"bulk, {STACK}", "Gbit/s", rates[STACK], rates[KERNEL], beside=KERNEL),
        compared(GROUP, f"1-byte echo, {STACK}, p50", "µs", p50[STACK], p50[KERNEL], beside=KERNEL),
        compared(GROUP, f"1-byte echo, {STACK}, p99", "µs", p99[STACK], p99[KERNEL], beside=KERNEL),
    ]
