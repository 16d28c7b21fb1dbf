"""Times and goodput of ping, TCP and UDP over a link are the computed ones."""

from __future__ import annotations

import asyncio

import pytest

from tcpip_wasm import UdpDatagram
from tcpip_wasm.simulation import DropTail, GilbertElliott, LinkSettings, run_virtually
from tests.kit.links import A4, A6, B4, B6, TCP_SHARE, linked, transfer

# bit/s, seconds, bytes of a transfer
LINKS = [
    pytest.param(10e6, 0.020, 6_000_000, id="10Mbit-20ms"),
    pytest.param(50e6, 0.040, 24_000_000, id="50Mbit-40ms"),
    pytest.param(100e6, 0.005, 12_000_000, id="100Mbit-5ms"),
    pytest.param(1e6, 0.3, 2_000_000, id="1Mbit-300ms"),
]
OPEN = 0.4
"""The share of a transfer after which the congestion window is fully open."""


@pytest.mark.parametrize("host", [B4, B6])
@pytest.mark.parametrize("delay", [0.0, 0.000_001, 0.012_345_6, 0.25, 0.9])
def test_a_ping_takes_twice_the_delay_to_the_microsecond(host: str, delay: float) -> None:
    async def run() -> None:
        async with linked(LinkSettings(delay=delay)) as hosts, await hosts.a.create_ping_session(host) as session:
            await session.ping(timeout=60.0)  # which also resolves the MAC address
            for _ in range(5):
                reply = await session.ping(timeout=60.0)
                assert abs(reply.round_trip_time - 2 * delay) < 1e-6
                await asyncio.sleep(0.0137)

    run_virtually(run())


def test_a_ping_takes_the_time_of_its_bits_too() -> None:
    async def run() -> None:
        back = LinkSettings(bandwidth=2e6, delay=0.03)
        async with (
            linked(LinkSettings(bandwidth=1e6, delay=0.02), back=back) as hosts,
            await hosts.a.create_ping_session(B4) as session,
        ):
            await session.ping()
            for size in (0, 56, 1400):
                bits = (14 + 20 + 8 + size) * 8
                reply = await session.ping(bytes(size))
                assert abs(reply.round_trip_time - (0.05 + bits / 1e6 + bits / 2e6)) < 1e-6

    run_virtually(run())


