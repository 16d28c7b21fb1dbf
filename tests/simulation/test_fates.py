"""Traces and captures of a network: each frame once for each link with the cause of a drop, hosts by name, events."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tcpip_wasm.capture import Event, Recorder, Trace, read_capture
from tcpip_wasm.simulation import CoDel, Link, LinkSettings, Network, Switch, run, run_virtually
from tests.kit.links import linked, transfer
from tests.kit.simulation_hosts import ask, serve_upper, star, two


async def partitioned(network: Network) -> None:
    """Three hosts; a partition separates ``h0`` from the others for a while, and ``h2`` crashes."""
    a, b, c = star(network, 3)
    a.start(serve_upper)
    network.at(1.007, network.partition, [a], [b, c])
    network.at(4.0, network.heal)
    network.at(5.0, c.crash)

    async def client() -> None:
        for number in range(8):
            assert await ask("h0", question=b"line %d\n" % number) == b"LINE %d\n" % number
            await asyncio.sleep(0.5)

    async def ping() -> None:
        async with await b.stack.create_ping_session(c.address) as session:
            for _ in range(7):
                await session.ping()
                await asyncio.sleep(0.7)
            with pytest.raises(OSError, match="timed out"):
                await session.ping(timeout=2.0)

    await asyncio.gather(b.run(client()), b.run(ping()))


@pytest.fixture(scope="module")
def network() -> Network:
    return run(partitioned, seed=2).network


def test_frames_dropped_by_a_partition_are_not_delivered(network: Network) -> None:
    trace = network.trace()
    lost = trace.dropped("partition")
    assert lost
    assert {packet.point for packet in lost} <= {"h0-switch", "h1-switch", "h2-switch"}, "no point of its own"
    for packet in lost:
        assert packet.time + 0.005 == pytest.approx(packet.observation.dropped_at, abs=1e-6)
        assert 1.007 <= (packet.observation.dropped_at or 0) < 4.0
    delivered = trace.delivered()
    assert len(delivered) + len(trace.dropped()) == len(trace)
    assert not delivered.at("h0-switch", outgoing=False).host("h1").between(1.007, 3.995)
    # It was carried up to the switch.
    assert delivered.at("h1-switch", outgoing=True).tcp(destination="h0").between(1.007, 3.995)
    assert "[DROPPED: partition at " in lost.text()


def test_frames_to_a_crashed_host_are_dropped(network: Network) -> None:
    lost = network.trace().dropped("crash")
    assert {packet.point for packet in lost} == {"h2-switch"}
    assert min(packet.time for packet in lost) > 4.9
    assert lost.icmp(source="h1", destination="h2")


def test_a_file_has_the_same_observations(tmp_path: Path) -> None:
    async def scenario(network: Network) -> None:
        network.capture(tmp_path / "live.pcapng")
        await partitioned(network)

    result = run(scenario, seed=2)
    trace = result.network.trace()
    trace.save(tmp_path / "saved.pcapng")
    for name in ("live", "saved"):
        loaded = Trace.load(tmp_path / f"{name}.pcapng")
        assert loaded.observations == trace.observations
        assert loaded.digest() == trace.digest() == result.digest
        assert loaded.events == trace.events
        assert len(loaded.dropped("partition")) == len(trace.dropped("partition")) > 0
        assert loaded.text() == trace.text()
    assert run(partitioned, seed=2).digest == result.digest, "captures change nothing"


def test_late_drops_of_links_are_marked() -> None:
    """Drops of CoDel, and of a link that goes down; every frame is observed once."""

    async def scenario() -> None:
        trace = Trace()
        bounded = Trace(limit=100)

        def both(seen: object) -> None:
            trace(seen)  # type: ignore[arg-type]
            bounded(seen)  # type: ignore[arg-type]

        async with linked() as hosts:
            hosts.link.close()
            settings = LinkSettings(bandwidth=5e6, delay=0.02, queue=CoDel())
            link = Link(hosts.tap_a, hosts.tap_b, settings, observe=both, name="slow")
            moving = asyncio.ensure_future(transfer(hosts, 2_000_000))
            await asyncio.sleep(2.0)
            under_way = [one for one in trace.observations if one.under_way]
            assert len(under_way) > 5
            assert not trace.delivered().where(lambda packet: packet.observation.under_way)
            link.down()
            assert {one.comment for one in under_way} == {"down"}
            assert {one.dropped_at for one in under_way} == {asyncio.get_running_loop().time()}
            link.up()
            assert (await moving).whole
            link.close()
            counted = [channel.statistics() for channel in (link.a_to_b, link.b_to_a)]
        for cause in ("codel", "down"):
            assert len(trace.dropped(cause)) == sum(each.dropped.get(cause, 0) for each in counted) > 0
        assert len(trace) == sum(each.frames for each in counted)
        assert len(trace.delivered()) == sum(each.delivered for each in counted)
        assert bounded.digest() == trace.digest()
        assert len(bounded) == 100

    run_virtually(scenario())


def test_a_recorder_waits_until_a_frame_arrives_or_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with linked() as hosts:
            hosts.link.close()
            trace = Trace()
            with Recorder(tmp_path / "a.pcapng") as recorder:
                observers = (trace, recorder)
                link = Link(
                    *(hosts.tap_a, hosts.tap_b, LinkSettings(delay=1.0)),
                    observe=lambda seen: [observer(seen) for observer in observers],  # type: ignore[arg-type]
                )
                async with await hosts.a.create_ping_session("10.0.0.2") as session:
                    await session.ping(timeout=10)
                    await asyncio.sleep(20)
                    with pytest.raises(TimeoutError):
                        await session.ping(timeout=0.5)
                    assert 0 < recorder.frames < len(trace), "the last one is under way"
                link.down()
                recorder.event(Event(0.0, "the end"))
                assert recorder.frames == len(trace)
                link.close()

    run_virtually(scenario())
    comments = [frame.comment for frame in read_capture(tmp_path / "a.pcapng")]
    assert (comments[-1] or "").startswith("dropped: down (at ")


# --- Names -----------------------------------------------------------------------------------------------------------


def test_hosts_by_name(network: Network) -> None:
    trace, hosts = network.trace(), network.hosts
    assert network.name_of("10.0.0.1") == "h0"
    assert network.name_of("fd00::2") == "h1"
    assert network.name_of(hosts["h2"].adapters[0].addresses[0].ip) == "h2"
    assert network.name_of("10.9.9.9") is None
    assert {network.name_of(packet.ip.source) for packet in trace.icmp() if packet.ip} <= {"h0", "h1", "h2", None}
    link_local = [packet for packet in trace.icmp() if packet.ip and packet.ip.source.startswith("fe80::")]
    assert {network.name_of(packet.ip.source) for packet in link_local if packet.ip} == {"h0", "h1", "h2"}
    by_address = trace.tcp().where(lambda packet: packet.source in ("10.0.0.2", "fd00::2"))
    assert trace.tcp(source="h1").observations == by_address.observations != []
    assert trace.tcp(source=hosts["h1"], destination=hosts["h0"], port=7).observations == by_address.observations
    assert len(trace.host("h0").tcp()) == len(trace.tcp())
    assert not trace.host("10.0.0.3").tcp()
    for wrong in ("h9", "10.0.0"):
        with pytest.raises(ValueError, match="neither an address nor a host"):
            trace.host(wrong)
    with pytest.raises(ValueError, match="neither an address nor a host"):
        Trace(trace.observations).tcp(source="h1")


def test_points_of_hosts_cards_switches_and_links(network: Network) -> None:
    trace, link = network.trace(), network.links["h1-switch"]
    expected = trace.at("h1-switch").observations
    for point in ("h1", network.hosts["h1"], network.hosts["h1"].adapters[0], link):
        assert trace.at(point).observations == expected
    assert trace.at("switch").observations == trace.observations
    sent = trace.at("h1", outgoing=True).tcp()
    assert {network.name_of(str(packet.source)) for packet in sent} == {"h1"}
    forwarded = trace.at(network.switches["switch"], outgoing=True)
    assert {one.outgoing for one in forwarded.observations} == {False}, "the switch is the second end of each link"
    assert network.points_of("nothing") is None
    assert network.points_of(Switch(loop=network.loop)) == {}


def test_lines_with_names(network: Network) -> None:
    trace = network.trace()
    packet = trace.tcp(source="h1", destination="h0")[0]
    assert f" h1:{packet.source_port} > h0:7 TCP" in packet.text(names=network.name_of)
    assert "h1:" not in packet.text()
    assert "10.0.0.77:" in packet.text(names={str(packet.source): "10.0.0.77"})
    named = trace.text(names=True)
    assert " h1:" in named
    assert "ARP who has h2? tell h1" in named
    assert "10.0.0." not in trace.tcp().text(names=True)
    assert trace.tcp().text(names=network.name_of) == trace.tcp().text(names=True) != trace.tcp().text()


# --- Payload and retransmissions -------------------------------------------------------------------------------------


def test_first_transmissions_and_retransmissions(network: Network) -> None:
    sent = network.trace().at("h1", outgoing=True)
    again = sent.retransmissions()
    assert again, "of what the partition has swallowed"
    first = sent.first_transmissions()
    for number in range(8):
        line = b"line %d\n" % number
        assert [packet.payload for packet in first.containing(line)] == [line]
        assert all(packet.payload == line for packet in sent.containing(line))
    assert not {packet.observation.frame for packet in first} & {packet.observation.frame for packet in again}
    taking = sent.tcp().where(lambda p: p.payload or p.tcp.syn or p.tcp.fin)  # type: ignore[union-attr]
    assert len(first) + len(again) == len(taking)


def test_retransmissions_are_those_that_the_stack_counts() -> None:
    async def scenario(network: Network) -> int:
        a, b = two(network, loss=0.1)
        b.start(serve_upper)

        async def client() -> None:
            for number in range(30):
                await ask("b", question=b"%d" % number * 2000 + b"\n")

        await a.run(client())
        return a.stack.stats().core.tcp_retransmissions

    result = run(scenario, seed=4)
    assert len(result.network.trace().at("a", outgoing=True).retransmissions()) == pytest.approx(result.value, rel=0.2)
    assert result.value > 10


# --- Events ----------------------------------------------------------------------------------------------------------


def test_events(network: Network) -> None:
    assert network.events == [
        Event(1.007, "partition: h0 | h1 h2"),
        Event(4.0, "healed"),
        Event(5.0, "h2 crashed"),
    ], "and no crash at the end of the run"
    trace = network.trace()
    lines = trace.text().splitlines()
    assert "1.007000 *** partition: h0 | h1 h2" in lines
    assert [line.split()[0] for line in lines] == sorted((line.split()[0] for line in lines), key=float)
    assert "healed" not in trace.between(0.0, 2.0).text()
    assert str(network.events[1]) == "4.000000 healed"


def test_links_and_notes_are_events() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        link = network.links["a-b"]
        link.down()
        link.down()
        link.up("a_to_b")
        link.change(loss=0.5, delay=0.1)
        link.up()
        await asyncio.sleep(1)
        b.restart()
        network.heal()
        network.note("something\nelse")
        network.partition(a)

    network = run(scenario, seed=1).network
    assert [event.text for event in network.events] == [
        "link a-b: down",
        "link a-b a_to_b: up",
        "link a-b: loss=0.5, delay=0.1",
        "link a-b: up",
        "b crashed",
        "b restarted",
        "something\nelse",
        "partition: a | b",
    ]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not there")
def test_wireshark_lists_events_and_fates(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    network.trace().save(path)
    done = subprocess.run(["tshark", "-r", path], capture_output=True, text=True, timeout=250, check=True)
    (parting,) = [line for line in done.stdout.splitlines() if "partition: h0 | h1 h2" in line]
    assert parting.split()[1] == "1.007000"
    fields = ["-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"]
    done = subprocess.run(["tshark", "-r", path, *fields], capture_output=True, text=True, timeout=250, check=True)
    comments = done.stdout.splitlines()
    assert len(comments) == len(network.trace().dropped())
    assert all(comment.startswith("dropped: ") for comment in comments)
