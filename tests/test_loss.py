"""Streams over a link that loses, doubles and swaps frames arrive whole, in virtual time."""

from __future__ import annotations

import random

import pytest

from tests.support import Rule, deliver, duplicate, hold_back, lose, payload, two_hosts

ADDRESSES = pytest.mark.parametrize("address", [0, 1], ids=["IPv4", "IPv6"])


def short_exchange(rule: Rule, *, address: int, seed: int = 1) -> tuple[int, int]:
    """Ask, answer, close both ways; return how many frames left and how many were lost."""
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
            short_exchange(hold_back(number, seconds=seconds), address=address)


@ADDRESSES
@pytest.mark.parametrize("rule", [lose(40), duplicate(40), hold_back(40), lose(40, 41, 42), hold_back(40, 42, 44)])
def test_bulk(rule: Rule, address: int) -> None:
    network = two_hosts(rule=rule)
    client, server = network.open(address=address)
    client.write(payload(1_000_000))
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(1_000_000)


@pytest.mark.parametrize("seed", range(8))
def test_everything_at_random(seed: int) -> None:
    """One frame in a hundred is lost, one doubled, one late by up to 50 ms; both ways at once."""
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
def test_damaged_frames_do_not_reach_anybody(bit: int) -> None:
    """One bit of each tenth frame turned over: the sums find it, and TCP sends it again."""

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


@pytest.mark.parametrize("seconds", [10, 60, 3600])
def test_a_host_that_was_held_up_does_not_send_all_again_for_each_tick(seconds: int) -> None:
    """The answer lies at the device while the process is stopped; the ticks of that time are no reason to despair."""
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