@pytest.mark.parametrize(("bandwidth", "delay", "size"), LINKS)
def test_tcp_fills_a_link_whose_queue_holds_its_window(bandwidth: float, delay: float, size: int) -> None:
    async def run() -> None:
        queue = DropTail(packets=2**24 // 1514)
        async with linked(LinkSettings(bandwidth=bandwidth, delay=delay, queue=queue)) as hosts:
            result = await transfer(hosts, size)
            assert result.whole
            assert result.retransmissions == 0
            assert result.goodput(OPEN) == pytest.approx(bandwidth * TCP_SHARE, rel=0.05)

    run_virtually(run())


def test_tcp_over_ipv6_fills_a_link_too() -> None:
    async def run() -> None:
        async with linked(LinkSettings(bandwidth=10e6, delay=0.02)) as hosts:
            result = await transfer(hosts, 6_000_000, B6)
            assert result.goodput(OPEN) == pytest.approx(10e6 * 1428 / 1514, rel=0.05)

    run_virtually(run())


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_tcp_fills_a_link_whose_queue_holds_a_round_trip(share: float) -> None:
    """Reno halves its window at a loss; with a queue of a round trip's bytes the link stays busy."""

    async def run() -> None:
        bandwidth, delay = 10e6, 0.02
        packets = round(bandwidth * 2 * delay / 8 / 1514 * share)
        queue = DropTail(packets=packets)
        async with linked(LinkSettings(bandwidth=bandwidth, delay=delay, queue=queue)) as hosts:
            result = await transfer(hosts, 10_000_000)
            assert result.whole
            assert hosts.link.a_to_b.statistics().dropped["queue"] > 0
            assert result.goodput(OPEN) == pytest.approx(bandwidth * TCP_SHARE, rel=0.05)

    run_virtually(run())


def test_without_a_queue_a_paced_sender_fills_the_link() -> None:
    """Datagrams that are sent one after the other, each when the one before has left: none waits, none is dropped."""

    async def run() -> None:
        bandwidth, size, count = 10e6, 1472, 2000
        interval = (size + 42) * 8 / bandwidth
        async with linked(LinkSettings(bandwidth=bandwidth, delay=0.02, queue=DropTail(packets=0))) as hosts:
            async with await hosts.a.create_ping_session(B4) as session:
                await session.ping(timeout=5.0)
            loop = asyncio.get_running_loop()
            receiver = await hosts.b.open_udp(B4, 9)
            sender = await hosts.a.open_udp(remote=(B4, 9))
            before = hosts.link.a_to_b.statistics()
            began = loop.time()

            async def send() -> None:
                for number in range(count):
                    await asyncio.sleep(began + number * interval - loop.time())
                    await sender.send(UdpDatagram(B4, 9, number.to_bytes(4) * (size // 4)))

            task = asyncio.create_task(send())
            arrived = [int.from_bytes((await receiver.receive()).data[:4]) for _ in range(count)]
            await task
            assert arrived == list(range(count))
            assert loop.time() - began == pytest.approx(count * interval + 0.02, abs=1e-6)
            assert hosts.link.a_to_b.statistics().dropped == before.dropped
            await sender.close()
            await receiver.close()

    run_virtually(run())


@pytest.mark.parametrize("delay", [0.06, 0.08])
def test_tcp_fills_a_link_that_holds_several_first_windows(delay: float) -> None:
    """750,000 and 1,000,000 bytes are under way: both windows must grow, and the buffer be filled in time."""

    async def run() -> None:
        async with linked(LinkSettings(bandwidth=50e6, delay=delay)) as hosts:
            result = await transfer(hosts, 24_000_000)
            assert result.whole
            assert result.goodput(0.6) == pytest.approx(50e6 * TCP_SHARE, rel=0.05)

    run_virtually(run())


def test_without_a_standing_queue_goodput_is_a_window_per_round_trip() -> None:
    """A link that carries more than the largest window in a round trip, 16 MiB in 800 ms: then no frame waits."""

    async def run() -> None:
        queue = DropTail(packets=2**24 // 1514)
        async with linked(LinkSettings(bandwidth=400e6, delay=0.4, queue=queue)) as hosts:
            result = await transfer(hosts, 100_000_000)
            assert result.whole
            assert result.retransmissions == 0
            assert 0.8 * 2**24 <= result.goodput(0.7) * 0.8 / 8 <= 1.02 * 2**24
            assert hosts.link.a_to_b.statistics().waiting_bytes == 0

    run_virtually(run())


def test_the_directions_are_independent() -> None:
    async def run() -> None:
        down = LinkSettings(bandwidth=20e6, delay=0.01)
        up = LinkSettings(bandwidth=1e6, delay=0.01)
        async with linked(down, back=up) as hosts:
            result = await transfer(hosts, 8_000_000)
            assert result.goodput(OPEN) == pytest.approx(20e6 * TCP_SHARE, rel=0.05)

    run_virtually(run())


HARM = {
    "corrupted": LinkSettings(bandwidth=20e6, delay=0.005, corrupt=0.02),
    "duplicated": LinkSettings(bandwidth=20e6, delay=0.005, duplicate=0.1),
    "reordered": LinkSettings(bandwidth=20e6, delay=0.005, reorder=0.05, reorder_delay=0.004),
    "jittery": LinkSettings(bandwidth=20e6, delay=0.005, jitter=0.02),
    "bursts": LinkSettings(bandwidth=20e6, delay=0.005, loss=GilbertElliott(p=0.002, r=0.3)),
    "all": LinkSettings(bandwidth=20e6, delay=0.005, corrupt=0.01, duplicate=0.05, reorder=0.05, loss=0.01),
}


@pytest.mark.parametrize("host", [B4, B6])
@pytest.mark.parametrize("harm", HARM)
def test_impairments_of_a_link_do_not_reach_the_application(harm: str, host: str) -> None:
    """In both directions, one bit of any byte of a frame; the received data has the hash of the data sent."""

    async def run() -> None:
        async with linked(HARM[harm], seed=5) as hosts:
            result = await transfer(hosts, 2_000_000, host)
            assert result.whole
            counted = hosts.link.a_to_b.statistics()
            if harm == "corrupted":
                core = hosts.b.stats().core
                assert counted.corrupted > 20
                assert core.checksum_errors > 10
            if harm in ("corrupted", "bursts", "all"):
                assert result.retransmissions > 5
            if harm == "duplicated":
                assert counted.duplicated > 100
                assert result.retransmissions == 0
            if harm == "reordered":
                assert counted.reordered > 50
            if harm == "jittery":
                assert result.retransmissions == 0

    run_virtually(run())


def test_an_outage_of_a_link_only_delays() -> None:
    async def run() -> None:
        async with linked(LinkSettings(bandwidth=10e6, delay=0.02)) as hosts:
            task = asyncio.create_task(transfer(hosts, 4_000_000))
            await asyncio.sleep(1.5)
            hosts.link.down()
            await asyncio.sleep(5.0)
            assert not task.done()
            hosts.link.up()
            result = await task
            assert result.whole
            assert result.retransmissions > 0
            assert hosts.link.a_to_b.statistics().dropped["down"] > 10

    run_virtually(run())


def test_another_link_changes_nothing() -> None:
    """The draws of a link come from its own stream, and do not depend on other links."""

    async def run(beside: bool) -> list[tuple[float, int]]:
        settings = LinkSettings(bandwidth=5e6, delay=0.01, loss=0.01, jitter=0.001)
        async with linked(settings, seed=3) as hosts:
            if not beside:
                return (await transfer(hosts, 1_000_000)).arrived
            async with linked(settings, seed=4) as others:
                results = await asyncio.gather(transfer(hosts, 1_000_000), transfer(others, 1_000_000))
                assert results[0].arrived != results[1].arrived
                return results[0].arrived

    alone, beside = run_virtually(run(False)), run_virtually(run(True))
    began = alone[0][0], beside[0][0]
    assert [(round(t - began[0], 9), n) for t, n in alone] == [(round(t - began[1], 9), n) for t, n in beside]


def test_both_ends_send_over_a_slow_link() -> None:
    async def run() -> None:
        async with linked(LinkSettings(bandwidth=1e5, delay=0.5)) as hosts:
            async with await hosts.b.create_ping_session(A4) as session:
                assert (await session.ping(timeout=10.0)).round_trip_time > 1.0
            async with await hosts.b.create_ping_session(A6) as session:
                assert (await session.ping(timeout=10.0)).round_trip_time > 1.0

    run_virtually(run())
