"""TCP connections of a trace: segments, acknowledgements, data under way and throughput, for a figure.

Interprets sequence numbers, and knows nothing of drawing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from tcpip_wasm.capture.decode import Packet, Tcp

__all__ = ["Acknowledgement", "Connection", "Direction", "Segment", "connections", "views"]

Endpoint = tuple[str, int]

_HALF: Final = 1 << 31
_BINS: Final = 125
"""Most intervals of throughput where the caller does not set their length."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment with data, SYN or FIN.

    Attributes:
        time: seconds since the connection's first packet.
        start, end: sequence numbers, relative to the SYN or the first byte that was captured, without wrapping at 2³².
        retransmitted: some of it was captured before.
        dropped: why it was dropped, or None.
    """

    time: float
    start: int
    end: int
    retransmitted: bool
    dropped: str | None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An acknowledgement of the receiver.

    Attributes:
        time: seconds since the connection's first packet.
        number: the next sequence number that it expects.
        edge: the right edge of its window: `number` plus the window.
        sack: blocks that have arrived beyond `number`: start and end.
        dropped: why it was dropped, or None.
    """

    time: float
    number: int
    edge: int
    sack: tuple[tuple[int, int], ...]
    dropped: str | None


@dataclass(slots=True)
class Direction:
    """One direction of a connection.

    Attributes:
        sender, receiver: address and port.
        segments: the segments of the sender.
        acknowledgements: the acknowledgements of the receiver.
        data: bytes of payload, each counted once.
    """

    sender: Endpoint
    receiver: Endpoint
    segments: list[Segment] = field(default_factory=list)
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    data: int = 0
    _first: int | None = None  # the sequence number that is 0 in the relative ones
    _highest: int = 0  # the highest end of a segment
    _scale: int | None = None  # of the receiver's window, RFC 7323

    def outstanding(self) -> list[tuple[float, int]]:
        """Return the data under way as (seconds, bytes) after each change: captured and not acknowledged.

        The sender's congestion window is not visible in a capture; while the network limits a sender, it is about this.
        """
        events: list[tuple[float, int, int]] = [(segment.time, 1, segment.end) for segment in self.segments]
        events += [(ack.time, 0, ack.number) for ack in self.acknowledgements if ack.dropped is None]
        events.sort(key=lambda event: event[0])
        sent = acknowledged = 0
        points: list[tuple[float, int]] = []
        for time, is_segment, number in events:
            if is_segment:
                sent = max(sent, number)
            else:
                acknowledged = max(acknowledged, number)
                sent = max(sent, acknowledged)  # data from before the capture
            points.append((time, sent - acknowledged))
        return points

    def throughput(
        self, width: float | None = None, *, start: float = 0.0, end: float | None = None
    ) -> tuple[float, list[float], list[float]]:
        """Return throughput over time.

        Args:
            width: seconds of an interval; None chooses a round number that gives 50 to 125 intervals.
            start, end: seconds; None is the time of the last packet.

        Returns:
            The width; for each interval from `start` on the bit/s that were sent, retransmissions included, and the
            bit/s that were acknowledged. SYN and FIN count as one byte each, as in sequence numbers.

        Raises:
            ValueError: more than a million intervals.
        """
        if end is None:
            times = [each.time for each in self.segments] + [each.time for each in self.acknowledgements]
            end = max(times, default=start)
        if width is None:
            width = _round((end - start) / _BINS)
        count = max(ceil((end - start) / width - 1e-6), 1)  # 0.3 / 0.1 is more than 3
        if count > 1_000_000:
            raise ValueError(f"width: {width} s makes {count:,} intervals")
        sent, acknowledged = [0.0] * count, [0.0] * count
        for segment in self.segments:
            if start <= segment.time <= end:
                sent[min(int((segment.time - start) / width), count - 1)] += (segment.end - segment.start) * 8 / width
        highest: int | None = None
        for ack in self.acknowledgements:
            if ack.dropped is None and (highest is None or ack.number > highest):
                new = 0 if highest is None else ack.number - highest
                highest = ack.number
                if start <= ack.time <= end:
                    acknowledged[min(int((ack.time - start) / width), count - 1)] += new * 8 / width
        return width, sent, acknowledged

    # --- Adding packets -----------------------------------------------------------------------------------------------

    def _unwrap(self, number: int, reference: int) -> int:
        """Return a 32-bit sequence number relative to the first, without wrapping: the value nearest to `reference`."""
        assert self._first is not None
        return reference + (number - self._first - reference + _HALF) % (1 << 32) - _HALF

    def _add_segment(self, time: float, tcp: Tcp, length: int, dropped: str | None) -> None:
        if self._first is None:
            self._first = tcp.sequence
        size = length + tcp.syn + tcp.fin
        if size == 0:
            return
        start = self._unwrap(tcp.sequence, self._highest)
        end = start + size
        self.segments.append(Segment(time, start, end, start < self._highest, dropped))
        if end > self._highest:
            self.data += min(length, end - self._highest)
            self._highest = end

    def _add_acknowledgement(self, time: float, tcp: Tcp, scale: int, dropped: str | None) -> None:
        if self._first is None:
            self._first = tcp.acknowledgement
        number = self._unwrap(tcp.acknowledgement, self._highest)
        blocks = tuple((self._unwrap(a, number), self._unwrap(b, number)) for a, b in tcp.sack)
        edge = number + (tcp.window << (0 if tcp.syn else scale))
        self.acknowledgements.append(Acknowledgement(time, number, edge, blocks, dropped))


