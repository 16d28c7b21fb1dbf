"""Links: two channels between two ends, which are interfaces of stacks or ports of switches.

Owns what an end is, and what happens where frames leave a link faster than an interface takes them: they wait, within a
bound, for the stack's next turn.

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
"""Bytes that wait for a stack to take them in; a stack that is driven takes nine times less within a turn."""

Direction = Literal["a_to_b", "b_to_a"]


class LinkEnd(Protocol):
    """What a link ends in.

    Attributes:
        header: bytes of a frame before its IP packet, the same at both ends.
    """

    header: int

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Hand what leaves here to `send` from now on.

        Raises:
            OSError: ``EBUSY`` where a link is plugged in.
        """

    def unplug(self) -> None:
        """Hand on nothing any more. Idempotent."""

    def receive(self, frame: bytes) -> str | None:
        """Take in a frame that arrives; return None, or why it is dropped here."""


class InterfaceEnd:
    """The end of a link at an interface: its port (`interfaces.Port`).

    The link outlives the interface: once that is gone, what arrives is dropped and counted, until `attach` names
    another.

    Args:
        interface: a tap or a tun.

    Attributes:
        interface: what it is attached to, or None.
        dropped: frames that arrived while there was no interface, or too fast for its stack.
    """

    gone = "gone"
    """Why a frame is dropped where there is no interface."""

    def __init__(self, interface: Interface) -> None:
        if not isinstance(interface, StreamInterface):
            raise TypeError(f"a link ends in taps, tuns and switches, not in {type(interface).__name__}")
        self.header: int = interface.overhead
        self.interface: Interface | None = None
        self.dropped: int = 0
        self._send: Callable[[bytes], None] | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.attach(interface)

    def attach(self, interface: Interface) -> None:
        """Attach to another interface of the same kind, after the one before has gone.

        Raises:
            OSError: ``EBUSY`` where something listens to it already.
            ValueError: this end has an interface, or it is of another kind.
        """
        if self.interface is not None:
            raise ValueError(f"this end is attached to {self.interface!r}")
        if interface.overhead != self.header:
            raise ValueError(f"{interface!r} is of another kind than the end of this link")
        interface.attach(self)
        self.interface = interface

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Hand what leaves here to `send` from now on."""
        self._send = send

    def unplug(self) -> None:
        """Leave the interface alone. Idempotent."""
        interface, self.interface, self._send = self.interface, None, None
        self._forget()
        if interface is not None:
            interface.detach()

    def transmit(self, records: memoryview) -> int:
        """Send whole frames; the link decides over them, and never takes fewer."""
        send = self._send
        if send is not None:
            for frame in split_records(records):
                send(bytes(frame))
        return len(records)

    def detached(self, error: Exception | None) -> None:
        """The interface is gone."""
        self.interface = None
        self._forget()

    def receive(self, frame: bytes) -> str | None:
        """Hand a frame to the interface, or let it wait for the stack's next turn; return why it is dropped, or None.

        What waits when the interface goes was delivered, and counts among `dropped` only.
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
            interface.driver.when_room(interface.buffers, self._continue)
        return None

    def _continue(self) -> None:
        interface, waiting = self.interface, self._waiting
        while interface is not None and waiting:
            if not interface.inject(waiting[0]):
                interface.driver.when_room(interface.buffers, self._continue)
                return
            self._waiting_bytes -= len(waiting.popleft())

    def _forget(self) -> None:
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0


class Link:
    """A link between two ends, with a channel each way.

    Args:
        a, b: a tap or tun, or a port of a switch (`Switch.port`); both of one kind.
        settings: of both directions.
        a_to_b, b_to_a: of one direction, instead.
        name: for traces; it also names the link's random streams.
        seed: of the random streams. Each direction has one of its own, ``random_for(seed, name, direction)``, so
            that nothing that happens elsewhere changes what it draws.
        loop: whose time it is; None takes the running one.
        observe: takes what is sent, see `Channel`.
        on_change: is told in words what `down`, `up` and `change` do.

    Raises:
        TypeError: an end of another kind.
        ValueError: an end with Ethernet frames and one without.
        OSError: ``EBUSY`` where something is plugged in or listens already.

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
                raise ValueError(f"a link joins two ends of one kind, not {a!r} and {b!r}")

            def channel(direction: Direction, its: LinkSettings | None, far: LinkEnd) -> Channel:
                return Channel(
                    loop,
                    its or both,
                    random_for(seed, name, direction),
                    far.receive,
                    observe,
                    point=name,
                    outgoing=direction == "a_to_b",
                    header=far.header,
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
        """Whether it carries something, one way at least."""
        return self.a_to_b.up or self.b_to_a.up

    def down(self, direction: Direction | None = None, *, cause: str = "down") -> None:
        """Carry nothing: what waits and what is under way is lost, and what is sent until `up`. Idempotent.

        Args:
            direction: ``"a_to_b"``, ``"b_to_a"``, or None for both.
            cause: what the observer and the statistics are told.
        """
        channels = self._channels(direction)
        if any(channel.up for channel in channels):
            self._tell("down", direction)
        for channel in channels:
            channel.cut(cause)

    def up(self, direction: Direction | None = None) -> None:
        """Carry again what is sent from now on. Idempotent; without effect on a link that was closed."""
        channels = self._channels(direction)
        if not self.closed:
            if not all(channel.up for channel in channels):
                self._tell("up", direction)
            for channel in channels:
                channel.up = True

    def change(self, *, direction: Direction | None = None, **settings: Any) -> None:
        """Change some settings; those that are not named stay. See `Channel.settings` for what is under way.

        Args:
            direction: ``"a_to_b"``, ``"b_to_a"``, or None for both.
            settings: fields of `LinkSettings`.

        Raises:
            TypeError, ValueError: what `LinkSettings` raises; nothing was changed.
        """
        channels = self._channels(direction)
        changed = [replace(channel.settings, **settings) for channel in channels]
        for channel, its in zip(channels, changed, strict=True):
            channel.settings = its
        if settings:
            self._tell(", ".join(f"{name}={value}" for name, value in settings.items()), direction)

    def _tell(self, what: str, direction: Direction | None) -> None:
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
        """Unplug both ends for good. What is under way is lost. Idempotent."""
        if not self.closed:
            self.closed = True
            self.down()
            self.a.unplug()
            self.b.unplug()
