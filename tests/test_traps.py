"""Peers that ended a stack by a few segments: a program that writes to them, and a tap whose frames are made by hand.

Each of these was a failed assertion inside the module, and with it the end of all connections of the stack.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tcpip_wasm import ReadableStreamReader, TcpConnection, TcpListener, connect, create_stack
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.frames import ACK, ARP, FIN, IPV4, IPV6, RST, SYN, TCP, arp, ethernet, ipv4, ipv6, tcp
from tests.kit.stacks import read_all, send_all

MAC, PEER_MAC = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
OWN, PEER = "10.0.0.1", "10.0.0.2"
TIMESTAMPS = b"\x08\x0a\0\0\0\1\0\0\0\0\1\1"


def mss(size: int) -> bytes:
    return struct.pack("!BBH", 2, 4, size)


@dataclass
class Peer:
    """The other end of one connection: it sends what a test says, and acknowledges in order what it has a window for.

    Attributes:
        send: puts a frame on the tap.
        frames: what the stack sends.
        window: bytes that it takes.
        received: the stream so far.
        ended: the stack has said FIN or RST.
    """

    send: Callable[[bytes], Awaitable[None]]
    frames: ReadableStreamReader[bytes]
    window: int
    sequence: int = 1000
    expected: int = 0
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False

    async def say(self, flags: int = ACK, *, options: bytes = b"", at: int = 0, data: bytes = b"") -> None:
        segment = tcp(
            (PEER, 40000),
            (OWN, 80),
            sequence=self.sequence + at,
            acknowledgement=self.expected,
            flags=flags,
            window=self.window,
            options=options,
            payload=data,
        )
        await self.send(ethernet(MAC, PEER_MAC, IPV4, ipv4(PEER, OWN, TCP, segment)))

    async def receive(self) -> bytes:
        """Return the stack's next segment: TCP header and payload."""
        while True:
            frame = await self.frames.read()
            assert frame is not None
            if frame[12:14] == b"\x08\x00" and frame[23] == TCP:
                return frame[34 : 14 + int.from_bytes(frame[16:18], "big")]

    async def open(self, options: bytes) -> None:
        await self.send(ethernet(MAC, PEER_MAC, ARP, arp(1, PEER_MAC, PEER, MAC, OWN)))
        await self.say(SYN, options=options)
        segment = await self.receive()
        assert segment[13] == SYN | ACK
        self.sequence += 1
        self.expected = int.from_bytes(segment[4:8], "big") + 1
        await self.say()

    async def take(self) -> None:
        """Process the next segment: only bytes that are next in the stream and fit the window count."""
        segment = await self.receive()
        data, flags = segment[(segment[12] >> 4) * 4 :], segment[13]
        self.ended |= bool(flags & (FIN | RST))
        if int.from_bytes(segment[4:8], "big") == self.expected and 0 < len(data) <= max(self.window, 1):
            self.received += data
            self.expected += len(data)
            await self.say()


@dataclass
class Scene:
    """A peer on a tap of a stack that listens on port 80."""

    peer: Peer
    listener: TcpListener

    async def accepted(self, options: bytes) -> TcpConnection:
        await self.peer.open(options)
        return await self.listener.accept()


def play(story: Callable[[Scene], Awaitable[None]], *, window: int = 65535) -> None:
    """Run a test in virtual time, then let the stack serve another connection."""

    async def main() -> None:
        async with await create_stack(seed=1) as stack, await create_stack(seed=2) as other:
            tap = await stack.create_tap_interface(mac=MAC, ip=[f"{OWN}/24", "fd00::1/64"])
            cable = await stack.create_tap_interface(ip="10.0.1.1/24")
            connect(cable, await other.create_tap_interface(ip="10.0.1.2/24"))
            async with await stack.listen_tcp(80) as listener:
                with tap.readable.get_reader() as frames, tap.writable.get_writer() as writer:
                    await story(Scene(Peer(writer.write, frames, window), listener))
                assert stack.stats().core.inconsistencies == 0
                client = await other.connect_tcp("10.0.1.1", 80)
                server = await listener.accept()
                await send_all(client, payload(100_000))
                assert await read_all(server) == payload(100_000)
                server.abort()

    run_virtually(main())


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("later", [100, 1000])
def test_a_first_window_that_opens_a_little(first: int, later: int) -> None:
    async def story(scene: Scene) -> None:
        peer = scene.peer
        connection = await scene.accepted(mss(1460))
        with connection.writable.get_writer() as writer:
            await writer.write(payload(700))
            peer.window = later
            await peer.say()
            await writer.write(payload(2700)[700:])
            while len(peer.received) < 2700:
                await peer.take()
        assert peer.received == payload(2700)
        assert not peer.ended
        connection.abort()

    play(story, window=first)


@pytest.mark.parametrize("size", [1, 11, 12, 47])
@pytest.mark.parametrize("options", [b"", TIMESTAMPS], ids=["plain", "timestamps"])
def test_a_segment_size_that_options_fill(size: int, options: bytes) -> None:
    async def story(scene: Scene) -> None:
        connection = await scene.accepted(mss(size) + options)
        with connection.writable.get_writer() as writer:
            await writer.write(payload(5000))
            while len(scene.peer.received) < 5000:
                await scene.peer.take()
        assert scene.peer.received == payload(5000)
        connection.abort()

    play(story)


@pytest.mark.parametrize("window", [1, 2, 23, 24])
def test_windows_of_less_than_a_timestamp(window: int) -> None:
    async def story(scene: Scene) -> None:
        connection = await scene.accepted(mss(1460) + TIMESTAMPS)
        with connection.writable.get_writer() as writer:
            await writer.write(payload(200))
            while len(scene.peer.received) < 200:
                await scene.peer.take()
        assert scene.peer.received == payload(200)
        connection.abort()

    play(story, window=window)


def test_a_segment_that_covers_an_early_fin_and_fills_the_window() -> None:
    async def story(scene: Scene) -> None:
        connection = await scene.accepted(mss(1460))
        data = payload(65535)
        for at in range(0, 64000, 1000):  # no program reads: the window is down to 1,535 bytes
            await scene.peer.say(at=at, data=data[at : at + 1000])
        await scene.peer.say(ACK | FIN, at=64400, data=data[64400:64500])
        await scene.peer.say(at=64000, data=data[64000:65535])
        assert await read_all(connection) == data[:64500], "the stream ends where its FIN says"
        connection.abort()

    play(story)


@pytest.mark.parametrize("complete", [True, False])
def test_extension_headers_longer_than_half_a_packet(complete: bool) -> None:
    """A fragment after 34 kB of destination options, whose datagram times out, or is completed."""

    async def story(scene: Scene) -> None:
        options = b"".join(b"\1\xfd" + bytes(253) for _ in range(8)) + b"\1\4" + bytes(4)
        assert len(options) == 2046
        headers = b"".join(bytes([60 if left else 44, 255]) + options for left in reversed(range(17)))
        first = bytes([17, 0, 0, 1, 0, 0, 0, 7]) + struct.pack("!HHHH", 5000, 81, 16, 0)
        rest = bytes([17, 0, 0, 8, 0, 0, 0, 7]) + bytes(8)
        await scene.peer.send(ethernet(MAC, PEER_MAC, IPV6, ipv6("fd00::2", "fd00::1", 60, headers + first)))
        if complete:
            await scene.peer.send(ethernet(MAC, PEER_MAC, IPV6, ipv6("fd00::2", "fd00::1", 44, rest)))
        await asyncio.sleep(90)  # of virtual time: RFC 8200, section 4.5, gives a datagram 60 seconds

    play(story)
