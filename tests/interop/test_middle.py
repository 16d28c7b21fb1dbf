"""A stack between two kernels: as a router it forwards their packets, as a bridge their frames.

The kernels' own programs judge: curl and SHA-256 that nothing is lost, ping that echoes come back, traceroute and
tracepath that a router says who it is and how much fits.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .between import MEGABYTES, bridged, routed
from .harness.requirements import require_kernel_peer

_versions = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@_versions
def test_a_file_through_a_router(version: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with routed() as between:
            await between.fetch(version, tmp_path)
            figures = between.stack.stats().core
            assert figures.forwarded > MEGABYTES * 1_000_000 // 1500
            assert figures.tcp_segments_in == 0

    asyncio.run(main())


@_versions
def test_a_file_through_a_router_to_a_link_with_a_small_mtu(version: int, tmp_path: Path) -> None:
    """The kernel learns the path MTU from the router's ICMP errors, or its peer's MSS."""

    async def main() -> None:
        async with routed(far_mtu=1300) as between:
            await between.fetch(version, tmp_path)

    asyncio.run(main())


@_versions
def test_ping_through_a_router(version: int) -> None:
    async def main() -> None:
        async with routed() as between:
            await between.ping(version)

    asyncio.run(main())


@_versions
@pytest.mark.parametrize("method", ["udp", "icmp", "tcp"])
def test_traceroute_shows_the_router(version: int, method: str) -> None:
    async def main() -> None:
        async with routed() as between:
            options = {"udp": (), "icmp": ("-I",), "tcp": ("-T", "-p", "9")}[method]
            said = await between.run(
                "traceroute", f"-{version}", "-n", "-q", "2", "-w", "30,0,0", *options, between.addresses[version]
            )
            hops = [line.split() for line in said.splitlines()[1:]]
            router = "10.88.1.1" if version == 4 else "fd88:1::1"
            assert [hop[1] for hop in hops] == [router, between.addresses[version]], between.counters()
            assert "!" not in said
            assert "*" not in said

    require_kernel_peer("traceroute")
    asyncio.run(main())


@_versions
def test_tracepath_finds_the_small_mtu(version: int) -> None:
    async def main() -> None:
        async with routed(far_mtu=1300) as between:
            said = await between.run("tracepath", f"-{version}", "-n", between.addresses[version])
            assert "pmtu 1300" in said
            assert ("10.88.1.1" if version == 4 else "fd88:1::1") in said
            assert "reached" in said
            assert "Resume: pmtu 1300 hops 2" in said

    require_kernel_peer("tracepath")
    asyncio.run(main())


@_versions
def test_the_router_reports_unreachable_destinations(version: int) -> None:
    """No route, and no host at that address."""

    async def main() -> None:
        async with routed() as between:
            nowhere, nobody = ("192.0.2.1", "10.88.2.77") if version == 4 else ("2001:db8::1", "fd88:2::77")
            router = "10.88.1.1" if version == 4 else "fd88:1::1"
            said = await between.run("ping", "-c", "1", "-W", "20", nowhere, check=False)
            assert f"From {router}" in said
            assert ("Net Unreachable" if version == 4 else "No route") in said
            said = await between.run("ping", "-c", "1", "-W", "20", nobody, check=False)
            assert f"From {router}" in said
            assert ("Host Unreachable" if version == 4 else "Address unreachable") in said

    asyncio.run(main())


@_versions
def test_a_file_through_a_bridge(version: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridged() as between:
            await between.fetch(version, tmp_path)
            assert between.stack.stats().core.forwarded == 0

    asyncio.run(main())


@_versions
def test_ping_through_a_bridge_and_to_it(version: int) -> None:
    async def main() -> None:
        async with bridged() as between:
            await between.ping(version)
            own = "10.88.0.3" if version == 4 else "fd88::3"
            await asyncio.to_thread(between.near.echoes, own, 3)
            # One hop: a bridge is not seen.
            if version == 4:
                said = await between.run("ping", "-c", "1", "-W", "20", "-t", "1", between.addresses[4], check=False)
                assert "1 received" in said

    asyncio.run(main())
