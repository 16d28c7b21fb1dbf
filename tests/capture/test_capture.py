"""Capturing interfaces: all frames, in order and with their times, without effects on the traffic."""

from __future__ import annotations

import asyncio
import errno
import io
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import StackClosedError, UdpDatagram, connect, create_stack
from tcpip_wasm.capture import Observation, Trace, capture, link_types, read_capture
from tcpip_wasm.engine import FrameBuffers
from tcpip_wasm.simulation import run_virtually
from tests.kit.captures import ALICE, BOB, LossyLink, cable_of, echo, stream_of, transfer
from tests.kit.core_network import payload


def test_a_cable_at_both_ends() -> None:
    trace = Trace()
    ends, (sent,) = run_virtually(cable_of(trace))
    for point, other in (("alice", "bob"), ("bob", "alice")):
        out = [observation.frame for observation in trace.at(point, outgoing=True).observations]
        into = [observation.frame for observation in trace.at(other, outgoing=False).observations]
        assert len(out) > 10
        assert out == into
    # The other end receives each frame afterwards.
    seen: Counter[bytes] = Counter()
    for observation in trace.observations:
        seen[observation.frame] += 1 if observation.outgoing else -1
        assert seen[observation.frame] >= 0
    alice = trace.at("alice", outgoing=True).tcp(destination=BOB)
    assert stream_of(alice, next(iter(alice)).source_port or 0) == sent
    assert stream_of(trace.at("bob", outgoing=True).tcp(), 7) == sent
    assert ends[0].statistics().frames_out == len(trace.at("alice", outgoing=True))
    assert ends[0].statistics().frames_in == len(trace.at("alice", outgoing=False))


def test_one_end_of_a_cable() -> None:
    async def main() -> tuple[Trace, Trace]:
        near, far = Trace(), Trace()
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            with capture(b, far):  # begun before there is a cable
                connect(a, b)
                assert await echo(alice, bob, BOB, payload(50_000)) == payload(50_000)
            with capture(a, near):
                assert await echo(alice, bob, BOB, payload(50_000)) == payload(50_000)
        return near, far

    near, far = run_virtually(main())
    assert stream_of(near.tcp(), 7) == stream_of(far.tcp(), 7) == payload(50_000)
    assert {observation.point for observation in (*near.observations, *far.observations)} == {"tap0"}


def test_interfaces_without_a_capture_run_no_extra_code() -> None:
    """Before and after a capture, buffers have their class, and interfaces no additional attribute."""

    async def main() -> None:
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            cable = connect(a, b)
            attributes = dict(vars(a)), dict(vars(a.buffers))
            first, second = capture(a, Trace()), capture(b, Trace())
            assert type(a.buffers) is not FrameBuffers
            first.close()
            assert type(a.buffers) is not FrameBuffers  # it moves what the other end receives
            second.close()
            assert type(a.buffers) is type(b.buffers) is FrameBuffers
            assert (dict(vars(a)), dict(vars(a.buffers))) == attributes
            with capture(b, Trace()):
                cable.close()
                assert type(a.buffers) is FrameBuffers

    run_virtually(main())


def test_a_capture_changes_nothing() -> None:
    """A lossy transfer has the same frames at the same times, whether or not its ends are captured."""

    async def captured(trace: Trace, watched: bool) -> bytes:
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            ends = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            LossyLink(*ends, trace, loss=0.01)
            with capture({"a": ends[0], "b": ends[1]}, io.BytesIO()) if watched else nullcontext():
                return await echo(alice, bob, BOB, payload(200_000))

    digests = set()
    for watched in (True, False):
        trace = Trace()
        assert run_virtually(captured(trace, watched)) == payload(200_000)
        digests.add(trace.digest())
    assert len(digests) == 1


