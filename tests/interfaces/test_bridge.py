"""Bridges: hosts that are connected by one, ports that are added and removed, and forwarding loops."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from tcpip_wasm import BridgeInterface, Cable, NetworkError, NetworkStack, TapInterface, connect, create_stack
from tcpip_wasm.capture import Trace, capture
from tcpip_wasm.engine import abi
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.frames import ARP, ICMPV6, IPV6, arp, ethernet, icmpv6, ipv6
from tests.kit.stacks import iterations, read_all, run, send_all, until


class Switch:
    """A stack that bridges, and hosts on its ports; the host on port n has the address 10.0.0.n, from 1 on."""

    def __init__(self, stack: NetworkStack, bridge: BridgeInterface) -> None:
        self.stack = stack
        self.bridge = bridge
        self.hosts: list[NetworkStack] = []
        self.taps: list[TapInterface] = []
        self.cables: list[Cable] = []


@asynccontextmanager
async def switch(count: int, *, ip: Any = None) -> AsyncIterator[Switch]:
    async with AsyncExitStack() as stacks:
        stack = await stacks.enter_async_context(await create_stack(seed=1000))
        ports = [await stack.create_tap_interface() for _ in range(count)]
        made = Switch(stack, await stack.create_bridge_interface(ports, ip=ip))
        for number, port in enumerate(ports, 1):
            host = await stacks.enter_async_context(await create_stack(seed=number))
            made.hosts.append(host)
            made.taps.append(await host.create_tap_interface(ip=[f"10.0.0.{number}/24", f"fd00::{number:x}/64"]))
            made.cables.append(connect(made.taps[-1], port))
        yield made


async def exchange(a: NetworkStack, b: NetworkStack, address: str, size: int, *, salt: int = 0, port: int = 80) -> None:
    """Send `size` bytes in each direction over a new connection, and compare them."""
    async with await b.listen_tcp(port) as listener:
        client = await a.connect_tcp(address, port)
        server = await listener.accept()
        there, back = payload(size, salt), payload(size, salt + 1)
        _, _, got, answered = await asyncio.gather(
            send_all(client, there), send_all(server, back), read_all(server), read_all(client)
        )
        assert got == there
        assert answered == back


def test_attributes_of_a_bridge() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            one, two = await stack.create_tap_interface(), await stack.create_tap_interface(mtu=1400)
            bridge = await stack.create_bridge_interface(
                ports=[one, two], mac="02:00:00:00:00:07", ip=["192.168.1.1/24", "fd00::1/64"]
            )
            assert (bridge.type, bridge.name, bridge.mac, bridge.mtu) == ("bridge", "br0", "02:00:00:00:00:07", 1400)
            assert (str(bridge.ip), str(bridge.netmask)) == ("192.168.1.1", "255.255.255.0")
            assert bridge.ports == (one, two)
            assert one.bridge is bridge
            assert (bridge.ageing, bridge.learned) == (300, 0)
            bridge.ageing = 10
            assert bridge.ageing == 10
            assert stack.interfaces[-1] is bridge
            assert "192.168.1.1/24" in repr(bridge)
            await bridge.remove_port(one)
            assert list(bridge.ports) == [two]
            assert one.bridge is None
            await bridge.add_port(one)
            assert bridge.ports[1] is one
            assert (await stack.create_bridge_interface()).ports == ()

    run(main())


def test_interfaces_that_cannot_be_ports() -> None:
    async def main() -> None:
        async with await create_stack() as stack, await create_stack() as other:
            tap, tun = await stack.create_tap_interface(), await stack.create_tun_interface()
            addressed = await stack.create_tap_interface(ip="10.0.0.1/24")
            foreign = await other.create_tap_interface()
            bridge = await stack.create_bridge_interface([tap])
            count = len(stack.interfaces)
            for wrong, error in (
                (tun, TypeError),
                (bridge, TypeError),
                (addressed, ValueError),
                (foreign, ValueError),
            ):
                with pytest.raises(error):
                    await bridge.add_port(wrong)  # type: ignore[arg-type]
                with pytest.raises(error):
                    await stack.create_bridge_interface([wrong])  # type: ignore[list-item]
            with pytest.raises(NetworkError) as caught:
                await bridge.add_port(tap)
            assert caught.value.errno == errno.EBUSY
            free = await stack.create_tap_interface()
            with pytest.raises(ValueError, match="twice"):
                await stack.create_bridge_interface([free, free])
            with pytest.raises(ValueError, match="no port"):
                await bridge.remove_port(free)
            with pytest.raises(TypeError, match="ports"):
                await stack.create_bridge_interface(5)  # type: ignore[arg-type]
            for ageing, kind in ((-1, ValueError), (1_000_001, ValueError), ("1", TypeError), (True, TypeError)):
                with pytest.raises(kind, match="ageing"):
                    await stack.create_bridge_interface(ageing=ageing)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="BridgeInterface"):
                connect(bridge, foreign)  # type: ignore[arg-type]
            assert len(stack.interfaces) == count + 1, "what failed left nothing behind"
            await stack.remove_interface(free)
            with pytest.raises(NetworkError) as caught:
                await bridge.add_port(free)
            assert caught.value.errno == errno.ENODEV

    run(main())


@pytest.mark.parametrize("flood", [False, True], ids=["in peace", "in a flood"])
def test_twenty_hosts_connect_to_each_other(flood: bool) -> None:
    """190 connections at once, with data both ways: each finishes, and no data is lost, repeated or reordered.

    In a flood, a 21st station claims to be forty thousand others meanwhile, by ARP and by neighbour
    advertisements to all hosts. No host loses its connection, and the memory of bridge and hosts does not grow.
    """

    async def main() -> None:
        async with switch(20) as made, AsyncExitStack() as held:

            async def serve(host: int) -> None:
                async with await made.hosts[host].listen_tcp(80, backlog=255) as listener:
                    tasks = []
                    for _ in range(host):
                        tasks.append(asyncio.create_task(answer(await listener.accept(), host)))
                    await asyncio.gather(*tasks)

            async def answer(server: Any, host: int) -> None:
                caller = int(server.remote_address[0].split(".")[-1]) - 1
                got, _ = await asyncio.gather(read_all(server), send_all(server, payload(20_000, 100 * host + caller)))
                assert got == payload(30_000, 10_000 + 100 * caller + host)

            async def call(caller: int, host: int) -> None:
                client = await made.hosts[caller].connect_tcp(f"10.0.0.{host + 1}", 80)
                got, _ = await asyncio.gather(
                    read_all(client), send_all(client, payload(30_000, 10_000 + 100 * caller + host))
                )
                assert got == payload(20_000, 100 * host + caller)

            async def each_to_each() -> None:
                servers = [asyncio.create_task(serve(host)) for host in range(20)]
                await iterations(2)
                await asyncio.gather(*(call(caller, host) for host in range(20) for caller in range(host)))
                await asyncio.gather(*servers)

            await each_to_each()
            assert made.bridge.learned == 20
            if not flood:
                return
            port = await made.stack.create_tap_interface()
            await made.bridge.add_port(port)
            before = [stack.stats().core.memory for stack in (made.stack, *made.hosts)]
            talking = asyncio.create_task(each_to_each())
            writer = held.enter_context(port.writable.get_writer())
            for number in range(FORGED):
                await writer.write(forged(number))
                if number % 50 == 0:
                    await iterations(1)
            await until(lambda: port.statistics().frames_in == FORGED)
            await talking
            # And once more, with the tables as the flood has left them.
            await each_to_each()
            for stack, memory in zip((made.stack, *made.hosts), before, strict=True):
                assert stack.stats().core.memory <= memory + (1 << 20)
            assert 20 <= made.bridge.learned <= 2048 + 20, "one port may have half of the table"

    run(main(), seconds=60)


FORGED = 40_000
"""Frames of the flood."""


def forged(number: int) -> bytes:
    """An ARP request or reply, or a neighbour advertisement, to all hosts, from a station that does not exist."""
    mac = b"\2\x09" + number.to_bytes(4, "big")
    if number % 3 == 0:
        sender, everybody = f"fd00::{number >> 16:x}:{number & 0xFFFF:x}:1", "ff02::1"
        body = b"\x20\0\0\0" + IPv6Address(sender).packed + b"\2\1" + mac
        packet = ipv6(sender, everybody, ICMPV6, icmpv6(sender, everybody, 136, 0, body), hops=255)
        return ethernet(b"\x33\x33\0\0\0\1", mac, IPV6, packet)
    asked, claimed = f"10.0.0.{1 + number % 20}", f"10.0.0.{30 + number % 200}"
    return ethernet(b"\xff" * 6, mac, ARP, arp(1 + number % 2, mac, claimed, bytes(6), asked))


def test_unicast_is_not_flooded() -> None:
    async def main() -> None:
        async with switch(3) as made:
            await exchange(made.hosts[0], made.hosts[1], "10.0.0.2", 1000)
            before = made.taps[2].statistics().frames_in
            await exchange(made.hosts[0], made.hosts[1], "10.0.0.2", 500_000, port=81)
            after = made.taps[2].statistics()
            assert after.frames_in - before < 5, "the third host receives broadcasts, and no frames for others"
            assert made.stack.stats().interfaces["tap0"].frames_in > 300

    run(main())


@pytest.mark.parametrize("address", ["10.0.0.250", "fd00::fa"])
def test_the_host_itself_is_on_the_bridge(address: str) -> None:
    async def main() -> None:
        async with switch(3, ip=["10.0.0.250/24", "fd00::fa/64"]) as made:
            await exchange(made.hosts[0], made.stack, address, 200_000)
            await exchange(made.stack, made.hosts[2], "10.0.0.3" if "." in address else "fd00::3", 200_000)
            figures = made.bridge.statistics()
            assert figures.frames_in > 100
            assert figures.frames_out > 100
            assert figures.malformed == 0

    run(main())


def test_a_hundred_ports() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            taps = [await stack.create_tap_interface() for _ in range(100)]
            bridge = await stack.create_bridge_interface(taps)
            frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x88\xb5" + payload(50)
            queues = [tap.readable.get_reader() for tap in taps]
            with taps[41].writable.get_writer() as writer:
                await writer.write(frame)
            for number, (tap, queue) in enumerate(zip(taps, queues, strict=True)):
                if number != 41:
                    got = await queue.read()
                    while got is not None and got[6:12] != frame[6:12]:
                        got = await queue.read()  # what the taps said before they were ports
                    assert got == frame, tap.name
            assert bridge.learned == 1
            for queue in queues:
                queue.release_lock()

    run(main())


def test_ports_are_removed_and_added_during_a_transfer() -> None:
    """A connection over a port that is removed stalls, and continues when the port is added again."""

    async def main() -> None:
        async with switch(3) as made:
            async with await made.hosts[1].listen_tcp(80) as listener:
                client = await made.hosts[0].connect_tcp("10.0.0.2", 80)
                server = await listener.accept()
            await asyncio.sleep(1)  # the port's own group report is not sent while it is a port
            data = payload(3_000_000)
            sending = asyncio.create_task(send_all(client, data))
            reading = asyncio.create_task(read_all(server))
            port = made.bridge.ports[1]
            await until(lambda: port.statistics().frames_out > 100)
            await made.bridge.remove_port(port)
            sent = port.statistics().frames_out
            await asyncio.sleep(30)
            assert not reading.done()
            assert port.statistics().frames_out == sent, "a tap without addresses says nothing"
            await made.bridge.add_port(port)
            await sending
            assert await reading == data
            await client.close()
            await server.close()

    run_virtually(main())


def test_a_port_removed_at_once_reports_its_group() -> None:
    """A tap has a link-local address, and reports its group twice, the second time within half a second.

    Other reports are not sent: after it was a port it is a plain tap again.
    """

    async def main() -> None:
        async with switch(2) as made:
            port = made.bridge.ports[0]
            await asyncio.sleep(0.01)  # it has reported the first time
            with capture(port, trace := Trace()):
                await made.bridge.remove_port(port)
                await asyncio.sleep(0.5)
                (report,) = (seen for seen in trace.observations if seen.outgoing)
                await asyncio.sleep(3600)
                assert [seen for seen in trace.observations if seen.outgoing] == [report]
            own = port.link_local
            assert own is not None
            group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + own.packed[13:])
            options = bytes([58, 0, 5, 2, 0, 0, 1, 0])  # RFC 2710, section 3: routers are to look at it
            message = icmpv6(str(own), str(group), 131, 0, bytes(4) + group.packed)
            packet = ipv6(str(own), str(group), 0, options + message, hops=1)
            mac = bytes.fromhex(port.mac.replace(":", ""))
            assert report.frame == ethernet(b"\x33\x33" + group.packed[12:], mac, IPV6, packet)

    run_virtually(main())


@pytest.mark.parametrize("first", ["port", "bridge", "stack"])
def test_removed_in_any_order(first: str) -> None:
    async def main() -> None:
        async with switch(3, ip="10.0.0.250/24") as made:
            await exchange(made.hosts[0], made.stack, "10.0.0.250", 1000)
            ports = made.bridge.ports
            if first == "port":
                await made.stack.remove_interface(ports[0])
                assert made.bridge.ports == ports[1:]
                assert made.cables[0].closed
                await exchange(made.hosts[1], made.hosts[2], "10.0.0.3", 1000)
                await made.stack.remove_interface(made.bridge)
            elif first == "bridge":
                await made.stack.remove_interface(made.bridge)
                assert not made.cables[0].closed
                await made.stack.remove_interface(ports[1])
                again = await made.stack.create_bridge_interface([ports[0], ports[2]], ip="10.0.0.250/24")
                await exchange(made.hosts[0], made.hosts[2], "10.0.0.3", 1000)
                assert again.learned == 2
            else:
                await made.stack.aclose()
            assert made.bridge.ports == ()
            if first == "stack":
                return
            for use in (made.bridge.add_port(ports[2]), made.bridge.remove_port(ports[2])):
                with pytest.raises((NetworkError, ValueError)):
                    await use
            with pytest.raises(NetworkError) as caught:
                assert made.bridge.learned
            assert caught.value.errno == errno.ENODEV

    run(main())


def test_a_removed_bridge_frees_its_memory() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            taps = [await stack.create_tap_interface() for _ in range(4)]
            await iterations(5)
            before = stack.stats().core
            for _ in range(50):
                bridge = await stack.create_bridge_interface(taps, ip="10.0.0.1/24")
                await iterations(3)
                await stack.remove_interface(bridge)
            after = stack.stats().core
            assert (after.heap_used, after.handles) == (before.heap_used, before.handles)
            assert all(tap.bridge is None for tap in taps)

    run(main())


def test_a_broadcast_storm_does_not_block_the_loop_and_ends_with_its_cable() -> None:
    """Two bridges with two cables between them, and one broadcast, which circulates for ever without a spanning tree.
    Timers fire on time, other traffic is served, and the storm ends when a cable is closed."""

    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b, await create_stack() as other:
            ends = []
            for stack in (a, b):
                taps = [await stack.create_tap_interface() for _ in range(3)]
                await stack.create_bridge_interface(taps)
                ends.append(taps)
            cables = [connect(ends[0][number], ends[1][number]) for number in (0, 1)]
            with ends[0][2].writable.get_writer() as writer:
                await writer.write(b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x88\xb5" + payload(50))
            around = ends[1][0].statistics
            await until(lambda: around().frames_in > 1000)
            for _ in range(5):
                await asyncio.sleep(0)  # a loop iteration in the middle of it
            await exchange(other, other, "127.0.0.1", 100_000)
            before = around().frames_in
            await until(lambda: around().frames_in > before + 100)
            cables[1].close()
            while True:
                before = around().frames_in
                await iterations(20)
                if around().frames_in == before:
                    break
            assert a.stats().core.memory < 8 << 20
            assert b.stats().core.memory < 8 << 20
            figures = [tap.statistics() for tap in ends[0][:2]]
            assert sum(figure.frames_out for figure in figures) > 1000

    run(main())


def test_limits_are_those_of_the_abi() -> None:
    assert abi.MAX_INTERFACES >= 63 + 2, "63 ports, their bridge and the loopback"


# --- Router advertisements --------------------------------------------------------------------------------------------


def test_hosts_on_ports_make_addresses_of_what_the_bridge_advertises() -> None:
    """One that was there before, one that solicits later, and one whose port is added at the end."""

    async def main() -> None:
        async with switch(2, ip=["10.0.0.100/24", "fd07::1/64"]) as made, await create_stack(seed=7) as late:
            bridge = made.bridge
            advertiser = await bridge.advertise("fd07::/64", router_lifetime=600, name_servers=["fd07::1"])
            with pytest.raises(OSError, match="br0 advertises already"):
                await bridge.advertise("fd07::/64")
            port, tap = await made.stack.create_tap_interface(), await late.create_tap_interface()
            await bridge.add_port(port)
            connect(tap, port)
            for host, end in zip([*made.hosts, late], [*made.taps, tap], strict=True):
                await end.configure(slaac=True)
                (own,) = (one.address for one in end.autoconfigured)
                assert own.network == IPv6Network("fd07::/64")
                assert end.routers == (IPv6Address(f"{bridge.link_local}%tap0"),)
                assert end.name_servers == (IPv6Address("fd07::1"),)
                await exchange(host, made.stack, "fd07::1", 100_000, port=81)
                await exchange(made.stack, host, str(own.ip), 100_000)
            # Hosts on two ports reach each other by these addresses.
            (own,) = (one.address for one in tap.autoconfigured)
            await exchange(made.hosts[0], late, str(own.ip), 100_000, port=82)
            await advertiser.close()
            assert tap.routers == ()
            await bridge.advertise("fd07::/64", router_lifetime=600)
            await asyncio.sleep(1)
            assert len(tap.routers) == 1
            await made.stack.remove_interface(bridge)
            await asyncio.sleep(0)
            assert tap.routers == (), "a removed bridge has said that it is no router any more"

    run_virtually(main())


def test_solicitations_reach_the_bridge_alone() -> None:
    """An answer to a solicitation comes within half a second, not with the next periodic advertisement; the ports of
    the bridge, which are no interfaces of the stack, cannot advertise."""

    async def main() -> None:
        async with switch(1, ip="fd07::1/64") as made:
            advertiser = await made.bridge.advertise("fd07::/64", interval=1800)
            await asyncio.sleep(120)
            assert advertiser.sent == 3
            await made.taps[0].configure(slaac=True, timeout=10)
            assert advertiser.sent == 4

    run_virtually(main())


def test_a_bridge_without_ipv6_does_not_advertise() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            without = await stack.create_bridge_interface(ipv6=False)
            assert without.link_local is None
            with pytest.raises(NetworkError, match="br0 has no link-local address, since ipv6 is False") as refused:
                await without.advertise("fd07::/64")
            assert refused.value.errno == errno.EBADF
            small = await stack.create_bridge_interface(mtu=1279)
            with pytest.raises(ValueError, match="br1 has an MTU of 1279, and IPv6 needs 1280"):
                await small.advertise("fd07::/64")

    run(main())


def test_a_port_does_not_advertise_and_none_is_needed() -> None:
    """Ports come and go while the bridge advertises: each gets the advertisements while it is one."""

    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            bridge = await stack.create_bridge_interface(ip="fd07::1/64")
            advertiser = await bridge.advertise("fd07::/64", interval=4)
            await asyncio.sleep(10)
            assert advertiser.sent >= 3
            taps = [await stack.create_tap_interface() for _ in range(2)]
            queues = [tap.listen() for tap in taps]

            async def passed(seconds: float) -> list[int]:
                """Return how many advertisements leave by each tap."""
                before = [tap.statistics().frames_out for tap in taps]
                await asyncio.sleep(seconds)
                return [tap.statistics().frames_out - one for tap, one in zip(taps, before, strict=True)]

            await asyncio.sleep(60)  # the taps are interfaces of their own until then, and say so
            await bridge.add_port(taps[0])
            await passed(1)
            sent = advertiser.sent
            first, second = await passed(30)
            assert (first, second) == (advertiser.sent - sent, 0)
            assert first >= 7
            with pytest.raises(NetworkError, match="tap0 is a port of br0, which can advertise"):
                await taps[0].advertise("fd07::/64")
            await bridge.add_port(taps[1])
            await passed(1)
            assert min(await passed(30)) >= 7
            await bridge.remove_port(taps[0])
            await passed(60)
            first, second = await passed(30)
            assert first == 0
            assert second >= 7
            own = await taps[0].advertise("fd08::/64")
            assert (own.sent, taps[0].advertises) == (1, True)
            with pytest.raises(NetworkError, match="tap0 advertises; as a port it could not"):
                await bridge.add_port(taps[0])
            await own.close()
            await bridge.add_port(taps[0])
            assert (taps[0].advertises, bridge.advertises) == (False, True)
            await bridge.remove_port(taps[1])
            await advertiser.close()
            await advertiser.close()
            again = await bridge.advertise("fd07::/64")
            await stack.remove_interface(bridge)
            assert again.closed
            with pytest.raises(NetworkError, match="br0 was removed"):
                await bridge.advertise("fd07::/64")
            del queues

    run_virtually(main())
