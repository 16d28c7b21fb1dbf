"""Windows beyond a mebibyte: a long fast path is used fully, and what it loses, repeats and delays is put in order."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.engine import abi
from tcpip_wasm.simulation import DropTail, Link, LinkSettings, run_virtually
from tests.kit.core_network import payload

BLOCK = payload(1 << 20)
LONG = LinkSettings(bandwidth=1e9, delay=0.05, queue=DropTail(packets=20_000))


async def carry(settings: LinkSettings, blocks: int, seed: int) -> tuple[float, float, int]:
    """Send blocks over a link; return when half and all had arrived, and the most bytes of the sender's heap."""
    loop = asyncio.get_running_loop()
    arrived = hashlib.sha256()
    half: list[float] = []
    end = loop.create_future()
    received = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(1 << 18):
            arrived.update(data)
            received += len(data)
            if received >= blocks * len(BLOCK) // 2 and not half:
                half.append(loop.time())
        end.set_result(loop.time())
        writer.close()

    async with await create_stack(seed=seed) as a, await create_stack(seed=seed + 1) as b:
        tap_a = await a.create_tap_interface(ip="10.0.0.1/24", mtu=9000)
        tap_b = await b.create_tap_interface(ip="10.0.0.2/24", mtu=9000)
        link = Link(tap_a, tap_b, settings, seed=seed)
        server = await b.start_server(serve, "10.0.0.2", 80)
        _, writer = await a.open_connection("10.0.0.2", 80)
        sent = hashlib.sha256()
        for _ in range(blocks):
            writer.write(BLOCK)
            sent.update(BLOCK)
            await writer.drain()
            most = max(most, a.stats().core.heap_used)
        writer.close()
        finished = await end
        assert arrived.digest() == sent.digest()
        await writer.wait_closed()
        link.close()
        server.close()
    return half[0], finished, most


def test_a_gigabit_over_a_round_trip_of_100_ms() -> None:
    half, end, most = run_virtually(carry(LONG, 160, 1))
    assert 80 * len(BLOCK) * 8 / (end - half) > 0.9e9
    assert 12_500_000 < most < abi.TCP_SEND_BUFFER * 3 // 2


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        replace(LONG, loss=0.001),
        replace(LONG, reorder=0.01, reorder_delay=0.003),
        replace(LONG, duplicate=0.05),
        replace(LONG, loss=0.001, reorder=0.01, reorder_delay=0.003, duplicate=0.05),
    ],
    ids=["lost", "late", "twice", "all"],
)
def test_all_arrives_in_order_through_a_large_window(settings: LinkSettings, seed: int) -> None:
    run_virtually(carry(settings, 64, 2 * seed))