def test_tun() -> None:
    async def main() -> Trace:
        trace = Trace()
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a = await alice.create_tun_interface(ip=[f"{ALICE}/24", "fd00::1/64"])
            b = await bob.create_tun_interface(ip=[f"{BOB}/24", "fd00::2/64"])
            connect(a, b)
            with capture(a, trace) as under_way:
                for host in (BOB, "fd00::2"):
                    assert await echo(alice, bob, host, payload(20_000)) == payload(20_000)
            assert under_way.frames == len(trace)
            assert under_way.closed
            assert await echo(alice, bob, BOB, payload(20_000)) == payload(20_000)
            assert under_way.frames == len(trace)
        return trace

    trace = run_virtually(main())
    assert {observation.link_type for observation in trace.observations} == {link_types.RAW}
    for host in (BOB, "fd00::2"):
        assert stream_of(trace.tcp(source=host), 7) == payload(20_000)


def test_loopback() -> None:
    async def main() -> tuple[Trace, Trace, bytes]:
        first, second = Trace(), Trace()
        async with await create_stack(seed=1) as stack:
            loopback = stack.interfaces[0]
            answer = await echo(stack, stack, "127.0.0.1", payload(3_000_000))
            with capture(loopback, first):
                for host in ("127.0.0.1", "::1"):
                    answer += await echo(stack, stack, host, payload(3_000_000))
                    async with await stack.open_udp(port=9) as udp:
                        await udp.send(UdpDatagram(host, 9, b"datagram"))
                        assert (await udp.receive()).data == b"datagram"
            answer += await echo(stack, stack, "::1", payload(3_000_000))
            with capture(loopback, second):
                answer += await echo(stack, stack, "127.0.0.1", payload(100))
            assert loopback.statistics().unheard == 0
        return first, second, answer

    first, second, answer = run_virtually(main())
    assert answer == payload(3_000_000) * 4 + payload(100)
    for host in ("127.0.0.1", "::1"):
        assert stream_of(first.tcp(source=host), 7) == payload(3_000_000)
    # Each packet is captured once, as it leaves.
    assert all(packet.outgoing and packet.malformed is None for packet in first)
    assert [packet.payload for packet in first.udp()] == [b"datagram"] * 2
    assert stream_of(second.tcp(), 7) == payload(100)


def test_a_loopback_capture_during_a_transfer() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:

            async def flicker() -> int:
                total = 0
                while not task.done():
                    trace = Trace()
                    with capture(stack.interfaces[0], trace):
                        for _ in range(3):
                            await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    total += len(trace)
                return total

            task = asyncio.create_task(echo(stack, stack, "127.0.0.1", payload(5_000_000)))
            assert await flicker() > 10
            assert await task == payload(5_000_000)
            assert stack.interfaces[0].statistics().unheard == 0
            assert stack.stats().core.tcp_retransmissions == 0

    run_virtually(main())


def test_a_bridge_by_its_ports() -> None:
    async def main() -> tuple[Trace, tuple[str, ...]]:
        trace = Trace()
        async with (
            await create_stack(seed=1) as middle,
            await create_stack(seed=2) as alice,
            await create_stack(seed=3) as bob,
        ):
            ports = [await middle.create_tap_interface() for _ in range(2)]
            bridge = await middle.create_bridge_interface(ports[:1])
            connect(ports[0], await alice.create_tap_interface(ip=f"{ALICE}/24"))
            connect(ports[1], await bob.create_tap_interface(ip=f"{BOB}/24"))
            with capture(bridge, trace):
                await bridge.add_port(ports[1])
                assert await echo(alice, bob, BOB, payload(50_000)) == payload(50_000)
                await bridge.remove_port(ports[1])
                whole = trace[:]
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(3):
                        await alice.open_connection(BOB, 7)
                assert {observation.point for observation in trace[len(whole) :].observations} == {"br0/tap0"}
            assert type(ports[0].buffers) is type(ports[1].buffers) is FrameBuffers
        return whole, tuple(port.name for port in ports)

    trace, names = run_virtually(main())
    assert {observation.point for observation in trace.observations} == {f"br0/{name}" for name in names}
    for point in ("br0/tap0", "br0/tap1"):
        assert stream_of(trace.at(point).tcp(), 7) == payload(50_000)
    # A frame comes in by one port and leaves by the other.
    tcp = trace.tcp()
    assert [p.observation.frame for p in tcp if not p.outgoing] == [p.observation.frame for p in tcp if p.outgoing]


