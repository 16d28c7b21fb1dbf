"""A minimal host that answers ARP (RFC 826) and ICMP echo (RFC 792), to test a wire without a stack."""

from __future__ import annotations

from ipaddress import IPv4Address

__all__ = ["Responder"]

_MAC = bytes.fromhex("020000000001")
_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
_ICMP, _ECHO_REQUEST = 1, 8


class Responder:
    """Answers for one IPv4 address on a wire of Ethernet frames ("tap") or packets ("tun")."""

    def __init__(self, kind: str, address: str) -> None:
        self._header = 14 if kind == "tap" else 0
        self._address = IPv4Address(address).packed

    def answer(self, frame: bytes) -> bytes | None:
        """Return the reply to a frame, or None."""
        ethernet, packet = frame[: self._header], frame[self._header :]
        if ethernet[12:] == _ARP:
            return self._arp_reply(packet) if packet[24:28] == self._address else None
        if ethernet[12:] not in (b"", _IPV4) or packet[0] != 0x45 or packet[16:20] != self._address:
            return None
        if packet[9] != _ICMP or packet[20] != _ECHO_REQUEST:
            return None
        link = ethernet[6:12] + _MAC + _IPV4 if ethernet else b""
        # Swapping the addresses leaves the IP checksum as it is; the type's change from 8 to 0 adds to
        # ICMP's.
        checksum = int.from_bytes(packet[22:24]) + 0x0800
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
        swapped = packet[:12] + packet[16:20] + packet[12:16]
        return link + swapped + b"\x00" + packet[21:22] + checksum.to_bytes(2) + packet[24:]

    def _arp_reply(self, request: bytes) -> bytes:
        asker = request[8:18]
        return asker[:6] + _MAC + _ARP + request[:6] + b"\x00\x02" + _MAC + self._address + asker
