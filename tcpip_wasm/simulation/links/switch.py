"""Learning switches: a frame is forwarded to the port where its destination was learned, and else flooded to all ports.

A switch adds no delay: bandwidth, delay and queues are those of its links. It has no address of its own and no spanning
tree protocol: a loop of switches multiplies broadcasts as real ones do, within two bounds. At one instant a switch
forwards a limited number of frames, floods fewer, and drops the others; and bytes under way on a link are bounded
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
MAX_FLOODED: Final = 10_000
"""Most frames that are flooded at one instant: some ten for each of a thousand hosts."""

MAX_FORWARDED: Final = 1_000_000
"""Most frames that are forwarded at one instant. Over links without delay and bandwidth much happens at one instant."""


class SwitchPort:
    """A port of a switch, an end of a link; `Switch.port` creates it.

    Attributes:
        switch: its switch.
        number: counts from 0 in the order of creation; not reused.
    """

    header = 14

    def __init__(self, switch: Switch, number: int) -> None:
        self.switch = switch
        self.number = number
        self.send: Callable[[bytes], None] | None = None
        """Called with frames that leave by this port; None while no link is plugged in."""

    def __repr__(self) -> str:
        return f"<SwitchPort {self.switch.name}.{self.number}>"

    def plug(self, send: Callable[[bytes], None]) -> None:
        """Pass frames that leave here to `send` from now on.

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
        """Receive a frame. A frame that the switch drops counts as delivered for the link; the switch counts it."""
        self.switch.forward(self, frame)
        return None


class Switch:
    """A learning switch.

    Args:
        name: for messages.
        table: size of its address table; a full table replaces the least recently seen address.
        ageing: seconds after which an address that was not seen is removed.
        loop: the loop whose time it uses; None takes the running one.

    Raises:
        TypeError, ValueError: a malformed argument.

    Attributes:
        name: its name.
        allows: None, or a function that returns whether frames may go from one port to another: it partitions a network
            within a switch.
        on_refused: None, or called with the outgoing port and a frame that `allows` has refused.
        forwarded, flooded: frames that were sent to one port, and to all other ports.
        dropped: frames that were too short, arrived at the port of their destination, were refused by `allows`, or
            exceeded the bounds.
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
        self._table_size = check_int("table", table, 1, 1_000_000)
        self._ageing = check_number("ageing", ageing, 0.0, 1e6)
        self._loop = loop or asyncio.get_running_loop()
        self._ports: dict[SwitchPort, None] = {}
        self._numbers = 0
        self._table: dict[bytes, tuple[SwitchPort, float]] = {}  # least recently seen first
        self._instant = 0.0
        self._run_without_waiting = 0  # frames within it
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
        """The address table: addresses, as ``02:00:00:00:00:01``, and the numbers of their ports."""
        oldest = self._loop.time() - self._ageing
        return {mac.hex(":"): port.number for mac, (port, heard) in self._table.items() if heard >= oldest}

    def port(self) -> SwitchPort:
        """Add a port, for a link.

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
        """Remove a port and its addresses. Idempotent. The link at it is not closed."""
        if port in self._ports:
            del self._ports[port]
            port.send = None
            self._table = {mac: entry for mac, entry in self._table.items() if entry[0] is not port}

    def forward(self, port: SwitchPort, frame: bytes) -> None:
        """Receive a frame from a port, and forward it."""
        now = self._loop.time()
        if now != self._instant:
            self._instant, self._run_without_waiting, self._floods = now, 0, 0
        self._run_without_waiting += 1
        if len(frame) < SwitchPort.header or port not in self._ports or self._run_without_waiting > MAX_FORWARDED:
            self.dropped += 1
            return
        target, source = frame[:6], frame[6:12]
        table = self._table
        if not source[0] & 1:
            if table.pop(source, None) is None and len(table) >= self._table_size:
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
        if self._floods > MAX_FLOODED:
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
