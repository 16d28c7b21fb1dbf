"""The Ethernet interface: `TapInterface`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tcpip_wasm.addresses import IPInterface
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import NetworkError
from tcpip_wasm.interfaces.autoconfiguration import ConfigurableInterface
from tcpip_wasm.interfaces.frames import StreamInterface
from tcpip_wasm.interfaces.interface_arguments import station_mac

if TYPE_CHECKING:
    from tcpip_wasm.interfaces.bridge import BridgeInterface


class TapInterface(ConfigurableInterface, StreamInterface):
    """An Ethernet interface. It can find its own addresses: see `configure`.

    Attributes:
        mac: its address, as ``02:00:00:00:00:01``; a group address is kept as it was given, and frames have it without
            the group bit.
        bridge: the bridge that it is a port of, or None.
    """

    type = "tap"
    kind = abi.KIND_TAP
    overhead = 14

    def __init__(
        self, driver: Driver, name: str, mtu: int, addresses: list[IPInterface], mac: bytes, *, ipv6: bool = True
    ) -> None:
        self._prepare()
        super().__init__(driver, name, mtu, addresses, station_mac(mac), ipv6=ipv6)
        self.mac: str = mac.hex(":")
        self.bridge: BridgeInterface | None = None

    def remove(self) -> None:
        """Take the tap out of its stack, and out of its bridge."""
        super().remove()
        if self.bridge is not None:
            self.bridge._forget_port(self)  # noqa: SLF001  for this package alone: interfaces are public

    def _check_advertising(self) -> None:
        if self.bridge is not None:
            raise NetworkError(errno.EBUSY, f"{self.name} is a port of {self.bridge.name}, which can advertise")
