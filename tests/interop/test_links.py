"""The links against real descriptors: sockets of this process, and the kernel's TAP and TUN devices. No stack
here."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcpip_wasm.links import DatagramSocketLink, open_tuntap
from tcpip_wasm.testing import MemoryInterface

from .harness.namespaces import network_namespace
from .harness.requirements import require_kernel_peer
from .harness.wire import Responder

_BOUND = 60.0


@contextmanager
def _socket_pair(
    kind: socket.SocketKind = socket.SOCK_SEQPACKET,
) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        theirs.settimeout(_BOUND)
        yield ours, theirs


async def _until(interface: MemoryInterface, count: int) -> list[bytes]:
    """Wait until the link has delivered so many frames."""
    arrived = asyncio.Event()
    interface.on_frame = lambda frame: arrived.set() if len(interface.received) >= count else None
    if len(interface.received) < count:
        async with asyncio.timeout(_BOUND):
            await arrived.wait()
    return list(interface.received)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_frames_pass_whole_and_in_order(kind: socket.SocketKind) -> None:
    """Lengths around the padding and at the limit, in both directions."""
    frames = [bytes([length % 251]) * length for length in (14, 15, 16, 17, 60, 1513, 1514, 1518)]

    async def run() -> None:
        with _socket_pair(kind) as (ours, theirs):
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            for frame in frames:
                theirs.send(frame)
            assert await _until(interface, len(frames)) == frames
            interface.send(*frames)
            assert [theirs.recv(4096) for _ in frames] == frames
            link.close()
            assert link.counters.frames_received == link.counters.frames_sent == len(frames)
            assert link.counters.bytes_received == link.counters.bytes_sent == sum(map(len, frames))

    asyncio.run(run())


def test_a_frame_too_long_is_dropped_and_counted() -> None:
    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface("tun", mtu=1280)
            link = DatagramSocketLink(ours, interface)
            theirs.send(b"a" * 1281)
            theirs.send(b"b" * 1280)
            theirs.send(b"c" * 9000)
            theirs.send(b"d")
            assert await _until(interface, 2) == [b"b" * 1280, b"d"]
            assert link.counters.receive_truncated == 2
            link.close()

    asyncio.run(run())


def test_a_small_buffer_is_filled_again_and_again() -> None:
    """Room for one maximal frame at a time, the minimum of an interface."""
    frames = [os.urandom(1518) for _ in range(20)]

    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface(buffer=1522)
            link = DatagramSocketLink(ours, interface)
            for frame in frames:
                theirs.send(frame)
            assert await _until(interface, len(frames)) == frames
            link.close()

    asyncio.run(run())


def test_a_full_stack_leaves_frames_in_the_socket() -> None:
    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface()
            interface.full = True
            turned_away = asyncio.Event()
            interface.on_full = turned_away.set
            link = DatagramSocketLink(ours, interface)
            theirs.send(b"waits")
            async with asyncio.timeout(_BOUND):
                await turned_away.wait()
            assert not interface.received
            assert link.counters.receive_full > 0
            interface.full = False
            assert await _until(interface, 1) == [b"waits"]
            link.close()

    asyncio.run(run())


def test_a_slow_reader_delays_the_stack() -> None:
    """Frames that the socket does not accept stay in the stack, and are sent when the reader has caught up."""
    frames = [struct.pack("<I", number) * 375 for number in range(400)]

    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
            theirs.setblocking(False)
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            interface.send(*frames)
            assert interface.unsent > 0
            assert link.counters.send_waits == 1
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(_BOUND):
                got = [await loop.sock_recv(theirs, 4096) for _ in frames]
            assert got == frames
            assert interface.unsent == 0
            assert link.counters.send_dropped == 0
            link.close()

    asyncio.run(run())


def test_many_frames_are_sent_over_several_loop_iterations() -> None:
    """A batch of small frames does not block the loop."""
    frames = [bytes([number % 256]) * 20 for number in range(600)]

    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            interface.send(*frames)
            sent_in_first_turn = link.counters.frames_sent
            assert 0 < sent_in_first_turn < len(frames)
            # Reading does not block: the rest is sent in the next loop iterations, not when the peer reads.
            for _ in range(len(frames) // sent_in_first_turn + 1):
                await asyncio.sleep(0)
            assert interface.unsent == 0
            assert [theirs.recv(4096) for _ in frames] == frames
            link.close()

    asyncio.run(run())


def test_closing_the_peer_ends_the_link() -> None:
    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            theirs.send(b"last words")
            theirs.close()
            async with asyncio.timeout(_BOUND):
                await link.wait_closed()
            assert list(interface.received) == [b"last words"]
            assert link.closed
            assert link.error is None
            assert interface.port is None

    asyncio.run(run())


def test_sending_to_a_peer_that_has_gone_ends_the_link() -> None:
    async def run() -> None:
        with _socket_pair(socket.SOCK_DGRAM) as (ours, theirs):
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            theirs.close()
            interface.send(b"nobody hears this")
            async with asyncio.timeout(_BOUND):
                await link.wait_closed()
            assert isinstance(link.error, OSError)
            assert link.error.errno == errno.ECONNREFUSED

    asyncio.run(run())


def test_removing_the_interface_ends_the_link() -> None:
    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            interface.remove()
            await link.wait_closed()
            assert link.closed
            assert link.error is None
            theirs.send(b"too late")
            await asyncio.sleep(0)
            assert not interface.received

    asyncio.run(run())


def test_closing_twice_and_sending_after_it() -> None:
    async def run() -> None:
        with _socket_pair() as (ours, theirs):
            interface = MemoryInterface()
            link = DatagramSocketLink(ours, interface)
            link.close()
            link.close()
            await link.wait_closed()
            assert interface.port is None
            theirs.send(b"too late")
            await asyncio.sleep(0)
            assert not interface.received
            # The interface is free for the next link, and so is the socket.
            second = DatagramSocketLink(ours, interface)
            assert await _until(interface, 1) == [b"too late"]
            second.close()

    asyncio.run(run())


def test_a_byte_stream_is_refused() -> None:
    async def run() -> None:
        with _socket_pair(socket.SOCK_STREAM) as (ours, _), pytest.raises(ValueError, match="sock"):
            DatagramSocketLink(ours, MemoryInterface())

    asyncio.run(run())


def test_arguments_of_a_device_are_checked() -> None:
    with pytest.raises(ValueError, match="kind"):
        open_tuntap(kind="tub")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name"):
        open_tuntap("a-name-that-is-too-long")


def test_a_missing_namespace() -> None:
    require_kernel_peer()
    with pytest.raises(FileNotFoundError):
        open_tuntap(namespace="tcpip-no-such-namespace")


@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_the_kernel_pings_raw_frames(kind: str) -> None:
    """The test answers ARP and ICMP: frames pass in both directions without a stack."""
    require_kernel_peer("ping")
    assert kind in ("tap", "tun")

    async def run() -> None:
        with (
            network_namespace() as namespace,
            namespace.open_device("tap" if kind == "tap" else "tun", ["10.88.0.2/24"]) as device,
        ):
            interface = MemoryInterface(kind)
            responder = Responder(kind, "10.88.0.1")

            def answer(frame: bytes) -> None:
                reply = responder.answer(frame)
                if reply is not None:
                    interface.send(reply)

            interface.on_frame = answer
            link = device.attach(interface)
            await asyncio.to_thread(namespace.echoes, "10.88.0.1", 3)
            assert link.counters.frames_sent >= 3

    asyncio.run(run())


def test_a_device_that_is_deleted_ends_the_link() -> None:
    require_kernel_peer()

    async def run() -> None:
        with network_namespace() as namespace, namespace.open_device("tap", ["10.88.0.2/24"]) as device:
            link = device.attach(MemoryInterface())
            with pytest.raises(ValueError, match="attached already"):
                device.attach(MemoryInterface())
            await asyncio.to_thread(namespace.run, "ip", "link", "delete", device.name)
            async with asyncio.timeout(_BOUND):
                await link.wait_closed()
            assert isinstance(link.error, OSError)
            assert link.error.errno == errno.EBADFD
        with pytest.raises(ValueError, match="closed"):
            device.attach(MemoryInterface())

    asyncio.run(run())


def test_frames_for_a_device_that_is_down_are_dropped_and_counted() -> None:
    require_kernel_peer()

    async def run() -> None:
        with (
            network_namespace() as namespace,
            open_tuntap(kind="tap", namespace=namespace.name, mtu=9000) as device,
        ):
            assert device.mtu == 9000
            with pytest.raises(ValueError, match="tap interface"):
                device.attach(MemoryInterface("tun"))
            interface = MemoryInterface()
            link = device.attach(interface)
            interface.send(bytes(60), bytes(60))
            assert link.counters.send_dropped == 2
            assert not link.closed

    asyncio.run(run())


_UNREACHABLE_PEER = """
import asyncio, socket, struct, subprocess, sys
from tcpip_wasm.links import bind_datagrams
from tcpip_wasm.testing import MemoryInterface

