"""Frames with their lengths before them: what leaves, what arrives in any division, hostile lengths, the end.

The other side is a socket of this process; virtual machines are in tests/interop/test_qemu.py.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, TapInterface, create_stack
from tcpip_wasm.links import QemuLink, StreamLink, connect_qemu, listen_qemu
from tcpip_wasm.links.stream import LONGEST
from tcpip_wasm.testing import MemoryInterface, check_port
from tests.kit.core_network import payload
from tests.kit.stacks import read_all, send_all, until

MTU = 1500
BOUND = 60.0


def framed(*frames: bytes) -> bytes:
    """Return the frames as the stream has them."""
    return b"".join(len(frame).to_bytes(4) + frame for frame in frames)


@asynccontextmanager
async def stream_link(interface: MemoryInterface) -> AsyncIterator[tuple[StreamLink, socket.socket]]:
    """A link, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        link = StreamLink(ours, interface)
        try:
            yield link, theirs
        finally:
            link.close()
            assert ours.fileno() == -1, "the link closes its socket"


async def received(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(BOUND):
        while len(data) < size:
            more = await loop.sock_recv(sock, size - len(data))
            assert more
            data += more
    return data


def test_frames_leave_with_their_lengths() -> None:
    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        async with stream_link(interface) as (link, theirs):
            frames = [payload(size, size) for size in (14, 15, 16, 17, 60, 1513, 1514)]
            interface.send(*frames)
            assert await received(theirs, len(framed(*frames))) == framed(*frames)
            assert link.counters.frames_sent == len(frames)
            assert link.counters.bytes_sent == sum(map(len, frames))

    asyncio.run(main())


def test_a_slow_reader_delays_frames_and_loses_none() -> None:
    """The socket takes frames in part; what the stack offers waits in its own buffer meanwhile."""

    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        async with stream_link(interface) as (link, theirs):
            frames = [payload(14 + 37 * number % 1500, number) for number in range(3000)]
            interface.send(*frames)
            await asyncio.sleep(0)
            assert interface.unsent > 0
            expected = framed(*frames)
            assert await received(theirs, len(expected)) == expected
            assert interface.unsent == 0
            assert link.counters.send_waits > 0
            assert link.counters.frames_sent == len(frames)
            assert link.counters.bytes_sent == sum(map(len, frames))
            assert link.counters.send_dropped == 0

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(8))
def test_frames_arrive_in_any_division(seed: int) -> None:
    """Bytes arrive one at a time or many frames at once; frames of no bytes and too long ones are skipped."""

    async def main() -> None:
        source = random.Random(seed)
        interface = MemoryInterface("tap", MTU)
        frames, expected = [], []
        for number in range(200):
            size = source.choice((0, 14, 60, 1514, 1518, 1519, LONGEST, source.randrange(14, 1519)))
            frame = payload(size, number)
            frames.append(frame)
            if 0 < size <= 1518:
                expected.append(frame)
        data = framed(*frames)
        async with stream_link(interface) as (link, theirs):
            loop = asyncio.get_running_loop()
            first = 0
            while first < len(data):
                step = source.choice((1, 3, 700, 100_000))
                await loop.sock_sendall(theirs, data[first : first + step])
                first += step
                if step < 4:
                    await asyncio.sleep(0)
            await until(lambda: len(interface.received) == len(expected))
            assert list(interface.received) == expected
            assert link.counters.frames_received == len(expected)
            assert link.counters.receive_truncated == sum(len(frame) > 1518 for frame in frames)

    asyncio.run(main())


def test_a_full_stack_stops_the_reading() -> None:
    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        async with stream_link(interface) as (link, theirs):
            frames = [payload(1514, number) for number in range(2000)]
            interface.full = True
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, framed(*frames)))
            await until(lambda: link.counters.receive_full > 0)
            for _ in range(50):
                await asyncio.sleep(0)
            assert not sending.done(), "the sender waits"
            assert not interface.received
            interface.make_room()
            await asyncio.wait_for(sending, BOUND)
            await until(lambda: len(interface.received) == len(frames))
            assert list(interface.received) == frames

    asyncio.run(main())


@pytest.mark.parametrize("length", [LONGEST + 1, 0x80000000, 0xFFFFFFFF])
def test_a_stream_that_carries_no_frames_ends_the_link(length: int) -> None:
    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        async with stream_link(interface) as (link, theirs):
            theirs.send(framed(b"x" * 60) + length.to_bytes(4) + b"GET / HTTP/1.1\r\n")
            await asyncio.wait_for(link.wait_closed(), BOUND)
            assert isinstance(link.error, OSError)
            assert link.error.errno == errno.EPROTO
            assert f"a frame of {length} bytes" in str(link.error)
            assert list(interface.received) == [b"x" * 60]
            assert interface.port is None

    asyncio.run(main())


