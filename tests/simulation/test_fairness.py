"""Flows that share a link get similar shares of it, whichever algorithm controls their congestion, in virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tcpip_wasm.simulation import DropTail, LinkSettings, run_virtually
from tests.kit.core_network import payload
from tests.kit.links import B4, B6, linked

FRAME = 1514
SETTLES = 10.0
"""Seconds after which the first flow has made room for the second."""
LASTS = 40.0
"""Seconds over which shares are taken."""
FACTOR = 1.5
CHUNK = payload(65536)


async def shares(settings: LinkSettings, algorithms: tuple[str, ...], host: str, apart: float) -> list[float]:
    """Return the shares of the link's bandwidth that flows get, which begin one after the other.

    Args:
        settings: of the link.
        algorithms: what controls the congestion of each flow.
        host: the receiver's address.
        apart: seconds between their beginnings.
    """
    counts = [0] * len(algorithms)
    numbers = itertools.count()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        while data := await reader.read(65536):
            at = counts[number] % len(CHUNK)
            assert data == (CHUNK + CHUNK)[at : at + len(data)]
            counts[number] += len(data)
        writer.close()

    async with linked(settings) as hosts:
        server = await hosts.b.start_server(receive, host, 80)

        async def send(algorithm: str) -> None:
            _, writer = await hosts.a.open_connection(host, 80, congestion_control=algorithm)
            try:
                while True:
                    writer.write(CHUNK)
                    await writer.drain()
            finally:
                writer.transport.abort()

        tasks = []
        for algorithm in algorithms:
            tasks.append(asyncio.create_task(send(algorithm)))
            await asyncio.sleep(apart)
        await asyncio.sleep(SETTLES)
        before = counts.copy()
        await asyncio.sleep(LASTS)
        taken = [count - earlier for count, earlier in zip(counts, before, strict=True)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
    assert settings.bandwidth is not None
    return [count * 8 / LASTS / settings.bandwidth for count in taken]


@pytest.mark.parametrize(
    ("algorithms", "host"),
    [(("cubic", "cubic"), B4), (("cubic", "reno"), B6), (("reno", "cubic"), B4)],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_two_flows_share_a_link(algorithms: tuple[str, str], host: str) -> None:
    """10 Mbit/s and a round trip of 40 ms, where CUBIC grows as Reno would (RFC 9438, section 4.3).

    Over longer round trips CUBIC takes more than Reno; it is made for that (section 5.1).

    Args:
        algorithms: of the flow that begins, and of the one that begins two seconds later.
        host: the receiver's address.
    """
    bandwidth, delay = 10e6, 0.02
    queue = DropTail(packets=round(bandwidth * 2 * delay / 8 / FRAME))
    settings = LinkSettings(bandwidth=bandwidth, delay=delay, queue=queue)
    taken = run_virtually(shares(settings, algorithms, host, 2.0))
    assert sum(taken) > 0.9
    assert max(taken) < FACTOR * min(taken)
