"""Frame streams: whole frames out of an interface and into it, bounded in both directions."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tcpip_wasm import NetworkError, StackClosedError, StreamLockedError, TransformStream, create_stack
from tcpip_wasm.interfaces.frames import QUEUE_BYTES
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import delay_frames, deliver, duplicate, lose, payload
from tests.kit.stacks import FrameRelay, iterations, pair, read_all, run, send_all, until


@pytest.mark.parametrize("way", ["tap4", "tun4", "tap6", "tun6"])
def test_frames_carried_by_the_test(way: str) -> None:
    async def main() -> None:
        async with pair(way, cable=False) as two, FrameRelay(*two.interfaces, deliver) as middle:
            client, server = await two.connections()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(client, payload(500_000)))
                received = group.create_task(read_all(server))
            assert received.result() == payload(500_000)
            assert middle.count > 500_000 // 1500
            assert two.a.stats().core.tcp_retransmissions == 0

    run_virtually(main())  # where time passes, a busy machine may probe for what is late


def test_frames_are_whole() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface(mac="02:00:00:00:00:01", ip="10.0.0.1/24")
            tun = await stack.create_tun_interface(ip="10.0.1.1/24")
            tap_reader, tun_reader = tap.readable.get_reader(), tun.readable.get_reader()
            attempts = [
                asyncio.create_task(stack.connect_tcp(host, 80, timeout=0.2)) for host in ("10.0.0.2", "10.0.1.2")
            ]
            frames: list[bytes] = []
            while True:
                frame = await tap_reader.read()
                assert type(frame) is bytes
                frames.append(frame)
                if frame[12:14] == b"\x08\x06" and frame[38:42] != bytes([10, 0, 0, 1]):
                    break  # the first request is the host's own announcement
            assert frame[:12] == b"\xff" * 6 + b"\x02\0\0\0\0\x01"
            assert frame[20:22] == b"\0\1", "a request"
            assert frame[38:42] == bytes([10, 0, 0, 2])
            while (packet := await tun_reader.read()) is not None and packet[0] >> 4 != 4:
                pass
            assert packet is not None
            assert packet[9] == 6
            assert packet[12:20] == bytes([10, 0, 1, 1, 10, 0, 1, 2])
            assert len(packet) == int.from_bytes(packet[2:4], "big")
            results = await asyncio.gather(*attempts, return_exceptions=True)
            assert all(isinstance(result, TimeoutError) for result in results)

    run(main())


def test_iteration_and_the_second_listener() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            tap = two.interfaces[0]
            iteration = tap.listen().__aiter__()
            with pytest.raises(StreamLockedError):
                tap.listen()
            with pytest.raises(StreamLockedError):
                aiter(tap)
            with pytest.raises(StreamLockedError):
                tap.readable.get_reader()
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp(two.host, 80, timeout=0.02)
            frames = 0
            async for frame in iteration:
                assert len(frame) >= 42
                frames += 1
                if frame[12:14] == b"\x08\x06":
                    break
            assert frames > 0
            del iteration
            async for frame in tap:
                assert type(frame) is bytes
                break
            assert tap.statistics().unheard == 0

    run(main())


def test_frames_before_the_first_use_are_dropped() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            tap = two.interfaces[0]
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp(two.host, 80, timeout=0.02)
            unheard = tap.statistics().unheard
            assert unheard > 0
            reader = tap.readable.get_reader()
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp("10.0.0.77", 80, timeout=0.02)
            asked = []
            while bytes([10, 0, 0, 77]) not in asked:
                frame = await reader.read()
                assert frame is not None
                asked.append(frame[38:42])
            assert tap.statistics().unheard == unheard

    run(main())


def test_cancelled_stream_drops_and_counts_again() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            tap = two.interfaces[0]
            reader = tap.readable.get_reader()
            await reader.cancel()
            assert await reader.read() is None
            reader.release_lock()
            assert not tap.attached
            await iterations(10)
            before = tap.statistics()
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp("10.0.0.78", 80, timeout=0.02)
            after = tap.statistics()
            assert after.unheard - before.unheard == after.frames_out - before.frames_out > 0
            again = tap.readable.get_reader()
            with pytest.raises(TimeoutError):
                await two.a.connect_tcp("10.0.0.79", 80, timeout=0.02)
            asked = []
            while bytes([10, 0, 0, 79]) not in asked:
                frame = await again.read()
                assert frame is not None
                asked.append(frame[38:42])

    run(main())


def test_unread_frames_are_bounded_and_delay_tcp() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            tap, other = two.interfaces
            readers = tap.readable.get_reader(), other.readable.get_reader()
            writers = tap.writable.get_writer(), other.writable.get_writer()

            async def carry(way: int) -> None:
                while (frame := await readers[way].read()) is not None:
                    await writers[1 - way].write(frame)

            ways = [asyncio.create_task(carry(way)) for way in (0, 1)]
            # The first segments of all connections are more than the queue holds.
            connections = [await two.connections() for _ in range(40)]
            ways[0].cancel()
            await asyncio.gather(ways[0], return_exceptions=True)
            sending = [
                asyncio.create_task(send_all(client, payload(50_000, number)))
                for number, (client, _) in enumerate(connections)
            ]
            await iterations(300)
            held = tap._source
            assert held is not None
            assert held._full
            assert QUEUE_BYTES // 2 < held._size <= QUEUE_BYTES
            waiting = tap.buffers.transmit_length
            assert 0 < waiting <= QUEUE_BYTES
            ways[0] = asyncio.create_task(carry(0))
            for number, (_, server) in enumerate(connections):
                assert await read_all(server) == payload(50_000, number)
            await asyncio.gather(*sending)
            assert not held._full
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    run(main())


def test_writer_waits_for_room() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            tun = await stack.create_tun_interface(ip="10.0.0.1/24")
            turns_before = stack.stats().turns
            with tun.writable.get_writer() as writer:
                for _ in range(1000):
                    await writer.write(b"\x00" * 1496)
            assert stack.stats().turns - turns_before >= 1000 * 1500 // 262144
            await until(lambda: tun.statistics().frames_in == 1000)
            assert tun.statistics().malformed == 1000

    run(main())


def test_wrong_chunks() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface()
            with tap.writable.get_writer() as writer:
                for chunk in ("text", 5, None, [1]):
                    with pytest.raises(TypeError, match="frame must be"):
                        await writer.write(chunk)  # type: ignore[arg-type]
                await writer.write(bytearray(60))  # type: ignore[arg-type]
                await writer.write(memoryview(bytes(60)))  # type: ignore[arg-type]
            await until(lambda: tap.statistics().frames_in == 2)

    run(main())


def test_removal_ends_the_streams() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface()
            reader = tap.readable.get_reader()
            writer = tap.writable.get_writer()
            await iterations(5)
            await stack.remove_interface(tap)
            async with asyncio.timeout(5):
                while await reader.read() is not None:
                    pass
            with pytest.raises(NetworkError) as caught:
                await writer.write(b"\0" * 60)
            assert caught.value.errno == errno.ENODEV
            assert await reader.read() is None

    run(main())


def test_removal_ends_a_waiting_read() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            tun = await stack.create_tun_interface()
            reading = asyncio.create_task(tun.readable.get_reader().read())
            await iterations(5)
            assert not reading.done()
            await stack.remove_interface(tun)
            assert await reading is None

    run(main())


def test_removal_ends_a_waiting_write() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            tun = await stack.create_tun_interface(ip="10.0.0.1/24")
            writer = tun.writable.get_writer()

            async def flood() -> None:
                while True:
                    await writer.write(b"\0" * 60_000)

            # The writes that fit end in its first iteration; the next one waits when the interface is removed.
            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0)
            await stack.remove_interface(tun)
            with pytest.raises(NetworkError) as caught:
                await flooding
            assert caught.value.errno == errno.ENODEV
            await iterations(20)
            before = stack.stats().turns
            await iterations(200)
            assert stack.stats().turns == before, "no task waits for room in a removed interface"

    run(main())


def test_closed_stack_ends_the_streams() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface()
            reader, writer = tap.readable.get_reader(), tap.writable.get_writer()
            await iterations(5)
            while tap._source is not None and tap._source._frames:
                await reader.read()
            reading = asyncio.create_task(reader.read())
            await iterations(3)
            await stack.aclose()
            assert await reading is None
            with pytest.raises(StackClosedError):
                await writer.write(b"\0" * 60)

    run(main())


def test_streams_through_a_transform() -> None:
    """A transform between two interfaces counts frames."""

    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            one, other = two.interfaces
            seen: list[int] = []

            def count(frame: bytes) -> bytes:
                seen.append(len(frame))
                return frame

            ways = [
                asyncio.create_task(near.readable.pipe_through(TransformStream(count)).pipe_to(far.writable))
                for near, far in ((one, other), (other, one))
            ]
            await iterations(1)
            client, server = await two.connections()
            await send_all(client, payload(100_000))
            assert await read_all(server) == payload(100_000)
            assert sum(seen) > 100_000
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await two.a.remove_interface(one)
            await two.b.remove_interface(other)
            await iterations(10)

    run(main())


@pytest.mark.parametrize("rule", [lose(5), lose(9, 30), duplicate(*range(60)), delay_frames(8, 20, 31)])
def test_a_relay_with_rules(rule) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with pair("tun4", cable=False) as two, FrameRelay(*two.interfaces, rule):
            client, server = await two.connections()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(client, payload(200_000)))
                received = group.create_task(read_all(server))
            assert received.result() == payload(200_000)

    run(main())
