"""The cost of virtual time: an idle hour, and a thousand runs of a client, a server and three retransmissions."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from statistics import median
from time import perf_counter  # imported by name: a run replaces the module's functions
from typing import Final, TypeVar

from benchmarks.report import Goal, Measure, progress
from tcpip_wasm.simulation import Network, Trial, run, sweep

T = TypeVar("T")

GROUP: Final = "simulation"
CORES: Final = 2
HOUR: Final = 3600.0
KEEPALIVE: Final = 60
"""Seconds between two keep-alive probes."""
RETRANSMISSIONS: Final = 3


async def _serve() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, port=7) as server:
        await server.serve_forever()


async def idle_hour(network: Network) -> int:
    """Keep a connection open for an hour, and return the number of keep-alive probes."""
    a, b = network.host("a"), network.host("b")
    network.link(a, b, delay=0.01)
    b.start(_serve)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("b", 7)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE)
        writer.write(b"begin")
        if await reader.readexactly(5) != b"begin":
            raise ValueError("the connection does not work")
        await asyncio.sleep(HOUR)
        writer.write(b"end")
        if await reader.readexactly(3) != b"end":
            raise ValueError("the connection did not last")
        writer.close()
        await writer.wait_closed()

    await a.run(client())
    return len(network.trace().tcp(port=7).observations)


async def three_retransmissions(network: Network) -> int:
    """Send a request while the link is down, and return the number of its retransmissions until the answer."""
    a, b = network.host("a"), network.host("b")
    link = network.link(a, b, bandwidth=1e7, delay=0.01)
    b.start(_serve)

    async def client() -> int:
        reader, writer = await asyncio.open_connection("b", 7)
        writer.write(b"begin")
        await reader.readexactly(5)
        before = a.stack.stats().core.tcp_retransmissions
        writer.write(b"x" * 1000)
        link.down()
        while a.stack.stats().core.tcp_retransmissions - before < RETRANSMISSIONS - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        link.up()
        await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()
        return a.stack.stats().core.tcp_retransmissions - before

    return await a.run(client())


def one() -> None:
    """Run the second scenario."""
    retransmissions = run(three_retransmissions, seed=1).value
    if retransmissions != RETRANSMISSIONS:
        raise ValueError(f"{retransmissions} retransmissions")


def _check(trial: Trial) -> None:
    if trial.value != RETRANSMISSIONS:
        raise ValueError(f"{trial}, {trial.value} retransmissions")


def _timed(what: Callable[[], T]) -> tuple[float, T]:
    began = perf_counter()
    result = what()
    return perf_counter() - began, result


def _swept(runs: int) -> tuple[float, float]:
    """Return real seconds, and processor time of the processes, which does not depend on other load."""
    before = os.times()
    report = sweep(three_retransmissions, runs, workers=CORES, captures=None, keep=0, on_trial=_check, progress=False)
    if report.runs != runs:
        raise ValueError(f"{report.runs} runs of {runs}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return report.seconds, used


async def measure(runs: int, rounds: int) -> list[Measure]:
    """Measure in a thread: a run creates an event loop of its own."""
    progress(f"{rounds} idle hours, {rounds} single runs, and {runs} runs in {CORES} processes")
    await asyncio.to_thread(run, idle_hour)
    hours = [await asyncio.to_thread(_timed, lambda: run(idle_hour)) for _ in range(rounds)]
    if hours[0][1].value < HOUR / KEEPALIVE:
        raise ValueError("the connection sent no keep-alive probes")
    singles = [await asyncio.to_thread(_timed, one) for _ in range(rounds)]
    pooled, used = await asyncio.to_thread(_swept, runs)
    whole = Goal(20 * runs / 1000, "value", most=True)
    return [
        Measure(
            GROUP,
            "an hour of an idle connection with keep-alive",
            median(s for s, _ in hours),
            "s",
            goal=Goal(0.2, "value", most=True),
        ),
        Measure(GROUP, "one run with three retransmissions", median(s for s, _ in singles) * 1e3, "ms"),
        Measure(GROUP, f"{runs:,} runs with three retransmissions, {CORES} processes", pooled, "s", goal=whole),
        Measure(GROUP, f"{runs:,} runs with three retransmissions, processor time per core", used / CORES, "s"),
    ]