def test_the_other_side_ends_the_link() -> None:
    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        async with stream_link(interface) as (link, theirs):
            theirs.send(framed(b"last" * 15) + b"\0\0\0\x50half a frame")
            theirs.close()
            await asyncio.wait_for(link.wait_closed(), BOUND)
            assert link.error is None
            assert list(interface.received) == [b"last" * 15]

    asyncio.run(main())


def test_the_port_keeps_its_contract() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            check_port(lambda interface: StreamLink(ours, interface))
            assert ours.fileno() == -1

    asyncio.run(main())


def test_a_socket_of_another_type_and_an_interface_in_use_are_refused() -> None:
    async def main() -> None:
        interface = MemoryInterface("tap", MTU)
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other, pytest.raises(ValueError, match="a stream socket is needed"):
            StreamLink(one, interface)
        async with stream_link(interface):
            pair = socket.socketpair()
            with pair[1], pytest.raises(AssertionError):
                StreamLink(pair[0], interface)
            assert pair[0].fileno() == -1

    asyncio.run(main())


# --- Both ends ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_stacks() -> AsyncIterator[tuple[NetworkStack, TapInterface, NetworkStack, TapInterface]]:
    async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
        yield (
            a,
            await a.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            b,
            await b.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )


async def transfer(a: NetworkStack, b: NetworkStack, size: int, host: str = "10.0.0.2") -> None:
    """Send bytes from one stack to the other and check them."""
    data = payload(size)
    async with await b.listen_tcp(7) as listener:
        client = await a.connect_tcp(host, 7)
        server = await listener.accept()
        _, arrived = await asyncio.gather(send_all(client, data), read_all(server))
        await client.close()
        await server.close()
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_two_stacks_over_a_stream(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        where = f"unix:{tmp_path / 'vm.sock'}" if kind == "unix" else "tcp:127.0.0.1:0"
        async with two_stacks() as (a, near, b, far):
            async with await listen_qemu(where, lambda: far) as listener:
                link = await connect_qemu(near, listener.address)
                await transfer(a, b, 3_000_000)
                await transfer(b, a, 3_000_000, "fd00::1")
                assert len(listener.links) == 1
                assert listener.links[0].counters.frames_received == link.counters.frames_sent
                assert link.counters.send_dropped == 0
            await asyncio.wait_for(link.wait_closed(), BOUND)
        assert not (tmp_path / "vm.sock").exists()

    asyncio.run(main())


def test_a_guest_is_refused_where_no_interface_is_free(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    async def main() -> None:
        async with two_stacks() as (a, near, b, far), await create_stack() as c:
            third = await c.create_tap_interface(ip="10.0.0.3/24")
            async with await listen_qemu(f"unix:{tmp_path / 's'}", lambda: far, max_guests=1) as listener:
                await connect_qemu(near, listener.address)
                await transfer(a, b, 10_000)
                refused = await connect_qemu(third, listener.address)
                await asyncio.wait_for(refused.wait_closed(), BOUND)
                assert "guest refused" in caplog.text
                await transfer(a, b, 10_000)

    asyncio.run(main())


def test_a_link_connects_anew(tmp_path: Path) -> None:
    async def main() -> None:
        where = f"unix:{tmp_path / 'vm.sock'}"
        async with two_stacks() as (a, near, b, far):
            listener = await listen_qemu(where, lambda: far)
            link = await connect_qemu(near, where, reconnect=0.01)
            await transfer(a, b, 100_000)
            await listener.aclose()
            async with await listen_qemu(where, lambda: far) as listener:
                await until(lambda: link.reconnections == 1)
                await transfer(a, b, 100_000)
                assert not link.closed
                link.close()
                await until(lambda: not listener.links)

    asyncio.run(main())


def test_closing_ends_the_attempts_to_connect(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_stacks() as (_, near, _, far):
            listener = await listen_qemu(f"unix:{tmp_path / 'vm.sock'}", lambda: far)
            link = await connect_qemu(near, listener.address, reconnect=60.0)
            await listener.aclose()
            await until(lambda: len(asyncio.all_tasks()) > 1)
            link.close()
            await until(lambda: len(asyncio.all_tasks()) == 1)
            assert link.error is None

    asyncio.run(main())


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    async def main() -> None:
        tap = MemoryInterface()
        with pytest.raises(ValueError, match="unix:PATH or tcp:HOST:PORT is needed"):
            await connect_qemu(tap, "/run/vm.sock")
        with pytest.raises(FileNotFoundError):
            await connect_qemu(tap, f"unix:{tmp_path / 'none'}")
        with pytest.raises(ValueError, match="reconnect"):
            await connect_qemu(tap, "unix:x", reconnect=-1.0)
        with pytest.raises(ValueError, match="max_guests"):
            await listen_qemu("unix:x", lambda: tap, max_guests=0)
        assert tap.port is None

    asyncio.run(main())


def test_the_links_class_is_public() -> None:
    assert issubclass(QemuLink, StreamLink)
