"""Scenarios for sweeps, which worker processes import."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tcpip_wasm.simulation import Network
from tests.kit.simulation_hosts import echoed, serve_upper, two


async def exchange(network: Network) -> int:
    """Run a request and answer over a link with loss, and return the number of frames."""
    if await echoed(network, b"question", loss=0.1) != b"question":
        raise ValueError("wrong answer")
    return len(network.trace())


async def nothing(network: Network) -> int:
    """Return the seed at once."""
    assert isinstance(network.seed, int)
    return network.seed


async def every_seventh(network: Network) -> int:
    """Fail, after an exchange, for multiples of seven."""
    frames = await exchange(network)
    assert isinstance(network.seed, int)
    if network.seed % 7 == 0:
        raise ValueError(f"{network.seed} is a multiple of seven")
    return frames


async def leaks_a_task(network: Network) -> None:
    """Leak a task if the seed is odd."""
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
    """Send data that does not depend on the seed alone, and fail."""
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
    """Fail while a service has an open connection, which it closes when it is cancelled."""
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
    """Return an object that cannot be pickled."""
    return lambda: None


async def slow(network: Network) -> None:
    """Take some real time."""
    await asyncio.to_thread(time.sleep, 0.2)


async def leaves(network: Network) -> None:
    """Raise KeyboardInterrupt."""
    raise SystemExit(3)
