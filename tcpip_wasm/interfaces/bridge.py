"""Bridges: taps of a stack joined so that what one brings leaves by the others (IEEE 802.1D, transparent bridging).

Owns which taps are ports. Frames are learned from and forwarded inside the module; Python sees them where they enter
and leave. There is no spanning tree: two bridges joined by two cables have a broadcast storm, which lasts until one of
the cables is closed and takes time from the event loop, but does not hold it up.

The reasons are in docs/explanation/bridges-routers.md.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from tcpip_wasm.addresses import IPInterface
from tcpip_wasm.arguments import check_int
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import NetworkError
from tcpip_wasm.interfaces.advertising import AdvertisingInterface
from tcpip_wasm.interfaces.interface import Observer
from tcpip_wasm.interfaces.interface_arguments import station_mac
from tcpip_wasm.interfaces.tap import TapInterface

AGEING: Final = 300
"""Seconds: IEEE 802.1D-2004, table 7-5."""


class BridgeInterface(AdvertisingInterface):
    """A bridge, and the stack's own interface on it; `NetworkStack.create_bridge_interface` makes it.

    A tap that is a port has no part in the stack's own traffic: the bridge's MAC and addresses are the stack's. Frames
    longer than a port's MTU allows are dropped there and counted by the port, and so are those that its full transmit
    buffer refuses.

    Attributes:
        mac: the stack's address on the bridge, as ``02:00:00:00:00:01``.
    """

    type = "bridge"
    kind = abi.KIND_BRIDGE
    overhead = 14

    def __init__(
        self, driver: Driver, name: str, mtu: int, addresses: list[IPInterface], mac: bytes, *, ipv6: bool = True
    ) -> None:
        super().__init__(driver, name, mtu, addresses, station_mac(mac), ipv6=ipv6)
        self.mac: str = mac.hex(":")
        self._ports: list[TapInterface] = []
        self._ageing = AGEING

    @property
    def ports(self) -> tuple[TapInterface, ...]:
        """The taps that are ports, in the order in which they became so."""
        return tuple(self._ports)

    async def add_port(self, tap: TapInterface) -> None:
        """Make a tap a port of this bridge.

        Args:
            tap: a tap of the same stack, without addresses: a port has none of its own.

        Raises:
            TypeError: it is no tap.
            ValueError: it is of another stack, or it has addresses.
            OSError: ``EBUSY`` where it is a port already or advertises, ``ENODEV`` where it or the bridge was removed.
            StackError: the stack is gone.
        """
        check_port(self.driver, tap)
        self.check()
        self.driver.core.bridges.add_port(self.handle, tap.handle)
        self._ports.append(tap)
        tap.bridge = self
        for observer in self._observers:
            tap.observe(observer)

    async def remove_port(self, tap: TapInterface) -> None:
        """Make a port an interface of its own again, and forget the addresses behind it.

        Raises:
            ValueError: it is no port of this bridge.
            OSError: ``ENODEV`` where the bridge was removed.
            StackError: the stack is gone.
        """
        self.check()
        if tap not in self._ports:
            raise ValueError(f"tap: {tap!r} is no port of {self.name}")
        self.driver.core.bridges.remove_port(self.handle, tap.handle)
        self._forget_port(tap)

    def _forget_port(self, tap: TapInterface) -> None:
        """The tap is a port no more; the module has removed it already."""
        self._ports.remove(tap)
        tap.bridge = None
        for observer in self._observers:
            tap.unobserve(observer)

    def observe(self, observer: Observer) -> None:
        """Show an observer every frame that passes one of the ports, those among them that come later."""
        super().observe(observer)
        for tap in self._ports:
            tap.observe(observer)

    def unobserve(self, observer: Observer) -> None:
        """Take back `observe`. Without effect if it does not observe."""
        super().unobserve(observer)
        for tap in self._ports:
            tap.unobserve(observer)

    @property
    def attached(self) -> bool:
        """Whether something is attached to one of the ports."""
        return any(tap.attached for tap in self._ports)

    @property
    def ageing(self) -> int:
        """Seconds after which an address from which no frame came is forgotten; with 0 every frame goes to every
        port."""
        return self._ageing

    @ageing.setter
    def ageing(self, seconds: int) -> None:
        self.driver.core.bridges.set_ageing(self.handle, check_ageing(seconds))
        self._ageing = seconds

    @property
    def learned(self) -> int:
        """How many addresses the bridge has learned now, 4,096 at most and half of them behind one port.

        What finds no place is not learned, and frames for it go to every port.

        Raises:
            OSError: ``ENODEV`` where the bridge was removed.
            StackError: the stack is gone.
        """
        self.check()
        return self.driver.core.bridges.learned(self.handle)

    def _detach_all(self, error: Exception | None) -> None:
        for tap in self.ports:  # they are interfaces of their own again
            self._forget_port(tap)
        super()._detach_all(error)


def check_ageing(seconds: int) -> int:
    """Return an ageing time in seconds, 0 to 1,000,000 (IEEE 802.1D-2004, table 7-5, has 10 to 1,000,000).

    Raises:
        TypeError: not an int.
        ValueError: out of range.
    """
    return check_int("ageing", seconds, 0, 1_000_000)


def check_port(driver: Driver, tap: TapInterface) -> None:
    """Raise where a tap cannot become a port of a bridge: see `BridgeInterface.add_port`."""
    if not isinstance(tap, TapInterface):
        raise TypeError(f"a port of a bridge is a tap, not {type(tap).__name__}")
    if tap.driver is not driver:
        raise ValueError(f"tap: {tap!r} is of another stack")
    tap.check()
    if tap.addresses:
        raise ValueError(f"tap: {tap!r} has addresses; on a bridge they belong to the bridge")
    if tap.advertises:
        raise NetworkError(errno.EBUSY, f"{tap.name} advertises; as a port it could not")
    if tap.bridge is not None:
        raise NetworkError(errno.EBUSY, f"{tap.name} is a port of {tap.bridge.name}")


def check_ports(driver: Driver, ports: Iterable[TapInterface]) -> list[TapInterface]:
    """Return the taps that a new bridge is to have as ports.

    Raises:
        As `BridgeInterface.add_port`; ValueError also where one is named twice.
    """
    if not isinstance(ports, Iterable):
        raise TypeError(f"ports must be taps, not {type(ports).__name__}")
    taps = list(ports)
    for tap in taps:
        check_port(driver, tap)
    if len(set(taps)) < len(taps):
        raise ValueError(f"ports: one is named twice in {taps}")
    return taps
