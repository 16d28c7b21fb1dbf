"""The cost of single steps, by pytest-benchmark: calls into the module, polls, frames in and out, copies.

They use the sans-I/O core alone, without an event loop. Each checks once that the step does what its name says.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count
from typing import Any, Final

import pytest

from tcpip_wasm.engine import Core, FrameBuffers, abi, record_size, seed_bytes
from tcpip_wasm.engine.instance import Instance

Benchmark = Callable[..., Any]

OURS, PEER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
PEER_MAC: Final = bytes.fromhex("020000000002")
OUR_MAC: Final = bytes.fromhex("020000000001")
BATCH: Final = 64
SETTLED: Final = 60
"""Seconds of virtual time."""


class Host:
    """A core with one TAP interface, whose clock advances by a microsecond per poll."""

    def __init__(self) -> None:
        self._microseconds = count(0)
        self.core = Core(now=0.0, seed=seed_bytes(1))
        self.buffers: FrameBuffers = self.core.add_interface(abi.KIND_TAP, 1500, OUR_MAC)
        self.core.add_address(self.buffers.handle, OURS, 24)
        # The solicitations and reports of a new interface have been sent by then.
        for second in range(SETTLED):
            self.core.poll(second)
        # The stack learns the peer's MAC address from its request, so that answers need no resolution.
        self.buffers.receive_frame(arp_request())
        self.poll()
        self.empty()

    def poll(self) -> None:
        """Poll, and discard the events."""
        self.core.poll(SETTLED + next(self._microseconds) * 1e-6)

    def receive(self, batch: bytes) -> None:
        """Write records into the empty receive buffer."""
        self.buffers.receive_view()[: len(batch)] = batch
        self.buffers.received(len(batch))

    def empty(self) -> int:
        """Remove all frames that wait, and return the length of their records in bytes."""
        length = self.buffers.transmit_length
        self.buffers.transmitted(length)
        return length


def arp_request() -> bytes:
    """Return a request of the peer for our address: RFC 826."""
    body = bytes.fromhex("0001080006040001") + PEER_MAC + PEER.packed + bytes(6) + OURS.packed
    return b"\xff" * 6 + PEER_MAC + b"\x08\x06" + body


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2)


def echo_request(target: IPv4Address) -> bytes:
    """Return an Ethernet frame of 1,514 bytes with an ICMP echo request: RFC 792."""
    payload = bytes(range(256)) * 6
    icmp = bytes.fromhex("08000000") + bytes.fromhex("12340001") + payload[:1472]
    icmp = icmp[:2] + checksum(icmp) + icmp[4:]
    header = bytes.fromhex("450005dc00004000400100 00".replace(" ", "")) + PEER.packed + target.packed
    header = header[:10] + checksum(header) + header[12:]
    return OUR_MAC + PEER_MAC + b"\x08\x00" + header + icmp


def records(frame: bytes, number: int) -> bytes:
    """Return `number` records of a frame."""
    return (len(frame).to_bytes(4, "little") + frame).ljust(record_size(len(frame)), b"\0") * number


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "public"])
def test_crossing(benchmark: Benchmark, fast: bool) -> None:
    instance = Instance(fast=fast)
    assert benchmark(instance.calls["abi_version"]) == abi.VERSION


def test_poll_with_nothing_to_do(benchmark: Benchmark, host: Host) -> None:
    benchmark(host.poll)
    assert list(host.core.events()) == []
    assert not host.core.more


def test_frame_in_for_another_host(benchmark: Benchmark, host: Host) -> None:
    frame = echo_request(IPv4Address("10.0.0.3"))

    def step() -> None:
        host.buffers.receive_frame(frame)
        host.poll()

    before = host.buffers.counters()[0]
    benchmark(step)
    assert host.buffers.counters()[0] > before
    assert host.buffers.transmit_length == 0


def test_frame_in_and_its_answer_out(benchmark: Benchmark, host: Host) -> None:
    frame = echo_request(OURS)

    def step() -> int:
        host.buffers.receive_frame(frame)
        host.poll()
        return host.empty()

    assert benchmark(step) == record_size(len(frame))


def test_64_frames_in_and_their_answers_out(benchmark: Benchmark, host: Host) -> None:
    batch = records(echo_request(OURS), BATCH)

    def step() -> int:
        host.receive(batch)
        host.poll()
        return host.empty()

    assert benchmark(step) == len(batch)


def test_cable_moves_64_records(benchmark: Any) -> None:
    one, other = Host(), Host()
    batch = records(echo_request(OURS), BATCH)

    def fill() -> None:
        other.poll()
        other.empty()
        one.receive(batch)
        one.poll()

    def step() -> bool:
        return one.buffers.move_to(other.buffers)

    assert benchmark.pedantic(step, setup=fill, rounds=1000, warmup_rounds=100)
    assert other.buffers.receive_length == len(batch)


def test_tcp_send_64_kib_over_loopback(benchmark: Benchmark) -> None:
    """64 KiB from `tcp_send` of one connection to the DATA events of the other."""
    core = Core(now=0.0, seed=seed_bytes(1))
    lo = core.add_interface(abi.KIND_LOOPBACK, 65535)
    core.add_address(lo.handle, IPv4Address("127.0.0.1"), 8)
    listener = core.tcp_listen(None, 80, 1)
    client = core.tcp_connect(IPv4Address("127.0.0.1"), 80)
    ticks = count(1)
    server = 0
    for _ in range(10):
        core.poll(next(ticks) * 1e-6)
        for kind, handle, value, _payload in core.events():
            if kind == abi.EVENT_ACCEPTED and handle == listener:
                server = value
    assert server
    payload = memoryview(bytes(range(256)) * 256)

    def step() -> bytes:
        assert core.tcp_send(client, payload) == len(payload)
        arrived = b""
        while len(arrived) < len(payload):
            core.poll(next(ticks) * 1e-6)
            for kind, handle, value, data in core.events():
                if kind == abi.EVENT_DATA and handle == server:
                    core.tcp_received(handle, value)
                    arrived += data
        return arrived

    assert benchmark(step) == payload
