"""Frames that scenarios inject, built from a few words, with lengths and checksums that are right unless given."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

PROTOCOLS: Final = {"ICMP": 1, "IGMP": 2, "TCP": 6, "UDP": 17, "ICMPV6": 58}
_CHECKSUM_AT: Final = {1: 2, 2: 2, 6: 16, 17: 6, 58: 2}
ARP: Final = 0x0806


def build(options: dict[str, Any]) -> bytes:
    """Return a frame.

    Args:
        options: ``frame`` is a whole one in hexadecimal. Else ``to`` and ``from`` are MAC addresses, without which it
            is an IP packet for a tun; ``arp`` is an ARP packet in hexadecimal; ``source`` and ``destination`` are IP
            addresses, ``protocol`` is one of `PROTOCOLS`, and ``body`` is what follows the IP header: hexadecimal and
            ``zeros`` bytes behind it, or a list of hexadecimal and of numbers of zero bytes. Its checksum is computed
            where it is zero, unless ``raw`` is true. ``hops``, ``identification``, ``offset`` (bytes) and ``more`` are
            fields of the IPv4 header.
    """
    if "frame" in options:
        return bytes.fromhex(options["frame"])
    if "arp" in options:
        kind, packet = ARP, bytes.fromhex(options["arp"])
    else:
        kind, packet = _packet(options)
    if "to" not in options:
        return packet
    return _mac(options["to"]) + _mac(options["from"]) + kind.to_bytes(2) + packet


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _packet(options: dict[str, Any]) -> tuple[int, bytes]:
    source, destination = ip_address(options["source"]).packed, ip_address(options["destination"]).packed
    protocol = PROTOCOLS[options["protocol"]]
    parts = options.get("body", "")
    body = bytearray()
    for part in parts if isinstance(parts, list) else [parts, options.get("zeros", 0)]:
        body += bytes.fromhex(part) if isinstance(part, str) else bytes(part)
    length = len(body)
    if not options.get("raw"):
        at = _CHECKSUM_AT[protocol]
        if body[at : at + 2] == b"\0\0":
            v6 = source + destination + length.to_bytes(4) + bytes([0, 0, 0, protocol])
            v4 = source + destination + bytes([0, protocol]) + length.to_bytes(2)
            pseudo = v6 if len(source) == 16 else b"" if protocol in (1, 2) else v4
            body[at : at + 2] = checksum(pseudo + bytes(body))
    hops = options.get("hops", 255 if len(source) == 16 else 64)
    if len(source) == 16:
        return 0x86DD, b"\x60\0\0\0" + length.to_bytes(2) + bytes([protocol, hops]) + source + destination + bytes(body)
    fragment = options.get("offset", 0) // 8 | (0x2000 if options.get("more") else 0)
    header = b"\x45\0" + (20 + length).to_bytes(2) + int(options.get("identification", 1)).to_bytes(2)
    header += fragment.to_bytes(2) + bytes([hops, protocol, 0, 0]) + source + destination
    return 0x0800, header[:10] + checksum(header) + header[12:] + bytes(body)


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)
