"""Builds frames with correct checksums, as another host on the cable may send them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

ETHERNET = 14
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def ethernet(to: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return to + source + struct.pack("!H", kind) + payload


def arp(operation: int, mac: bytes, ip: str, to_mac: bytes, to_ip: str) -> bytes:
    """RFC 826; operation 1 is a request, 2 a reply."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac + IPv4Address(ip).packed + to_mac + IPv4Address(to_ip).packed


def ipv4(source: str, to: str, protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """RFC 791; `fragment` is the word of flags and offset."""
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), 7, fragment, 64, protocol, 0)
    head += IPv4Address(source).packed + IPv4Address(to).packed + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, to: str, protocol: int, payload: bytes, *, hops: int = 64) -> bytes:
    """RFC 8200."""
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops)
    return head + IPv6Address(source).packed + IPv6Address(to).packed + payload


def _pseudo(source: str, to: str, protocol: int, length: int) -> bytes:
    if ":" in source:
        return IPv6Address(source).packed + IPv6Address(to).packed + struct.pack("!II", length, protocol)
    return IPv4Address(source).packed + IPv4Address(to).packed + struct.pack("!HH", protocol, length)


def tcp(
    source: tuple[str, int],
    to: tuple[str, int],
    *,
    sequence: int = 1,
    acknowledgement: int = 0,
    flags: int = SYN,
    window: int = 65535,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """RFC 9293; `options` fill whole words."""
    head = struct.pack(
        "!HHIIBBHHH",
        source[1],
        to[1],
        sequence & 0xFFFFFFFF,
        acknowledgement & 0xFFFFFFFF,
        (5 + len(options) // 4) << 4,
        flags,
        window,
        0,
        0,
    )
    segment = head + options + payload
    total = checksum(_pseudo(source[0], to[0], TCP, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", total) + segment[18:]


def icmpv6(source: str, to: str, kind: int, code: int, body: bytes) -> bytes:
    """RFC 4443; `body` has the bytes after the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    total = checksum(_pseudo(source, to, ICMPV6, len(message)) + message)
    return message[:2] + struct.pack("!H", total) + message[4:]


def icmp(kind: int, code: int, body: bytes) -> bytes:
    """RFC 792; `body` has the bytes after the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def samples(mac: bytes, own: tuple[str, str], peer_mac: bytes, peer: tuple[str, str], port: int) -> dict[str, bytes]:
    """Return valid frames of every kind that a host with an IPv4 and an IPv6 address accepts.

    Args:
        mac: the host's MAC address.
        own: its IPv4 and its IPv6 address.
        peer_mac, peer: those of the sender.
        port: the port on which the host listens.
    """
    (own4, own6), (peer4, peer6) = own, peer
    its_mac = b"\2\1" + peer_mac  # the option "target link-layer address"
    target = IPv6Address(own6).packed
    syn_options = b"\2\4\5\xb4\1\3\3\5\4\2\1\1\10\12\0\0\0\1\0\0\0\0\1\1"

    def four(protocol: int, payload: bytes, **options: bytes) -> bytes:
        packet = ipv4(peer4, own4, protocol, payload, **options)  # type: ignore[arg-type]
        return ethernet(mac, peer_mac, IPV4, packet)

    def six(kind: int, body: bytes) -> bytes:
        return ethernet(mac, peer_mac, IPV6, ipv6(peer6, own6, ICMPV6, icmpv6(peer6, own6, kind, 0, body), hops=255))

    inner4 = ipv4(own4, peer4, TCP, tcp((own4, port), (peer4, 9)))[:28]
    inner6 = ipv6(own6, peer6, TCP, tcp((own6, port), (peer6, 9)))[:48]
    return {
        "arp request": ethernet(b"\xff" * 6, peer_mac, ARP, arp(1, peer_mac, peer4, bytes(6), own4)),
        "arp reply": ethernet(mac, peer_mac, ARP, arp(2, peer_mac, peer4, mac, own4)),
        "tcp syn 4": four(TCP, tcp((peer4, 2000), (own4, port), options=syn_options)),
        "tcp data 4": four(TCP, tcp((peer4, 2001), (own4, port), flags=ACK | PSH, payload=b"data" * 20)),
        "tcp with ip options": four(TCP, tcp((peer4, 2002), (own4, port)), options=b"\7\7\4\0\0\0\0\0"),
        "udp 4": four(UDP, struct.pack("!HHHH", 1, 53, 16, 0) + b"datagram"),
        "icmp echo": four(ICMP, icmp(8, 0, b"\0\1\0\1ping")),
        "icmp unreachable": four(ICMP, icmp(3, 4, b"\0\0\5\0" + inner4)),
        "tcp syn 6": ethernet(
            mac, peer_mac, IPV6, ipv6(peer6, own6, TCP, tcp((peer6, 2000), (own6, port), options=syn_options))
        ),
        "hop-by-hop": ethernet(
            mac, peer_mac, IPV6, ipv6(peer6, own6, 0, b"\6\0\1\4\0\0\0\0" + tcp((peer6, 2003), (own6, port)))
        ),
        "fragment 6": ethernet(mac, peer_mac, IPV6, ipv6(peer6, own6, 44, b"\x06\0\0\1\0\0\0\7" + bytes(64))),
        "fragment 4": ethernet(mac, peer_mac, IPV4, ipv4(peer4, own4, ICMP, bytes(64), fragment=0x2000)),
        "neighbour solicitation": six(135, bytes(4) + target + b"\1\1" + peer_mac),
        "neighbour advertisement": six(136, b"\x60\0\0\0" + IPv6Address(peer6).packed + its_mac),
        "router advertisement": six(
            134, struct.pack("!BBHII", 64, 0, 0, 0, 0) + b"\1\1" + peer_mac + b"\5\1\0\0\0\0\5\0"
        ),
        "redirect": six(137, bytes(4) + IPv6Address(peer6).packed + target + its_mac),
        "echo 6": six(128, b"\0\1\0\1ping"),
        "too big 6": six(2, b"\0\0\5\0" + inner6),
        "listener query 6": six(130, bytes(4) + bytes(16)),
    }
