"""CoDel: the decisions of the pseudocode, and its effect on the queue of a saturating connection."""

from __future__ import annotations

import asyncio
from math import sqrt

import pytest

from tcpip_wasm.simulation import CoDel, DropTail, LinkSettings, Network, run, run_virtually
from tcpip_wasm.simulation.links.marks import marked
from tcpip_wasm.simulation.links.queue import CoDelQueue
from tests.kit import frames
from tests.kit.core_network import payload
from tests.kit.links import B4, B6, TCP_SHARE, linked, sample, transfer

MS = 1_000_000
TARGET, INTERVAL = 5 * MS, 100 * MS


class Packet:
    """A frame of a size, with its arrival time."""

    def __init__(self, came: int, size: int = 1514) -> None:
        self.came = came
        self.size = size


class Overload:
    """A queue that gets a frame every `every` nanoseconds and sends one every millisecond, and records drops."""

    def __init__(self) -> None:
        self.queue: CoDelQueue[Packet] = CoDelQueue(100_000, 2**30, TARGET, INTERVAL)
        self.now = 0
        self.next = 0
        self.drops: list[int] = []
        self.sojourns: list[int] = []

    def run(self, until: int, every: int) -> None:
        while self.now < until:
            while self.next <= self.now:
                assert self.queue.push(self.next, Packet(self.next))
                self.next += every
            frame = self.queue.pop(self.now, lambda _: self.drops.append(self.now))
            self.sojourns.append(self.now - frame.came if frame is not None else 0)
            self.now += MS


def test_nothing_is_dropped_below_the_target() -> None:
    load = Overload()
    for _ in range(4):
        load.queue.push(0, Packet(0))
    load.run(10_000 * MS, every=MS)  # four wait always: 4 ms
    assert max(load.sojourns) == 4 * MS
    assert load.drops == []


def test_a_burst_shorter_than_an_interval_has_no_drops() -> None:
    load = Overload()
    for _ in range(95):
        load.queue.push(0, Packet(0))
    load.run(5_000 * MS, every=2 * MS)
    assert max(load.sojourns) > 80 * MS
    assert load.drops == [] or load.drops[0] > 100 * MS
    quiet = Overload()
    for _ in range(90):
        quiet.queue.push(0, Packet(0))
    quiet.next = 10_000 * MS
    quiet.run(5_000 * MS, every=MS)
    assert quiet.drops == []


def test_the_control_law() -> None:
    """The first drop is an interval after waiting times exceeded the target, the n-th one interval/sqrt(n) later."""
    load = Overload()
    load.run(3_000 * MS, every=800_000)  # a quarter more than it sends
    above = next(at for at, sojourn in enumerate(load.sojourns) if sojourn >= TARGET) * MS
    assert load.drops[0] == above + INTERVAL
    due = float(load.drops[0])
    for count, at in enumerate(load.drops[1:20], 1):
        due += INTERVAL / sqrt(count)
        assert 0 <= at - due < MS + 20  # frames leave each millisecond


def test_dropping_resumes_at_the_rate_it_had() -> None:
    """Section 5.4: soon after a dropping state of many drops, the next one does not start at the lowest rate."""
    load = Overload()
    load.run(2_000 * MS, every=700_000)
    many = len(load.drops)
    while len(load.queue) > 2:  # a pause, in which the queue empties
        load.queue.pop(load.now, lambda _: load.drops.append(load.now))
    load.queue.pop(load.now, load.drops.append)  # type: ignore[arg-type]
    load.next = load.now
    load.drops.clear()
    begin = load.now
    load.run(begin + 600 * MS, every=700_000)
    fresh = Overload()
    fresh.run(600 * MS, every=700_000)
    assert many > 20
    assert len(load.drops) > 2 * len(fresh.drops)


def test_a_single_frame_is_never_dropped() -> None:
    """A slow link: at most the largest frame waits, however long that takes."""
    queue: CoDelQueue[Packet] = CoDelQueue(1000, 2**30, TARGET, INTERVAL)
    drops: list[Packet] = []
    for turn in range(100):
        queue.push(turn * 1000 * MS, Packet(turn))
        queue.push(turn * 1000 * MS, Packet(turn))
        assert queue.pop(turn * 1000 * MS + 500 * MS, drops.append) is not None
        assert queue.pop(turn * 1000 * MS + 900 * MS, drops.append) is not None
    assert drops == []


