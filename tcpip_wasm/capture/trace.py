"""Traces: the observations at the points of a network, as packets for a test, and as one hash.

Owns the list of observations and the filters that tests apply to it. A frame is decoded when it is first read.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import BinaryIO, Protocol, overload

from tcpip_wasm.addresses import Address
from tcpip_wasm.capture.decode import Packet
from tcpip_wasm.capture.observation import Event, Observation
from tcpip_wasm.capture.reading import CapturedFrame, read_capture
from tcpip_wasm.capture.recorder import DROPPED, NOTE, Recorder, cause_of
from tcpip_wasm.capture.segments import transmissions
from tcpip_wasm.capture.text import Names, lines, origin_of

__all__ = ["Event", "Observation", "Trace"]

_HEAD = struct.Struct("<q?IIi")


class Named(Protocol):
    """An object with a name, such as a host or a link of a network."""

    @property
    def name(self) -> str:
        """Its name."""


Place = str | Address | Named
"""An address; in the trace of a network, also a host or its name."""


class About(Protocol):
    """Resolves the names in a trace: a `Network`."""

    def name_of(self, address: str) -> str | None:
        """Return the name of the host that has an address."""

    def host_of(self, thing: object) -> str | None:
        """Return the name of a host, given the host or its name; None for another object."""

    def points_of(self, thing: object) -> dict[str, bool] | None:
        """Return the links of an object, each with the direction in which it sends; None for an unknown object."""


class Trace:
    """A list of packets, the oldest first. Called with an `Observation`, it appends it.

    Filters return another trace with the matching packets, so that they can be chained:
    ``trace.tcp(port=80).dropped()``.

    Args:
        observations: its first observations.
        limit: how many of the latest are kept; None keeps all. Others are still part of the digest, for which frames
            under way are kept until they have arrived or were dropped.
        about: resolves the names of hosts, or None.

    Attributes:
        events: events such as partitions, in order of time. They are not part of the digest.
    """

    def __init__(
        self, observations: Iterable[Observation] = (), *, limit: int | None = None, about: About | None = None
    ) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None, not {limit}")
        self._limit = limit
        self._most = (
            2 * limit + 1024 if limit is not None else float("inf")
        )  # the length at which old ones are discarded
        self._items: list[Observation | Packet] = []  # a `Packet` where it was decoded
        self._hash = hashlib.sha256(b"tcpip_wasm trace 1")  # of those that were discarded
        self._discarded = 0
        self._about = about
        self._origin: float | None = None  # of the trace that this is a part of
        self.events: list[Event] = []
        for observation in observations:
            self.record(observation)

    def record(self, observation: Observation) -> None:
        """Add an observation."""
        self._items.append(observation)
        if len(self._items) > self._most:
            known = 0
            for item in self._items[: self._begin]:
                if _seen(item).under_way:
                    break
                self._hash.update(_encode(item))
                known += 1
            del self._items[:known]
            self._discarded += known

    __call__ = record

    @property
    def _begin(self) -> int:
        return 0 if self._limit is None else max(len(self._items) - self._limit, 0)

    @property
    def forgotten(self) -> int:
        """How many were discarded."""
        return self._discarded + self._begin

    @property
    def observations(self) -> list[Observation]:
        """The observations that are kept."""
        return [_seen(item) for item in self._items[self._begin :]]

    def digest(self) -> str:
        """Return a SHA-256 of all observations in their order, in hexadecimal.

        It covers the time in whole nanoseconds, the point, the direction, the frame, the comment and the time of the
        drop, so that two runs with the same digest sent the same frames.
        """
        hashed = self._hash.copy()
        for item in self._items:
            hashed.update(_encode(item))
        return hashed.hexdigest()

    # --- As a sequence of packets -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._items) - self._begin

    def __iter__(self) -> Iterator[Packet]:
        for index in range(len(self)):
            yield self[index]

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Trace: ...
    def __getitem__(self, index: int | slice) -> Packet | Trace:
        if isinstance(index, slice):
            return self._of(self._items[self._begin :][index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a trace of {len(self)}")
        at = index + (self._begin if index >= 0 else len(self._items))
        item = self._items[at]
        if not isinstance(item, Packet):
            item = self._items[at] = Packet(item)
        return item

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} packets>"

    def __str__(self) -> str:
        return self.text()

    def text(self, last: int | None = None, *, names: bool | Names = False) -> str:
        """Return one line for each packet, in the style of tcpdump, with relative sequence numbers of TCP.

        Each of the `events` has a line between them.

        Args:
            last: most lines; those before them are counted in a line of its own.
            names: True shows names of hosts for addresses, in the trace of a network; or names as for `Packet.text`.
        """
        naming: Names | None
        if isinstance(names, bool):
            naming = self._about.name_of if names and self._about is not None else None
        else:
            naming = names
        every = list(lines(self, events=self.events, names=naming, origin=self.origin))
        hidden = self.forgotten
        if last is not None and len(every) > last:
            hidden += len(every) - last
            every = every[len(every) - last :]
        what = "lines" if self.events else "packets"
        return "\n".join(([f"… {hidden} {what} before"] if hidden else []) + every)

    # --- Filters ------------------------------------------------------------------------------------------------

    def where(self, predicate: Callable[[Packet], object]) -> Trace:
        """Return the packets for which a function returns a true value."""
        return self._of([packet for packet in self if predicate(packet)])

    def tcp(
        self,
        *,
        source: Place | None = None,
        destination: Place | None = None,
        port: int | None = None,
        source_port: int | None = None,
        destination_port: int | None = None,
    ) -> Trace:
        """Return the TCP segments.

        Args:
            source, destination: addresses; in the trace of a network also hosts or their names, which match all
                their addresses.
            port: the port of either side; `source_port` and `destination_port` match one side.

        Raises:
            ValueError: not an address and not a host.
        """
        return self._between(source, destination, port, source_port, destination_port, lambda p: p.tcp)

    def udp(
        self,
        *,
        source: Place | None = None,
        destination: Place | None = None,
        port: int | None = None,
        source_port: int | None = None,
        destination_port: int | None = None,
    ) -> Trace:
        """Return the UDP datagrams, of fragmented ones the first fragment. The arguments are those of `tcp`."""
        return self._between(source, destination, port, source_port, destination_port, lambda p: p.udp)

    def icmp(self, *, source: Place | None = None, destination: Place | None = None) -> Trace:
        """Return the packets of ICMP and ICMPv6, including neighbour discovery."""
        return self._between(source, destination, None, None, None, lambda p: p.icmp)

    def arp(self) -> Trace:
        """Return the packets of ARP."""
        return self.where(lambda packet: packet.arp)

    def dropped(self, reason: str | None = None) -> Trace:
        """Return the packets that were dropped, all or for one reason, such as ``loss``."""
        return self.where(lambda packet: packet.dropped and (reason is None or packet.comment == reason))

    def delivered(self) -> Trace:
        """Return the packets that have arrived: neither dropped nor under way."""
        return self.where(lambda packet: not packet.dropped and not packet.observation.under_way)

    def host(self, host: Place) -> Trace:
        """Return the packets from a host or to it, on any link, including ARP.

        Args:
            host: an address, or in the trace of a network a host or its name.

        Raises:
            ValueError: not an address and not a host.
        """
        fits = self._address(host)
        return self.where(lambda packet: fits(packet.source) or fits(packet.destination))

    def containing(self, data: bytes) -> Trace:
        """Return the packets whose payload contains some bytes; bytes that span two segments are not found."""
        return self.where(lambda packet: data in packet.payload)

    def first_transmissions(self) -> Trace:
        """Return the TCP segments with data, SYN or FIN that were captured at their point for the first time."""
        return self._of([packet for packet, again in transmissions(self) if not again])

    def retransmissions(self) -> Trace:
        """Return the TCP segments with data, SYN or FIN whose first sequence number was captured at their point before.

        After a link that reorders, late segments look the same: use the sender's link. Packets that a filter has
        removed count as not captured, so apply this before filters such as `dropped`.
        """
        return self._of([packet for packet, again in transmissions(self) if again])

    def between(self, start: float, end: float) -> Trace:
        """Return the packets from a time on and before another, in seconds; on a link, the time is that of sending."""
        found = self._of([item for item in self._items[self._begin :] if start <= item.time < end])
        found.events = [event for event in self.events if start <= event.time < end]
        return found

    def at(self, point: str | Named, *, outgoing: bool | None = None) -> Trace:
        """Return the packets at one point, in both directions or in one.

        Args:
            point: the name of a link or an interface; in the trace of a network also the link itself, or a host, a card
                of one, a switch, or the name of a host or a switch, for all its links.
            outgoing: for a link, True is from its first end to its second; for a host or a switch, True is the packets
                that it sends. None is both.
        """
        points = None if self._about is None else self._about.points_of(point)
        if points is None:
            points = {point if isinstance(point, str) else point.name: True}
        return self._of(
            [
                item
                for item in self._items[self._begin :]
                if item.point in points and (outgoing is None or item.outgoing is (outgoing is points[item.point]))
            ]
        )

    def _address(self, place: Place | None) -> Callable[[str | None], bool]:
        """Return a function that returns whether an address belongs to a place."""
        if place is None:
            return lambda address: True
        about = self._about
        host = about.host_of(place) if about is not None else None
        if about is not None and host is not None:
            return lambda address: address is not None and about.name_of(address) == host
        try:
            wanted = str(ip_address(place))  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(f"{place!r} is neither an address nor a host of this trace") from None
        return lambda address: address == wanted

    def _between(
        self,
        source: Place | None,
        destination: Place | None,
        port: int | None,
        source_port: int | None,
        destination_port: int | None,
        header: Callable[[Packet], object],
    ) -> Trace:
        is_source, is_destination = self._address(source), self._address(destination)

        def fits(packet: Packet) -> bool:
            return (
                header(packet) is not None
                and is_source(packet.source)
                and is_destination(packet.destination)
                and (port is None or port in (packet.source_port, packet.destination_port))
                and (source_port is None or packet.source_port == source_port)
                and (destination_port is None or packet.destination_port == destination_port)
            )

        return self.where(fits)

    def _of(self, items: list[Observation | Packet] | list[Packet]) -> Trace:
        trace = Trace(about=self._about)
        trace.events = self.events
        trace._items = list(items)
        trace._origin = self.origin
        return trace

    @property
    def origin(self) -> float:
        """The time that is 0 in text and figures, in the packets' time: of the whole trace, also in a part of it.

        It is the beginning of a simulated run, else the first packet.
        """
        if self._origin is None and self._items:
            return origin_of(_seen(self._items[0]).time)
        return self._origin or 0.0

    # --- As a file ----------------------------------------------------------------------------------------------

    def save(self, file: str | os.PathLike[str] | BinaryIO, *, comment: str | None = None) -> None:
        """Write the observations that are kept into a pcapng file.

        Args:
            file: a path, which is overwritten, or a file open for writing bytes, which stays open.
            comment: a comment on the whole file.

        Raises:
            OSError: the file cannot be written.
        """
        with Recorder(file, comment=comment) as recorder:
            events = iter([*self.events, None])
            event = next(events)
            for observation in self.observations:
                while event is not None and event.time <= observation.time:
                    recorder.event(event)
                    event = next(events)
                recorder.record(observation)
            while event is not None:
                recorder.event(event)
                event = next(events)
        if recorder.error is not None:
            raise recorder.error

    @classmethod
    def load(cls, file: str | os.PathLike[str] | BinaryIO) -> Trace:
        """Return the trace of a capture file, pcapng or pcap, of any program.

        A comment that does not begin with ``dropped:`` gets the prefix ``note:``, unless it is one of those of
        `Observation`. A frame without a direction in the file counts as incoming.

        Raises:
            CaptureFormatError: the file is not a capture, or is damaged.
            OSError: it cannot be read.
        """
        trace = cls()
        for captured in read_capture(file, on_event=trace.events.append):
            trace.record(observation_of(captured))
        return trace


def observation_of(captured: CapturedFrame) -> Observation:
    """Return a frame of a file as an observation."""
    comment, dropped_at = captured.comment, None
    if comment is not None:
        if comment.startswith(DROPPED):
            comment, dropped_at = cause_of(comment.removeprefix(DROPPED))
        elif Observation(0, "", False, b"", comment).dropped:
            comment = NOTE + comment
    return Observation(
        captured.time / 1e9,
        captured.interface,
        captured.outgoing is True,
        captured.frame,
        comment,
        captured.link_type,
        captured.length if captured.length > len(captured.frame) else None,
        dropped_at,
    )


def _seen(item: Observation | Packet) -> Observation:
    return item.observation if isinstance(item, Packet) else item


def _encode(item: Observation | Packet) -> bytes:
    observation = _seen(item)
    point, comment = observation.point.encode(), observation.comment
    remark = b"" if comment is None else comment.encode()
    if observation.dropped_at is not None:
        remark += b" %d" % round(observation.dropped_at * 1e9)
    head = _HEAD.pack(
        round(observation.time * 1e9),
        observation.outgoing,
        len(point),
        len(observation.frame),
        -1 if comment is None else len(remark),
    )
    return b"".join((head, point, observation.frame, remark))
