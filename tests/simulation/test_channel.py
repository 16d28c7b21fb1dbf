"""One direction of a link: arrival times and drops. Without stacks, so that times are exact to the nanosecond."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tcpip_wasm.capture.trace import Observation
from tcpip_wasm.simulation import Channel, CoDel, DropTail, GilbertElliott, LinkSettings, run_virtually
from tests.kit.links import Wire, numbered


def carried(settings: LinkSettings, frames: list[bytes], *, seed: int | str = 1) -> Wire:
    """Send all frames at once, and wait until the last has arrived."""

    async def run() -> Wire:
        wire = Wire(settings, seed=seed)
        for frame in frames:
            wire.channel.send(frame)
        await asyncio.sleep(1000)
        assert wire.channel.statistics().waiting == wire.channel.statistics().under_way == 0
        return wire

    return run_virtually(run())


def test_without_settings_frames_arrive_in_order_in_the_next_iteration() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings())
        for frame in numbered(100):
            wire.channel.send(frame)
        assert wire.arrived == []
        await asyncio.sleep(0.001)
        assert wire.arrived == [(0.0, frame) for frame in numbered(100)]

    run_virtually(run())


def test_a_frame_occupies_the_transmitter_for_its_length_and_arrives_after_the_delay() -> None:
    wire = carried(LinkSettings(bandwidth=1e6, delay=0.02), numbered(3, 1000))
    assert wire.times == [0.028, 0.036, 0.044]
    wire = carried(LinkSettings(bandwidth=1e6, delay=0.02, overhead=24), numbered(3, 1000))
    assert wire.times == [0.028192, 0.036384, 0.044576]


def test_an_idle_transmitter_sends_at_once() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(bandwidth=1e6, delay=0.01))
        for pause in (0.0, 0.004, 0.1):
            await asyncio.sleep(pause)
            wire.channel.send(bytes(1000))
        await asyncio.sleep(1)
        assert wire.times == [0.018, 0.026, 0.122]

    run_virtually(run())


@pytest.mark.parametrize(
    ("queue", "arriving"),
    [
        (DropTail(packets=0), 1),
        (DropTail(packets=5), 6),
        (DropTail(bytes=2999), 3),
        (DropTail(bytes=3000), 4),
        (DropTail(), 1001),
        (CoDel(packets=5), 6),
    ],
)
def test_the_frame_being_sent_is_not_in_the_queue(queue: DropTail | CoDel, arriving: int) -> None:
    frames = numbered(1200, 1000)
    wire = carried(LinkSettings(bandwidth=1e9, queue=queue), frames)
    assert wire.frames == frames[:arriving]
    assert wire.channel.statistics().dropped == {"queue": 1200 - arriving}


def test_a_packet_longer_than_the_mtu_is_dropped() -> None:
    wire = carried(LinkSettings(mtu=500), [bytes(514), bytes(515)])
    assert [len(frame) for frame in wire.frames] == [514]
    assert wire.channel.statistics().dropped == {"mtu": 1}


def test_jitter_is_uniform_and_does_not_reorder() -> None:
    frames = numbered(4000)
    wire = carried(LinkSettings(bandwidth=1e5, delay=0.1, jitter=0.004, queue=DropTail(packets=4000)), frames)
    assert wire.frames == frames
    extra = [time - 0.1 - (number + 1) * 0.008 for number, time in enumerate(wire.times)]
    assert min(extra) >= -1e-9
    assert max(extra) <= 0.004 + 1e-9
    # The mean of 4,000 uniform draws: 2 ms, with a standard deviation of 4/sqrt(12*4000) ms, 0.018.
    assert abs(sum(extra) / 4000 - 0.002) < 4 * 0.000_018_3


def test_jitter_above_the_spacing_keeps_the_order() -> None:
    frames = numbered(500)
    wire = carried(LinkSettings(bandwidth=1e6, jitter=0.05), frames)
    assert wire.frames == frames
    assert wire.times == sorted(wire.times)


def test_a_reordered_frame_is_late_and_the_others_are_not() -> None:
    frames = numbered(1000)
    wire = carried(LinkSettings(bandwidth=1e6, reorder=0.1, reorder_delay=0.01), frames)
    usual = {frame: round((number + 1) * 0.0008, 9) for number, frame in enumerate(frames)}
    late = [frame for time, frame in wire.arrived if time != usual[frame]]
    assert all(round(time - 0.01, 9) == usual[frame] for time, frame in wire.arrived if frame in late)
    assert len(late) == wire.channel.statistics().reordered
    assert 60 < len(late) < 140
    assert sorted(wire.frames) == frames
    assert wire.frames != frames


def test_a_duplicate_arrives_directly_after_its_frame() -> None:
    frames = numbered(1000)
    wire = carried(LinkSettings(duplicate=0.1), frames)
    twice = {frame for frame in frames if wire.frames.count(frame) == 2}
    assert len(wire.frames) == 1000 + len(twice) == wire.channel.statistics().delivered
    assert len(twice) == wire.channel.statistics().duplicated
    assert 60 < len(twice) < 140
    assert list(dict.fromkeys(wire.frames)) == frames


def test_a_corrupted_frame_differs_in_one_bit() -> None:
    frames = [bytes(100) for _ in range(4000)]
    wire = carried(LinkSettings(corrupt=0.5, queue=DropTail(packets=4000)), frames)
    bits = [int.from_bytes(frame) for frame in wire.frames]
    damaged = [value.bit_length() for value in bits if value]
    assert {value.bit_count() for value in bits} == {0, 1}
    assert len(damaged) == wire.channel.statistics().corrupted
    assert 1850 < len(damaged) < 2150
    assert min(damaged) < 10
    assert max(damaged) > 790


def test_going_down_drops_waiting_frames_and_those_under_way() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(bandwidth=1e6, delay=0.02))
        for frame in numbered(10, 1000):
            wire.channel.send(frame)
        await asyncio.sleep(0.030)  # the first has arrived; three are under way, the fourth of them half sent
        wire.channel.up = False
        wire.channel.up = False
        wire.channel.send(bytes(1000))
        await asyncio.sleep(1.0)
        assert wire.frames == numbered(10, 1000)[:1]
        wire.channel.up = True
        wire.channel.up = True
        wire.channel.send(b"again" * 200)
        await asyncio.sleep(1.0)
        assert wire.arrived[1:] == [(1.058, b"again" * 200)]
        assert wire.channel.statistics().dropped == {"down": 10}

    run_virtually(run())


def test_settings_change_for_waiting_frames_only() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(bandwidth=1e6, delay=0.02))
        for frame in numbered(4, 1000):
            wire.channel.send(frame)
        await asyncio.sleep(0.012)
        wire.channel.settings = replace(wire.channel.settings, bandwidth=2e6, delay=0.03)
        await asyncio.sleep(1.0)
        # Two keep 8 ms and 20; the third begins at 16 ms, takes 4 and 30.
        assert wire.times == [0.028, 0.036, 0.05, 0.054]

    run_virtually(run())


def test_a_shorter_delay_reorders_nothing() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(delay=1.0))
        wire.channel.send(b"first")
        wire.channel.settings = LinkSettings(delay=0.1)
        wire.channel.send(b"second")
        await asyncio.sleep(2.0)
        assert wire.arrived == [(1.0, b"first"), (1.0, b"second")]

    run_virtually(run())


def test_a_smaller_queue_drops_excess_frames() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(bandwidth=1e6))
        frames = numbered(10, 1000)
        for frame in frames:
            wire.channel.send(frame)
        wire.channel.settings = replace(wire.channel.settings, queue=CoDel(packets=4))
        await asyncio.sleep(1.0)
        assert wire.frames == frames[:5]
        assert wire.channel.statistics().dropped == {"queue": 5}

    run_virtually(run())


def test_a_lost_frame_occupies_the_transmitter() -> None:
    wire = carried(LinkSettings(bandwidth=1e6, loss=GilbertElliott(p=1.0, r=1.0)), numbered(4, 1000))
    assert wire.times == [0.008, 0.024]  # the first is sent in the good state, the second in the bad one
    assert wire.channel.statistics().dropped == {"loss": 2}


def test_a_burst_goes_on_when_the_delay_changes() -> None:
    async def run() -> None:
        wire = Wire(LinkSettings(loss=GilbertElliott(p=1.0, r=1e-9)))
        wire.channel.send(b"good")
        wire.channel.settings = replace(wire.channel.settings, delay=0.1)
        for _ in range(100):
            wire.channel.send(b"bad")
        await asyncio.sleep(1.0)
        assert wire.frames == [b"good"]

    run_virtually(run())


def test_too_much_under_way_is_dropped() -> None:
    """Without a bandwidth no frame waits, so that no queue bounds the frames of a loop of switches."""
    frame = bytes(65535)
    wire = carried(LinkSettings(delay=1.0), [frame] * 5000)
    dropped = wire.channel.statistics().dropped
    assert set(dropped) == {"flight"}
    assert len(wire.frames) == 5000 - dropped["flight"] == 4081


MANY = LinkSettings(
    bandwidth=5e6, delay=0.01, jitter=0.002, loss=0.05, duplicate=0.05, reorder=0.05, corrupt=0.05, queue=CoDel()
)


def test_the_same_stream_gives_the_same_frames_at_the_same_times() -> None:
    frames = numbered(1500, 700)
    first, again, other = (carried(MANY, frames, seed=seed) for seed in (1, 1, 2))
    assert first.arrived == again.arrived
    assert first.arrived != other.arrived


def test_reading_statistics_changes_nothing() -> None:
    """Statistics are read while frames wait, which changes when the queue is processed."""
    frames = numbered(500, 700)

    async def run(looks: bool) -> list[tuple[float, bytes]]:
        wire = Wire(MANY)
        for frame in frames:
            wire.channel.send(frame)
        for _ in range(2000):
            await asyncio.sleep(0.0007)
            if looks:
                wire.channel.statistics()
        return wire.arrived

    assert run_virtually(run(True)) == run_virtually(run(False))


def test_every_frame_is_accounted_for() -> None:
    wire = carried(MANY, numbered(3000, 700))
    counted = wire.channel.statistics()
    assert counted.frames == 3000
    assert counted.bytes == 3000 * 700
    assert set(counted.dropped) == {"queue", "codel", "loss"}
    assert counted.delivered == len(wire.frames)
    assert counted.delivered_bytes == 700 * len(wire.frames)
    assert counted.delivered <= 3000 - sum(counted.dropped.values()) + counted.duplicated


def test_the_observer_gets_each_frame_and_the_cause_of_its_drop() -> None:
    async def run() -> list[Observation]:
        loop = asyncio.get_running_loop()
        seen: list[Observation] = []
        settings = LinkSettings(bandwidth=1e6, delay=0.02, queue=DropTail(packets=1), mtu=1000)
        channel = Channel(loop, settings, Random("1"), lambda _: None, seen.append, point="x", outgoing=False)
        began = loop.time()
        for frame in (b"a" * 1000, b"b" * 1000, b"c" * 1000, b"d" * 2000):
            channel.send(frame)
        channel.settings = replace(settings, loss=1.0)
        await asyncio.sleep(0.01)
        channel.send(b"e")
        channel.cut("partition")
        channel.send(b"f")
        assert {entry.time - began for entry in seen[:4]} == {0.0}
        assert all(entry.point == "x" and not entry.outgoing for entry in seen)
        return seen

    seen = run_virtually(run())
    assert [(entry.frame[:1], entry.comment) for entry in seen] == [
        (b"a", "partition"),
        (b"b", "partition"),
        (b"c", "queue"),
        (b"d", "mtu"),
        (b"e", "loss"),
        (b"f", "partition"),
    ]
    assert [entry.dropped_at and round(entry.dropped_at - entry.time, 9) for entry in seen] == [
        *(0.01, 0.01, None, None, None, None)
    ]
    assert not any(entry.under_way for entry in seen)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bandwidth": 0}, "bandwidth: 0 "),
        ({"bandwidth": float("inf")}, "bandwidth: inf"),
        ({"delay": -0.1}, "delay: -0.1"),
        ({"delay": float("nan")}, "delay: nan"),
        ({"jitter": -1}, "jitter: -1"),
        ({"reorder_delay": 4000}, "reorder_delay: 4000"),
        ({"loss": 1.5}, "loss: 1.5"),
        ({"duplicate": -0.5}, "duplicate: -0.5"),
        ({"reorder": 2}, "reorder: 2"),
        ({"corrupt": 2}, "corrupt: 2"),
        ({"mtu": 67}, "mtu: 67"),
        ({"overhead": -1}, "overhead: -1"),
    ],
)
def test_values_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinkSettings(**fields)


@pytest.mark.parametrize("name", ["bandwidth", "delay", "jitter", "loss", "duplicate", "mtu", "queue", "overhead"])
@pytest.mark.parametrize("value", ["1", True, [1]])
def test_values_of_another_type(name: str, value: object) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=f"^{name} must be"):
        LinkSettings(**fields)
