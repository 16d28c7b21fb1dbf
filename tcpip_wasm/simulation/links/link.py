"""Links: two channels between two ends, which are interfaces of stacks or ports of switches.

Defines the ends of a link. Frames that arrive faster than an interface accepts them wait, within a bound, for the
stack's next poll.

The reasons are in docs/explanation/simulated-links.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

from tcpip_wasm.capture.trace import Observation
from tcpip_wasm.engine import split_records
from tcpip_wasm.interfaces import Interface, StreamInterface
from tcpip_wasm.simulation.links.channel import Channel
from tcpip_wasm.simulation.links.settings import LinkSettings
from tcpip_wasm.simulation.seeds import random_for

__all__ = ["InterfaceEnd", "Link", "LinkEnd"]

MOST_WAITING: Final = 2**25
"""Most bytes that wait for a stack; a stack receives at most a ninth of that in one loop iteration."""

Direction = Literal["a_to_b", "b_to_a"]


class LinkEnd(Protocol):
    """The end of a link: an interface, a card or a port of a switch.

    Attributes:
        header: bytes of a frame before its IP packet, the same at both ends.
    """

    header: int

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Pass frames that leave here to `send` from now on.

        Raises:
            OSError: ``EBUSY`` where a link is plugged in.
        """

    def unplug(self) -> None:
        """Stop passing frames. Idempotent."""

    def receive(self, frame: bytes) -> str | None:
        """Receive a frame; return None, or why it is dropped here."""


