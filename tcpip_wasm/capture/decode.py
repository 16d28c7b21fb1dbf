"""Decodes frames: Ethernet, ARP, IPv4 and IPv6, ICMP, UDP and TCP, as objects for tests and figures.

Decoding never raises: a packet has the headers that could be decoded, and `Packet.malformed` says what is wrong with
the rest. Checksums are not verified.

The reasons are in docs/explanation/captures.md.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from tcpip_wasm.capture import link_types
from tcpip_wasm.capture.observation import Observation

if TYPE_CHECKING:
    from tcpip_wasm.capture.text import Names

__all__ = ["Arp", "Ethernet", "Icmp", "Ip", "Packet", "Tcp", "Udp"]

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD
_VLAN: Final = frozenset({0x8100, 0x88A8})
"""IEEE 802.1Q; a frame may have two tags."""

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_EXTENSIONS: Final = frozenset({0, 43, 60})
"""Hop-by-hop options, routing, destination options: RFC 8200, section 4."""
_FRAGMENT: Final = 44

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
_LETTERS: Final = "FSRP.UEW"
"""Letters of the TCP flags, from the lowest bit on, as in tcpdump."""

_IPV4 = struct.Struct("!BBHHHBB2x4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHxxH")
_PAIR = struct.Struct("!II")


class Ethernet(NamedTuple):
    """An Ethernet header. MAC addresses are text, ``02:00:00:00:00:01``; `vlan` is the innermost VLAN ID, or None."""

    source: str
    destination: str
    type: int
    vlan: int | None


class Arp(NamedTuple):
    """ARP for IPv4 over Ethernet, RFC 826: `operation` 1 is a request, with a destination MAC of zero, 2 a reply."""

    operation: int
    source_mac: str
    source: str
    destination_mac: str
    destination: str


class Ip(NamedTuple):
    """An IPv4 or IPv6 header.

    Attributes:
        version: 4 or 6.
        source, destination: addresses as texts.
        protocol: protocol of the payload, after IPv6's extension headers.
        hop_limit: IPv4's TTL.
        length: bytes of the packet with its headers.
        traffic_class: IPv4's type of service: six bits of DSCP, two of ECN.
        identification: identifies the packet of a fragment; 0 for an IPv6 packet that is not fragmented.
        fragment_offset: bytes.
        more_fragments, dont_fragment: the flags; the latter is always set for IPv6.
    """

    version: int
    source: str
    destination: str
    protocol: int
    hop_limit: int
    length: int
    traffic_class: int
    identification: int
    fragment_offset: int
    more_fragments: bool
    dont_fragment: bool

    @property
    def is_fragment(self) -> bool:
        """Whether it is a fragment."""
        return self.more_fragments or self.fragment_offset > 0


class Icmp(NamedTuple):
    """ICMP (RFC 792) or ICMPv6 (RFC 4443): `body` is what follows the checksum."""

    version: int
    type: int
    code: int
    body: bytes

    @property
    def is_echo(self) -> bool:
        """Whether it is an echo request or reply, which have an identifier and a sequence number."""
        return self.type in ((8, 0) if self.version == 4 else (128, 129))

    @property
    def identifier(self) -> int:
        """Of an echo."""
        return int.from_bytes(self.body[:2])

    @property
    def sequence(self) -> int:
        """Of an echo."""
        return int.from_bytes(self.body[2:4])


class Udp(NamedTuple):
    """A UDP header; `length` is that of header and payload."""

    source_port: int
    destination_port: int
    length: int


class Tcp(NamedTuple):
    """A TCP header (RFC 9293) with its options.

    Attributes:
        window: the field, without scaling.
        mss: bytes, or None without the option, like the next ones.
        window_scale: bits, RFC 7323.
        sack_permitted: RFC 2018.
        sack: blocks of received data, left edge and right edge.
        timestamps: value and echo, RFC 7323.
    """

    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int
    urgent: int
    mss: int | None
    window_scale: int | None
    sack_permitted: bool
    sack: tuple[tuple[int, int], ...]
    timestamps: tuple[int, int] | None

    @property
    def syn(self) -> bool:
        """The flag."""
        return self.flags & SYN != 0

    @property
    def ack(self) -> bool:
        """The flag, without which `acknowledgement` means nothing."""
        return self.flags & ACK != 0

    @property
    def fin(self) -> bool:
        """The flag."""
        return self.flags & FIN != 0

    @property
    def rst(self) -> bool:
        """The flag."""
        return self.flags & RST != 0

    @property
    def psh(self) -> bool:
        """The flag."""
        return self.flags & PSH != 0

    @property
    def flag_letters(self) -> str:
        """The flags as tcpdump writes them: ``S``, ``S.``, ``.``, ``P.``, ``F.``, ``R``."""
        return "".join(letter for bit, letter in enumerate(_LETTERS) if self.flags >> bit & 1 and letter != ".") + (
            "." if self.flags & ACK else ""
        )


class Packet:
    """An observation with the decoded headers of its frame; those that it lacks are None.

    Attributes:
        observation: the observation.
        ethernet, arp, ip, icmp, udp, tcp: the headers.
        payload: the bytes after the last header, without the padding of short Ethernet frames.
        payload_length: its bytes on the wire, of which the capture may have fewer.
        truncated: the capture does not have the whole frame.
        malformed: the error that ended decoding, or None.
    """

    __slots__ = (
        *("observation", "ethernet", "arp", "ip", "icmp", "udp", "tcp"),
        *("payload", "payload_length", "truncated", "malformed"),
    )

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.ethernet: Ethernet | None = None
        self.arp: Arp | None = None
        self.ip: Ip | None = None
        self.icmp: Icmp | None = None
        self.udp: Udp | None = None
        self.tcp: Tcp | None = None
        frame = observation.frame
        self.payload: bytes = frame
        self.payload_length: int = observation.length or len(frame)
        self.truncated: bool = self.payload_length > len(frame)
        self.malformed: str | None = None
        try:
            self._link(frame, observation.link_type)
        except (_Malformed, struct.error) as error:
            if not self.truncated:
                self.malformed = str(error) if isinstance(error, _Malformed) else "truncated header"

    # --- Observation and addresses ----------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Seconds."""
        return self.observation.time

    @property
    def point(self) -> str:
        """Name of the link or interface."""
        return self.observation.point

    @property
    def outgoing(self) -> bool:
        """The direction, see `Observation`."""
        return self.observation.outgoing

    @property
    def comment(self) -> str | None:
        """Why it was dropped, or how it was changed."""
        return self.observation.comment

    @property
    def dropped(self) -> bool:
        """Whether it was dropped."""
        return self.observation.dropped

    @property
    def source(self) -> str | None:
        """The source IP address, also of ARP; or None."""
        header = self.ip or self.arp
        return header.source if header else None

    @property
    def destination(self) -> str | None:
        """The destination IP address, also of ARP; or None."""
        header = self.ip or self.arp
        return header.destination if header else None

    @property
    def source_port(self) -> int | None:
        """Of TCP or UDP, or None."""
        header = self.tcp or self.udp
        return header.source_port if header else None

    @property
    def destination_port(self) -> int | None:
        """Of TCP or UDP, or None."""
        header = self.tcp or self.udp
        return header.destination_port if header else None

    def __str__(self) -> str:
        return self.text()

    def text(self, *, names: Names | None = None) -> str:
        """Return one line: time, point, direction, headers, and why it was dropped.

        Args:
            names: names to show instead of addresses: a function, such as `Network.name_of`, or a dictionary.
        """
        from tcpip_wasm.capture.text import line

        return line(self, names=names)

    def __repr__(self) -> str:
        return f"<Packet {self}>"

    # --- Layers -------------------------------------------------------------------------------------------------

    def _link(self, frame: bytes, link_type: int) -> None:
        if link_type == link_types.ETHERNET:
            kind, at, vlan = int.from_bytes(frame[12:14]), 14, None
            while kind in _VLAN and at < 22:
                vlan, kind = int.from_bytes(frame[at : at + 2]) & 0xFFF, int.from_bytes(frame[at + 2 : at + 4])
                at += 4
            if len(frame) < at:
                raise _Malformed(f"an Ethernet header in {len(frame)} bytes")
            self.ethernet = Ethernet(_mac(frame[6:12]), _mac(frame[:6]), kind, vlan)
        elif link_type in (link_types.RAW, link_types.IPV4, link_types.IPV6):
            at, kind = 0, _kind_of_packet(frame, 0)
        elif link_type in (link_types.NULL, link_types.LOOP):
            at, kind = 4, _kind_of_packet(frame, 4)
        elif link_type == link_types.LINUX_SLL:
            at, kind = 16, int.from_bytes(frame[14:16])
        elif link_type == link_types.LINUX_SLL2:
            at, kind = 20, int.from_bytes(frame[:2])
        else:
            raise _Malformed(f"link type {link_type} is not supported")
        if kind == ETHERTYPE_IPV4:
            self._ipv4(frame, at)
        elif kind == ETHERTYPE_IPV6:
            self._ipv6(frame, at)
        else:
            self._rest(frame, at, len(frame), self.payload_length)
            if kind == ETHERTYPE_ARP:
                self._arp(frame, at)
            elif not self.ethernet:
                raise _Malformed("neither IPv4 nor IPv6")

    def _rest(self, frame: bytes, at: int, end: int, wire_end: int) -> None:
        self.payload = frame[at:end]
        self.payload_length = max(wire_end - at, 0)

    def _arp(self, frame: bytes, at: int) -> None:
        if frame[at : at + 6] != b"\0\1\x08\0\6\4":
            raise _Malformed("ARP for other protocols than IPv4 over Ethernet")
        if len(frame) < at + 28:
            raise _Malformed(f"ARP in {len(frame) - at} bytes")
        self.arp = Arp(
            int.from_bytes(frame[at + 6 : at + 8]),
            _mac(frame[at + 8 : at + 14]),
            _address(frame[at + 14 : at + 18]),
            _mac(frame[at + 18 : at + 24]),
            _address(frame[at + 24 : at + 28]),
        )
        self.payload, self.payload_length = b"", 0

    def _ipv4(self, frame: bytes, at: int) -> None:
        wire = self.payload_length
        self._rest(frame, at, len(frame), wire)
        first, service, total, identification, fragment, hops, protocol, source, to = _IPV4.unpack_from(frame, at)
        header = (first & 15) * 4
        if first >> 4 != 4 or header < 20:
            raise _Malformed(f"an IPv4 header that begins with {first:#04x}")
        wire_end = at + total
        if total == 0:  # captured by a kernel before the network card segmented it
            wire_end = wire
        elif total < header or wire_end > wire:
            raise _Malformed(f"an IPv4 packet of {total} bytes in {wire - at}")
        offset, more = (fragment & 0x1FFF) * 8, fragment & 0x2000 != 0
        self.ip = Ip(
            *(4, _address(source), _address(to), protocol, hops, wire_end - at, service),
            *(identification, offset, more, fragment & 0x4000 != 0),
        )
        self._transport(frame, at + header, min(wire_end, len(frame)), wire_end)

    def _ipv6(self, frame: bytes, at: int) -> None:
        wire = self.payload_length
        self._rest(frame, at, len(frame), wire)
        first, length, protocol, hops, source, to = _IPV6.unpack_from(frame, at)
        if first >> 28 != 6:
            raise _Malformed(f"an IPv6 header of version {first >> 28}")
        start = at + 40
        wire_end = start + length if length else wire
        if wire_end > wire:
            raise _Malformed(f"an IPv6 packet of {length} bytes in {wire - start}")
        end = min(wire_end, len(frame))
        identification = offset = 0
        more, problem = False, None
        while protocol in _EXTENSIONS or protocol == _FRAGMENT:
            if start + 8 > end:
                problem = "truncated IPv6 extension header"
                break
            following, size = frame[start], 8
            if protocol == _FRAGMENT:
                word = int.from_bytes(frame[start + 2 : start + 4])
                offset, more = word & 0xFFF8, word & 1 != 0
                identification = int.from_bytes(frame[start + 4 : start + 8])
            else:
                size += frame[start + 1] * 8
            start += size
            protocol = following
            if offset:
                break  # only the first fragment has the headers of the payload
        self.ip = Ip(
            *(6, _address(source), _address(to), protocol, hops, wire_end - at, first >> 20 & 0xFF),
            *(identification, offset, more, True),
        )
        if problem or start > end:
            self._rest(frame, min(start, end), end, wire_end)
            raise _Malformed(problem or "an IPv6 extension header longer than its packet")
        self._transport(frame, start, end, wire_end)

    def _transport(self, frame: bytes, at: int, end: int, wire_end: int) -> None:
        self._rest(frame, at, end, wire_end)
        ip = self.ip
        assert ip is not None
        if ip.fragment_offset:
            return
        protocol = ip.protocol
        if protocol == TCP:
            self._tcp(frame, at, end, wire_end)
        elif protocol == UDP:
            if end - at < 8:
                raise _Malformed(f"a UDP header in {end - at} bytes")
            source, destination, length = struct.unpack_from("!HHH", frame, at)
            self.udp = Udp(source, destination, length)
            if length < 8 or (at + length > wire_end and not ip.is_fragment):
                raise _Malformed(f"a UDP datagram of {length} bytes in {wire_end - at}")
            self._rest(frame, at + 8, min(at + length, end), min(at + length, wire_end))
        elif protocol in (ICMP, ICMPV6):
            if end - at < 4:
                raise _Malformed(f"an ICMP header in {end - at} bytes")
            body = frame[at + 4 : end]
            self.icmp = Icmp(4 if protocol == ICMP else 6, frame[at], frame[at + 1], body)
            self._rest(frame, min(at + 8, end), end, wire_end)

    def _tcp(self, frame: bytes, at: int, end: int, wire_end: int) -> None:
        if end - at < 20:
            raise _Malformed(f"a TCP header in {end - at} bytes")
        source, destination, sequence, acknowledgement, words, flags, window, urgent = _TCP.unpack_from(frame, at)
        size = (words >> 4) * 4
        problem = f"a TCP header of {size} bytes in {wire_end - at}" if not 20 <= size <= wire_end - at else None
        data = at + min(max(size, 20), end - at)
        options, wrong = _options(frame[at + 20 : data])
        self.tcp = Tcp(source, destination, sequence, acknowledgement, flags, window, urgent, *options)
        self._rest(frame, data, end, wire_end)
        if problem or wrong:
            raise _Malformed(problem or wrong)


