"""UDP sockets in the stream-style interface: delivery, buffers, drops, groups, broadcasts, closing."""

from __future__ import annotations

import asyncio
import errno
from itertools import pairwise

import pytest

from tcpip_wasm import (
    NetworkError,
    PermissionDenied,
    StackClosedError,
    StackTrappedError,
    StreamLockedError,
    TapInterface,
    UdpDatagram,
    connect,
    create_stack,
)
from tcpip_wasm.simulation import run_virtually
from tcpip_wasm.sockets.udp.udp_handle import OVERHEAD, QUEUE_BYTES
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, iterations, pair, raises_errno, run, until


@pytest.mark.parametrize("way", WAYS)
def test_datagrams_in_both_directions(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            assert b.local_address == ("::", 53)
            assert a.local_address[1] >= 49152
            for size in (0, 1, 1400, 1472, 1473, 1500, 9000, 60_000, 65_487):
                data = payload(size)
                await a.send(UdpDatagram(two.host, 53, data))
                there = await b.receive()
                assert there == UdpDatagram(two.own, a.local_address[1], data)
                await b.send(UdpDatagram(there.host, there.port, data[::-1]))
                assert await a.receive() == UdpDatagram(two.host, 53, data[::-1])

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tun4", "loopback4"])
def test_longest_datagram(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            await a.send(UdpDatagram(two.host, 53, payload(65_507)))
            assert (await b.receive()).data == payload(65_507)
            await raises_errno(errno.EMSGSIZE, a.send(UdpDatagram(two.host, 53, payload(65_508))))
            await raises_errno(errno.EMSGSIZE, a.send(UdpDatagram("::1", 53, payload(65_488))))

    run(main())


def test_datagrams_before_the_neighbour_is_resolved() -> None:
    async def main() -> None:
        async with pair("tap4") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            await a.send(UdpDatagram(two.host, 53, payload(60_000)))  # 41 frames wait for one ARP reply
            assert (await b.receive()).data == payload(60_000)

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tap6", "loopback4"])
def test_sender_waits_for_buffer_space_and_nothing_is_lost(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            count = 2000  # more than may wait for the neighbour, and more than the buffer holds

            async def send() -> None:
                for number in range(count):
                    await a.send(UdpDatagram(two.host, 53, payload(1400, number)))

            task = asyncio.create_task(send())
            for number in range(count):
                assert (await b.receive()).data == payload(1400, number)
            await task
            assert b.dropped == 0
            assert two.b.stats().core.udp_in == count

    run(main())


def test_sending_goes_on_after_neighbour_resolution_fails() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack(seed=1) as stack, await stack.open_udp() as udp:
            await stack.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"])
            for host in ("10.0.0.2", "fd00::2"):
                started = loop.time()
                for _ in range(300):
                    await udp.send(UdpDatagram(host, 9, b"x"))
                assert 1 < loop.time() - started < 60

    run_virtually(main())


def test_large_datagrams_wait_for_buffer_space() -> None:
    async def main() -> None:
        async with pair("tap4", cable=False) as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            tap = two.wires[0]
            assert isinstance(tap, TapInterface)
            sent: list[int] = []

            async def send() -> None:
                for number in range(12):
                    await a.send(UdpDatagram("10.0.0.255", 53, payload(60_000, number)))
                    sent.append(number)

            with pytest.raises(PermissionDenied):
                await a.send(UdpDatagram("10.0.0.255", 53, b""))
            await a.close()
            a = await two.a.open_udp(allow_broadcast=True)
            frames = tap.readable.get_reader()
            task = asyncio.create_task(send())
            await iterations(10)
            assert 0 < len(sent) < 12, "the queue of frames and the buffer are full"
            seen = 0
            writer = two.wires[1].writable.get_writer()
            while seen < 12 * 60_008:
                frame = await frames.read()
                assert frame is not None
                if frame[12:14] == b"\x08\x00":
                    seen += len(frame) - 34
                    await writer.write(frame)
            await task
            for number in range(12):
                assert (await b.receive()).data == payload(60_000, number)
            assert tap.statistics().transmit_full == 0

    run(main())


def test_queue_is_bounded_and_drops_are_counted() -> None:
    async def main() -> None:
        async with pair("tun4") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            size = 8000
            fit = QUEUE_BYTES // (size + OVERHEAD)
            for number in range(fit + 10):
                await a.send(UdpDatagram(two.host, 53, payload(size, number)))
                await iterations(4)
            await until(lambda: two.b.stats().core.udp_in == fit + 10)
            await iterations(2)
            assert b.dropped == 10
            for number in range(fit):
                assert (await b.receive()).data == payload(size, number)
            await a.send(UdpDatagram(two.host, 53, b"again"))
            assert (await b.receive()).data == b"again"

    run(main())


def test_streams() -> None:
    async def main() -> None:
        async with pair("tap4") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            with a.writable.get_writer() as writer:
                for number in range(5):
                    await writer.write(UdpDatagram(two.host, 53, b"%d" % number))
            seen = []
            async for datagram in b:
                seen.append(datagram.data)
                if len(seen) == 5:
                    break
            assert seen == [b"0", b"1", b"2", b"3", b"4"]
            with b.readable.get_reader(), pytest.raises(StreamLockedError):
                b.__aiter__()
            iterating = asyncio.create_task(anext(b.__aiter__(), None))
            await iterations(2)
            await b.close()
            assert await iterating is None

    run(main())


def test_several_receivers_and_cancelled_ones() -> None:
    async def main() -> None:
        async with pair("tun4") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            tasks = [asyncio.create_task(b.receive()) for _ in range(4)]
            await iterations(2)
            tasks[0].cancel()
            for number in range(3):
                await a.send(UdpDatagram(two.host, 53, b"%d" % number))
            got = await asyncio.gather(*tasks[1:])
            assert sorted(datagram.data for datagram in got) == [b"0", b"1", b"2"]
            task = asyncio.create_task(b.receive())
            await iterations(2)
            await a.send(UdpDatagram(two.host, 53, b"kept"))
            await until(lambda: two.b.stats().core.udp_in == 4)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            kept = task.result() if not task.cancelled() else await b.receive()
            assert kept.data == b"kept"

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tap6", "tun4", "loopback6"])
def test_refused(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two, await two.a.open_udp(remote=(two.host, 99)) as a:
            await a.send(UdpDatagram(two.host, 99, b"anybody there?"))
            with pytest.raises(ConnectionRefusedError):
                await a.receive()
            assert two.b.stats().core.udp_no_port == 1
            async with await two.b.open_udp(port=99) as b:  # the socket goes on
                await a.send(UdpDatagram(two.host, 99, b"and now?"))
                await b.send(UdpDatagram(two.own, (await b.receive()).port, b"yes"))
                assert (await a.receive()).data == b"yes"

    run(main())


def test_a_connected_socket_receives_from_its_peer_only() -> None:
    async def main() -> None:
        async with pair("tap4") as two, await two.b.open_udp(port=53) as b, await two.b.open_udp(port=54) as c:
            a = await two.a.open_udp(remote=(two.host, 53))
            assert a.local_address[0] == two.own
            back = (two.own, a.local_address[1])
            await c.send(UdpDatagram(*back, b"not you"))
            await b.send(UdpDatagram(*back, b"you"))
            assert (await a.receive()).data == b"you"
            assert not a._state.arrived

    run(main())


def test_invalid_arguments_and_calls() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            stack = two.a
            first = await stack.open_udp(port=53)
            await raises_errno(errno.EADDRINUSE, stack.open_udp(port=53))
            await raises_errno(errno.EADDRINUSE, stack.open_udp("10.0.0.1", 53))
            await raises_errno(errno.EADDRNOTAVAIL, stack.open_udp("10.0.0.9", 54))
            await raises_errno(errno.ENETUNREACH, first.send(UdpDatagram("192.168.1.1", 1, b"")))
            await raises_errno(errno.ENETUNREACH, stack.open_udp(remote=("192.168.1.1", 1)))
            await raises_errno(errno.EACCES, first.send(UdpDatagram("255.255.255.255", 1, b"")))
            for wrong in ("no..name", "10.0.0.0/8", ""):
                with pytest.raises(ValueError, match="host"):
                    await first.send(UdpDatagram(wrong, 1, b""))
            for port in (0, -1, 65536):
                with pytest.raises(ValueError, match="port"):
                    await first.send(UdpDatagram("10.0.0.2", port, b""))
            with pytest.raises(TypeError):
                await first.send(UdpDatagram("10.0.0.2", 1, "text"))  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await first.send(UdpDatagram("10.0.0.2", "1", b""))  # type: ignore[arg-type]
            for options in ({"port": 65536}, {"port": -1}, {"ttl": 0}, {"ttl": 256}, {"multicast_ttl": 300}):
                with pytest.raises(ValueError, match=r"port|ttl"):
                    await stack.open_udp(**options)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="multicast_interface"):
                await stack.open_udp(multicast_interface="tap0")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="interface"):
                first.join_group("239.1.1.1", "tap0")  # type: ignore[arg-type]
            for nothing in (None, b"text", ("10.0.0.2", 1, b"")):
                with pytest.raises(TypeError, match="UdpDatagram"):
                    await first.send(nothing)  # type: ignore[arg-type]
                with first.writable.get_writer() as writer, pytest.raises(TypeError, match="UdpDatagram"):
                    await writer.write(nothing)  # type: ignore[arg-type]
            for remote in (5, "10.0.0.2", ("10.0.0.2",)):
                with pytest.raises(TypeError, match="remote"):
                    await stack.open_udp(remote=remote)  # type: ignore[arg-type]
            other = two.interfaces[1]  # of the other stack: its handle may equal one of this stack
            for call in (first.join_group, first.leave_group):
                with pytest.raises(ValueError, match="none of this stack's"):
                    call("239.1.1.1", other)
            with pytest.raises(ValueError, match="none of this stack's"):
                await stack.open_udp(multicast_interface=other)
            with pytest.raises(ValueError, match="IPv6"):
                await stack.open_udp("10.0.0.1", 60, remote=("fd00::2", 1))
            handles = stack.stats().core.handles
            await raises_errno(errno.ENETUNREACH, stack.open_udp(remote=("192.168.1.1", 1)))
            assert stack.stats().core.handles == handles
            both = [await stack.open_udp("10.0.0.1", 60), await stack.open_udp("127.0.0.1", 60)]
            assert [socket.local_address for socket in both] == [("10.0.0.1", 60), ("127.0.0.1", 60)]

    run(main())


def test_ephemeral_ports_differ_and_derive_from_the_seed() -> None:
    async def ports(seed: int) -> list[int]:
        async with await create_stack(seed=seed) as stack:
            sockets = [await stack.open_udp() for _ in range(300)]
            return [socket.local_address[1] for socket in sockets]

    one, again, other = (asyncio.run(ports(seed)) for seed in (1, 1, 2))
    assert len(set(one)) == 300
    assert min(one) >= 49152
    assert one == again
    assert one != other
    assert len({b - a for a, b in pairwise(one)}) > 250, "the next one cannot be predicted"


def test_link_local_hosts_name_their_interface() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            wires = [await stack.create_tap_interface(mac=f"02:00:00:00:00:0{n}") for n, stack in ((1, a), (2, b))]
            connect(*wires)
            async with await a.open_udp() as one, await b.open_udp(port=53) as two:
                await one.send(UdpDatagram("fe80::ff:fe00:2%tap0", 53, b"hello"))
                there = await two.receive()
                assert there.host == "fe80::ff:fe00:1%tap0"
                await two.send(UdpDatagram(there.host, there.port, b"back"))
                assert await one.receive() == UdpDatagram("fe80::ff:fe00:2%tap0", 53, b"back")
                await raises_errno(errno.ENETUNREACH, one.send(UdpDatagram("fe80::ff:fe00:2", 53, b"")))

    run(main())


@pytest.mark.parametrize(("group", "family"), [("239.1.2.3", 4), ("ff05::123", 6), ("ff02::123", 6)])
def test_groups(group: str, family: int) -> None:
    async def main() -> None:
        async with pair(f"tap{family}") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            await a.send(UdpDatagram(group, 53, b"before"))
            await iterations(20)
            b.join_group(group)
            await iterations(20)
            await a.send(UdpDatagram(group, 53, b"member"))
            there = await b.receive()
            assert there.data == b"member"
            with pytest.raises(NetworkError):
                b.join_group(group)
            b.leave_group(group)
            with pytest.raises(NetworkError):
                b.leave_group(group, two.wires[1])
            await a.send(UdpDatagram(group, 53, b"after"))
            await a.send(UdpDatagram(two.host, 53, b"end"))
            assert (await b.receive()).data == b"end"
            b.join_group(group, two.wires[1])
            await b.close()
            async with await two.b.open_udp(port=53) as c:  # closing has left the group
                await a.send(UdpDatagram(group, 53, b"closed"))
                await a.send(UdpDatagram(two.host, 53, b"end"))
                assert (await c.receive()).data == b"end"
            with pytest.raises(ValueError, match="group"):
                a.join_group(two.host)

    run(main())


def test_broadcasts_leave_by_every_interface_that_can() -> None:
    async def main() -> None:
        async with await create_stack() as hub, await create_stack() as left, await create_stack() as right:
            for number, stack in ((1, left), (2, right)):
                connect(
                    await hub.create_tap_interface(ip=f"10.{number}.0.1/24"),
                    await stack.create_tap_interface(ip=f"10.{number}.0.2/24"),
                )
            await hub.create_tun_interface(ip="10.9.0.1/24")
            receivers = [await stack.open_udp(port=53) for stack in (left, right)]
            async with await hub.open_udp(allow_broadcast=True) as socket:
                await socket.send(UdpDatagram("255.255.255.255", 53, b"all"))
                hosts = [(await receiver.receive()).host for receiver in receivers]
                assert hosts == ["10.1.0.1", "10.2.0.1"]
                await socket.send(UdpDatagram("10.2.0.255", 53, b"right"))
                assert (await receivers[1].receive()).data == b"right"
            chosen = hub.interfaces[1]
            async with await hub.open_udp(allow_broadcast=True, multicast_interface=chosen) as socket:
                await socket.send(UdpDatagram("255.255.255.255", 53, b"one"))
                assert (await receivers[0].receive()).data == b"one"
            await iterations(10)
            assert not receivers[0]._state.arrived
            assert not receivers[1]._state.arrived

    run(main())


def test_close_ends_waiting_calls() -> None:
    async def main() -> None:
        async with pair("tap4", cable=False) as two:
            socket = await two.a.open_udp(port=53, allow_broadcast=True)
            _ = two.wires[0].readable  # a stream without reads
            receiving = asyncio.create_task(socket.receive())

            async def fill() -> None:
                while True:
                    await socket.send(UdpDatagram("10.0.0.255", 1, bytes(1400)))

            sending = asyncio.create_task(fill())
            await iterations(10)
            assert not receiving.done()
            assert not sending.done()
            await socket.close()
            await socket.close()
            for task in (receiving, sending):
                await raises_errno(errno.ECONNABORTED, task)
            await raises_errno(errno.ECONNABORTED, socket.receive())
            await raises_errno(errno.ECONNABORTED, socket.send(UdpDatagram("10.0.0.2", 1, b"")))
            async with await two.a.open_udp(port=53):
                pass

    run(main())


def test_closing_the_stack() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            socket = await two.a.open_udp(port=53)
            receiving = asyncio.create_task(socket.receive())
            iterating = asyncio.create_task(anext((await two.a.open_udp()).__aiter__(), "end"))
            await iterations(2)
            await two.a.aclose()
            with pytest.raises(StackClosedError):
                await receiving
            assert await iterating == "end"
            with pytest.raises(StackClosedError):
                await socket.send(UdpDatagram(two.host, 1, b""))
            with pytest.raises(StackClosedError):
                await two.a.open_udp()
            await socket.close()

    run(main())


def test_a_trap_ends_the_socket() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            socket = await two.a.open_udp(port=53)
            receiving = asyncio.create_task(socket.receive())
            await iterations(2)
            two.a._driver.core._die(RuntimeError("as if it had trapped"))
            with pytest.raises(StackTrappedError):
                await socket.send(UdpDatagram(two.host, 1, b""))
            two.a._driver.wake()
            with pytest.raises(StackTrappedError):
                await receiving
            await socket.close()

    run(main())


def test_statistics() -> None:
    async def main() -> None:
        async with pair("tap4") as two, await two.a.open_udp() as a, await two.b.open_udp(port=53) as b:
            for size in (10, 4000):
                await a.send(UdpDatagram(two.host, 53, bytes(size)))
                await b.receive()
            await a.send(UdpDatagram(two.host, 54, b""))
            await until(lambda: two.b.stats().core.udp_in == 3)
            ours, theirs = two.a.stats().core, two.b.stats().core
            assert (ours.udp_out, ours.fragments_out) == (3, 3)
            assert (theirs.udp_in, theirs.fragments_in, theirs.udp_no_port) == (3, 3, 1)
            assert (theirs.udp_drops, theirs.fragment_drops, theirs.icmp_out) == (0, 0, 1)

    run(main())


def test_a_group_with_a_scope_leaves_by_it() -> None:
    async def main() -> None:
        async with await create_stack() as hub, await create_stack() as left, await create_stack() as right:
            members = []
            for stack in (left, right):
                near, far = await hub.create_tap_interface(), await stack.create_tap_interface()
                connect(near, far)
                members.append(await stack.open_udp(port=53))
                members[-1].join_group("ff02::99", far)
            for chosen in (None, hub.interfaces[1]):
                async with await hub.open_udp(multicast_interface=chosen) as socket:
                    await socket.send(UdpDatagram("ff02::99%tap1", 53, b"right"))
                    assert (await members[1].receive()).data == b"right"
                    await socket.send(UdpDatagram("ff02::99", 53, b"left"))
                    assert (await members[0].receive()).data == b"left"

    run(main())
