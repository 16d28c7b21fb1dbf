"""Links between stacks: which ends can be linked, what a link survives, and that its ends lose no frames."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.capture.trace import Trace
from tcpip_wasm.simulation import InterfaceEnd, Link, LinkSettings, Switch, run_virtually
from tests.kit.core_network import call_raises_errno
from tests.kit.links import B4, linked, transfer


def test_ends_that_cannot_be_linked() -> None:
    async def run() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            tap, other = await stack.create_tap_interface(), await stack.create_tap_interface()
            tun = await stack.create_tun_interface(ip="10.0.0.1/24")
            loopback = await stack.create_loopback_interface()
            with pytest.raises(ValueError, match="one kind"):
                Link(tap, tun)
            with pytest.raises(ValueError, match="one kind"):
                Link(tun, Switch().port())
            with pytest.raises(ValueError, match="itself"):
                Link(tap, tap)
            with pytest.raises(TypeError, match="LoopbackInterface"):
                Link(tap, loopback)
            assert not tap.attached
            assert not tun.attached
            link = Link(tap, other)
            third = await stack.create_tap_interface()
            call_raises_errno(errno.EBUSY, lambda: Link(third, tap))
            assert not third.attached
            link.close()
            link.close()
            assert not tap.attached
            assert not other.attached
            with pytest.raises(ValueError, match="sideways"):
                link.down("sideways")  # type: ignore[arg-type]

    run_virtually(run())


def test_tun_interfaces_are_linked_without_ethernet() -> None:
    async def run() -> None:
        async with await create_stack() as a, await create_stack() as b:
            settings = LinkSettings(bandwidth=1e6, delay=0.01, mtu=1500)
            trace = Trace()
            tun_a = await a.create_tun_interface(ip="10.0.0.1/24")
            tun_b = await b.create_tun_interface(ip="10.0.0.2/24")
            link = Link(tun_a, tun_b, settings, observe=trace)
            async with await a.create_ping_session(B4) as session:
                reply = await session.ping(bytes(1472))
            assert reply.round_trip_time == pytest.approx(2 * (0.01 + 1500 * 8 / 1e6), abs=1e-6)
            assert {entry.frame[0] >> 4 for entry in trace.observations} <= {4, 6}
            link.close()

    run_virtually(run())


def test_nothing_is_lost_however_fast_frames_arrive() -> None:
    """Without bandwidth and delay a whole window arrives at one instant: more than an interface's buffer holds."""

    async def run() -> None:
        async with linked(LinkSettings()) as hosts:
            result = await transfer(hosts, 8_000_000)
            assert result.whole
            assert result.retransmissions == 0
            assert hosts.link.a_to_b.statistics().dropped == {}
            ends = (hosts.link.a, hosts.link.b)
            assert [end.dropped for end in ends if isinstance(end, InterfaceEnd)] == [0, 0]

    run_virtually(run())


def test_frames_wait_for_a_stack_whose_buffer_is_full() -> None:
    """Six hundred kilobytes at once, without a poll of the stack in between."""

    async def run() -> None:
        async with linked() as hosts:
            end = hosts.link.b
            assert isinstance(end, InterfaceEnd)
            await asyncio.sleep(10.0)  # after the first reports of the interfaces
            before = hosts.b.stats().interfaces["tap0"].frames_in
            target = bytes.fromhex(hosts.tap_b.mac.replace(":", ""))
            frame = target + b"\x02" * 6 + b"\x88\xb5" + bytes(1500)
            for _ in range(400):
                end.receive(frame)
            await asyncio.sleep(0.01)
            assert end.dropped == 0
            assert hosts.b.stats().interfaces["tap0"].frames_in == before + 400
            for _ in range(23_000):
                end.receive(frame)
            assert 0 < end.dropped < 1000  # the bound, above 32 MiB
            await asyncio.sleep(0.01)
            assert hosts.b.stats().interfaces["tap0"].frames_in == before + 400 + 23_000 - end.dropped

    run_virtually(run())


def test_one_direction_may_be_down() -> None:
    async def run() -> None:
        async with linked(LinkSettings(delay=0.001)) as hosts, await hosts.a.create_ping_session(B4) as session:
            await session.ping()
            hosts.link.down("b_to_a")
            hosts.link.down("b_to_a")
            assert hosts.link.is_up
            delivered = hosts.link.a_to_b.statistics().delivered
            with pytest.raises(TimeoutError):
                await session.ping(timeout=0.5)
            assert hosts.link.a_to_b.statistics().delivered > delivered
            assert hosts.link.b_to_a.statistics().dropped["down"] > 0
            hosts.link.down(cause="partition")
            assert not hosts.link.is_up
            with pytest.raises(TimeoutError):
                await session.ping(timeout=0.5)
            assert hosts.link.a_to_b.statistics().dropped["partition"] > 0
            hosts.link.up()
            await session.ping()

    run_virtually(run())


def test_settings_change_in_one_or_both_directions() -> None:
    async def run() -> None:
        async with linked(LinkSettings(delay=0.01)) as hosts, await hosts.a.create_ping_session(B4) as session:
            await session.ping()
            hosts.link.change(delay=0.05, direction="b_to_a")
            assert (await session.ping()).round_trip_time == pytest.approx(0.06, abs=1e-6)
            hosts.link.change(delay=0.03)
            assert (await session.ping()).round_trip_time == pytest.approx(0.06, abs=1e-6)
            assert hosts.link.a_to_b.settings.delay == 0.03
            with pytest.raises(ValueError, match=r"^loss: 2"):
                hosts.link.change(delay=0.2, loss=2)
            with pytest.raises(TypeError, match="colour"):
                hosts.link.change(colour="red")
            assert hosts.link.a_to_b.settings == LinkSettings(delay=0.03)

    run_virtually(run())


def test_a_link_outlives_a_stack_and_takes_its_successor() -> None:
    async def run() -> None:
        async with linked(LinkSettings(delay=0.01)) as hosts, await hosts.a.create_ping_session(B4) as session:
            await session.ping()
            await hosts.b.aclose()
            end = hosts.link.b
            assert isinstance(end, InterfaceEnd)
            with pytest.raises(TimeoutError):
                await session.ping()
            assert end.interface is None
            assert end.dropped > 0
            async with await create_stack() as successor:
                tap = await successor.create_tap_interface(ip=f"{B4}/24", mac=hosts.tap_b.mac)
                end.attach(tap)
                with pytest.raises(ValueError, match="attached"):
                    end.attach(tap)
                await session.ping()
                hosts.link.close()
                with pytest.raises(TimeoutError):
                    await session.ping(timeout=0.1)
                hosts.link.up()
                assert not hosts.link.is_up

    run_virtually(run())


def test_the_same_seed_gives_the_same_trace() -> None:
    async def run(seed: int) -> str:
        trace = Trace()
        settings = LinkSettings(bandwidth=20e6, delay=0.003, loss=0.01, jitter=0.0005, duplicate=0.01, corrupt=0.01)
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            tap_a = await a.create_tap_interface(ip="10.0.0.1/24")
            tap_b = await b.create_tap_interface(ip="10.0.0.2/24")
            link = Link(tap_a, tap_b, settings, seed=seed, observe=trace)
            async with await a.create_ping_session(B4) as session:
                for _ in range(200):
                    try:
                        await session.ping(bytes(500), timeout=0.1)
                    except TimeoutError:
                        continue
            link.close()
        return trace.digest()

    digests = [run_virtually(run(seed)) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
