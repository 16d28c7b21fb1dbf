"""iperf3's load through a stack that routes and one that bridges: what arrives, at what rate, by iperf3's own count.

The rates are modest: what is proven is that a steady load passes whole, in both directions, and not how much would.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .between import Between, bridged, routed
from .harness.requirements import require_kernel_peer

_PORT = 5201
_SECONDS = 2
_RATE = 50_000_000
"""Bits a second."""

_LOST = 0.03
"""Share of datagrams that a busy machine may lose: its kernel's queue before the TAP is 1,000 packets, 0.2 s."""

pytestmark = [
    pytest.mark.alone,
    pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"]),
    pytest.mark.parametrize("middle", [routed, bridged], ids=["router", "bridge"]),
    pytest.mark.parametrize("reverse", [False, True], ids=["there", "back"]),
]


async def _iperf(between: Between, version: int, *options: str) -> dict[str, Any]:
    """Run iperf3 in both namespaces; returns the report of the client, which is in the near one."""
    host = between.addresses[version]
    server = await asyncio.to_thread(
        between.far.start,
        *("iperf3", "--server", "--one-off", "--bind", host, "--port", str(_PORT), "--forceflush"),
        ready="Server listening",
    )
    said = await between.run(
        *("iperf3", "--client", host, "--port", str(_PORT), "--connect-timeout", "5000", "--json"),
        *("--time", str(_SECONDS), *options),
        check=False,
    )
    report: dict[str, Any] = json.loads(said)
    assert "error" not in report, report["error"]
    assert await asyncio.to_thread(server.wait, 20) == 0
    return report


def test_datagrams(middle: Any, version: int, reverse: bool) -> None:
    async def main() -> None:
        async with middle() as between, asyncio.timeout(30):
            size = 1400
            options = ["--udp", "--bitrate", str(_RATE), "--length", str(size), *["--reverse"] * reverse]
            report = await _iperf(between, version, *options)
            figures = report["end"]["sum"]
            sent, lost = figures["packets"], figures["lost_packets"]
            print(f"{sent:,} datagrams at {figures['bits_per_second'] / 1e6:.1f} Mbit/s, {lost} lost")
            assert sent >= 0.9 * _RATE * _SECONDS / 8 / size
            assert lost <= _LOST * sent
            assert report["end"]["streams"][0]["udp"]["out_of_order"] == 0
            core = between.stack.stats().core
            assert core.checksum_errors == 0
            assert core.forwarded >= (sent - lost if middle is routed else 0)

    require_kernel_peer("iperf3", "curl", "ping")
    asyncio.run(main())


def test_a_stream(middle: Any, version: int, reverse: bool) -> None:
    async def main() -> None:
        async with middle() as between, asyncio.timeout(30):
            report = await _iperf(between, version, "--bitrate", str(_RATE), *["--reverse"] * reverse)
            sent, received = (report["end"][each]["bytes"] for each in ("sum_sent", "sum_received"))
            print(f"{received * 8 / _SECONDS / 1e6:.1f} Mbit/s")
            assert 0.9 * _RATE * _SECONDS / 8 <= received <= sent

    require_kernel_peer("iperf3", "curl", "ping")
    asyncio.run(main())
