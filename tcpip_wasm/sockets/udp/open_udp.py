"""Opening UDP sockets: `UdpOpener`, which makes the core's calls for a stack's methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from tcpip_wasm.addresses import ABI_FAMILIES, Address
from tcpip_wasm.arguments import check_int, check_port
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import NetworkError
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.interfaces.interface import check_interface
from tcpip_wasm.interfaces.routing_table import RoutingTable
from tcpip_wasm.names.lookup import Lookup
from tcpip_wasm.sockets.endpoints import Endpoints
from tcpip_wasm.sockets.udp.udp_socket import UdpSocket
from tcpip_wasm.sockets.udp.udp_transport import UdpTransport

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


def udp_options(
    driver: Driver,
    broadcast: bool = False,
    ttl: int = 64,
    multicast_ttl: int = 1,
    interface: Interface | None = None,
) -> dict[int, int]:
    """Return the core's options for arguments of callers; see `NetworkStack.open_udp`.

    Raises:
        ValueError, TypeError: a malformed argument, an interface of another stack.
    """
    options = {
        abi.OPTION_HOP_LIMIT: check_int("ttl", ttl, 1, 255),
        abi.OPTION_MULTICAST_HOP_LIMIT: check_int("multicast_ttl", multicast_ttl, 0, 255),
    }
    if broadcast:
        options[abi.OPTION_BROADCAST] = 1
    if interface is not None:
        check_interface("multicast_interface", interface, driver)
        options[abi.OPTION_MULTICAST_INTERFACE] = interface.handle
    return options


class UdpOpener:
    """Opens the UDP sockets of one stack.

    Args:
        driver: the stack's driver.
        routing: the stack's routes.
        lookup: finds the addresses of names.
    """

    def __init__(self, driver: Driver, routing: RoutingTable, lookup: Lookup) -> None:
        self._driver = driver
        self._lookup = lookup
        self._endpoints = Endpoints(routing.interfaces, routing.explained)

    def open(
        self, local: Any, remote: Any, family: int, options: dict[int, int], share: int = 0
    ) -> tuple[int, bytes | None]:
        """Open and perhaps connect a socket; return its handle and its remote endpoint."""
        self._driver.check()
        host, port = (None, 0) if local is None else local[:2]
        check_port("port", port)
        address: Address | None = None
        scope = 0
        if host not in (None, "", "*"):
            address, scope = self._endpoints.interfaces.resolve(host)
        record = self._endpoints.encode(tuple(remote)) if remote is not None else None
        if record is not None and family == abi.FAMILY_ANY:
            family = record[0]
        if address is not None and family not in (abi.FAMILY_ANY, address.version):
            raise ValueError(f"local address: {address} is not of IPv{family}")
        udp = self._driver.core.udp
        handle = udp.open(address, port, family=family, scope=scope, share=share)
        try:
            for option, value in options.items():
                udp.set_option(handle, option, value)
            if record is not None:
                self._connect(handle, record)
        except BaseException:
            udp.close(handle)
            raise
        return handle, record

    def _connect(self, handle: int, record: bytes) -> None:
        try:
            self._driver.core.udp.connect(handle, record)
        except NetworkError as error:
            raise self._endpoints.explained(error, record) from None

    def socket(self, host: Any, port: int | None, remote: Any, options: dict[int, int], share: int = 0) -> UdpSocket:
        """See `NetworkStack.open_udp`."""
        handle, _ = self.open((host, 0 if port is None else port), remote, abi.FAMILY_ANY, options, share)
        return UdpSocket(self._driver, handle, endpoints=self._endpoints, lookup=self._lookup)

    async def endpoint(
        self,
        factory: Callable[[], ProtocolT],
        local: Any,
        remote: Any,
        family: int,
        options: dict[int, int],
        share: int = 0,
    ) -> tuple[UdpTransport, ProtocolT]:
        """See `NetworkStack.create_datagram_endpoint`."""
        if family not in ABI_FAMILIES:
            raise ValueError(f"family: {family!r} is neither AF_INET nor AF_INET6")
        if local is None and remote is None and not family:
            raise ValueError("unexpected address family")  # asyncio's own words
        for name, address in (("local_addr", local), ("remote_addr", remote)):
            if address is not None and not (isinstance(address, (tuple, list)) and len(address) in (2, 4)):
                raise TypeError(f"{name} must be (host, port) or None, not {address!r}")
        handle, record = self.open(local, remote, ABI_FAMILIES[family], options, share)
        try:
            protocol = factory()
            transport = UdpTransport(self._driver, handle, protocol, endpoints=self._endpoints, remote=record)
        except BaseException:
            self._driver.core.udp.close(handle)
            raise
        try:
            protocol.connection_made(transport)
        except BaseException:
            transport.abort()
            raise
        return transport, protocol
