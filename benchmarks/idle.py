"""How often an idle stack wakes: without a connection, and with an open, idle one."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.networks import VirtualNetwork, two_stacks
from benchmarks.report import Goal, Measure, progress

GROUP: Final = "idle"
UNIT: Final = "wake-ups/s"
_REPORTS: Final = 2.0
"""Seconds after which a new interface has reported its multicast groups: RFC 2710, section 7."""
_SETTLES: Final = 1.0
"""Seconds after which all data of a connection is acknowledged."""


async def _wake_ups(network: VirtualNetwork, settle: float, seconds: float) -> float:
    def polls() -> int:
        return network.client.stats().turns + network.server.stats().turns

    await asyncio.sleep(settle)
    before = polls()
    await asyncio.sleep(seconds)
    return (polls() - before) / 2 / seconds


async def measure(seconds: float) -> list[Measure]:
    """Count the wake-ups of each of two stacks on a cable for some seconds."""
    async with two_stacks() as network:
        progress(f"{_REPORTS:g} s to settle, then {seconds:g} s without and with an open connection")
        alone = await _wake_ups(network, _REPORTS, seconds)
        async with (
            await network.server.listen_tcp(0) as listener,
            await network.client.connect_tcp(network.host, listener.port) as ours,
            await listener.accept() as theirs,
        ):
            await ours.writable.get_writer().write(b"hello")
            if await theirs.readable.get_reader().read() != b"hello":
                raise ValueError("the connection does not work")
            connected = await _wake_ups(network, _SETTLES, seconds)
    none = Goal(0, "value", most=True)
    return [
        Measure(GROUP, "a stack without connections", alone, UNIT, goal=none),
        Measure(GROUP, "a stack with a silent open connection", connected, UNIT, goal=none),
    ]
