"""Interfaces of a stack: attributes, drops and counters, removal."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest

from tcpip_wasm import (
    Interface,
    InterfaceStatistics,
    NetworkError,
    StackClosedError,
    TcpipError,
    connect,
    create_stack,
)
from tcpip_wasm.engine import abi
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, iterations, pair, read_all, run, run_with_reports, send_all, until


def test_attributes_of_interfaces() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tun = await stack.create_tun_interface(ip="192.168.2.1/25", mtu=1400)
            tap = await stack.create_tap_interface(
                mac="02:00:00:00:00:01", ip=["fd00::1/64", "192.168.1.1/24"], mtu=9000
            )
            bare = await stack.create_tap_interface()
            assert [interface.type for interface in stack.interfaces] == ["loopback", "tun", "tap", "tap"]
            assert list(stack.interfaces)[1:] == [tun, tap, bare]
            assert [interface.name for interface in stack.interfaces] == ["lo0", "tun0", "tap0", "tap1"]
            loopback = stack.interfaces[0]
            assert (str(loopback.ip), str(loopback.netmask), loopback.mtu) == ("127.0.0.1", "255.0.0.0", 65535)
            assert (tun.ip, tun.netmask, tun.mtu) == (
                IPv4Address("192.168.2.1"),
                IPv4Address("255.255.255.128"),
                1400,
            )
            assert tap.mac == "02:00:00:00:00:01"
            assert (str(tap.ip), str(tap.netmask), tap.mtu) == ("192.168.1.1", "255.255.255.0", 9000)
            assert tap.addresses == (ip_interface("fd00::1/64"), ip_interface("192.168.1.1/24"))
            assert (bare.ip, bare.netmask, bare.addresses, bare.mtu) == (None, None, (), 1500)
            assert "tap0" in repr(tap)
            assert "192.168.1.1/24" in repr(tap)

    run(main())


def test_ipv6_alone() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            assert list(stack.interfaces) == []
            tap = await stack.create_tap_interface(ip="fd00::1/64")
            assert tap.ip == IPv6Address("fd00::1")
            assert tap.netmask == IPv6Address("ffff:ffff:ffff:ffff::")

    run(main())


def test_default_macs_are_unique_and_derive_from_the_seed() -> None:
    async def macs(seed: int | None) -> list[str]:
        async with await create_stack(seed=seed) as stack:
            taps = [await stack.create_tap_interface() for _ in range(8)]
            return [tap.mac for tap in taps]

    async def main() -> None:
        first, again, other, unseeded = await macs(1), await macs(1), await macs(2), await macs(None)
        assert first == again
        every = {*first, *other, *unseeded}
        assert len(every) == 24
        assert all(int(mac[:2], 16) & 3 == 2 for mac in every), "local, of one station"

    run(main())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ip": "10.0.0.1/99"}, "10.0.0.1/99"),
        ({"mac": "zz:00:00:00:00:01"}, "zz:00:00:00:00:01"),
        ({"ip": "0.0.0.0/8"}, "0.0.0.0/8"),
        ({"ip": "255.255.255.255/32"}, "255.255.255.255/32"),
        ({"ip": "fe80::5%tap0/64"}, "fe80::5%tap0/64"),
        ({"ip": "::ffff:10.0.0.1/120"}, "10.0.0.1"),
        ({"ip": ["fd00::1/64", "fd00::1/48"]}, "fd00::1/48 is given twice"),
        ({"mtu": 67}, "67"),
        ({"mtu": 65536}, "65536"),
    ],
)
def test_malformed_arguments_leave_no_interface(arguments: dict[str, Any], message: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            before = stack.stats().core
            with pytest.raises(ValueError, match=message):
                await stack.create_tap_interface(**arguments)
            assert len(stack.interfaces) == 1
            assert stack.stats().core.handles == before.handles

    run(main())


def test_wrong_types() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            for arguments in ({"ip": 5}, {"mac": 5}, {"mtu": "1500"}):
                with pytest.raises(TypeError, match=next(iter(arguments))):
                    await stack.create_tap_interface(**arguments)
            for nothing in (None, "lo0", 5):
                with pytest.raises(TypeError, match="interface"):
                    await stack.remove_interface(nothing)  # type: ignore[arg-type]
        for limit, error in (("4 MiB", TypeError), (True, TypeError), (-1, ValueError), (65536, ValueError)):
            with pytest.raises(error, match="memory_limit"):
                await create_stack(memory_limit=limit)  # type: ignore[arg-type]
        async with await create_stack(memory_limit=4 << 20) as stack:  # the minimum is enough for a connection
            session = await stack.create_ping_session("127.0.0.1")
            assert (await session.ping(b"here")).payload == b"here"

    run(main())


def test_too_many_addresses_leave_no_interface() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            before = stack.stats().core
            with pytest.raises(NetworkError) as caught:
                await stack.create_tun_interface(ip=[f"fd00:{i}::1/64" for i in range(8)])
            assert caught.value.errno == errno.ENOSPC
            assert len(stack.interfaces) == 1
            after = stack.stats().core
            assert after.handles == before.handles
            assert after.heap_used <= before.heap_used
            tun = await stack.create_tun_interface(ip=[f"fd00:{i}::1/64" for i in range(7)])
            assert len(tun.addresses) == 7, "one place is the link-local address's"

    run(main())


def test_one_loopback() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(NetworkError) as caught:
                await stack.create_loopback_interface()
            assert caught.value.errno == errno.ENOSPC
            await stack.remove_interface(stack.interfaces[0])
            with pytest.raises(NetworkError) as caught:
                await stack.connect_tcp("127.0.0.1", 80)
            assert caught.value.errno == errno.ENETUNREACH
            loopback = await stack.create_loopback_interface(ip="127.0.0.1/8")
            assert str(loopback.ip) == "127.0.0.1"
            async with await stack.listen_tcp(80) as listener:
                client = await stack.connect_tcp("127.0.0.1", 80)
                server = await listener.accept()
                await send_all(client, b"back again")
                assert await read_all(server) == b"back again"

    run(main())


def test_the_number_of_interfaces_is_limited() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            for number in range(abi.MAX_INTERFACES):
                await stack.create_tun_interface(ip=f"10.{number}.0.1/16")
            with pytest.raises(NetworkError) as caught:
                await stack.create_tun_interface(ip="10.200.0.1/16")
            assert caught.value.errno == errno.ENOSPC
            assert len(stack.interfaces) == abi.MAX_INTERFACES
            await stack.remove_interface(stack.interfaces[5])
            await stack.create_tun_interface(ip="10.200.0.1/16")
            assert stack.interfaces[-1].ip == IPv4Address("10.200.0.1")

    run(main())


def test_frames_without_a_reader_are_dropped_and_counted() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp(two.host, 80, timeout=0.05)
            tap, other = two.interfaces
            unheard = tap.statistics().unheard
            assert unheard == tap.statistics().frames_out > 0
            assert other.statistics().frames_in == 0
            connect(tap, other)
            async with await two.b.listen_tcp(80) as listener:
                client = await two.a.connect_tcp(two.host, 80)
                await client.close()
                await (await listener.accept()).close()
            assert tap.statistics().unheard == unheard
            assert other.statistics().frames_in > 0

    run(main())


def test_statistics() -> None:
    async def main() -> None:
        async with pair() as two:
            tap, other = two.interfaces
            client, server = await two.connections()
            await send_all(client, payload(300_000))
            assert await read_all(server) == payload(300_000)
            await server.close()
            await client.close()
            await iterations(20)
            figures = two.a.stats()
            assert figures.interfaces["tap0"] == tap.statistics()
            assert figures.interfaces["lo0"] == InterfaceStatistics(0, 0, 0, 0, 0, 0, 0, 0)
            assert tap.statistics().frames_out == other.statistics().frames_in > 300_000 // 1500
            assert tap.statistics().frames_in == other.statistics().frames_out > 0
            assert figures.core.tcp_segments_out > 300_000 // 1500
            assert figures.core.tcp_segments_in > 0
            assert figures.core.tcp_retransmissions == 0
            assert figures.turns > 0
            assert figures.core.memory > 1 << 20

    run_virtually(main())  # where time passes, a busy machine may probe for what is late


def test_malformed_and_oversized_frames_are_counted() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            with tap.writable.get_writer() as writer:
                for frame in (b"", b"x", b"\xff" * 13, b"\xff" * 60, b"\xff" * 65535):
                    await writer.write(frame)
                for frame in (b"\0" * 65536, b"\0" * 1_000_000):
                    await writer.write(frame)
            await until(lambda: tap.statistics().malformed == 5)
            assert tap.statistics().oversized == 2
            assert tap.statistics().frames_in == 5

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tap6", "tun4", "tun6"])
@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
def test_mtu_is_respected(way: str, mtu: int) -> None:
    if way.endswith("6") and mtu < 1280:
        pytest.skip("IPv6 needs an MTU of 1,280 (RFC 8200, section 5)")

    async def main() -> None:
        async with pair(way, cable=False, mtu=mtu) as two:
            tap, other = two.interfaces
            sizes: list[int] = []

            class Measuring:
                def __init__(self, to: Any) -> None:
                    self.to = to

                def transmit(self, records: memoryview) -> int:
                    at = 0
                    while at < len(records):
                        length = int.from_bytes(records[at : at + 4], "little")
                        sizes.append(length)
                        assert self.to.inject(bytes(records[at + 4 : at + 4 + length]))
                        at += 4 + (length + 3 & -4)
                    return at

                def detached(self, error: Exception | None) -> None:
                    pass

            tap.attach(Measuring(other))
            other.attach(Measuring(tap))
            client, server = await two.connections()
            await send_all(client, payload(200_000))
            assert await read_all(server) == payload(200_000)
            overhead = 14 if way.startswith("tap") else 0
            assert max(sizes) <= min(mtu + overhead, 65535)
            assert max(sizes) > 0.9 * min(mtu, 32_000)  # half the first window, RFC 9293, section 3.8.6.2.1

    run(main())


def test_different_mtus_use_the_smaller() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            small = await a.create_tap_interface(ip="10.0.0.1/24", mtu=576)
            large = await b.create_tap_interface(ip="10.0.0.2/24", mtu=9000)
            connect(small, large)
            async with await a.listen_tcp(80) as listener:
                client = await b.connect_tcp("10.0.0.1", 80)
                server = await listener.accept()
                await send_all(client, payload(50_000))
                assert await read_all(server) == payload(50_000)
            assert large.statistics().frames_out >= 50_000 // 536

    run(main())


def test_remove_interface() -> None:
    async def main() -> None:
        async with pair() as two:
            tap, other = two.interfaces
            before = two.a.stats().core
            await two.a.remove_interface(tap)
            assert [interface.type for interface in two.a.interfaces] == ["loopback"]
            assert two.a.stats().core.handles == before.handles - 1
            assert two.cable is not None
            assert two.cable.closed
            assert not other.attached
            with pytest.raises(ValueError, match="none of this stack"):
                await two.a.remove_interface(tap)
            with pytest.raises(ValueError, match="none of this stack"):
                await two.a.remove_interface(other)
            with pytest.raises(NetworkError) as caught:
                connect(tap, other)
            assert caught.value.errno == errno.ENODEV
            with pytest.raises(NetworkError) as caught:
                await two.a.connect_tcp(two.host, 80)
            assert caught.value.errno == errno.ENETUNREACH
            again = await two.a.create_tap_interface(ip="10.0.0.1/24")
            assert again.name != tap.name
            connect(again, other)
            client, server = await two.connections()
            await send_all(client, b"over the new one")
            assert await read_all(server) == b"over the new one"

    run(main())


def test_statistics_of_a_removed_interface_stay() -> None:
    async def main() -> None:
        async with pair() as two:
            client, _ = await two.connections()
            tap = two.interfaces[0]
            last = tap.statistics()
            assert last.frames_out > 0
            await two.a.remove_interface(tap)
            gone = tap.statistics()
            assert gone.frames_in == last.frames_in
            assert gone.frames_out >= last.frames_out
            for number in range(3):
                await two.a.create_tun_interface(ip=f"10.9.{number}.1/24")
                with pytest.raises(TimeoutError):
                    await two.a.connect_tcp(f"10.9.{number}.2", 80, timeout=0.01)
            assert tap.statistics() == gone
            await two.b.aclose()
            assert two.interfaces[1].statistics().frames_in > 0
            client.abort()

    run(main())


def test_removal_with_frames_under_way() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            with client.writable.get_writer() as writer:
                await writer.write(payload(500_000))
                reader = server.readable.get_reader()
                assert await reader.read()
                await two.b.remove_interface(two.interfaces[1])
                await iterations(50)
            assert not two.interfaces[0].attached
            client.abort()
            await iterations(5)

    run(main())


def test_closing_the_stack_removes_its_interfaces() -> None:
    async def main() -> None:
        async with pair() as two:
            tap, other = two.interfaces
            await two.b.aclose()
            assert not tap.attached
            with pytest.raises(StackClosedError):
                connect(tap, other)
            with pytest.raises(StackClosedError):
                await two.b.create_tap_interface()
            with pytest.raises(StackClosedError):
                two.b.stats()
            assert issubclass(StackClosedError, TcpipError)

    run(main())


def test_checksums_off_on_both_ends() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            one = await a.create_tap_interface(ip="10.0.0.1/24", checksums=False)
            other = await b.create_tap_interface(ip="10.0.0.2/24", checksums=False)
            assert (one.checksums, other.checksums) == (False, False)
            connect(one, other)
            async with await b.listen_tcp(80) as listener:
                client = await a.connect_tcp("10.0.0.2", 80)
                server = await listener.accept()
                await send_all(client, payload(100_000))
                assert await read_all(server) == payload(100_000)

    run(main())


def test_checksums_are_generated_and_verified() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            two.interfaces[0].checksums = False
            with client.writable.get_writer() as writer:
                await writer.write(b"without a sum")
                reader = server.readable.get_reader()
                await until(lambda: two.b.stats().core.checksum_errors > 0)
                two.interfaces[0].checksums = True
                assert await reader.read() == b"without a sum"

    run(main())


def test_two_stacks_over_two_interfaces() -> None:
    """Each of two networks is reached over its own interface.

    In virtual time: what an interface says of itself some time after it was made is no traffic of the other's.
    """

    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            for network in (1, 2):
                connect(
                    await a.create_tap_interface(ip=f"10.0.{network}.1/24"),
                    await b.create_tap_interface(ip=f"10.0.{network}.2/24"),
                )
            async with await b.listen_tcp(80) as listener:
                for network in (1, 2):
                    before = [interface.statistics().frames_out for interface in a.interfaces]
                    client = await a.connect_tcp(f"10.0.{network}.2", 80)
                    server = await listener.accept()
                    assert client.local_address[0] == f"10.0.{network}.1"
                    await send_all(client, b"hello")
                    assert await read_all(server) == b"hello"
                    await server.close()
                    await client.close()
                    after = [interface.statistics().frames_out for interface in a.interfaces]
                    assert [i for i in range(3) if after[i] > before[i]] == [network]

    run_virtually(main())


def test_link_local_addresses_with_a_scope() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            taps = []
            for number in (1, 2):
                one = await a.create_tap_interface(ip=f"fe80::{number}:1/64")
                connect(one, await b.create_tap_interface(ip=f"fe80::{number}:2/64"))
                taps.append(one)
            async with await b.listen_tcp(80) as listener:
                for number, tap in zip((1, 2), taps, strict=True):
                    client = await a.connect_tcp(f"fe80::{number}:2%{tap.name}", 80)
                    server = await listener.accept()
                    assert client.remote_address == (f"fe80::{number}:2%{tap.name}", 80)
                    assert client.local_address[0].endswith(f"%{tap.name}")
                    assert server.local_address == (f"fe80::{number}:2%tap{number - 1}", 80)
                    await send_all(client, b"hello neighbour")
                    assert await read_all(server) == b"hello neighbour"
                    await server.close()
                    await client.close()
                with pytest.raises(ValueError, match="%tap7"):
                    await a.connect_tcp("fe80::1:2%tap7", 80)

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_an_observer_that_raises_does_not_affect_traffic(way: str) -> None:
    class Raising:
        def observed(self, interface: Interface, outgoing: bool, frame: memoryview) -> None:
            raise LookupError("observed")

        def unobserved(self, interface: Interface) -> None:
            raise LookupError("unobserved")

    class Counting:
        frames = 0
        ends = 0

        def observed(self, interface: Interface, outgoing: bool, frame: memoryview) -> None:
            self.frames += 1

        def unobserved(self, interface: Interface) -> None:
            self.ends += 1

    async def main() -> int:
        async with pair(way) as two:
            interface = two.wires[0] if two.wires else two.a.interfaces[0]
            before, behind = Counting(), Counting()
            for observer in (before, Raising(), behind):
                interface.observe(observer)
            client, server = await two.connections()
            sending = asyncio.create_task(send_all(client, payload(100_000)))
            assert await read_all(server) == payload(100_000)
            await sending
            assert before.frames == behind.frames > 2
            interface.remove()
            assert before.ends == behind.ends == 1
            return before.frames

    frames, reports = run_with_reports(main())
    assert len(reports) == frames + 1
    assert all(isinstance(report["exception"], LookupError) for report in reports)


@pytest.mark.parametrize("closes", [True, False], ids=["closed stack", "removed interface"])
def test_frames_for_an_interface_that_is_gone_are_ignored(closes: bool) -> None:
    """A port may have more of them: its far end does not know yet."""

    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            tun = two.interfaces[1]
            assert tun.inject(bytes(100))
            await iterations(5)
            before = tun.statistics()
            if closes:
                two.b.abort()
            else:
                await two.b.remove_interface(tun)
            for _ in range(50):
                assert tun.inject(bytes(1500))
            view = tun.receive_buffer()
            view[:8] = (4).to_bytes(4, "little") + bytes(4)
            tun.commit_received(8)
            assert tun.statistics() == before

    run(main())
