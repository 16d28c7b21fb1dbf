"""Distinguishes first transmissions of TCP segments from retransmissions, at each point of a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tcpip_wasm.capture.decode import Packet

__all__ = ["transmissions"]

_HALF: Final = 1 << 31


def transmissions(packets: Iterable[Packet]) -> Iterator[tuple[Packet, bool]]:
    """Yield the segments that occupy sequence numbers (data, SYN, FIN), and whether each is a retransmission.

    It is one if it begins before the highest sequence number that its point has captured in the same direction, as in
    `connections`. After a link that reorders, a late segment looks the same.

    Args:
        packets: in order of time.
    """
    ends: dict[tuple[str, str | None, int, str | None, int], int] = {}
    begun: dict[tuple[str, str | None, int, str | None, int], int] = {}
    for packet in packets:
        tcp = packet.tcp
        if tcp is None or packet.malformed:
            continue
        size = packet.payload_length + tcp.syn + tcp.fin
        if size == 0:
            continue
        flow = packet.point, packet.source, tcp.source_port, packet.destination, tcp.destination_port
        if tcp.syn and begun.get(flow) != tcp.sequence:  # a new connection
            begun[flow] = tcp.sequence
            ends.pop(flow, None)
        end = ends.get(flow, tcp.sequence)
        again = _distance(end, tcp.sequence) < 0
        if not again or _distance(end, tcp.sequence + size) > 0:
            ends[flow] = tcp.sequence + size & 0xFFFFFFFF
        yield packet, again


def _distance(start: int, end: int) -> int:
    return (end - start + _HALF) % (1 << 32) - _HALF
