"""UDP and ping at the core: handles, limits, determinism, both call paths; and random datagrams over random wires."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm.engine import (
    DATAGRAM_DATA,
    Core,
    FrameBuffers,
    abi,
    decode_endpoint,
    encode_endpoint,
    seed_bytes,
    split_records,
)
from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.errors import StackClosedError
from tests.kit.core_network import START, call_raises_errno, payload

OWN = ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")


class Node:
    """A core with one TUN interface, and the events of its sockets."""

    def __init__(self, index: int, *, mtu: int = 1500, instance: Instance | None = None) -> None:
        self.core = Core(now=START, seed=seed_bytes(index), instance=instance)
        self.buffers: FrameBuffers = self.core.add_interface(abi.KIND_TUN, mtu)
        for text in (f"10.0.0.{index}/24", f"fd00::{index}/64"):
            address = ip_interface(text)
            self.core.add_address(self.buffers.handle, address.ip, address.network.prefixlen)
        self.received: list[bytes] = []
        self.events: list[int] = []
        self.poll()

    def poll(self, now: float = START) -> list[bytes]:
        """Poll until no work is left; return the packets that leave."""
        packets: list[bytes] = []
        while True:
            self.core.poll(now)
            for kind, _, value, data in self.core.events():
                if kind == abi.EVENT_TRANSMIT:
                    packets += [bytes(packet) for packet in split_records(self.buffers.transmit_view())]
                    self.buffers.transmitted(value)
                elif kind == abi.EVENT_DATAGRAM:
                    self.received.append(data[DATAGRAM_DATA : DATAGRAM_DATA + value])
                else:
                    self.events.append(kind)
            if not self.core.more:
                return packets


@pytest.mark.parametrize("text", OWN)
@pytest.mark.parametrize("scope", [0, 65537])
def test_endpoints_round_trip(text: str, scope: int) -> None:
    address = ip_address(text)
    record = encode_endpoint(address, 65535, scope)
    assert len(record) == abi.ENDPOINT_SIZE
    assert decode_endpoint(record) == (address, 65535, scope if address.version == 6 else 0)


def test_stale_and_forged_handles() -> None:
    core = Node(1).core
    udp, ping = core.udp.open(None, 53), core.ping.open(IPv4Address("10.0.0.2"))
    remote = encode_endpoint(IPv4Address("10.0.0.2"), 9)
    of_udp: list[Callable[[int], object]] = [
        lambda handle: core.udp.send(handle, b"x", remote),
        lambda handle: core.udp.connect(handle, remote),
        core.udp.local,
        core.udp.close,
        lambda handle: core.udp.set_option(handle, abi.OPTION_HOP_LIMIT, 1),
        lambda handle: core.udp.join(handle, IPv4Address("239.0.0.1")),
        lambda handle: core.udp.leave(handle, IPv4Address("239.0.0.1")),
    ]
    of_ping: list[Callable[[int], object]] = [
        lambda handle: core.ping.send(handle, 1, b"", 64),
        core.ping.identifier,
        core.ping.close,
    ]
    for calls, handle, other in ((of_udp, udp, ping), (of_ping, ping, udp)):
        for wrong in (0, -1, 1, 2**31 - 1, handle + 0x10000, handle + 7, other):
            for call in calls:
                call_raises_errno(errno.EBADF, lambda call=call, wrong=wrong: call(wrong))  # type: ignore[misc]
    core.udp.close(udp)
    core.ping.close(ping)
    for calls, handle in ((of_udp, udp), (of_ping, ping)):
        for call in calls:
            call_raises_errno(errno.EBADF, lambda call=call, handle=handle: call(handle))  # type: ignore[misc]


def test_the_number_of_sockets_is_limited() -> None:
    core = Node(1).core
    sockets = [core.udp.open(None, 0) for _ in range(abi.MAX_UDP_SOCKETS)]
    assert len({decode_endpoint(core.udp.local(socket))[1] for socket in sockets}) == abi.MAX_UDP_SOCKETS
    call_raises_errno(errno.ENOSPC, lambda: core.udp.open(None, 0))
    core.udp.close(sockets[0])
    core.udp.open(None, 0)
    sessions = [core.ping.open(IPv6Address("fd00::2")) for _ in range(abi.MAX_PING_SESSIONS)]
    assert len({core.ping.identifier(session) for session in sessions}) == abi.MAX_PING_SESSIONS
    call_raises_errno(errno.ENOSPC, lambda: core.ping.open(IPv6Address("fd00::2")))


def test_closed_cores() -> None:
    core = Node(1).core
    handle = core.udp.open(None, 53)
    core.close()
    for call in (
        lambda: core.udp.send(handle, b"x", None),
        lambda: core.udp.open(None, 1),
        lambda: core.ping.open(IPv4Address("10.0.0.2")),
        lambda: core.ping.send(handle, 0, b"", 1),
        lambda: core.udp.close(handle),
    ):
        with pytest.raises(StackClosedError):
            call()


@pytest.mark.parametrize("fast", [True, False])
def test_both_call_paths(fast: bool) -> None:
    node = Node(1, instance=Instance(fast=fast))
    socket = node.core.udp.open(None, 53)
    remote = encode_endpoint(IPv4Address("10.0.0.2"), 9)
    assert node.core.udp.send(socket, memoryview(b"data"), remote)
    (packet,) = node.poll()
    assert packet[28:] == b"data"
    while node.core.udp.send(socket, bytes(60_000), remote):
        pass
    session = node.core.ping.open(IPv4Address("10.0.0.2"))
    assert not node.core.ping.send(session, 1, bytes(60_000), 64)
    node.poll()
    node.poll()
    assert sorted(node.events) == [abi.EVENT_WRITABLE, abi.EVENT_WRITABLE]


def test_same_inputs_same_packets() -> None:
    def run() -> list[bytes]:
        node = Node(1)
        socket = node.core.udp.open(None, 0)
        session = node.core.ping.open(IPv6Address("fd00::2"))
        for size in (1, 5000):
            node.core.udp.send(socket, payload(size), encode_endpoint(IPv4Address("10.0.0.2"), 9))
            node.core.ping.send(session, size, payload(size), 64)
        return node.poll()

    assert run() == run()


@pytest.mark.parametrize("mtu", [576, 1280, 1492, 1500])
def test_every_length_of_the_last_fragment(mtu: int) -> None:
    a, b = Node(1, mtu=mtu), Node(2, mtu=mtu)
    near, _ = a.core.udp.open(None, 0), b.core.udp.open(None, 53)
    step = (mtu - 20) // 8 * 8
    for size in range(2 * step - 20, 2 * step + 12):
        a.core.udp.send(near, payload(size), encode_endpoint(IPv4Address("10.0.0.2"), 53))
        for packet in a.poll():
            assert b.buffers.receive_frame(packet)
        b.poll()
        assert b.received.pop() == payload(size)


@settings(max_examples=120)
@given(
    st.lists(st.tuples(st.integers(0, 6000) | st.integers(0, 65_487), st.booleans()), max_size=8),
    st.lists(st.sampled_from(["lost", "twice", "late", "fine", "fine", "fine"]), max_size=200),
    st.sampled_from([1280, 1500, 9000, 65535]),
    st.randoms(use_true_random=False),
)
def test_random_datagrams_over_random_wires(sizes, fates, mtu, random) -> None:  # type: ignore[no-untyped-def]
    """Datagrams arrive unchanged; without loss all of them; and incomplete ones are freed later."""
    a, b = Node(1, mtu=mtu), Node(2, mtu=mtu)
    near, far = a.core.udp.open(None, 0), b.core.udp.open(None, 53)
    heap = b.core.statistics().heap_used
    sent: list[bytes] = []
    packets: list[bytes] = []
    for number, (size, six) in enumerate(sizes):
        data = payload(size, number)
        assert a.core.udp.send(near, data, encode_endpoint(ip_address(OWN[1 + 2 * six]), 53))
        sent.append(data)
        packets += a.poll()
    arriving: list[bytes] = []
    late: list[bytes] = []
    for number, packet in enumerate(packets):
        fate = fates[number] if number < len(fates) else "fine"
        if fate == "late":
            late.append(packet)
        elif fate != "lost":
            arriving += [packet] * (2 if fate == "twice" else 1)
    random.shuffle(late)
    for packet in arriving + late:
        assert b.buffers.receive_frame(packet)
        b.poll()
    got, expected = Counter(b.received), Counter(sent)
    assert set(got) <= set(expected)
    if not any(fate in ("lost", "twice") for fate in fates[: len(packets)]):
        assert got == expected
    b.poll(START + 120)
    b.poll(START + 240)
    assert b.core.statistics().heap_used <= heap + 256  # what reads packets in place is kept
    b.core.udp.close(far)
