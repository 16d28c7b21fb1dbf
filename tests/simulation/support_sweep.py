"""Scenarios for sweeps, which worker processes import."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tcpip_wasm.simulation import Network
from tests.simulation.support_hosts import echoed, serve_upper, two


async def exchange(network: Network) -> int:
    """Have a host answer another over a lossy link, and return how many frames that took."""
    if await echoed(network, b"question", loss=0.1) != b"question":
        raise ValueError("another answer")
    return len(network.trace())


async def nothing(network: Network) -> int:
    """Return the seed at once."""
    assert isinstance(network.seed, int)
    return network.seed


async def every_seventh(network: Network) -> int:
    """Fail, after an exchange, for seeds that seven divides."""
    frames = await exchange(network)
    assert isinstance(network.seed, int)
    if network.seed % 7 == 0:
        raise ValueError(f"seven divides {network.seed}")
    return frames


async def forgets(network: Network) -> None:
    """Leave a task behind if the seed is odd."""
    assert isinstance(network.seed, int)
    if network.seed % 2:
        network.task = asyncio.create_task(asyncio.sleep(1000), name="forgotten")  # type: ignore[attr-defined]


async def dies(network: Network) -> int:
    """End the process if the seed is 13."""
    frames = await exchange(network)
    if network.seed == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return frames


async def differs(network: Network) -> None:
    """Send something that does not come from the seed, and fail."""
    a, b = network.host("a"), network.host("b")
    network.link(a, b, delay=int.from_bytes(await asyncio.to_thread(os.urandom, 4)) / 2**32)
    await exchange_between(network, "a", "b")
    raise ValueError("it fails anyway")


async def exchange_between(network: Network, one: str, other: str) -> None:
    """Ping."""
    session = await network.hosts[one].stack.create_ping_session(network.hosts[other].address)
    await session.ping(timeout=10)
    await session.close()


async def fails_with_a_service(network: Network) -> None:
    """Fail while a service has a connection open, which it closes when it is ended."""
    a, b = two(network)
    b.start(serve_upper)

    async def hold() -> None:
        _, writer = await asyncio.open_connection("b", 7)
        try:
            await asyncio.sleep(1000)
        finally:
            writer.close()

    a.start(hold)
    await asyncio.sleep(1)
    raise ValueError("it fails")


async def unpicklable(network: Network) -> object:
    """Return what no other process can be sent."""
    return lambda: None


async def slow(network: Network) -> None:
    """Take a real while."""
    await asyncio.to_thread(time.sleep, 0.2)


async def leaves(network: Network) -> None:
    """Have enough of it."""
    raise SystemExit(3)
