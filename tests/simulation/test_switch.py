"""Learning switches: forwarding and flooding, the address table and its ageing, and bounds."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.simulation import Link, LinkSettings, Switch, SwitchPort, run_virtually
from tests.kit.core_network import call_raises_errno


class Plugs:
    """A switch whose ports end in lists."""

    def __init__(self, ports: int, **options: float) -> None:
        self.switch = Switch("s", **options)  # type: ignore[arg-type]
        self.ports = [self.switch.port() for _ in range(ports)]
        self.got: list[list[bytes]] = [[] for _ in self.ports]
        for port, got in zip(self.ports, self.got, strict=True):
            port.plug(got.append)

    def sends(self, port: int, source: int, target: int) -> list[int]:
        """Send a frame into a port, and return the ports by which it left."""
        before = [len(got) for got in self.got]
        self.ports[port].receive(frame(source, target))
        return [number for number, got in enumerate(self.got) if len(got) > before[number]]


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5)


def frame(source: int, target: int) -> bytes:
    address = b"\xff" * 6 if target < 0 else mac(target)
    return address + mac(source) + b"\x88\xb5" + bytes(46)


def test_unknown_and_group_addresses_are_flooded_known_ones_are_forwarded() -> None:
    async def run() -> None:
        plugs = Plugs(4)
        assert plugs.sends(0, source=1, target=2) == [1, 2, 3]
        assert plugs.sends(2, source=2, target=1) == [0]
        assert plugs.sends(0, source=1, target=2) == [2]
        assert plugs.sends(1, source=3, target=-1) == [0, 2, 3]
        assert plugs.switch.learned == {mac(1).hex(":"): 0, mac(2).hex(":"): 2, mac(3).hex(":"): 1}
        assert (plugs.switch.forwarded, plugs.switch.flooded) == (2, 2)

    run_virtually(run())


def test_frames_to_the_port_of_their_arrival_are_dropped() -> None:
    async def run() -> None:
        plugs = Plugs(3)
        plugs.sends(0, source=1, target=-1)
        assert plugs.sends(0, source=2, target=1) == []
        assert plugs.switch.dropped == 1

    run_virtually(run())


def test_a_host_that_moved_is_found_again() -> None:
    async def run() -> None:
        plugs = Plugs(3)
        plugs.sends(0, source=1, target=-1)
        plugs.sends(2, source=1, target=-1)
        assert plugs.sends(1, source=9, target=1) == [2]

    run_virtually(run())


def test_addresses_age() -> None:
    async def run() -> None:
        plugs = Plugs(3, ageing=10.0)
        plugs.sends(0, source=1, target=-1)
        await asyncio.sleep(9.0)
        assert plugs.sends(1, source=2, target=1) == [0]
        await asyncio.sleep(2.0)
        assert plugs.sends(1, source=2, target=1) == [0, 2]
        assert plugs.switch.learned == {mac(2).hex(":"): 1}

    run_virtually(run())


def test_a_full_table_forgets_the_least_recently_seen_address() -> None:
    async def run() -> None:
        plugs = Plugs(3, table=2)
        plugs.sends(0, source=1, target=-1)
        plugs.sends(0, source=2, target=-1)
        plugs.sends(0, source=1, target=-1)
        plugs.sends(0, source=3, target=-1)
        assert set(plugs.switch.learned) == {mac(1).hex(":"), mac(3).hex(":")}
        for number in range(5000):
            plugs.sends(1, source=1000 + number, target=0)
        assert len(plugs.switch.learned) == 2

    run_virtually(run())


def test_group_addresses_are_not_learned_and_short_frames_are_dropped() -> None:
    async def run() -> None:
        plugs = Plugs(2)
        plugs.ports[0].receive(b"\xff" * 12 + bytes(50))
        plugs.ports[0].receive(b"\xff" * 13)
        assert plugs.switch.learned == {}
        assert (plugs.switch.flooded, plugs.switch.dropped) == (1, 1)

    run_virtually(run())


def test_a_removed_port_loses_its_addresses() -> None:
    async def run() -> None:
        plugs = Plugs(3)
        plugs.sends(0, source=1, target=-1)
        plugs.ports[0].unplug()
        plugs.ports[0].unplug()
        assert plugs.sends(1, source=2, target=1) == [2]
        assert plugs.sends(0, source=3, target=-1) == []
        call_raises_errno(errno.ENODEV, lambda: plugs.ports[0].plug(print))
        assert plugs.switch.port().number == 3

    run_virtually(run())


def test_a_port_has_one_link() -> None:
    async def run() -> None:
        call_raises_errno(errno.EBUSY, lambda: Plugs(1).ports[0].plug(print))

    run_virtually(run())


def test_a_switch_can_be_partitioned() -> None:
    async def run() -> None:
        plugs = Plugs(4)
        refusals: list[tuple[SwitchPort, bytes]] = []
        plugs.switch.allows = lambda a, b: a.number // 2 == b.number // 2
        plugs.switch.on_refused = lambda port, data: refusals.append((port, data))
        assert plugs.sends(0, source=1, target=-1) == [1]
        assert [port.number for port, _ in refusals] == [2, 3]
        assert plugs.sends(2, source=2, target=1) == []
        plugs.switch.allows = None
        assert plugs.sends(2, source=2, target=1) == [0]

    run_virtually(run())


def test_malformed_arguments() -> None:
    async def run() -> None:
        for options in ({"table": 0}, {"ageing": -1.0}):
            with pytest.raises(ValueError, match=r"^(table|ageing): "):
                Plugs(1, **options)
        with pytest.raises(TypeError, match=r"^table must be"):
            Plugs(1, table=1.5)

    run_virtually(run())


def test_four_hosts_on_two_switches() -> None:
    async def run() -> None:
        switches = [Switch("left"), Switch("right")]
        settings = LinkSettings(bandwidth=100e6, delay=0.001)
        links = [Link(switches[0].port(), switches[1].port(), settings, name="trunk")]
        stacks = []
        for number in range(4):
            stack = await create_stack(seed=number)
            tap = await stack.create_tap_interface(ip=f"10.0.0.{number + 1}/24")
            links.append(Link(tap, switches[number % 2].port(), settings, name=f"host{number}"))
            stacks.append(stack)
        for stack in stacks:
            for number in range(4):
                async with await stack.create_ping_session(f"10.0.0.{number + 1}") as session:
                    await session.ping()
        for switch in switches:
            assert len(switch.learned) == 4
        await asyncio.sleep(60.0)  # after what interfaces report when they are new
        flooded = [switch.flooded for switch in switches]
        async with await stacks[0].create_ping_session("10.0.0.2") as session:
            reply = await session.ping()
            # Three links in each direction: each takes the bits' time and a millisecond.
            assert reply.round_trip_time == pytest.approx(6 * (0.001 + 98 * 8 / 100e6), abs=1e-6)
        assert [switch.flooded for switch in switches] == flooded
        for link in links:
            link.close()
        for stack in stacks:
            await stack.aclose()

    run_virtually(run())


def test_a_loop_of_switches_is_bounded() -> None:
    """Two switches with two links between them multiply a broadcast without end; the bounds hold, and time passes."""

    async def run() -> None:
        switches = [Switch("left"), Switch("right")]
        loops = [Link(switches[0].port(), switches[1].port(), name=f"trunk{number}") for number in range(3)]
        switches[0].port().receive(frame(1, -1))
        await asyncio.sleep(1.0)
        assert sum(switch.dropped for switch in switches) > 0
        for link in loops:
            assert link.a_to_b.statistics().under_way == link.b_to_a.statistics().under_way == 0
            link.close()

    run_virtually(run())
