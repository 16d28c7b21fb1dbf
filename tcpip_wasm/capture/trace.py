"""Traces: what was seen at the points of a network, as packets for a test to look at, and as one hash.

Owns the list of observations and the questions that tests ask of it. A frame is decoded when somebody looks at it, and
not before.
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
    """What has a name, such as a host or a link of a network."""

    @property
    def name(self) -> str:
        """Its name."""


Place = str | Address | Named
"""An address, or where the trace is that of a network, a host of it or its name."""


class About(Protocol):
    """What knows the names in a trace: a `Network`."""

    def name_of(self, address: str) -> str | None:
        """Return the name of the host that has an address."""

    def host_of(self, thing: object) -> str | None:
        """Return the name of a host, given the host or its name; None for what is none."""

    def points_of(self, thing: object) -> dict[str, bool] | None:
        """Return the links that end at something, each with the direction in which it sends; None: it is unknown."""


class Trace:
    """A list of packets, the oldest first. Called with an `Observation`, it adds it.

    What asks a question of it returns another trace with the packets that fit, so that questions can follow each other:
    ``trace.tcp(port=80).dropped()``.

    Args:
        observations: what it begins with.
        limit: how many are kept at most, the latest; None keeps all. What is not kept is still part of the digest, for
            which what is under way is kept until its fate is known.
        about: what knows the names of hosts, or None.

    Attributes:
        events: what happened beside packets, such as partitions, in the order of time. No part of the digest.
    """

    def __init__(
        self, observations: Iterable[Observation] = (), *, limit: int | None = None, about: About | None = None
    ) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None, not {limit}")
        self._limit = limit
        self._most = 2 * limit + 1024 if limit is not None else float("inf")  # after which old ones are let go
        self._items: list[Observation | Packet] = []  # packets, where somebody has looked
        self._hash = hashlib.sha256(b"tcpip_wasm trace 1")  # of those that were let go
        self._let_go = 0
        self._about = about
        self._origin: float | None = None  # of what this is a part of
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
            self._let_go += known

    __call__ = record

    @property
    def _begin(self) -> int:
        return 0 if self._limit is None else max(len(self._items) - self._limit, 0)

    @property
    def forgotten(self) -> int:
        """How many are not kept any more."""
        return self._let_go + self._begin

    @property
    def observations(self) -> list[Observation]:
        """What is kept."""
        return [_seen(item) for item in self._items[self._begin :]]

    def digest(self) -> str:
        """Return a SHA-256 of all observations in their order, in hexadecimal.

        It covers the time in whole nanoseconds, the point, the direction, the frame, the comment and when it was
        dropped, so that two runs with the same digest did the same.
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
        """Return one line for each packet, in the manner of tcpdump; sequence numbers of TCP count from the first.

        Between them is a line for each of the `events`.

        Args:
            last: how many lines there may be; what comes before them is counted in a line of its own.
            names: True shows names of hosts for addresses, in the trace of a network; or what gives others, as for
                `Packet.text`.
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

    # --- Questions ----------------------------------------------------------------------------------------------

    def where(self, predicate: Callable[[Packet], object]) -> Trace:
        """Return the packets for which a function returns something true."""
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
            source, destination: addresses; in the trace of a network also hosts or their names, for any address of
                theirs.
            port: of either side; `source_port` and `destination_port` are of one.

        Raises:
            ValueError: something that is neither.
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
        """Return the UDP datagrams, and of those in fragments the first. Arguments are those of `tcp`."""
        return self._between(source, destination, port, source_port, destination_port, lambda p: p.udp)

    def icmp(self, *, source: Place | None = None, destination: Place | None = None) -> Trace:
        """Return what is ICMP and ICMPv6, neighbour discovery among it."""
        return self._between(source, destination, None, None, None, lambda p: p.icmp)

    def arp(self) -> Trace:
        """Return what is ARP."""
        return self.where(lambda packet: packet.arp)

    def dropped(self, reason: str | None = None) -> Trace:
        """Return what was dropped, all or for one reason, such as ``loss``."""
        return self.where(lambda packet: packet.dropped and (reason is None or packet.comment == reason))

    def delivered(self) -> Trace:
        """Return what has arrived: what was neither dropped, then or later, nor is still under way."""
        return self.where(lambda packet: not packet.dropped and not packet.observation.under_way)

    def host(self, host: Place) -> Trace:
        """Return what comes from a host or goes to it, on whatever link; ARP, too.

        Args:
            host: an address, or a host of the network whose trace it is, or its name.

        Raises:
            ValueError: something that is neither.
        """
        fits = self._address(host)
        return self.where(lambda packet: fits(packet.source) or fits(packet.destination))

    def containing(self, data: bytes) -> Trace:
        """Return the packets whose payload contains some bytes; what spans two segments is in neither."""
        return self.where(lambda packet: data in packet.payload)

    def first_transmissions(self) -> Trace:
        """Return the TCP segments with data, SYN or FIN which the point at which they were seen had not seen before."""
        return self._of([packet for packet, again in transmissions(self) if not again])

    def retransmissions(self) -> Trace:
        """Return the TCP segments with data, SYN or FIN that begin with what their point had seen before.

        Behind a link that reorders, late segments look like that, too: ask at the sender's. What a filter has left out
        counts as not seen, so this question comes before such as `dropped`.
        """
        return self._of([packet for packet, again in transmissions(self) if again])

    def between(self, start: float, end: float) -> Trace:
        """Return what was seen, on a link: sent, from a time on and before another, in seconds."""
        found = self._of([item for item in self._items[self._begin :] if start <= item.time < end])
        found.events = [event for event in self.events if start <= event.time < end]
        return found

    def at(self, point: str | Named, *, outgoing: bool | None = None) -> Trace:
        """Return what was seen at one point, in both directions or in one.

        Args:
            point: the name of a link or an interface; in the trace of a network also the link itself, or a host, a card
                of one, a switch, or the name of a host or a switch, for all links that end there.
            outgoing: of a link, True is from its first end to its second; of a host or a switch, what it sends. None
                is both.
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
        """Return whether an address is that of a place."""
        if place is None:
            return lambda address: True
        about = self._about
        host = about.host_of(place) if about is not None else None
        if about is not None and host is not None:
            return lambda address: address is not None and about.name_of(address) == host
        try:
            wanted = str(ip_address(place))  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(f"{place!r} is no address, and no host that this trace knows") from None
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
        """The time that text and pictures count from, in that of the packets: of the whole trace, also in a part of it.

        It is the beginning of a simulated run, else the first packet.
        """
        if self._origin is None and self._items:
            return origin_of(_seen(self._items[0]).time)
        return self._origin or 0.0

    # --- As a file ----------------------------------------------------------------------------------------------

    def save(self, file: str | os.PathLike[str] | BinaryIO, *, comment: str | None = None) -> None:
        """Write what is kept into a pcapng file.

        Args:
            file: a path, which is written anew, or a file open for writing bytes, which stays open.
            comment: what to say of the whole file.

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
        """Return what is in a capture file, pcapng or pcap, of any program.

        A comment that does not begin with ``dropped:`` becomes one that begins with ``note:``, unless it is one of
        those that `Observation` knows. A frame whose direction the file does not have counts as incoming.

        Raises:
            CaptureFormatError: the file is no capture, or a damaged one.
            OSError: it cannot be read.
        """
        trace = cls()
        for captured in read_capture(file, on_event=trace.events.append):
            trace.record(observation_of(captured))
        return trace


def observation_of(captured: CapturedFrame) -> Observation:
    """Return what a file says as an observation."""
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