class InterfaceEnd:
    """The end of a link at an interface: its port (`interfaces.Port`).

    The link outlives the interface: after that was removed, arriving frames are dropped and counted, until `attach` is
    called with another.

    Args:
        interface: a TAP or TUN interface.

    Attributes:
        interface: the interface, or None.
        dropped: frames that arrived while there was no interface, or faster than its stack accepted them.
    """

    gone = "gone"
    """The cause of drops while there is no interface."""

    def __init__(self, interface: Interface) -> None:
        if not isinstance(interface, StreamInterface):
            raise TypeError(f"a link connects TAP and TUN interfaces and switches, not {type(interface).__name__}")
        self.header: int = interface.overhead
        self.interface: Interface | None = None
        self.dropped: int = 0
        self._send: Callable[[bytes], None] | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.attach(interface)

    def attach(self, interface: Interface) -> None:
        """Attach to another interface of the same kind, after the former one was removed.

        Raises:
            OSError: ``EBUSY`` where the interface has another port.
            ValueError: this end has an interface already, or the new one is of another kind.
        """
        if self.interface is not None:
            raise ValueError(f"this end is attached to {self.interface!r}")
        if interface.overhead != self.header:
            raise ValueError(f"{interface!r} is of another kind than the end of this link")
        interface.attach(self)
        self.interface = interface

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Pass frames that leave here to `send` from now on."""
        self._send = send

    def unplug(self) -> None:
        """Detach from the interface. Idempotent."""
        interface, self.interface, self._send = self.interface, None, None
        self._forget()
        if interface is not None:
            interface.detach()

    def transmit(self, records: memoryview) -> int:
        """Send whole frames; the link accepts all of them, and drops those that it has no room for."""
        send = self._send
        if send is not None:
            for frame in split_records(records):
                send(bytes(frame))
        return len(records)

    def detached(self, error: Exception | None) -> None:
        """The interface was removed."""
        self.interface = None
        self._forget()

    def receive(self, frame: bytes) -> str | None:
        """Pass a frame to the interface, or queue it for the stack's next poll; return why it is dropped, or None.

        Frames that wait when the interface is removed have been delivered, and count in `dropped` only.
        """
        interface = self.interface
        if interface is None:
            self.dropped += 1
            return self.gone
        if self._waiting:
            if self._waiting_bytes + len(frame) > MOST_WAITING:
                self.dropped += 1
                return "overrun"
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
        elif not interface.inject(frame):
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
            interface.driver.when_room(interface.buffers, self._deliver_waiting)
        return None

    def _deliver_waiting(self) -> None:
        interface, waiting = self.interface, self._waiting
        while interface is not None and waiting:
            if not interface.inject(waiting[0]):
                interface.driver.when_room(interface.buffers, self._deliver_waiting)
                return
            self._waiting_bytes -= len(waiting.popleft())

    def _forget(self) -> None:
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0


class Link:
    """A link between two ends, with a channel in each direction.

    Args:
        a, b: a TAP or TUN interface, or a port of a switch (`Switch.port`); both of one kind.
        settings: the parameters of both directions.
        a_to_b, b_to_a: the parameters of one direction, instead.
        name: its name in traces, and part of the seeds of its random streams.
        seed: of the random streams. Each direction has one of its own, ``random_for(seed, name, direction)``, so
            that its numbers depend on nothing else.
        loop: the loop whose time it uses; None takes the running one.
        observe: called with frames that are sent, see `Channel`.
        on_change: called with a text at each `down`, `up` and `change`.

    Raises:
        TypeError: an end of another kind.
        ValueError: an end with Ethernet frames and one without.
        OSError: ``EBUSY`` where an end has a link or a port already.

    Attributes:
        name: its name.
        a, b: the ends.
        a_to_b, b_to_a: the channels; their settings may be assigned, or changed by `change`.
        closed: whether it was closed.
    """

    def __init__(
        self,
        a: Interface | LinkEnd,
        b: Interface | LinkEnd,
        settings: LinkSettings | None = None,
        *,
        a_to_b: LinkSettings | None = None,
        b_to_a: LinkSettings | None = None,
        name: str = "link",
        seed: int | str = 0,
        loop: asyncio.AbstractEventLoop | None = None,
        observe: Callable[[Observation], None] | None = None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._on_change = on_change
        loop = loop or asyncio.get_running_loop()
        both = settings or LinkSettings()
        self.name = name
        self.closed: bool = False
        if a is b:
            raise ValueError(f"{a!r} cannot be linked to itself")
        self.a: LinkEnd = InterfaceEnd(a) if isinstance(a, Interface) else a
        try:
            self.b: LinkEnd = InterfaceEnd(b) if isinstance(b, Interface) else b
        except BaseException:
            if isinstance(a, Interface):
                self.a.unplug()
            raise
        try:
            if self.a.header != self.b.header:
                raise ValueError(f"a link connects two ends of one kind, not {a!r} and {b!r}")

            def channel(direction: Direction, its: LinkSettings | None, remote_end: LinkEnd) -> Channel:
                return Channel(
                    loop,
                    its or both,
                    random_for(seed, name, direction),
                    remote_end.receive,
                    observe,
                    point=name,
                    outgoing=direction == "a_to_b",
                    header=remote_end.header,
                )

            self.a_to_b: Channel = channel("a_to_b", a_to_b, self.b)
            self.b_to_a: Channel = channel("b_to_a", b_to_a, self.a)
            self.a.plug(self.a_to_b.send)
            self.b.plug(self.b_to_a.send)
        except BaseException:
            for end, given in ((self.a, a), (self.b, b)):
                if end is not given:
                    end.unplug()
            raise

    def __repr__(self) -> str:
        return f"<Link {self.name}{' closed' if self.closed else '' if self.is_up else ' down'}>"

    @property
    def is_up(self) -> bool:
        """Whether at least one direction carries frames."""
        return self.a_to_b.up or self.b_to_a.up

    def down(self, direction: Direction | None = None, *, cause: str = "down") -> None:
        """Drop frames: those that wait or are under way, and those that are sent until `up`. Idempotent.

        Args:
            direction: ``"a_to_b"``, ``"b_to_a"``, or None for both.
            cause: the cause in observations and statistics.
        """
        channels = self._channels(direction)
        if any(channel.up for channel in channels):
            self._report_change("down", direction)
        for channel in channels:
            channel.cut(cause)

    def up(self, direction: Direction | None = None) -> None:
        """Carry frames that are sent from now on. Idempotent; without effect on a closed link."""
        channels = self._channels(direction)
        if not self.closed:
            if not all(channel.up for channel in channels):
                self._report_change("up", direction)
            for channel in channels:
                channel.up = True

    def change(self, *, direction: Direction | None = None, **settings: Any) -> None:
        """Change the settings that are named. See `Channel.settings` for frames under way.

        Args:
            direction: ``"a_to_b"``, ``"b_to_a"``, or None for both.
            settings: fields of `LinkSettings`.

        Raises:
            TypeError, ValueError: what `LinkSettings` raises; then nothing was changed.
        """
        channels = self._channels(direction)
        changed = [replace(channel.settings, **settings) for channel in channels]
        for channel, its in zip(channels, changed, strict=True):
            channel.settings = its
        if settings:
            self._report_change(", ".join(f"{name}={value}" for name, value in settings.items()), direction)

    def _report_change(self, what: str, direction: Direction | None) -> None:
        if self._on_change is not None:
            self._on_change(f"link {self.name}{'' if direction is None else f' {direction}'}: {what}")

    def _channels(self, direction: Direction | None) -> list[Channel]:
        match direction:
            case None:
                return [self.a_to_b, self.b_to_a]
            case "a_to_b":
                return [self.a_to_b]
            case "b_to_a":
                return [self.b_to_a]
        raise ValueError(f"direction: {direction!r} is none of 'a_to_b', 'b_to_a' and None")

    def close(self) -> None:
        """Unplug both ends. Frames under way are lost. Idempotent."""
        if not self.closed:
            self.closed = True
            self.down()
            self.a.unplug()
            self.b.unplug()
