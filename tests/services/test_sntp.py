"""The SNTP server: dates by the loop's virtual clock, the end of NTP's era, and bytes that are no request."""

from __future__ import annotations

import asyncio
import random
from struct import pack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import NetworkStack, UdpDatagram
from tcpip_wasm.services import SntpServer
from tcpip_wasm.services.sntp import wire
from tcpip_wasm.simulation import LinkSettings, run_virtually
from tests.kit.links import B4, B6, linked

_2036 = 2_085_978_496
"""The second in which NTP's era 1 begins."""


def query(version: int = 4, mode: int = 3, sent: int = 0x1234567890ABCDEF) -> bytes:
    return pack(">B39xQ", version << 3 | mode, sent)


async def ask(stack: NetworkStack, data: bytes, host: str = B4) -> bytes:
    async with await stack.open_udp() as udp:
        await udp.send(UdpDatagram(host, 123, data))
        async with asyncio.timeout(10):
            return (await udp.receive()).data


@pytest.mark.parametrize("date", [1_800_000_000.25, _2036 - 0.5, _2036 + 1e9])
def test_the_date_is_that_of_the_loops_clock(date: float) -> None:
    async def main() -> None:
        async with linked(LinkSettings(delay=0.125)) as hosts, SntpServer(hosts.b, date=date, stratum=3):
            loop = asyncio.get_running_loop()
            began = loop.time()
            for host, version in ((B4, 4), (B6, 3), (B4, 1)):
                await asyncio.sleep(3600)
                answer = await ask(hosts.a, query(version, mode=3 if version > 1 else 0), host)
                first, stratum = answer[:2]
                originate, received, sent = unpack_from(">QQQ", answer, 24)
                assert (len(answer), first, stratum) == (48, version << 3 | 4, 3)
                assert originate == 0x1234567890ABCDEF
                expected = date + loop.time() - began - 0.125
                assert wire.date_of(sent, expected) == pytest.approx(expected, abs=0.01)
                assert received <= sent

    run_virtually(main())


def test_what_is_no_request_gets_no_answer() -> None:
    async def main() -> None:
        rng = random.Random(1)
        async with linked() as hosts, SntpServer(hosts.b, rate_limit=50) as server:
            async with await hosts.a.open_udp() as udp:
                for data in (b"", query()[:47], query(mode=4), query(mode=1), query(5), query(0), bytes(2000)):
                    await udp.send(UdpDatagram(B4, 123, data))
                for _ in range(500):
                    await udp.send(UdpDatagram(B4, 123, rng.randbytes(rng.randrange(100))))
                await asyncio.sleep(2)
                assert server.statistics.malformed >= 300
                for _ in range(200):
                    await udp.send(UdpDatagram(B4, 123, query() + bytes(20)))
                await asyncio.sleep(2)
                assert server.statistics.limited >= 100
            assert len(await ask(hosts.a, query())) == 48
            await hosts.b.aclose()
            assert server.closed

    run_virtually(main())


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        request = wire.parse_request(data)
    except wire.BadMessage:
        return
    assert len(wire.build_answer(request, arrived=1e9, leaves=1e9, stratum=1, reference=b"LOCL")) == 48


@given(st.floats(0, 1e10))
def test_timestamps(date: float) -> None:
    assert wire.date_of(wire.timestamp(date), date + 1000) == pytest.approx(date, abs=1e-3)
