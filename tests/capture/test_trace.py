"""Traces: filters, the digest, files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from tcpip_wasm.capture import Observation, PcapngWriter, Trace, link_types
from tcpip_wasm.simulation import run_virtually
from tests.kit.captures import ALICE, BOB, stream_of, transfer
from tests.kit.core_network import payload
from tests.kit.frames import samples

FRAMES = samples(b"\2\0\0\0\0\1", (ALICE, "fd00::1"), b"\2\0\0\0\0\2", (BOB, "fd00::2"), 80)


def seen() -> list[Observation]:
    return [
        Observation(number / 1000, f"link{number % 2}", number % 3 == 0, frame, "loss" if number % 5 == 0 else None)
        for number, frame in enumerate(FRAMES.values())
    ]


def test_questions() -> None:
    trace = Trace(seen())
    assert len(trace) == len(FRAMES)
    assert len(trace.tcp()) == 6  # a fragment with a header of zeros among them
    assert [packet.source_port for packet in trace.tcp(source=BOB)] == [2000, 2001, 2002]
    assert [packet.source_port for packet in trace.tcp(source="fd00:0::2", port=80)] == [2000, 2003]
    assert len(trace.tcp(port=2000)) == 2
    assert len(trace.tcp(source_port=80)) == 0
    assert len(trace.tcp(destination_port=80)) == 5
    assert [packet.payload for packet in trace.udp(destination=ALICE, port=53)] == [b"datagram"]
    assert {packet.ip.version for packet in trace.icmp() if packet.ip} == {4, 6}
    assert [packet.arp.operation for packet in trace.arp() if packet.arp] == [1, 2]
    assert [packet.time for packet in trace.dropped()] == [0.0, 0.005, 0.01, 0.015]
    assert len(trace.dropped("loss")) + len(trace.delivered()) == len(trace)
    assert len(trace.dropped("queue")) == 0
    assert [packet.time for packet in trace.between(0.002, 0.004)] == [0.002, 0.003]
    assert {packet.point for packet in trace.at("link1")} == {"link1"}
    assert len(trace.at("link1", outgoing=True)) == 3
    assert len(trace.udp(port=53).dropped().between(0, 0.006)) == 1
    assert [packet.time for packet in trace.where(lambda p: p.tcp and p.tcp.psh)] == [0.003]
    with pytest.raises(ValueError, match="nobody"):
        trace.tcp(source="nobody")


def test_as_a_sequence() -> None:
    observations = seen()
    trace = Trace(observations)
    assert trace.observations == observations
    assert trace[3] is trace[3]
    assert trace[-1].observation == observations[-1]
    assert trace[2:4].observations == observations[2:4]
    assert [packet.observation for packet in trace] == observations
    assert not Trace()
    for index in (len(trace), -len(trace) - 1):
        with pytest.raises(IndexError):
            trace[index]


def test_every_field_is_part_of_the_digest() -> None:
    base = Observation(1.0, "link0", True, b"frame")
    others = [
        Observation(1.000000001, "link0", True, b"frame"),
        Observation(1.0, "link1", True, b"frame"),
        Observation(1.0, "link0", False, b"frame"),
        Observation(1.0, "link0", True, b"framf"),
        Observation(1.0, "link0", True, b"frame", ""),
        Observation(1.0, "link0", True, b"frame", "loss"),
        Observation(1.0, "link", True, b"0frame"),
    ]
    digests = {Trace([each]).digest() for each in [base, *others]}
    digests |= {Trace().digest(), Trace([base, base]).digest(), Trace([base, others[0]]).digest()}
    assert len(digests) == len(others) + 4
    assert Trace([others[0], base]).digest() not in digests
    # Tests have digests as constants: they must not change.
    assert Trace([base]).digest() == "4e6a2abcfd766071abb3473283c6f418300eb7ac2beef21ec31a028d281f4928"


def test_a_bounded_trace_has_the_digest_of_all() -> None:
    observations = seen() * 300
    whole = Trace(observations)
    for limit in (0, 1, 100):
        bounded = Trace(observations, limit=limit)
        assert bounded.digest() == whole.digest()
        assert bounded.observations == observations[len(observations) - limit :]
        assert len(bounded) == len(list(bounded)) == limit
        assert bounded.forgotten == len(observations) - limit
        assert len(bounded._items) < 2 * limit + 1100
    assert bounded[0].observation == bounded.observations[0]
    assert bounded[-1].observation == observations[-1]
    assert bounded.text().splitlines()[0] == f"… {len(observations) - 100} packets before"
    with pytest.raises(ValueError, match="limit"):
        Trace(limit=-1)


def test_text_counts_sequence_numbers_from_the_first() -> None:
    trace = Trace()
    assert run_virtually(transfer(trace, 20_000)) == payload(20_000)
    lines = trace.tcp().text().splitlines()
    assert " TCP [S] seq 0 win " in lines[0]
    assert " TCP [S.] seq 0 ack 1 win " in lines[1]
    assert " TCP [.] seq 1 ack 1 win " in lines[2]
    assert any(" seq 1449 ack 1 win " in line and line.endswith(" 1448 bytes") for line in lines)
    assert lines[-1].split(" seq ")[1].split()[2] in ("20002", "2")
    assert str(trace) == trace.text()
    assert trace.tcp().text(last=2).splitlines() == [f"… {len(lines) - 2} packets before", *lines[-2:]]


def test_a_file_and_back(tmp_path: Path) -> None:
    trace = Trace()
    assert run_virtually(transfer(trace, 200_000, loss=0.02)) == payload(200_000)
    trace.record(Observation(2000.0, "tun0", True, FRAMES["udp 4"][14:], "duplicate", link_types.RAW))
    trace.record(Observation(2000.0, "tap0", True, FRAMES["udp 4"][:40], "note: look", length=50))
    path = tmp_path / "a.pcapng"
    trace.save(path, comment="a test")
    loaded = Trace.load(path)
    assert loaded.observations == [replace(each, time=round(each.time * 1e9) / 1e9) for each in trace.observations]
    assert loaded.digest() == trace.digest()
    assert stream_of(loaded[:-2].delivered().tcp(), loaded.tcp()[0].source_port or 0) == payload(200_000)
    assert len(loaded.dropped()) == len(trace.dropped()) > 0


def test_the_comment_of_another_program_is_not_a_drop() -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    writer.write(writer.add_interface("eth0"), 0, FRAMES["udp 4"], comment="the one that I looked for")
    file.seek(0)
    (packet,) = Trace.load(file)
    assert packet.comment == "note: the one that I looked for"
    assert not packet.dropped


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left"):
        Trace(seen()).save("/dev/full")
