"""Losses are repaired without a time-out: random ones of many seeds, in virtual time, and a burst within one window."""

from __future__ import annotations

import itertools
import os
import random

import pytest

from tests.kit.core_network import payload, two_hosts

SEEDS = int(os.environ.get("TCPIP_RECOVERY_SEEDS", "1000"))
GROUPS = 20
DELAY = 0.02
SHORTEST_TIME_OUT = 0.2
"""Seconds: LWIP_TCP_RTO_MIN; no time-out is shorter."""


def longest_silence(seed: int, size: int = 150_000) -> float:
    """Send over a link that loses up to three of each fifty new segments, and return the sender's longest pause.

    Retransmissions arrive, and so do the last five segments: what is lost behind them only a time-out can repair.
    """
    dice = random.Random(seed)
    sent: list[float] = []
    seen: set[bytes] = set()
    losses: set[int] = set()

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if len(frame) < 1000:
            return [(DELAY, frame)]
        sent.append(network.now)
        new = frame[38:42] not in seen
        seen.add(frame[38:42])
        if new and (len(seen) - 1) % 50 == 0:
            losses.update(len(seen) + at for at in dice.sample(range(50), dice.randint(1, 3)))
        return [] if new and len(seen) in losses and len(seen) < size // 1448 - 5 else [(DELAY, frame)]

    network = two_hosts(rule=rule, seed=seed)
    client, server = network.open()
    client.write(payload(size, seed))
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(size, seed)
    assert network.lost > 0
    return max(after - before for before, after in itertools.pairwise(sent))


@pytest.mark.parametrize("group", range(GROUPS))
def test_three_losses_in_a_window_cost_no_time_out(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        assert longest_silence(seed) < SHORTEST_TIME_OUT, f"seed {seed}"


@pytest.mark.parametrize("address", [0, 1], ids=["IPv4", "IPv6"])
def test_many_losses_of_one_window_are_repaired_in_two_round_trips(address: int) -> None:
    """74 segments of a window of some 300 are lost, as where a queue overflows; then all arrives."""
    lost: list[float] = []
    repaired = 0.0
    missing: set[bytes] = set()
    at = 54 if address else 34

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal repaired
        sequence = frame[at + 4 : at + 8]
        if len(frame) > 1000:
            data.append(sequence)
            if 330 < len(data) <= 330 + 2 * 74 and len(data) % 2:
                lost.append(network.now)
                missing.add(sequence)
                return []
            if sequence in missing:
                missing.discard(sequence)
                repaired = network.now
        return [(0.04, frame)]

    data: list[bytes] = []
    network = two_hosts(rule=rule)
    client, server = network.open(address=address)
    client.write(payload(1_500_000))
    client.finish()
    network.run(lambda: server.eof)
    assert server.received == payload(1_500_000)
    assert len(lost) == 74
    assert not missing
    assert repaired - lost[-1] <= 2 * 0.08 + 0.01
