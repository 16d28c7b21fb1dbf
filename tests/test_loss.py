"""Streams over a link that loses, duplicates and reorders frames arrive completely, in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address
from math import inf

import pytest

from tcpip_wasm.engine import abi
from tests.kit.core_network import Host, Network, Rule, delay_frames, deliver, duplicate, lose, payload, two_hosts
from tests.kit.frames import ACK, SYN, checksum, ipv4

ADDRESSES = pytest.mark.parametrize("address", [0, 1], ids=["IPv4", "IPv6"])
WINDOW_UNIT = 1 << 9
"""Bytes: windows are offered in multiples of these, by the scale that 16 MiB need (RFC 7323, section 2)."""


def short_exchange(rule: Rule, *, address: int, seed: int = 1) -> tuple[int, int]:
    """Send a request and an answer, close both sides; return the numbers of frames that were sent and lost."""
    network = two_hosts(rule=rule, seed=seed)
    client, server = network.open(address=address)
    client.write(payload(5_000, 1))
    network.run(lambda: len(server.received) >= 5_000)
    server.write(payload(7_000, 2))
    server.finish()
    network.run(lambda: client.eof)
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(5_000, 1)
    assert client.received == payload(7_000, 2)
    assert (client.ended or 0, server.ended or 0) == (0, 0)
    client.close()
    server.close()
    network.settle()
    assert [host.core.statistics().handles for host in network.hosts] == [1, 2]
    return network.count, network.lost


@ADDRESSES
def test_each_frame_lost_in_turn(address: int) -> None:
    frames, lost = short_exchange(deliver, address=address)
    assert lost == 0
    assert frames > 15
    losses = [short_exchange(lose(number), address=address)[1] for number in range(frames)]
    assert losses == [1] * frames


@ADDRESSES
def test_each_two_frames_in_a_row_lost(address: int) -> None:
    frames, _ = short_exchange(deliver, address=address)
    for number in range(frames - 1):
        assert short_exchange(lose(number, number + 1), address=address)[1] >= 1


@ADDRESSES
def test_each_frame_duplicated_in_turn(address: int) -> None:
    frames, _ = short_exchange(deliver, address=address)
    for number in range(frames):
        short_exchange(duplicate(number), address=address)
    short_exchange(duplicate(*range(10 * frames)), address=address)


@ADDRESSES
def test_each_frame_late_in_turn(address: int) -> None:
    frames, _ = short_exchange(deliver, address=address)
    for number in range(frames):
        for seconds in (0.0005, 0.01, 0.3):
            short_exchange(delay_frames(number, seconds=seconds), address=address)


@ADDRESSES
@pytest.mark.parametrize(
    "rule", [lose(40), duplicate(40), delay_frames(40), lose(40, 41, 42), delay_frames(40, 42, 44)]
)
def test_bulk(rule: Rule, address: int) -> None:
    network = two_hosts(rule=rule)
    client, server = network.open(address=address)
    client.write(payload(1_000_000))
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(1_000_000)


@pytest.mark.parametrize("seed", range(8))
def test_everything_at_random(seed: int) -> None:
    """One frame in a hundred is lost, one duplicated, one late by up to 50 ms; in both directions at once."""
    dice = random.Random(seed)

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        fate = dice.random()
        if fate < 0.01:
            return []
        if fate < 0.02:
            return [(0.005, frame), (0.006, frame)]
        return [(0.005 + (dice.random() * 0.05 if fate < 0.03 else 0.0), frame)]

    network = two_hosts(rule=rule, seed=seed)
    client, server = network.open(address=seed % 2)
    for end, salt in ((client, 1), (server, 2)):
        end.write(payload(500_000, salt))
        end.finish()
    network.run(lambda: server.eof and client.eof)
    assert server.received == payload(500_000, 1)
    assert client.received == payload(500_000, 2)
    assert network.lost > 0


@pytest.mark.parametrize("bit", [0, 40, 300, 900])
def test_corrupted_frames_are_not_delivered(bit: int) -> None:
    """One bit of each tenth frame is inverted: checksums detect it, and TCP retransmits."""

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if number % 10 == 9 and len(frame) > 150:
            at = 34 + bit // 8 % (len(frame) - 34)
            frame = frame[:at] + bytes([frame[at] ^ 1 << bit % 8]) + frame[at + 1 :]
        return [(0.0, frame)]

    network = two_hosts(rule=rule)
    client, server = network.open()
    client.write(payload(300_000))
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(300_000)
    assert network.hosts[1].core.statistics().checksum_errors > 0


def test_no_zero_window_deadlock_when_its_opening_is_lost() -> None:
    """RFC 9293, section 3.8.6.1: the sender probes a closed window."""
    closed = False
    network = two_hosts(rule=lambda number, frame: [] if closed and frame[6:12] == peer else [(0.0, frame)])
    client, server = network.open()
    peer = next(frame[6:12] for frame in network.hosts[1].sent)
    server.reading = False
    client.write(payload(3_000_000))
    for _ in range(3000):
        network.step()
        if network.now > 1003:
            break
    assert 0 < len(server.received) < 3_000_000
    closed = True
    server.reading = True
    server.read()
    for _ in range(20):
        network.step()
    closed = False
    network.run(lambda: len(server.received) == 3_000_000)
    assert server.received == payload(3_000_000)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("passed", [0.0, 0.001, 0.02, 10.0])
def test_a_closed_window_is_probed_for_data_written_later(passed: float, at_once: bool) -> None:
    """The write sends no segment, after a tick has found no reason for a timer; and the window update is lost."""
    lost: list[int] = []
    losing = False

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if losing:
            lost.append(number)
        return [] if losing else [(0.0, frame)]

    network = two_hosts(rule=rule)
    client, server = network.open()
    server.reading = False
    data = payload(abi.TCP_FIRST_WINDOW)
    for at in range(0, len(data), WINDOW_UNIT):  # so that nothing is left that cannot be offered
        client.write(data[at : at + WINDOW_UNIT])
        network.settle()
    assert server.received == data
    assert network.hosts[0].core.deadline == inf
    network.now += passed
    losing = True
    host = network.hosts[0]
    assert host.core.tcp_send(client.handle, b"more", network.now if at_once else 0.0) == 4
    host.dirty = True
    server.reading = True
    server.read()
    for _ in range(20):
        if not lost:
            network.step()
    assert lost
    losing = False
    network.run(lambda: len(server.received) == len(data) + 4)
    assert server.received == data + b"more"


@pytest.mark.parametrize("seconds", [10, 60, 3600])
def test_a_delayed_host_does_not_retransmit_for_each_missed_tick(seconds: int) -> None:
    """The answer waits in the device while the process is stopped; the missed ticks must not count as timeouts."""
    network = two_hosts(rule=lambda number, frame: [(0.05, frame)])
    client, server = network.open()
    network.settle()
    client.write(payload(100))
    for _ in range(4):
        network.step()
    core = network.hosts[0].core
    before = core.statistics().tcp_retransmissions
    network.now += seconds
    network.settle()
    assert server.received == payload(100)
    assert client.ended is None
    assert core.statistics().tcp_retransmissions - before <= 1


def with_segment_size(frame: bytes, size: int) -> bytes:
    """Return an IPv4 TCP segment with an MSS option before its other options."""
    segment = frame[34:]
    segment = segment[:12] + bytes([segment[12] + 0x10]) + segment[13:16] + bytes(2) + segment[18:20] + b"\2\4"
    segment += size.to_bytes(2) + frame[54:]
    total = checksum(frame[26:34] + (6).to_bytes(2) + len(segment).to_bytes(2) + segment)
    segment = segment[:16] + total.to_bytes(2) + segment[18:]
    return frame[:14] + ipv4(str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])), 6, segment)


@pytest.mark.parametrize("size", [1, 13, 100, 1000, 65535])
def test_the_size_of_segments_does_not_change(size: int) -> None:
    """RFC 9293, section 3.7.1: the option belongs to SYNs. A peer that sends it later must not end the stack by it."""
    count = 0

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal count
        if frame[6:12] == peer and frame[23] == 6 and frame[47] == 0x10:
            count += 1
            return [(0.01, with_segment_size(frame, size))]
        return [(0.01, frame)]

    peer = b""
    network = two_hosts(rule=rule)
    client, server = network.open()
    peer = next(frame[6:12] for frame in network.hosts[1].sent)
    for salt in range(20):
        client.write(payload(70_000, salt))
        for _ in range(3):
            network.step()
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == b"".join(payload(70_000, salt) for salt in range(20))
    assert count > 5
    assert max(len(frame) for frame in network.hosts[0].sent) == 1514
    assert network.hosts[0].core.statistics().fragments_out == 0
    assert sum(len(frame) < 1000 for frame in network.hosts[0].sent) < 100


def test_a_syn_that_arrives_twice_changes_no_size() -> None:
    """The accepting end has the smaller MTU: its segments must not be fragmented."""
    a = Host("10.0.0.1/24", seed=1)
    b = Host("10.0.0.2/24", seed=2, mtu=576)
    b.listen(80)
    syns = 0

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal syns
        if len(frame) > 47 and frame[23] == 6 and frame[47] == 0x02:
            syns += 1
            return [(0.01, frame), (0.015, frame)]
        return [(0.01, frame)]

    network = Network(a, b, rule)
    client, server = network.open()
    server.write(payload(100_000))
    network.run(lambda: len(client.received) == 100_000)
    assert client.received == payload(100_000)
    assert syns >= 1
    assert b.core.statistics().fragments_out == 0


def test_data_is_delivered_after_a_long_last_ack() -> None:
    """The peer has sent FIN, and this end closes; then no packet arrives for longer than twice the MSL."""
    cut = False
    network = two_hosts(rule=lambda number, frame: [] if cut else [(0.01, frame)])
    client, server = network.open()
    client.finish()
    network.run(lambda: server.eof)
    cut = True
    server.write(payload(100_000))
    server.finish()
    server.close()
    begun = network.now
    while network.now < begun + 150:
        assert network.step()
    cut = False
    network.run(lambda: client.eof)
    assert client.received == payload(100_000)


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK], ids=["syn", "syn and ack"])
def test_slow_start_after_a_lost_syn(flags: int, lost: int) -> None:
    """RFC 5681, section 3.1: no threshold as long as nothing of the data was lost. Who lost its SYN sends.

    RFC 6928, section 2: ten segments to begin with; after more than one retransmission of the SYN it is one. Of a lost
    SYN and ACK there are two at once: one by its own timer, and one to answer the SYN that the other end sends again.
    """
    rounds: Counter[int] = Counter()  # segments by the round trip in which they left
    left = lost

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal left
        if frame[12:14] == b"\x08\x00":
            if frame[47] == flags and left:
                left -= 1
                return []
            if len(frame) > 1400:
                rounds[round(network.now / 0.2)] += 1
        return [(0.1, frame)]

    network = two_hosts(rule=rule)
    client, server = network.open()
    sender, receiver = (client, server) if flags == SYN else (server, client)
    network.now += 10  # what was measured of round trips, and probed of neighbours, is behind us
    sender.write(payload(400_000))
    sender.finish()
    network.run(lambda: receiver.eof)
    assert receiver.received == payload(400_000)
    assert not left
    first = 10 if lost <= (1 if flags == SYN else 2) else 1
    assert list(rounds.values())[:3] == [first, 2 * first, 4 * first]


def test_an_outage_lowers_the_threshold_once() -> None:
    """RFC 5681, section 3.1: a second timeout of the same segment does not indicate new congestion."""
    rounds: Counter[int] = Counter()
    cut = False

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if cut:
            return []
        if len(frame) > 1400:
            rounds[round(network.now / 0.2)] += 1
        return [(0.1, frame)]

    network = two_hosts(rule=rule)
    client, server = network.open()
    data = payload(1_500_000)
    client.write(data)
    network.run(lambda: len(server.received) > 300_000)
    sent = rounds.total()
    network.run(lambda: rounds.total() > sent)
    cut = True
    network.lose_all()  # a whole window of data: if only its acknowledgements were lost, the time-out was needless
    begun = network.now
    while network.now < begun + 10:
        assert network.step()
    cut = False
    rounds.clear()
    network.run(lambda: len(server.received) == len(data))
    assert server.received == data
    assert list(rounds.values())[:7] == [1, 2, 4, 8, 16, 32, 64]
