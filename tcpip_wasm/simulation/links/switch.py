"""Learning switches: Ethernet frames go where their receiver was heard, and everywhere while it was not.

A switch takes no time: bandwidth, delay and queues are those of its links. It has no address of its own and speaks no
spanning tree: a loop of switches multiplies broadcasts as real ones do, and two bounds end that. Within one instant a
switch forwards so many frames, floods fewer, and drops the others; and what is under way on a link is bounded
(`channel`).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.errors import NetworkError
from tcpip_wasm.simulation.links.loss import check_number

__all__ = ["Switch", "SwitchPort"]

DEFAULT_TABLE: Final = 1024
DEFAULT_AGEING: Final = 300.0
"""Seconds: IEEE 802.1Q, table 8-6."""

MOST_PORTS: Final = 4096
STORM: Final = 10_000
"""Frames that are flooded within one instant at most: some ten for each of a thousand hosts."""

MOST_AT_ONCE: Final = 1_000_000
"""Frames that are forwarded within one instant at most. Over links without delay and bandwidth, instants are long."""


class SwitchPort:
    """A port of a switch, and so what a link may end in; `Switch.port` makes it.

    Attributes:
        switch: whose port it is.
        number: from 0 on, in the order in which they were made; never given twice.
    """

    header = 14

    def __init__(self, switch: Switch, number: int) -> None:
        self.switch = switch
        self.number = number
        self.send: Callable[[bytes], None] | None = None
        """Where frames go that leave by this port, or None while no link is plugged in."""

    def __repr__(self) -> str:
        return f"<SwitchPort {self.switch.name}.{self.number}>"

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Hand what leaves here to `send` from now on.

        Raises:
            OSError: ``EBUSY`` where a link is plugged in, ``ENODEV`` where the port was removed.
        """
        if self not in self.switch.ports:
            raise NetworkError(errno.ENODEV, f"{self!r} was removed")
        if self.send is not None:
            raise NetworkError(errno.EBUSY, f"{self!r} has a link already")
        self.send = send

    def unplug(self) -> None:
        """Remove the port from its switch. Idempotent."""
        self.send = None
        self.switch.remove(self)

    def receive(self, frame: bytes) -> str | None:
        """Take in a frame. What a switch drops, the link has carried all the same: it is counted by the switch."""
        self.switch.forward(self, frame)
        return None


class Switch:
    """A learning switch.

    Args:
        name: for messages.
        table: addresses that it remembers; when it is full, it forgets the one that it heard longest ago.
        ageing: seconds after which it forgets an address that it does not hear.
        loop: whose time it is; None takes the running one.

    Raises:
        TypeError, ValueError: a malformed argument.

    Attributes:
        name: its name.
        allows: None, or a function of two ports that says whether frames may go from the first to the second: how a
            network is partitioned within a switch.
        on_refused: takes the port by which it would leave and the frame where `allows` said no, or is None.
        forwarded, flooded: frames that went to one port, and frames that went to all others.
        dropped: frames that were too short, came back to where their receiver is, were refused by `allows`, or were too
            many to be flooded.
    """

    def __init__(
        self,
        name: str = "switch",
        *,
        table: int = DEFAULT_TABLE,
        ageing: float = DEFAULT_AGEING,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.name = name
        self._most = check_int("table", table, 1, 1_000_000)
        self._ageing = check_number("ageing", ageing, 0.0, 1e6)
        self._loop = loop or asyncio.get_running_loop()
        self._ports: dict[SwitchPort, None] = {}
        self._numbers = 0
        self._table: dict[bytes, tuple[SwitchPort, float]] = {}  # the one heard longest ago comes first
        self._instant = 0.0
        self._at_once = 0  # frames within it
        self._floods = 0
        self.allows: Callable[[SwitchPort, SwitchPort], bool] | None = None
        self.on_refused: Callable[[SwitchPort, bytes], None] | None = None
        self.forwarded: int = 0
        self.flooded: int = 0
        self.dropped: int = 0

    def __repr__(self) -> str:
        return f"<Switch {self.name}, {len(self._ports)} ports>"

    @property
    def ports(self) -> tuple[SwitchPort, ...]:
        """Its ports, in the order of their numbers."""
        return tuple(self._ports)

    @property
    def learned(self) -> dict[str, int]:
        """The numbers of the ports where addresses, as ``02:00:00:00:00:01``, were heard and not yet forgotten."""
        oldest = self._loop.time() - self._ageing
        return {mac.hex(":"): port.number for mac, (port, heard) in self._table.items() if heard >= oldest}

    def port(self) -> SwitchPort:
        """Add a port, for a link to end in.

        Raises:
            OSError: ``ENOSPC`` where there are 4,096.
        """
        if len(self._ports) >= MOST_PORTS:
            raise NetworkError(errno.ENOSPC, f"{self.name} has {MOST_PORTS} ports already")
        port = SwitchPort(self, self._numbers)
        self._numbers += 1
        self._ports[port] = None
        return port

    def remove(self, port: SwitchPort) -> None:
        """Remove a port, and forget what was heard there. Idempotent. The link at it is closed by who made it."""
        if port in self._ports:
            del self._ports[port]
            port.send = None
            self._table = {mac: entry for mac, entry in self._table.items() if entry[0] is not port}

    def forward(self, port: SwitchPort, frame: bytes) -> None:
        """Take a frame from a port, and send it on."""
        now = self._loop.time()
        if now != self._instant:
            self._instant, self._at_once, self._floods = now, 0, 0
        self._at_once += 1
        if len(frame) < SwitchPort.header or port not in self._ports or self._at_once > MOST_AT_ONCE:
            self.dropped += 1
            return
        target, source = frame[:6], frame[6:12]
        table = self._table
        if not source[0] & 1:
            if table.pop(source, None) is None and len(table) >= self._most:
                del table[next(iter(table))]
            table[source] = (port, now)
        known = None if target[0] & 1 else table.get(target)
        if known is None or now - known[1] > self._ageing:
            self._flood(port, frame)
        elif known[0] is port:
            self.dropped += 1
        elif self._send(port, known[0], frame):
            self.forwarded += 1

    def _flood(self, port: SwitchPort, frame: bytes) -> None:
        self._floods += 1
        if self._floods > STORM:
            self.dropped += 1
            return
        self.flooded += 1
        for other in self.ports:
            if other is not port:
                self._send(port, other, frame)

    def _send(self, port: SwitchPort, to: SwitchPort, frame: bytes) -> bool:
        if self.allows is not None and not self.allows(port, to):
            self.dropped += 1
            if self.on_refused is not None:
                self.on_refused(to, frame)
            return False
        if to.send is None:
            return False
        to.send(frame)
        return True