def test_frames_with_and_without_a_reader() -> None:
    async def main() -> Trace:
        trace = Trace()
        async with await create_stack(seed=1) as stack:
            tun = await stack.create_tun_interface(ip=f"{ALICE}/24")
            with capture(tun, trace):
                async with await stack.open_udp(remote=(BOB, 9)) as udp:
                    await udp.send(UdpDatagram(BOB, 9, b"nobody listens"))
                    await asyncio.sleep(1)
                    assert tun.statistics().unheard == 1
                    frames = tun.listen().get_reader()
                    await udp.send(UdpDatagram(BOB, 9, b"somebody listens"))
                    frame = await frames.read()
                    assert frame
                    assert tun.inject(frame)
                    await tun.writable.get_writer().write(frame)
                    await asyncio.sleep(1)
        return trace

    trace = run_virtually(main())
    assert [(packet.outgoing, packet.payload) for packet in trace] == [
        (True, b"nobody listens"),
        (True, b"somebody listens"),
        (False, b"somebody listens"),
        (False, b"somebody listens"),
    ]


def test_virtual_time() -> None:
    """The delay of 20 ms of a link is in the file, to the nanosecond."""

    class Clocked:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()

        def __call__(self) -> int:
            return round(self.loop.time() * 1e9)

    async def main() -> None:
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a = await alice.create_tun_interface(ip=f"{ALICE}/24")
            b = await bob.create_tun_interface(ip=f"{BOB}/24")
            LossyLink(a, b, Trace(), bandwidth=1e12, delay=0.02)
            with capture({"a": a, "b": b}, file, clock=Clocked()):
                async with await alice.create_ping_session(BOB) as ping:
                    reply = await ping.ping(b"ping", timeout=1)
                    assert reply.payload == b"ping"

    file = io.BytesIO()
    run_virtually(main())
    file.seek(0)
    frames = list(read_capture(file))
    assert [(frame.interface, frame.outgoing) for frame in frames] == [
        ("a", True),
        ("b", False),
        ("b", True),
        ("a", False),
    ]
    times = [frame.time - frames[0].time for frame in frames]
    assert times[1] == times[2]
    # The link takes 0.3 ns for the packet and 20 ms for its way.
    assert times == pytest.approx([0, 20_000_000, 20_000_000, 40_000_000], abs=1)


def test_the_clock_of_a_virtual_loop_is_used() -> None:
    async def main() -> list[float]:
        trace = Trace()
        loop: Any = asyncio.get_running_loop()
        loop.time_ns = lambda: 5_000_000_000
        async with await create_stack(seed=1) as stack:
            with capture(stack.interfaces[0], trace):
                await echo(stack, stack, "127.0.0.1", b"hello")
        return [packet.time for packet in trace]

    assert set(run_virtually(main())) == {5.0}