@dataclass(slots=True)
class Connection:
    """A TCP connection, as captured at one point.

    Attributes:
        point: name of the link or interface.
        start: the time of its first packet in seconds.
        directions: from the sender of the first packet, and to it.
        packets: how many were captured.
        leaving: bytes of payload in outgoing packets.
        finished: a FIN or RST was captured.
    """

    point: str
    start: float
    directions: tuple[Direction, Direction]
    packets: int = 0
    leaving: int = 0
    finished: bool = False

    @property
    def data(self) -> int:
        """Bytes of payload in both directions, each counted once."""
        return self.directions[0].data + self.directions[1].data

    @property
    def main(self) -> Direction:
        """The direction with more payload."""
        first, second = self.directions
        return second if second.data > first.data else first

    def __str__(self) -> str:
        first, second = self.directions
        ends = " > ".join(endpoint_text(end) for end in (first.sender, first.receiver))
        return f"{ends} at {self.point}: {self.packets} packets, {first.data:,} bytes there, {second.data:,} back"

    def _add(self, packet: Packet, tcp: Tcp) -> None:
        time, dropped = packet.time - self.start, packet.comment if packet.dropped else None
        there, back = self.directions
        if (packet.source, tcp.source_port) != there.sender:
            there, back = back, there
        if tcp.syn:
            back._scale = tcp.window_scale or 0  # noqa: SLF001  another connection of this capture
        there._add_segment(time, tcp, packet.payload_length, dropped)  # noqa: SLF001  another connection of this capture
        if tcp.ack:
            both = there._scale is not None and back._scale is not None  # noqa: SLF001  another connection of this capture
            back._add_acknowledgement(time, tcp, (back._scale or 0) if both else 0, dropped)  # noqa: SLF001  another connection of this capture
        self.packets += 1
        if packet.outgoing:
            self.leaving += packet.payload_length
        self.finished = self.finished or tcp.fin or tcp.rst


def connections(packets: Iterable[Packet]) -> list[Connection]:
    """Return the TCP connections among packets, those with the most payload first.

    A connection that was captured at several points is listed for each, the point at its sender first.

    Args:
        packets: such as a `Trace`, in any order.
    """
    found: list[Connection] = []
    open_: dict[tuple[str, Endpoint, Endpoint], Connection] = {}
    for packet in sorted(packets, key=lambda packet: packet.time):
        tcp = packet.tcp
        if tcp is None or packet.source is None or packet.destination is None or packet.malformed:
            continue
        source, destination = (packet.source, tcp.source_port), (packet.destination, tcp.destination_port)
        key = (packet.point, min(source, destination), max(source, destination))
        connection = open_.get(key)
        if connection is None or (tcp.syn and not tcp.ack and connection.finished):
            directions = Direction(source, destination), Direction(destination, source)
            connection = open_[key] = Connection(packet.point, packet.time, directions)
            found.append(connection)
        connection._add(packet, tcp)  # noqa: SLF001  another connection of this capture
    return sorted(found, key=lambda each: (-each.data, -each.leaving, each.start))


def views(found: Iterable[Connection]) -> list[list[Connection]]:
    """Group the results of `connections` by connection, each with those of all points, in the same order.

    A reuse of the same ports is another connection: it begins where a point has captured the end of the one before.
    """
    found = list(found)
    groups: dict[int, dict[str, Connection]] = {}  # connection -> point
    latest: dict[frozenset[Endpoint], dict[str, Connection]] = {}
    for connection in sorted(found, key=lambda each: each.start):
        first = connection.directions[0]
        ends = frozenset((first.sender, first.receiver))
        group = latest.get(ends)
        if group is None or connection.point in group:
            group = latest[ends] = {}
        group[connection.point] = connection
        groups[id(connection)] = group
    ordered: dict[int, list[Connection]] = {}
    for connection in found:
        ordered.setdefault(id(groups[id(connection)]), []).append(connection)
    return list(ordered.values())


def endpoint_text(endpoint: Endpoint) -> str:
    """Return an address and a port as a text."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _round(width: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten, and at least to a microsecond."""
    unit = 1e-6
    while unit < 1e9:
        for factor in (1, 2, 5):
            if unit * factor >= width:
                return unit * factor
        unit *= 10
    return width
