"""Marks of explicit congestion notification (RFC 3168) in IP packets, which a router sets instead of dropping one.

Owns where the two bits are and what they mean. It must not know when a packet is marked.
"""

from __future__ import annotations

from typing import Final

NOT_CAPABLE: Final = 0
CONGESTION_EXPERIENCED: Final = 3
"""RFC 3168, section 5: the other two values say that the sender understands marks."""

_ETHERTYPES: Final = {0x0800: 4, 0x86DD: 6}
_HEADERS: Final = {4: 20, 6: 40}
_ETHERNET: Final = 14


def marked(frame: bytes, header: int) -> bytes | None:
    """Return a frame whose packet says that it has met congestion, or None where its sender does not understand that.

    Args:
        frame: its bytes.
        header: bytes before the packet: 14 for Ethernet, 0 for packets without a link layer.
    """
    version = _version(frame, header)
    if version is None:
        return None
    if version == 6:
        at, shift = header + 1, 4  # the traffic class lies across two bytes, its ECN bits in the second
    else:
        at, shift = header + 1, 0
    bits = frame[at] >> shift & 3
    if bits == NOT_CAPABLE:
        return None
    if bits == CONGESTION_EXPERIENCED:
        return frame
    changed = bytearray(frame)
    changed[at] |= CONGESTION_EXPERIENCED << shift
    if version == 4:
        _update_checksum(changed, header, CONGESTION_EXPERIENCED - bits)
    return bytes(changed)


def _version(frame: bytes, header: int) -> int | None:
    """Return the IP version of a frame's packet, or None where it has none, or only a part of its header."""
    version: int | None
    if header >= _ETHERNET:
        version = _ETHERTYPES.get(int.from_bytes(frame[header - 2 : header], "big"))
    else:
        version = frame[header] >> 4 if len(frame) > header else None
    return version if version in _HEADERS and len(frame) >= header + _HEADERS[version] else None


def _update_checksum(frame: bytearray, header: int, more: int) -> None:
    """Correct the checksum of an IPv4 header whose first word has become larger (RFC 1624, equation 3)."""
    at = header + 10
    total = int.from_bytes(frame[at : at + 2], "big") ^ 0xFFFF
    total += more
    total = (total & 0xFFFF) + (total >> 16)
    frame[at : at + 2] = (total ^ 0xFFFF).to_bytes(2, "big")