_Options = tuple[int | None, int | None, bool, tuple[tuple[int, int], ...], tuple[int, int] | None]
_NONE: Final[_Options] = (None, None, False, (), None)
_TIMESTAMPS: Final = b"\1\1\x08\x0a"


def _options(options: bytes) -> tuple[_Options, str]:
    """Decode TCP options (RFC 9293, section 3.1); return them, and the error or ``""``."""
    if not options:
        return _NONE, ""
    if len(options) == 12 and options.startswith(_TIMESTAMPS):  # the options of most segments
        return (None, None, False, (), _PAIR.unpack_from(options, 4)), ""
    mss: int | None = None
    scale: int | None = None
    permitted = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: tuple[int, int] | None = None
    at, wrong = 0, ""
    while at < len(options) and options[at]:
        kind = options[at]
        if kind == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        value = options[at + 2 : at + size]
        if size < 2 or len(value) < size - 2:
            wrong = f"a TCP option of kind {kind} and length {size}, where {len(options) - at} bytes are left"
            break
        at += size
        if kind == 2 and size == 4:
            mss = int.from_bytes(value)
        elif kind == 3 and size == 3:
            scale = value[0]
        elif kind == 4 and size == 2:
            permitted = True
        elif kind == 5 and size % 8 == 2:
            sack = tuple(_PAIR.iter_unpack(value))
        elif kind == 8 and size == 10:
            timestamps = _PAIR.unpack(value)
        elif kind in (2, 3, 4, 5, 8):
            wrong = f"a TCP option of kind {kind} and length {size}"
    return (mss, scale, permitted, sack, timestamps), wrong


class _Malformed(Exception):
    pass


def _kind_of_packet(frame: bytes, at: int) -> int:
    return {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(frame[at] >> 4, 0) if len(frame) > at else 0


@lru_cache(4096)
def _address(packed: bytes) -> str:
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))


@lru_cache(4096)
def _mac(packed: bytes) -> str:
    return packed.hex(":")