def test_the_time_of_day() -> None:
    import time

    file = io.BytesIO()
    before = time.time_ns()
    asyncio.run(cable_of(file))  # a loop whose time is not that of the day
    after = time.time_ns()
    file.seek(0)
    times = [frame.time for frame in read_capture(file)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after


def test_several_at_once(tmp_path: Path) -> None:
    async def main() -> Trace:
        trace = Trace()
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            connect(a, b)
            with (
                capture(a, tmp_path / "whole.pcapng", comment="whole"),
                capture(a, tmp_path / "short.pcapng", snaplen=60),
                capture(a, trace, snaplen=60),
            ):
                assert await echo(alice, bob, BOB, payload(50_000)) == payload(50_000)
        return trace

    trace = run_virtually(main())
    whole, short = (list(read_capture(tmp_path / name)) for name in ("whole.pcapng", "short.pcapng"))
    assert len(whole) == len(short) == len(trace)
    for full, cut, seen in zip(whole, short, trace.observations, strict=True):
        assert full.length == cut.length == len(full.frame)
        assert cut.frame == full.frame[:60] == seen.frame
        assert seen.length == (full.length if full.length > 60 else None)
    assert max(frame.length for frame in whole) > 1000


def reports(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_only_the_capture() -> None:
    async def main() -> None:
        told = reports(asyncio.get_running_loop())
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            connect(a, b)
            trace = Trace()
            with capture({"a": a, "b": b}, "/dev/full") as full, capture(b, trace):
                assert await echo(alice, bob, BOB, payload(500_000)) == payload(500_000)
                assert full.closed
                assert isinstance(full.error, OSError)
                assert full.error.errno == errno.ENOSPC
                assert 0 < full.frames < len(trace)
            assert stream_of(trace.tcp(), 7) == payload(500_000)
            assert [context["exception"] for context in told] == [full.error]
            assert told[0]["message"] == "the capture of a, b has ended"
            # The same when there is little to write, and it goes to the file at the end.
            with capture(a, "/dev/full") as full:
                assert await echo(alice, bob, BOB, b"little") == b"little"
            assert isinstance(full.error, OSError)
            assert len(told) == 2
            assert type(a.buffers) is type(b.buffers) is FrameBuffers

    run_virtually(main())


@pytest.mark.parametrize("way", ["cable", "port", "inject"])
def test_a_function_that_raises_ends_the_capture(way: str) -> None:
    """At every point at which a frame is captured, the capture ends, and the frame is delivered."""

    async def main() -> None:
        told = reports(asyncio.get_running_loop())
        calls = 0

        def bad(observation: Observation) -> None:
            nonlocal calls
            calls += 1
            raise RuntimeError("no more")

        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
            if way == "cable":
                connect(a, b)
            else:
                LossyLink(a, b, Trace())
            with capture(b if way == "inject" else a, bad) as under_way:
                assert await echo(alice, bob, BOB, payload(50_000)) == payload(50_000)
                assert under_way.closed
            assert calls == len(told) == 1
            assert str(told[0]["exception"]) == "no more"

    run_virtually(main())


def test_the_stack_ends_before_the_capture(tmp_path: Path) -> None:
    async def main() -> None:
        stack = await create_stack(seed=1)
        tun = await stack.create_tun_interface(ip=f"{ALICE}/24")
        under_way = capture([stack.interfaces[0], tun], tmp_path / "a.pcapng")
        await echo(stack, stack, "127.0.0.1", b"hello")
        tun.remove()
        assert not under_way.closed
        await stack.aclose()
        assert under_way.closed
        assert under_way.error is None
        under_way.close()
        with pytest.raises(StackClosedError):
            capture(stack.interfaces[0], tmp_path / "b.pcapng")
        assert not (tmp_path / "b.pcapng").exists()

    run_virtually(main())
    assert stream_of(Trace.load(tmp_path / "a.pcapng").tcp(), 7) == b"hello"


def test_wrong_calls(tmp_path: Path) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
            a, b = alice.interfaces[0], bob.interfaces[0]
            with pytest.raises(ValueError, match="two have one name"):
                capture([a, b], Trace())
            with pytest.raises(ValueError, match="one has two names"):
                capture({"a": a, "b": a}, Trace())
            with pytest.raises(ValueError, match="at least"):
                capture([], Trace())
            with pytest.raises(ValueError, match="snaplen"):
                capture(a, Trace(), snaplen=-1)
            with pytest.raises(TypeError, match="not all"):
                capture([a, "tap0"], Trace())  # type: ignore[list-item]
            with pytest.raises(TypeError, match="'b' is no interface but str"):
                capture({"b": "tap0"}, Trace())  # type: ignore[arg-type]
            with pytest.raises(FileNotFoundError):
                capture(a, tmp_path / "none" / "a.pcapng")
            assert type(a.buffers) is type(b.buffers) is FrameBuffers

    run_virtually(main())


def test_the_same_seed_gives_the_same_digest() -> None:
    digests = []
    for loss in (0.01, 0.01, 0.02):
        trace = Trace()
        assert run_virtually(transfer(trace, 200_000, loss=loss)) == payload(200_000)
        assert trace.dropped("loss")
        digests.append(trace.digest())
    assert digests[0] == digests[1] != digests[2]