def standing(queue: DropTail | CoDel) -> tuple[float, float, dict[str, int]]:
    """Saturate 10 Mbit/s, 20 ms; return the waiting time in the middle of its run, goodput over bandwidth, drops."""

    async def run() -> tuple[float, float, dict[str, int]]:
        bandwidth = 10e6
        async with linked(LinkSettings(bandwidth=bandwidth, delay=0.02, queue=queue)) as hosts:
            task = asyncio.create_task(transfer(hosts, 12_000_000))
            await asyncio.sleep(5.0)  # slow start and its queue
            waiting = await sample(lambda: hosts.link.a_to_b.statistics().waiting_bytes, 5.0, 0.005)
            result = await task
            assert result.whole
            median = sorted(waiting)[len(waiting) // 2] * 8 / bandwidth
            return median, result.goodput(0.4) / bandwidth / TCP_SHARE, hosts.link.a_to_b.statistics().dropped

    return run_virtually(run())


def test_codel_keeps_the_standing_queue_near_its_target_where_drop_tail_fills_it() -> None:
    short, goodput, dropped = standing(CoDel())
    assert set(dropped) == {"codel"}
    assert short < 0.010  # twice the target, at most
    assert goodput > 0.8
    waiting, goodput, dropped = standing(DropTail())
    assert dropped == {}
    assert waiting > 10 * short  # it grows until a frame is lost, and none is
    assert goodput > 0.95


@pytest.mark.parametrize("target", [0.02, 0.05])
def test_a_larger_target_gives_a_longer_queue(target: float) -> None:
    waiting, goodput, _ = standing(CoDel(target=target))
    assert target / 3 < waiting < 2 * target  # Reno's window, and with it the queue, is a sawtooth
    assert goodput > 0.95


# --- Marks ------------------------------------------------------------------------------------------------------------


def test_marking_follows_the_control_law() -> None:
    """As dropping does, but every frame arrives."""
    marks: list[int] = []

    def mark(_: Packet) -> bool:
        marks.append(now)
        return True

    def drop(_: Packet) -> None:
        pytest.fail("a frame that could be marked is dropped")

    queue: CoDelQueue[Packet] = CoDelQueue(1000, 2**30, TARGET, INTERVAL, ecn=True)
    now, sent, taken = 0, 0, 0
    while now < 3_000 * MS:
        while sent * 800_000 <= now:
            assert queue.push(sent * 800_000, Packet(sent))
            sent += 1
        found = queue.pop(now, drop, mark)
        taken += found is not None
        now += MS
    assert taken == 3_000
    due = float(marks[0])
    for count, at in enumerate(marks[1:20], 1):
        due += INTERVAL / sqrt(count)
        assert 0 <= at - due < MS + 20


def test_frames_that_cannot_be_marked_are_dropped() -> None:
    load = Overload()
    load.queue = CoDelQueue(1000, 2**30, TARGET, INTERVAL, ecn=True)
    plain = Overload()
    for one in (load, plain):
        one.run(2_000 * MS, every=700_000)
    assert load.drops == plain.drops != []


@pytest.mark.parametrize("header", [14, 0], ids=["Ethernet", "no link layer"])
@pytest.mark.parametrize("bits", [0, 1, 2, 3])
def test_marks_in_packets(header: int, bits: int) -> None:
    """Of both IP versions; the checksum of IPv4 stays right, whatever is in the header."""
    for identity in range(0, 65536, 251):
        four = bytearray(frames.ipv4("10.0.0.1", "10.0.0.2", frames.UDP, b"content"))
        four[1], four[10:12] = 0xB8 | bits, b"\0\0"
        four[4:6] = identity.to_bytes(2, "big")
        four[10:12] = frames.checksum(bytes(four[:20])).to_bytes(2, "big")
        frame = (b"\x02" * 12 + b"\x08\x00" if header else b"") + bytes(four)
        changed = marked(frame, header)
        if bits == 0:
            assert changed is None
            continue
        assert changed is not None
        assert changed[header + 1] == 0xB8 | 3
        assert frames.checksum(changed[header : header + 20]) == 0
        differing = [at for at in range(len(frame)) if frame[at] != changed[at]]
        assert set(differing) <= {header + 1, header + 10, header + 11}
    six = bytearray(frames.ipv6("fd00::1", "fd00::2", frames.UDP, b"content"))
    six[0:2] = bytes([0x6B, 0x80 | bits << 4 | 7])
    frame = (b"\x02" * 12 + b"\x86\xdd" if header else b"") + bytes(six)
    changed = marked(frame, header)
    assert (changed is None) == (bits == 0)
    if changed is not None:
        assert changed[header : header + 2] == bytes([0x6B, 0x80 | 3 << 4 | 7])
        assert changed[header + 2 :] == frame[header + 2 :]


@pytest.mark.parametrize("length", [0, 1, 10, 19])
def test_what_is_no_packet_is_not_marked(length: int) -> None:
    packet = frames.ipv4("10.0.0.1", "10.0.0.2", frames.UDP, b"")[:length]
    assert marked(packet, 0) is None
    assert marked(b"\x02" * 12 + b"\x08\x00" + packet, 14) is None
    assert marked(b"\x02" * 12 + b"\x08\x06" + bytes(46), 14) is None
    assert marked(b"\x02" * length, 14) is None
    assert marked(b"\x10" * 60, 0) is None


def test_a_trace_shows_marks() -> None:
    """At the time at which the frame was sent, with the mark that the queue has set; nothing counts as dropped."""
    content = payload(1_000_000)

    async def scenario(network: Network) -> bytes:
        a, b = network.host("a", ecn=True), network.host("b")
        network.link(a, b, bandwidth=10e6, delay=0.02, queue=CoDel(ecn=True))

        async def serve() -> None:
            async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                received.set_result(await reader.read(-1))
                writer.close()

            async with await asyncio.start_server(read, port=7) as server:
                await server.serve_forever()

        async def client() -> None:
            _, writer = await asyncio.open_connection("b", 7)
            writer.write(content)
            writer.close()
            await writer.wait_closed()

        received = asyncio.get_running_loop().create_future()
        b.start(serve)
        await a.run(client())
        return await received  # type: ignore[no-any-return]

    result = run(scenario, seed=1)
    assert result.value == content
    packets = result.network.trace().tcp(port=7)
    marks = [packet for packet in packets if packet.comment == "mark"]
    assert len(marks) > 2
    assert not any(packet.dropped for packet in packets)
    assert all(marked(packet.observation.frame, 14) == packet.observation.frame for packet in marks)  # already marked


@pytest.mark.parametrize("host", [B4, B6])
def test_marks_keep_the_queue_short_without_a_loss(host: str) -> None:
    async def run() -> None:
        async with linked(LinkSettings(bandwidth=10e6, delay=0.02, queue=CoDel(ecn=True)), ecn=True) as hosts:
            link = hosts.link
            task = asyncio.create_task(transfer(hosts, 12_000_000, host))
            await asyncio.sleep(5.0)
            waiting = await sample(lambda: link.a_to_b.statistics().waiting_bytes, 4.0, 0.005)
            result = await task
            assert result.whole
            assert result.retransmissions == 0
            statistics = link.a_to_b.statistics()
            assert statistics.dropped == {}
            assert statistics.marked > 10
            assert sorted(waiting)[len(waiting) // 2] * 8 / 10e6 < 0.010
            assert result.goodput(0.4) > 0.8 * 10e6 * TCP_SHARE

    run_virtually(run())


def test_without_an_agreement_frames_are_dropped() -> None:
    async def run() -> None:
        async with linked(LinkSettings(bandwidth=10e6, delay=0.02, queue=CoDel(ecn=True))) as hosts:
            result = await transfer(hosts, 4_000_000)
            assert result.whole
            assert result.retransmissions > 0
            statistics = hosts.link.a_to_b.statistics()
            assert set(statistics.dropped) == {"codel"}
            assert statistics.marked == 0

    run_virtually(run())
