"""The engine's calls by which an interface finds its own addresses: SLAAC, duplicate detection, DHCP, and the router's
side of SLAAC. What follows from them are events of the interface; they are taken apart here, too."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Final

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.calls import Calls

INFINITE: Final = 0xFFFFFFFF
"""Seconds that stand for ever, in DHCP (RFC 2131, section 3.3) and in IPv6 (RFC 4861, section 4.6.2)."""


@dataclass(frozen=True, slots=True)
class AddressReport:
    """What an ADDRESS event has beside the new state.

    Attributes:
        address: the IPv6 address.
        given: whether the program gave it, so that it has no lifetime.
        valid, preferred: seconds left; `INFINITE` for ever.
    """

    address: IPv6Address
    given: bool
    valid: int
    preferred: int


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """What a LEASE event has.

    Attributes:
        address: the address with its netmask.
        router: the default router, or None.
        server: the server that gave it.
        seconds, renewal, rebinding: from now on until the lease ends, is renewed, is renewed by any server.
    """

    address: IPv4Interface
    router: IPv4Address | None
    server: IPv4Address
    seconds: int
    renewal: int
    rebinding: int


def decode_address(payload: bytes) -> AddressReport:
    """Take apart the payload of an ADDRESS event."""
    report = abi.AddressReport._make(abi.ADDRESS_REPORT.unpack(payload))
    return AddressReport(IPv6Address(report.address), bool(report.given), report.valid, report.preferred)


def decode_lease(payload: bytes) -> LeaseReport:
    """Take apart the payload of a LEASE event."""
    lease = abi.Lease._make(abi.LEASE.unpack(payload))
    return LeaseReport(
        IPv4Interface((IPv4Address(lease.address), int.from_bytes(lease.mask).bit_count())),
        IPv4Address(lease.router) if any(lease.router) else None,
        IPv4Address(lease.server),
        lease.seconds,
        lease.renewal,
        lease.rebinding,
    )


class AutoconfigurationCalls:
    """The calls; reachable as `Core.autoconfiguration`.

    Handles are those of taps; the calls of a router's side also take those of bridges.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def follow_routers(self, handle: int, enabled: bool) -> None:
        """Solicit router advertisements and follow them, or forget what they gave.

        Raises:
            OSError: ``EBADF`` where the interface is no tap, or has no link-local address because its MTU is too small.
        """
        self._calls.call("interface_autoconfigure", handle, enabled)

    def check_address(self, handle: int, address: IPv6Address) -> None:
        """Check one of the interface's addresses for duplicates before it is used (RFC 4862, section 5.4).

        Raises:
            OSError: ``EADDRNOTAVAIL`` where the interface has no such address.
        """
        self._calls.put_scratch(abi.IP_ADDRESS.pack(address.packed))
        self._calls.call("interface_check_address", handle, 1, detail=str(address))

    def remove_address(self, handle: int, address: IPv6Address) -> None:
        """Take an IPv6 address from the interface."""
        self._calls.put_scratch(abi.IP_ADDRESS.pack(address.packed))
        self._calls.call("interface_check_address", handle, 0, detail=str(address))

    def hear_solicitations(self, handle: int, enabled: bool) -> None:
        """Report router solicitations of other hosts by ROUTER_SOLICITATION events, or stop that."""
        self._calls.call("interface_hear_solicitations", handle, enabled)

    def advertise(self, handle: int, message: bytes) -> None:
        """Send a router advertisement, see `build_advertisement`, to all nodes.

        Raises:
            OSError: ``EADDRNOTAVAIL`` as long as the interface has no link-local address that may be used.
        """
        self._calls.put_staging(message)
        self._calls.call("interface_advertise", handle, len(message), detail="advertise")

    def start_dhcp(self, handle: int) -> None:
        """Request an IPv4 address. LEASE follows as an event, if there is a server.

        Raises:
            OSError: ``EADDRINUSE`` where the interface has an IPv4 address, or something else has UDP port 68.
        """
        self._calls.call("dhcp_start", handle, detail="DHCP")

    def stop_dhcp(self, handle: int) -> None:
        """Release the lease, if there is one, and request no other."""
        self._calls.call("dhcp_stop", handle)
