"""iperf3 through a router and a bridge: loss and rate, by iperf3's own count.

The rates are modest: what is proven is that a steady load passes whole, in both directions, and not how much would.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .between import Between, bridged, routed
from .harness.namespaces import Namespace
from .harness.requirements import require_kernel_peer

_PORT = 5201
_RATE = 50_000_000
"""Bits a second, for about two seconds."""
_DATAGRAMS = 9_000
_BYTES = 12_500_000

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
        *("iperf3", "--client", host, "--port", str(_PORT), "--connect-timeout", "60000", "--json"),
        *options,
        check=False,
    )
    report: dict[str, Any] = json.loads(said)
    assert "error" not in report, report["error"]
    assert await asyncio.to_thread(server.wait, 60) == 0
    return report


async def _dropped(namespace: Namespace, version: int) -> int:
    """How many packets the kernel of a namespace says it dropped for want of room.

    That is in the queue before its TAP, which it fills while the stack does not get to run, and in a socket's buffer
    while iperf3 does not.
    """

    async def said(*argv: str) -> str:
        return (await asyncio.to_thread(namespace.run, *argv)).stdout

    (link,) = json.loads(await said("ip", "-s", "-j", "link", "show", "dev", "peer0"))
    dropped: int = link["stats64"]["tx"]["dropped"] + link["stats64"]["rx"]["dropped"]
    queues = json.loads(await said("tc", "-s", "-j", "qdisc", "show", "dev", "peer0"))
    dropped += sum(queue["drops"] for queue in queues)
    if version == 6:
        counted = dict(line.split() for line in (await said("cat", "/proc/net/snmp6")).splitlines())
        return dropped + int(counted["Udp6RcvbufErrors"])
    names, figures = (line.split() for line in (await said("cat", "/proc/net/snmp")).splitlines() if line[:4] == "Udp:")
    return dropped + int(dict(zip(names, figures, strict=True))["RcvbufErrors"])


def test_datagrams(middle: Any, version: int, reverse: bool) -> None:
    """The stack loses none: missing datagrams were dropped by the kernels, as on a busy machine."""

    async def main() -> None:
        async with middle() as between, asyncio.timeout(250):
            options = ["--udp", "--bitrate", str(_RATE), "--length", "1400", "--blockcount", str(_DATAGRAMS)]
            options += ["--reverse"] * reverse
            report = await _iperf(between, version, *options)
            figures = report["end"]["sum"]
            sent, lost = figures["packets"], figures["lost_packets"]
            dropped = await _dropped(between.near, version) + await _dropped(between.far, version)
            rate = figures["bits_per_second"] / 1e6
            print(f"{sent:,} datagrams at {rate:.1f} Mbit/s, {lost} lost, {dropped} dropped by the kernels")
            assert sent >= _DATAGRAMS
            assert lost <= dropped
            assert lost < sent
            assert report["end"]["streams"][0]["udp"]["out_of_order"] == 0
            core = between.stack.stats().core
            assert core.checksum_errors == 0
            assert core.forwarded >= (sent - lost if middle is routed else 0)

    require_kernel_peer("iperf3", "tc", "curl", "ping")
    asyncio.run(main())


def test_a_stream(middle: Any, version: int, reverse: bool) -> None:
    async def main() -> None:
        async with middle() as between, asyncio.timeout(250):
            options = ["--bitrate", str(_RATE), "--bytes", str(_BYTES), *["--reverse"] * reverse]
            report = await _iperf(between, version, *options)
            sent, received = (report["end"][each]["bytes"] for each in ("sum_sent", "sum_received"))
            print(f"{report['end']['sum_received']['bits_per_second'] / 1e6:.1f} Mbit/s")
            assert sent >= _BYTES
            assert 0.9 * _BYTES <= received <= sent  # iperf3 does not read to the end

    require_kernel_peer("iperf3", "curl", "ping")
    asyncio.run(main())
