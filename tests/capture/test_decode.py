"""Frames as objects: the fields agree with dpkt's, lines of text, and no frame raises."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm.capture import Observation, Packet, link_types
from tests.kit.frames import ACK, ETHERNET, IPV4, PSH, TCP, UDP, ethernet, ipv4, ipv6, samples, tcp

MAC, PEER_MAC = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
FRAMES = samples(MAC, ("10.0.0.1", "fd00::1"), PEER_MAC, ("10.0.0.2", "fd00::2"), 80)


def packet(frame: bytes, link_type: int = link_types.ETHERNET, **more: object) -> Packet:
    return Packet(Observation(1.5, "tap0", True, frame, link_type=link_type, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FRAMES)
def test_decoding_agrees_with_dpkt(name: str) -> None:
    ours, theirs = packet(FRAMES[name]), dpkt.ethernet.Ethernet(FRAMES[name])
    assert ours.ethernet is not None
    assert ours.ethernet[:3] == (theirs.src.hex(":"), theirs.dst.hex(":"), theirs.type)
    ip = theirs.data
    if isinstance(ip, dpkt.arp.ARP):
        assert ours.arp is not None
        assert ours.arp[:2] == (ip.op, ip.sha.hex(":"))
        assert (ours.source, ours.destination) == (str(ip_address(ip.spa)), str(ip_address(ip.tpa)))
        assert ours.malformed is None
        return
    assert ours.ip is not None
    assert (ours.ip.version, ours.source, ours.destination) == (ip.v, str(ip_address(ip.src)), str(ip_address(ip.dst)))
    assert ours.ip.protocol == ip.p
    assert ours.ip.hop_limit == (ip.ttl if ip.v == 4 else ip.hlim)
    inner = ip.data
    if isinstance(inner, dpkt.tcp.TCP):
        assert ours.tcp is not None
        assert ours.tcp[:6] == (inner.sport, inner.dport, inner.seq, inner.ack, inner.flags, inner.win)
        assert ours.payload == inner.data
        options = dict(dpkt.tcp.parse_opts(inner.opts))
        assert ours.tcp.mss == (int.from_bytes(options[2]) if 2 in options else None)
        assert ours.tcp.window_scale == (options[3][0] if 3 in options else None)
        assert ours.tcp.sack_permitted == (4 in options)
        assert ours.tcp.timestamps == (struct.unpack("!II", options[8]) if 8 in options else None)
    elif isinstance(inner, dpkt.udp.UDP):
        assert ours.udp == (inner.sport, inner.dport, inner.ulen)
        assert ours.payload == inner.data
    elif isinstance(inner, (dpkt.icmp.ICMP, dpkt.icmp6.ICMP6)):
        assert ours.icmp is not None
        assert ours.icmp[1:3] == (inner.type, inner.code)
    else:
        assert name == "fragment 6"
    # The sample fragment begins with a TCP header of zeros.
    assert (ours.malformed is None) is (name != "fragment 6")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("arp request", "ARP who has 10.0.0.1? tell 10.0.0.2"),
        ("arp reply", "ARP 10.0.0.2 is at 02:00:00:00:00:02"),
        (
            "tcp syn 6",
            "[fd00::2]:2000 > [fd00::1]:80 TCP [S] seq 1 win 65535 <mss 1460, wscale 5, sack ok, ts 1 0> 0 bytes",
        ),
        ("tcp data 4", "10.0.0.2:2001 > 10.0.0.1:80 TCP [P.] seq 1 ack 0 win 65535 80 bytes"),
        ("udp 4", "10.0.0.2:1 > 10.0.0.1:53 UDP 8 bytes"),
        ("icmp echo", "10.0.0.2 > 10.0.0.1 ICMP echo request id 1 seq 1 4 bytes"),
        ("icmp unreachable", "10.0.0.2 > 10.0.0.1 ICMP fragmentation needed 28 bytes"),
        ("fragment 4", "10.0.0.2 > 10.0.0.1 ICMP echo reply id 0 seq 0 56 bytes fragment 0x7 at 0+"),
        ("router advertisement", "fd00::2 > fd00::1 ICMPv6 router advertisement 24 bytes"),
    ],
)
def test_lines(name: str, text: str) -> None:
    assert str(packet(FRAMES[name])) == f"1.500000 tap0 out {text}"


def test_drops_and_comments() -> None:
    frame = FRAMES["udp 4"]
    assert str(packet(frame, comment="loss")).endswith("UDP 8 bytes [DROPPED: loss]")
    assert str(packet(frame, comment="duplicate")).endswith("UDP 8 bytes [duplicate]")
    assert packet(frame, comment="loss").dropped
    assert not packet(frame, comment="corrupt: bit 3").dropped
    assert not packet(frame).dropped


def test_options_of_tcp() -> None:
    options = b"\1\1\5\x12" + struct.pack("!IIII", 10, 20, 30, 40) + b"\x1e\4ab" + b"\0\0\0\0"
    segment = tcp(("10.0.0.1", 1), ("10.0.0.2", 2), flags=ACK | PSH, options=options, payload=b"data")
    got = packet(ipv4("10.0.0.1", "10.0.0.2", TCP, segment), link_types.RAW)
    assert got.tcp is not None
    assert got.tcp.sack == ((10, 20), (30, 40))
    assert (got.tcp.ack, got.tcp.psh, got.tcp.syn, got.tcp.fin, got.tcp.rst) == (True, True, False, False, False)
    assert (got.payload, got.malformed) == (b"data", None)
    assert "<sack 10:20 30:40> 4 bytes" in str(got)


@pytest.mark.parametrize("options", [b"\2\3\0\0", b"\3\0\0\0", b"\5\x09abcdefg\0\0\0", b"\1\1\1\2", b"\x08\x20\0\0"])
def test_wrong_options_of_tcp(options: bytes) -> None:
    segment = tcp(("10.0.0.1", 1), ("10.0.0.2", 2), options=options, payload=b"data")
    got = packet(ipv4("10.0.0.1", "10.0.0.2", TCP, segment), link_types.RAW)
    assert got.malformed is not None
    assert "TCP option" in got.malformed
    assert got.tcp is not None
    assert got.payload == b"data"


def test_padding_is_not_payload() -> None:
    short = ethernet(MAC, PEER_MAC, IPV4, ipv4("10.0.0.1", "10.0.0.2", TCP, tcp(("10.0.0.1", 1), ("10.0.0.2", 2))))
    got = packet(short.ljust(60, b"\0"))
    assert (got.payload, got.payload_length, got.malformed) == (b"", 0, None)


def test_vlan_tags() -> None:
    frame = FRAMES["udp 4"]
    tagged = frame[:12] + b"\x88\xa8\0\1\x81\0\xe0\x2a" + frame[12:]
    got = packet(tagged)
    assert got.ethernet is not None
    assert (got.ethernet.type, got.ethernet.vlan) == (IPV4, 0x2A)
    assert got.payload == b"datagram"


@pytest.mark.parametrize(
    ("link_type", "before"),
    [
        (link_types.RAW, b""),
        (link_types.IPV4, b""),
        (link_types.NULL, b"\2\0\0\0"),
        (link_types.LOOP, b"\0\0\0\2"),
        (link_types.LINUX_SLL, bytes(14) + b"\x08\0"),
        (link_types.LINUX_SLL2, b"\x08\0" + bytes(18)),
    ],
)
def test_other_links(link_type: int, before: bytes) -> None:
    got = packet(before + FRAMES["udp 4"][ETHERNET:], link_type)
    assert (got.payload, got.malformed, got.ethernet) == (b"datagram", None, None)


def test_unknown_link_type() -> None:
    got = packet(b"whatever", 147)
    assert got.malformed == "link type 147 is not supported"
    assert got.payload == b"whatever"


def test_truncated_frames() -> None:
    frame = FRAMES["tcp data 4"]
    got = packet(frame[:60], length=len(frame))
    assert got.tcp is not None
    assert (got.truncated, got.malformed, len(got.payload), got.payload_length) == (True, None, 6, 80)
    assert "80 bytes [60 bytes captured]" in str(got)
    got = packet(frame[:40], length=len(frame))
    assert (got.truncated, got.malformed, got.tcp) == (True, None, None)


def test_fragments() -> None:
    whole = struct.pack("!HHHH", 1, 53, 3008, 0) + bytes(3000)
    first = packet(ipv4("10.0.0.1", "10.0.0.2", UDP, whole[:1480], fragment=0x2000), link_types.RAW)
    last = packet(ipv4("10.0.0.1", "10.0.0.2", UDP, whole[1480:], fragment=185), link_types.RAW)
    assert first.udp is not None
    assert (first.udp.length, first.malformed, len(first.payload)) == (3008, None, 1472)
    assert last.ip is not None
    assert (last.udp, last.malformed, last.ip.fragment_offset) == (None, None, 1480)
    second = packet(ipv6("fd00::1", "fd00::2", 44, b"\x11\0\0\x09\0\0\0\7" + bytes(100)), link_types.RAW)
    assert second.ip is not None
    assert (second.ip.protocol, second.ip.fragment_offset, second.ip.identification) == (17, 8, 7)
    assert (second.udp, second.malformed) == (None, None)


@settings(max_examples=1500)
@given(
    st.sampled_from(list(FRAMES.values())),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    st.integers(0, 130),
    st.booleans(),
)
def test_random_frames_do_not_raise(frame: bytes, changes: list[tuple[int, int]], length: int, cut: bool) -> None:
    data = bytearray(frame)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    got = packet(bytes(data[:length]), length=len(frame) if cut and length < len(frame) else None)
    assert len(got.payload) <= length
    assert got.payload_length >= len(got.payload)
    assert str(got)


@settings(max_examples=500)
@given(st.binary(max_size=120), st.sampled_from([0, 1, 101, 108, 113, 228, 229, 276, 9999]))
def test_random_bytes_do_not_raise(data: bytes, link_type: int) -> None:
    got = packet(data, link_type)
    assert got.payload_length >= len(got.payload)
    assert str(got)
