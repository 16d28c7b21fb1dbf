"""Forwarding: frames per second of a bridge, packets per second of a router, and TCP through both.

Frames arrive in whole batches, and those that leave are compared with the expected ones, byte for byte.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.bulk import transfer
from benchmarks.networks import Place, through_a_bridge, through_a_router
from benchmarks.payload import writes
from benchmarks.report import Measure, alternate
from tcpip_wasm import Interface, create_stack

GROUP: Final = "middle"
BOUND: Final = 120.0
"""Time limit of one run in seconds: it catches a hang, not a slow run."""
_BATCH: Final = 128
"""Frames of a batch for each interface; all of them differ."""
_RANDOM: Final = next(writes(65536))


class Receiver:
    """A port that compares the frames that arrive with a repeated batch of records.

    Attributes:
        frames: frames that arrived and were right.
    """

    def __init__(self, batch: bytes) -> None:
        self.frames = 0
        self._batch = batch
        self._at = 0
        self._awaited = 0
        self._there: asyncio.Future[None] | None = None

    async def wait(self, frames: int) -> None:
        """Wait until `frames` frames have arrived in total. Raises ValueError for a wrong frame."""
        self._awaited = frames
        if self.frames < frames:
            self._there = asyncio.get_running_loop().create_future()
            await self._there

    def transmit(self, records: memoryview) -> int:
        """Compare."""
        chunk = bytes(records)
        polls = (self._at + len(chunk)) // len(self._batch) + 1
        if (self._batch * polls)[self._at : self._at + len(chunk)] != chunk:
            error = ValueError("a frame arrived that was not sent, or out of order")
            if self._there is not None and not self._there.done():
                self._there.set_exception(error)
            raise error
        self._at = (self._at + len(chunk)) % len(self._batch)
        self.frames += len(chunk) * _BATCH // len(self._batch)
        if self.frames >= self._awaited and self._there is not None and not self._there.done():
            self._there.set_result(None)
        return len(chunk)

    def detached(self, error: Exception | None) -> None:
        """Do nothing: the benchmark has ended."""


def records(frames: list[bytes]) -> bytes:
    """Return frames, whose lengths are multiples of four, as records."""
    return b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)


async def _pump(ways: Sequence[tuple[Interface, bytes, Receiver]], frames: int) -> float:
    """Inject `frames` frames, evenly into all interfaces, and return frames per second."""
    async with asyncio.timeout(BOUND):
        started = perf_counter()
        for measure_once in range(-(-frames // (_BATCH * len(ways)))):
            for interface, batch, _ in ways:
                interface.receive_buffer()[: len(batch)] = batch
                interface.commit_received(len(batch))
            for _, _, receiver in ways:
                await receiver.wait((measure_once + 1) * _BATCH)
        seconds = perf_counter() - started
    arrived = sum(receiver.frames for _, _, receiver in ways)
    if arrived < frames:
        raise ValueError(f"{arrived} frames arrived of {frames}")
    return arrived / seconds


async def bridged(frames: int, *, ports: int, length: int) -> float:
    """Return frames per second through a bridge: each port's station sends to the next one's."""
    async with await create_stack(initialize_loopback=False) as stack:
        taps = [await stack.create_tap_interface() for _ in range(ports)]
        # With an MTU below IPv6's minimum the bridge has no link-local address, and sends no frames of its own.
        bridge = await stack.create_bridge_interface(taps, mtu=1000)
        await asyncio.sleep(0)
        stations = [bytes([2, 0, 0, 0, 1, number]) for number in range(ports)]
        for tap, station in zip(taps, stations, strict=True):
            tap.inject(station + station + b"\x88\xb5" + bytes(46))  # to itself: learned, and not forwarded
        await asyncio.sleep(0.01)
        if bridge.learned != ports:
            raise ValueError(f"the bridge knows {bridge.learned} stations of {ports}")
        ways = []
        for number, tap in enumerate(taps):
            head = stations[(number + 1) % ports] + stations[number] + b"\x88\xb5"
            body = length - len(head)
            batch = records([head + _RANDOM[7 * i + number :][:body] for i in range(_BATCH)])
            receiver = Receiver(batch)
            taps[(number + 1) % ports].attach(receiver)
            ways.append((tap, batch, receiver))
        return await _pump(ways, frames)


def _checksum(header: bytes) -> int:
    total = sum(struct.unpack("!10H", header))
    total = int((total & 0xFFFF) + (total >> 16))
    return 0xFFFF - (total & 0xFFFF) - (total >> 16)


def _packet(number: int, length: int, hops: int) -> bytes:
    """Return an IPv4 packet from 10.1.0.2 to 10.2.0.2 of an unassigned protocol."""
    head = struct.pack("!BBHHHBBH4B4B", 0x45, 0, length, number, 0, hops, 253, 0, 10, 1, 0, 2, 10, 2, 0, 2)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + _RANDOM[7 * number :][: length - 20]


async def routed(frames: int, *, length: int) -> float:
    """Return packets per second between two TUN interfaces of a router."""
    async with await create_stack(initialize_loopback=False) as stack:
        near = await stack.create_tun_interface(ip="10.1.0.1/24")
        far = await stack.create_tun_interface(ip="10.2.0.1/24")
        stack.forwarding = True
        await asyncio.sleep(0)
        receiver = Receiver(records([_packet(number, length, 63) for number in range(_BATCH)]))
        far.attach(receiver)
        batch = records([_packet(number, length, 64) for number in range(_BATCH)])
        return await _pump([(near, batch, receiver)], frames)


async def _transfer(place: Place, size: int) -> float:
    async with place() as network:
        return await transfer(network, size)


async def measure(frames: int, size: int, rounds: int) -> list[Measure]:
    """Measure bridges and routers.

    Args:
        frames: frames of one round.
        size: bytes of one transfer over TCP.
        rounds: how often each is measured, alternately.
    """
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        "bridge, 2 ports, 60-byte frames": partial(bridged, frames, ports=2, length=60),
        "bridge, 2 ports, 1,512-byte frames": partial(bridged, frames, ports=2, length=1512),
        "bridge, 32 ports, 60-byte frames": partial(bridged, frames, ports=32, length=60),
        "bridge, 32 ports, 1,512-byte frames": partial(bridged, frames, ports=32, length=1512),
        "router, tun to tun, 60-byte packets": partial(routed, frames, length=60),
        "router, tun to tun, 1,500-byte packets": partial(routed, frames, length=1500),
        "TCP through a bridge": partial(_transfer, through_a_bridge, size),
        "TCP through a router": partial(_transfer, through_a_router, size),
    }
    units = {"bridge": "frames/s", "router": "packets/s", "TCP": "Gbit/s"}
    figures = await alternate(contenders, rounds)
    return [
        Measure(GROUP, name, median(taken), next(unit for begins, unit in units.items() if name.startswith(begins)))
        for name, taken in figures.items()
    ]
