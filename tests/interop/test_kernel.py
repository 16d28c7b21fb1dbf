"""A stack and the machine's own kernel, connected by a TAP or a TUN device in a network namespace.

On a TAP there is Ethernet, so ARP and neighbour discovery have a part in it; a TUN has bare IP packets. Throughput is
printed (`pytest -s`), not asserted: it is the benchmark's business, and a busy machine must not fail what works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tcpip_wasm.links.tuntap import Kind

from .harness.payload import make_payload
from .harness.requirements import require_kernel_peer
from .scenarios import KernelPeer, kernel_peer

_MEGABYTES = 100

pytestmark = [
    pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"]),
    pytest.mark.parametrize("kind", ["tap", "tun"]),
]


def _with_peer(kind: Kind, work: Callable[[KernelPeer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with kernel_peer(kind) as peer:
            await work(peer)

    require_kernel_peer("curl", "ping")
    asyncio.run(run())


def test_the_kernel_fetches_from_the_stack(kind: Kind, version: int, tmp_path: Path) -> None:
    payload = make_payload(_MEGABYTES)

    async def work(peer: KernelPeer) -> None:
        rate = await peer.curl_from_stack(payload, version, tmp_path)
        print(f"{kind}, IPv{version}: stack to kernel {rate:.2f} Gbit/s; {peer.link.counters}")
        assert peer.link.counters.bytes_sent > len(payload.data)
        assert peer.link.counters.send_dropped == 0

    _with_peer(kind, work)


def test_the_stack_fetches_from_the_kernel(kind: Kind, version: int, tmp_path: Path) -> None:
    payload = make_payload(_MEGABYTES)

    async def work(peer: KernelPeer) -> None:
        rate = await peer.stack_from_server(payload, version, tmp_path)
        print(f"{kind}, IPv{version}: kernel to stack {rate:.2f} Gbit/s; {peer.link.counters}")
        assert peer.link.counters.bytes_received > len(payload.data)
        assert peer.link.counters.receive_truncated == 0

    _with_peer(kind, work)


def test_the_kernel_pings_the_stack(kind: Kind, version: int) -> None:
    _with_peer(kind, lambda peer: peer.ping_from_kernel(version))


def test_a_closed_port_of_the_kernel_refuses(kind: Kind, version: int) -> None:
    _with_peer(kind, lambda peer: peer.refused_by_kernel(version))


def test_a_closed_port_of_the_stack_refuses(kind: Kind, version: int) -> None:
    _with_peer(kind, lambda peer: peer.refused_by_stack(version))
