"""Losses are repaired without a time-out: random ones of many seeds, in virtual time, and a burst within one window."""

from __future__ import annotations

import gc
import itertools
import os
import random

import pytest

from tests.kit.core_network import Network, payload, two_hosts

SEEDS = int(os.environ.get("TCPIP_RECOVERY_SEEDS", "200"))
"""How many patterns of losses; 10,000 take two minutes."""

ROUND = 50
"""Seeds that share two hosts, each with a connection of its own: hosts are large, and their memory is bounded so."""

SIZE = 150_000
DELAY = 0.02
SHORTEST_TIME_OUT = 0.2
"""Seconds: LWIP_TCP_RTO_MIN; no time-out is shorter."""


class Losses:
    """A rule that loses up to three of each fifty new segments of a connection.

    Retransmissions arrive, and so do the last five segments: what is lost behind them only a time-out can repair.
    """

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.lost = 0
        self.now = 0.0
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Start anew, for another connection."""
        self._dice = random.Random(seed)
        self._seen: set[bytes] = set()
        self._losses: set[int] = set()
        self.sent.clear()
        self.lost = 0

    def __call__(self, number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if len(frame) < 1000:
            return [(DELAY, frame)]
        self.sent.append(self.now)
        seen = self._seen
        new = frame[38:42] not in seen
        seen.add(frame[38:42])
        if new and (len(seen) - 1) % 50 == 0:
            self._losses.update(len(seen) + at for at in self._dice.sample(range(50), self._dice.randint(1, 3)))
        if new and len(seen) in self._losses and len(seen) < SIZE // 1448 - 5:
            self.lost += 1
            return []
        return [(DELAY, frame)]


def longest_silence(network: Network, losses: Losses, seed: int) -> float:
    """Send over a connection with the losses of a seed, and return the sender's longest pause."""

    def arrived() -> bool:
        losses.now = network.now
        return server.eof

    losses.begin(seed)
    client, server = network.open()
    data = payload(SIZE, seed)
    client.write(data)
    client.finish()
    network.run(arrived)
    assert server.received == data
    assert losses.lost > 0
    silence = max(after - before for before, after in itertools.pairwise(losses.sent))
    server.finish()
    network.settle()
    client.close()
    server.close()
    network.settle()
    for host in network.hosts:
        host.sent.clear()
        host.accepted.clear()
    return silence


def silences(first: int, count: int) -> dict[int, float]:
    """Return the longest silence of each of some seeds; nothing that they needed stays in memory."""
    losses = Losses()
    network = two_hosts(rule=losses, seed=first)
    return {seed: longest_silence(network, losses, seed) for seed in range(first, first + count)}


@pytest.mark.parametrize("first", range(0, SEEDS, ROUND))
def test_three_losses_in_a_window_cost_no_time_out(first: int) -> None:
    found = silences(first, min(ROUND, SEEDS - first))
    gc.collect()  # hosts and their endpoints refer to each other
    late = {seed: silence for seed, silence in found.items() if silence >= SHORTEST_TIME_OUT}
    assert not late


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
