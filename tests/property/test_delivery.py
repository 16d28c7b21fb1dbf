"""Written data arrives completely, once and in order: any sizes, any readers, any half-close, any loss."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.core_network import END_OF_TIME, Network, payload, two_hosts

SIZES = st.one_of(st.integers(1, 10), st.integers(1, 3000), st.integers(1, 200_000))


@dataclass
class Side:
    """The actions of one side: chunks that it writes, after how many steps each; whether and when it stops reading."""

    chunks: list[tuple[int, int]]
    pauses: list[tuple[int, int]]
    sent: bytes = field(default=b"")


SIDES = st.builds(
    Side,
    st.lists(st.tuples(SIZES, st.integers(0, 8)), max_size=6),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=3),
)

FATES = st.lists(
    st.sampled_from(["lost", "twice", "late", "very late"]) | st.just("fine"),
    max_size=60,
)


@settings(max_examples=150)
@given(SIDES, SIDES, FATES, st.integers(0, 1), st.sampled_from([576, 1280, 1500, 9000]), st.integers(0, 1000))
def test_delivery(one: Side, other: Side, fates: list[str], address: int, mtu: int, seed: int) -> None:
    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        fate = fates[number] if number < len(fates) else "fine"
        return {
            "lost": [],
            "twice": [(0.0, frame), (0.002, frame)],
            "late": [(0.001, frame)],
            "very late": [(0.7, frame)],
            "fine": [(0.0, frame)],
        }[fate]

    network = two_hosts(rule=rule, mtu=1280 if address and mtu < 1280 else mtu, seed=seed)
    ends = network.open(address=address)
    steps = 0
    sides = (one, other)
    todo = [list(side.chunks) for side in sides]
    due = [0, 0]
    finished = [False, False]

    def work() -> None:
        for index, (end, side) in enumerate(zip(ends, sides, strict=True)):
            while todo[index] and due[index] <= steps:
                size, gap = todo[index].pop(0)
                data = payload(size, steps + index)
                side.sent += data
                end.write(data)
                due[index] = steps + gap
            if not todo[index] and not finished[index] and due[index] <= steps:
                finished[index] = True
                end.finish()
            paused = any(start <= steps < start + length for start, length in side.pauses)
            if end.reading is paused:
                end.reading = not paused
                if end.reading:
                    end.read()

    for side in sides:
        side.sent = b""
    until = network.now + END_OF_TIME
    while not (ends[0].eof and ends[1].eof):
        work()
        steps += 1
        moved = network.step()
        assert moved or steps < 200, "no deadline is left"
        assert network.now < until
    assert bytes(ends[1].received) == one.sent
    assert bytes(ends[0].received) == other.sent
    assert all(end.ended in (None, 0) for end in ends)
    rest(network)


def rest(network: Network) -> None:
    """Close, and assert that no connection is left except in TIME-WAIT."""
    for host in network.hosts:
        for end in list(host.ends.values()):
            end.close()
    network.settle()
    for host in network.hosts:
        figures = host.core.statistics()
        assert figures.connections == figures.time_wait
