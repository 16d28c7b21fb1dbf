"""The interfaces of one stack: `InterfaceTable`, which finds them by name, by handle and by address.

Owns the names of interfaces and the scopes of link-local addresses (RFC 4007): what is written as ``fe80::1%tap0`` is
an address and the handle of an interface for the core. Whatever reads or shows an address is handed this table. It
knows neither host names nor sockets.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from tcpip_wasm.addresses import (
    Address,
    Endpoint,
    Host,
    IPInterface,
    parse_address,
    with_scope,
    without_mapping,
    without_scope,
)
from tcpip_wasm.errors import MalformedHostError, network_error
from tcpip_wasm.interfaces.interface import Interface

MakeInterface = TypeVar("MakeInterface", bound=Interface)


class InterfaceTable:
    """The interfaces of one stack; iterating yields them in order of their creation."""

    def __init__(self) -> None:
        self._interfaces: list[Interface] = []
        self._numbers: dict[str, int] = {}

    def __iter__(self) -> Iterator[Interface]:
        return iter(self._interfaces)

    def __contains__(self, interface: object) -> bool:
        return interface in self._interfaces

    def __repr__(self) -> str:
        return repr(self._interfaces)

    def add(self, kind: str, make: Callable[[str], MakeInterface]) -> MakeInterface:
        """Make an interface and add it.

        Args:
            kind: what its name begins with. A number follows, which no later interface of the kind gets again.
            make: makes it from its name.
        """
        number = self._numbers.get(kind, 0)
        interface = make(f"{kind}{number}")
        self._numbers[kind] = number + 1
        self._interfaces.append(interface)
        return interface

    def remove(self, interface: Interface) -> None:
        """Remove an interface that is in the table."""
        self._interfaces.remove(interface)

    # --- Finding one --------------------------------------------------------------------------------------------

    def by_handle(self, handle: int) -> Interface | None:
        """Return the interface with a handle, or None."""
        return next((one for one in self._interfaces if one.handle == handle), None)

    def by_scope(self, scope: str) -> Interface | None:
        """Return the interface that a scope means, which is a name or a handle as text; or None."""
        return next((one for one in self._interfaces if scope in (one.name, str(one.handle))), None)

    def handle_of(self, own: str | int) -> int:
        """Return the handle of the interface that has an address, as text, or a handle; 0 stays 0.

        Raises:
            OSError: ``ENODEV`` where there is no such interface.
        """
        for interface in self._interfaces:
            if own == interface.handle or any(own == str(each.ip) for each in interface.addresses):
                return interface.handle
        if own:
            raise network_error(errno.ENODEV, f"no interface has {own}")
        return 0

    # --- Addresses ----------------------------------------------------------------------------------------------

    def own_addresses(self) -> list[IPInterface]:
        """Return the addresses that the interfaces have now."""
        return [address for interface in self._interfaces for address in interface.addresses]

    def is_own(self, address: Address) -> bool:
        """Whether an interface has an address."""
        return any(address == own.ip for interface in self._interfaces for own in interface.addresses)

    def text(self, address: Address, scope: int) -> str:
        """Return the text of an address with the name of its interface, as in ``fe80::1%tap0``.

        Args:
            address: the address.
            scope: handle of an interface, or 0. That of one that was removed is shown as its number.
        """
        if not scope:
            return str(address)
        interface = self.by_handle(scope)
        return with_scope(address, scope if interface is None else interface.name)

    def parse(self, host: Host) -> Endpoint | None:
        """Return an address with its scope, or None for text that can only be a name.

        Raises:
            TypeError: neither text nor an address.
            MalformedHostError: the scope is no interface of this stack.
        """
        if isinstance(host, str):
            address = parse_address(host)
            if address is None:
                return None
        elif isinstance(host, (IPv4Address, IPv6Address)):
            address = host
        else:
            raise TypeError(f"host must be text or an ipaddress object, not {type(host).__name__}")
        if isinstance(address, IPv4Address) or address.scope_id is None:
            return address, 0
        interface = self.by_scope(address.scope_id)
        if interface is None:
            raise MalformedHostError(f"host: {host!s} names no interface of this stack")
        return without_scope(address), interface.handle

    def resolve(self, host: Host) -> Endpoint:
        """Return an address with its scope where no name is possible; an IPv4 one where IPv6 maps it.

        Raises: what `parse` raises; ValueError also for a name.
        """
        endpoint = self.parse(host)
        if endpoint is None:
            raise MalformedHostError(f"host: {host!r} is not an IP address")
        return plain_endpoint(endpoint)


def plain_endpoint(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint of the IPv4 address where IPv6 maps one, which has no scope; else the endpoint itself."""
    address = without_mapping(endpoint[0])
    return endpoint if address is endpoint[0] else (address, 0)