HERE, THERE = ("10.88.0.1", 4001), ("10.88.0.2", 4002)
KEY = None if sys.argv[1] == "plain" else bytes(32)

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def refused(code, to, sent_from):
    # What a router sends about a datagram (RFC 792): type 3, with the datagram's first bytes.
    addresses = socket.inet_aton(sent_from[0]) + socket.inet_aton(to[0])
    quoted = struct.pack(">BBHHHBBH", 0x45, 0, 28 + 60, 1, 0, 64, 17, 0) + addresses
    quoted += struct.pack(">HHHH", sent_from[1], to[1], 8 + 60, 0)
    message = struct.pack(">BBHI", 3, code, 0, 0) + quoted
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(message[:2] + struct.pack(">H", checksum) + message[4:], (sent_from[0], 0))

async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)

async def passed(near, far, number):
    near.send(bytes([number]) * 60)
    await until(lambda: far.received and far.received[-1] == bytes([number]) * 60)

async def main():
    near, far = MemoryInterface(), MemoryInterface()
    link = await bind_datagrams(near, "udp:%s:%d" % HERE, "udp:%s:%d" % THERE, key=KEY)
    back = await bind_datagrams(far, "udp:%s:%d" % THERE, "udp:%s:%d" % HERE, key=KEY)
    if KEY:
        await until(lambda: link.ready and back.ready)
    await passed(near, far, 1)
    await passed(far, near, 2)
    for code in range(16):
        refused(code, THERE, HERE)
        near.send(bytes(60))  # the error is of this one, or of the next read
        await asyncio.sleep(0)
        assert not link.closed, (code, link.error)
        await passed(near, far, 16 + code)
        await passed(far, near, 48 + code)
    for number, kind in enumerate(("prohibit", "unreachable", "blackhole", "throw")):
        ip("route", "add", kind, "10.88.0.2/32", "table", "100")
        ip("rule", "add", "pref", "0", "table", "100")
        ip("rule", "del", "pref", "0", "table", "local")
        dropped = link.counters.send_dropped
        near.send(bytes(60))
        await asyncio.sleep(0)
        assert not link.closed, (kind, link.error)
        assert link.counters.send_dropped == dropped + 1, kind
        ip("rule", "add", "pref", "0", "table", "local")
        ip("rule", "del", "pref", "0", "table", "100")
        ip("route", "flush", "table", "100")
        await passed(near, far, 80 + number)
        await passed(far, near, 96 + number)
    link.close()
    back.close()
    print("went on")

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_a_peer_that_cannot_be_reached_for_a_while_loses_frames_alone(kind: str) -> None:
    """Whatever the kernel, or a router by ICMP, says about it: any host can forge the latter."""
    require_kernel_peer()
    with network_namespace() as namespace:
        for address in ("10.88.0.1/32", "10.88.0.2/32"):
            namespace.run("ip", "address", "add", address, "dev", "lo")
        done = namespace.run(sys.executable, "-c", _UNREACHABLE_PEER, kind, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr[-2000:]
