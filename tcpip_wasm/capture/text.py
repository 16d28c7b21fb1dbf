"""Packets as text: one line each, in the style of tcpdump."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from tcpip_wasm.capture.decode import Packet, Tcp
from tcpip_wasm.capture.observation import Event

__all__ = ["EVENT", "Names", "event_line", "line", "lines"]

Names = Callable[[str], str | None] | Mapping[str, str]

EVENT: Final = "***"
"""Shown instead of a point in the line of an event."""

_ICMP: Final = {
    4: {
        (0,): "echo reply",
        (3, 0): "network unreachable",
        (3, 1): "host unreachable",
        (3, 2): "protocol unreachable",
        (3, 3): "port unreachable",
        (3, 4): "fragmentation needed",
        (3,): "unreachable",
        (5,): "redirect",
        (8,): "echo request",
        (11,): "time exceeded",
        (12,): "parameter problem",
    },
    6: {
        (1, 0): "no route",
        (1, 3): "address unreachable",
        (1, 4): "port unreachable",
        (1,): "unreachable",
        (2,): "packet too big",
        (3,): "time exceeded",
        (4,): "parameter problem",
        (128,): "echo request",
        (129,): "echo reply",
        (130,): "listener query",
        (131,): "listener report",
        (132,): "listener done",
        (133,): "router solicitation",
        (134,): "router advertisement",
        (135,): "neighbour solicitation",
        (136,): "neighbour advertisement",
        (137,): "redirect",
        (143,): "listener report",
    },
}
"""Names of ICMP types, or of types and codes: RFC 792, RFC 4443, RFC 4861, RFC 3810."""

_EPOCH: Final = 1_000_000.0
"""Seconds. A capture that begins later has times of day, which are shown relative to its beginning."""

Flow = tuple[str, int, str, int]


def line(packet: Packet, start: float = 0.0, firsts: dict[Flow, int] | None = None, names: Names | None = None) -> str:
    """Return one line for a packet: time, point, direction, headers, and why it was dropped.

    Args:
        packet: the packet.
        start: seconds to subtract from its time.
        firsts: the first sequence number of each direction of the connections so far, to which TCP's are relative; it
            is added to. None shows absolute ones.
        names: a function or a dictionary from an address to the name to show instead, or None.
    """
    arrow = "out" if packet.outgoing else "in "
    text = f"{packet.time - start:.6f} {packet.point} {arrow} {_what(packet, firsts, _naming(names))}"
    if packet.truncated:
        text += f" [{len(packet.observation.frame)} bytes captured]"
    if packet.malformed:
        text += f" [malformed: {packet.malformed}]"
    if packet.comment is not None:
        later = packet.observation.dropped_at
        at = "" if later is None else f" at {later - start:.6f}"
        text += f" [{'DROPPED: ' if packet.dropped else ''}{packet.comment}{at}]"
    return text


def origin_of(first: float) -> float:
    """Return the time that is 0 in text and figures of a capture, given the time of its first packet.

    It is the beginning of a simulated run, whose times are virtual; else the first packet.
    """
    return first if first > _EPOCH else 0.0


def lines(
    packets: Iterable[Packet],
    *,
    events: Sequence[Event] = (),
    names: Names | None = None,
    origin: float | None = None,
) -> Iterator[str]:
    """Yield one line for each packet, and one for each event. Sequence numbers are relative to a connection's first.

    Args:
        packets: the packets.
        events: in order of time; events that are appended while packets are read are shown, too.
        names: hosts' names for addresses, see `line`.
        origin: the time that is shown as 0; None is the one for the first of these packets, see `origin_of`.
    """
    start = origin
    firsts: dict[Flow, int] = {}
    shown = 0
    for packet in packets:
        if start is None:
            start = origin_of(packet.time)
        while shown < len(events) and events[shown].time <= packet.time:
            yield event_line(events[shown], start)
            shown += 1
        yield line(packet, start, firsts, names)
    for event in events[shown:]:
        yield event_line(event, start or 0.0)


def event_line(event: Event, start: float = 0.0) -> str:
    """Return one line for an event."""
    return f"{event.time - start:.6f} {EVENT} {event.text}"


def _naming(names: Names | None) -> Callable[[str | None], str]:
    def name(address: str | None) -> str:
        found = None
        if names is not None and address is not None:
            found = names(address) if callable(names) else names.get(address)
        return str(address) if found is None else found

    return name


def _what(packet: Packet, firsts: dict[Flow, int] | None, name: Callable[[str | None], str]) -> str:
    arp, ip = packet.arp, packet.ip
    if arp is not None:
        if arp.operation == 1:
            return f"ARP who has {name(arp.destination)}? tell {name(arp.source)}"
        return f"ARP {name(arp.source)} is at {arp.source_mac}"
    if ip is None:
        ethernet = packet.ethernet
        kind = f"{ethernet.source} > {ethernet.destination} type {ethernet.type:#06x} " if ethernet else ""
        return f"{kind}{packet.payload_length} bytes"
    fragment = ""
    if ip.is_fragment:
        fragment = f" fragment {ip.identification:#x} at {ip.fragment_offset}{'+' if ip.more_fragments else ''}"
    size = f" {packet.payload_length} bytes{fragment}"
    if packet.tcp is not None:
        return _tcp(packet, packet.tcp, firsts, name) + size
    if packet.udp is not None:
        return f"{_ends(packet, name)} UDP{size}"
    names = f"{name(ip.source)} > {name(ip.destination)}"
    if packet.icmp is not None:
        icmp = packet.icmp
        known = _ICMP[icmp.version]
        kind = known.get((icmp.type, icmp.code)) or known.get((icmp.type,)) or f"type {icmp.type} code {icmp.code}"
        echo = f" id {icmp.identifier} seq {icmp.sequence}" if icmp.is_echo else ""
        return f"{names} ICMP{'v6' if icmp.version == 6 else ''} {kind}{echo}{size}"
    return f"{names} protocol {ip.protocol}{size}"


def _ends(packet: Packet, name: Callable[[str | None], str]) -> str:
    shown = [name(packet.source), name(packet.destination)]
    left, right = (f"[{each}]" if ":" in each else each for each in shown)
    return f"{left}:{packet.source_port} > {right}:{packet.destination_port}"


def _tcp(packet: Packet, tcp: Tcp, firsts: dict[Flow, int] | None, name: Callable[[str | None], str]) -> str:
    sequence, acknowledgement, other = tcp.sequence, tcp.acknowledgement, 0
    if firsts is not None:
        flow = (packet.source or "", tcp.source_port, packet.destination or "", tcp.destination_port)
        first = firsts.get(flow)
        if first is None or tcp.syn:
            first = firsts[flow] = sequence
        sequence = sequence - first & 0xFFFFFFFF
        if tcp.ack:
            other = firsts.setdefault(flow[2:] + flow[:2], acknowledgement - 1 & 0xFFFFFFFF)
            acknowledgement = acknowledgement - other & 0xFFFFFFFF
    text = f"{_ends(packet, name)} TCP [{tcp.flag_letters}] seq {sequence}"
    if tcp.ack:
        text += f" ack {acknowledgement}"
    text += f" win {tcp.window}"
    options = []
    if tcp.mss is not None:
        options.append(f"mss {tcp.mss}")
    if tcp.window_scale is not None:
        options.append(f"wscale {tcp.window_scale}")
    if tcp.sack_permitted:
        options.append("sack ok")
    if tcp.sack:
        blocks = " ".join(f"{left - other & 0xFFFFFFFF}:{right - other & 0xFFFFFFFF}" for left, right in tcp.sack)
        options.append(f"sack {blocks}")
    if tcp.timestamps is not None:
        options.append("ts {} {}".format(*tcp.timestamps))
    return text + (f" <{', '.join(options)}>" if options else "")
