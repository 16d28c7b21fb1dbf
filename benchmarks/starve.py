"""The cost of peers with tiny segments and windows for other users of the loop.

A stack serves peers whose maximum segment size is one byte, whose window is two bytes, or whose segments are filled by
TCP's timestamps. A program writes 64 KiB to each of them, and then they send nothing. At the same time a 10 ms timer of
the application and an echo between two other stacks of the same loop are measured.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import Final

from benchmarks.networks import two_stacks
from benchmarks.report import Goal, Measure, progress
from benchmarks.timer import Ticker
from tcpip_wasm import NetworkStack, TunInterface, create_stack

GROUP: Final = "peers that cannot be sent to"
COUNTS: Final = (100, 250)
AMOUNT: Final = 65536
"""Bytes that the program writes to each of them."""
PORT: Final = 80
BOUND: Final = 120.0

_OWN, _PEER = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
_SYN, _ACK = 2, 16
_TIMESTAMPS: Final = struct.pack("!BBBBII", 1, 1, 8, 10, 1, 0)

KINDS: Final[dict[str, tuple[int, bytes]]] = {
    "MSS 1": (65535, struct.pack("!BBH", 2, 4, 1)),
    "window 2": (2, struct.pack("!BBH", 2, 4, 1460)),
    "MSS 12 with timestamps": (65535, struct.pack("!BBH", 2, 4, 12) + _TIMESTAMPS),
}
"""The window that a peer offers, and the options of its SYN."""


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - (total & 0xFFFF) - (total >> 16)


def _segment(port: int, sequence: int, acknowledgement: int, flags: int, window: int, options: bytes) -> bytes:
    """Return an IPv4 packet of a peer without data; `options` fill whole words."""
    length = 20 + len(options)
    offset = length // 4 << 4
    tcp = struct.pack("!HHIIBBHHH", port, PORT, sequence, acknowledgement, offset, flags, window, 0, 0) + options
    tcp = tcp[:16] + struct.pack("!H", _checksum(_PEER + _OWN + struct.pack("!HH", 6, length) + tcp)) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 6, 0) + _PEER + _OWN
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + tcp


async def _open(interface: TunInterface, count: int, window: int, options: bytes) -> asyncio.Task[None]:
    """Open `count` connections; return the task that reads further frames without answering."""
    reader, writer = interface.readable.get_reader(), interface.writable.get_writer()
    later = _TIMESTAMPS if options.endswith(_TIMESTAMPS) else b""
    opened: asyncio.Queue[None] = asyncio.Queue()

    async def take() -> None:
        while True:
            packet = await reader.read()
            if packet is None:
                return
            if packet[9] != 6 or packet[33] != _SYN | _ACK:
                continue
            _, port, sequence = struct.unpack_from("!HHI", packet, 20)
            await writer.write(_segment(port, 2, sequence + 1 & 0xFFFFFFFF, _ACK, window, later))
            opened.put_nowait(None)

    task = asyncio.ensure_future(take())
    for number in range(count):  # one after the other, so that the backlog has no effect
        await writer.write(_segment(10000 + number, 1, 0, _SYN, window, options))
        await opened.get()
    return task


class _Program(asyncio.Protocol):
    """Puts its transport into a queue; the benchmark writes 64 KiB to it."""

    def __init__(self, opened: asyncio.Queue[asyncio.WriteTransport]) -> None:
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._opened.put_nowait(transport)


@asynccontextmanager
async def stack_with_silent_peers(count: int, kind: str) -> AsyncIterator[NetworkStack]:
    """A stack whose program writes 64 KiB to each of its peers, which do not answer.

    Args:
        count: how many peers.
        kind: one of `KINDS`.
    """
    opened: asyncio.Queue[asyncio.WriteTransport] = asyncio.Queue()
    async with await create_stack() as stack:
        interface = await stack.create_tun_interface(ip="10.9.0.1/24")
        server = await stack.create_server(lambda: _Program(opened), "10.9.0.1", PORT, backlog=255)
        task = await _open(interface, count, *KINDS[kind])
        for transport in [await opened.get() for _ in range(count)]:
            transport.write(bytes(AMOUNT))
        try:
            yield stack
        finally:
            task.cancel()
            server.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


async def delays(count: int, kind: str, seconds: float) -> tuple[list[float], list[float]]:
    """Return the lateness of a 10 ms timer, and the round trips of an echo, both in milliseconds.

    Args:
        count: connections of peers that cannot be sent to.
        kind: one of `KINDS`.
        seconds: how long it is measured.
    """
    trips = []
    loop = asyncio.get_running_loop()
    async with two_stacks() as network, asyncio.timeout(BOUND):
        server = await network.start_server(_echo)
        reader, writer = await network.open_connection()
        async with stack_with_silent_peers(count, kind):
            ticker = Ticker()
            try:
                until = loop.time() + seconds
                while loop.time() < until:
                    started = perf_counter()
                    writer.write(b"?")
                    await reader.readexactly(1)
                    trips.append((perf_counter() - started) * 1e3)
                    await asyncio.sleep(0.005)
            finally:
                ticker.stop()
        writer.close()
        await writer.wait_closed()
        server.close()
    return ticker.lateness, trips


async def measure(seconds: float, rounds: int) -> list[Measure]:
    """Measure each kind of peer, 100 and 250 of them: p99 of the timer and of the echo.

    Args:
        seconds: how long each is measured.
        rounds: how often.
    """
    measures = []
    for kind in KINDS:
        for count in COUNTS:
            late: list[float] = []
            trips: list[float] = []
            for _ in range(rounds):
                for figures, latest in zip((late, trips), await delays(count, kind, seconds), strict=True):
                    figures.append(quantiles(latest, n=100, method="inclusive")[98] if len(latest) > 1 else max(latest))
                progress(f"{count} of {kind}: timer {late[-1]:.3g} ms late, echo {trips[-1]:.3g} ms")
            for name, unit, figures, goal in (
                ("10 ms timer, p99", "ms late", late, 20.0),
                ("an echo of other stacks, p99", "ms", trips, 5.0),
            ):
                bound = Goal(goal, "value", most=True)
                measures.append(Measure(GROUP, f"{count} of {kind}: {name}", median(figures), unit, goal=bound))
    return measures
