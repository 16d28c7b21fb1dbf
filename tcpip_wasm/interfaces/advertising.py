"""An Ethernet interface on which the stack can be the router that advertises: a tap or a bridge.

Owns that one advertiser at a time runs, and that it ends with the interface. When it sends is `router_advertiser`'s.
"""

from __future__ import annotations

import errno
from ipaddress import IPv6Address, IPv6Interface

from tcpip_wasm.engine import abi
from tcpip_wasm.errors import NetworkError, StackError
from tcpip_wasm.interfaces.interface import Interface
from tcpip_wasm.interfaces.interface_arguments import MIN_MTU6, station_mac
from tcpip_wasm.interfaces.router_advertiser import RouterAdvertiser


class AdvertisingInterface(Interface):
    """What a tap and a bridge have in common as a router's interface."""

    mac: str
    _advertiser: RouterAdvertiser | None = None

    @property
    def link_local(self) -> IPv6Address | None:
        """The link-local address, made from the MAC (RFC 4291, appendix A); None where the MTU is too small for
        IPv6 or `ipv6` is False.

        As a host argument it needs its scope: ``f"{tap.link_local}%{tap.name}"``, with the name of one's own interface.
        """
        if self.mtu < MIN_MTU6 or not self.ipv6:
            return None
        mac = station_mac(bytes.fromhex(self.mac.replace(":", "")))
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])

    @property
    def advertises(self) -> bool:
        """Whether this interface is a router's that advertises, by `advertise`."""
        return self._advertiser is not None and not self._advertiser.closed

    def _check_advertising(self) -> None:
        """Raise where the interface is not one of the stack's own."""

    async def advertise(
        self,
        prefix: str | IPv6Interface | object = (),
        *,
        lifetime: int = 86400,
        preferred: int | None = None,
        router_lifetime: int = 0,
        mtu: int | None = None,
        name_servers: object = (),
        interval: float = 600.0,
        managed: bool = False,
        other: bool = False,
        autonomous: bool = True,
    ) -> RouterAdvertiser:
        """Advertise prefixes to the link, as a router does (RFC 4861, section 6.2): hosts make addresses of them.

        Args:
            prefix: such as ``"2001:db8:1::/64"``, an `ipaddress` network, or several of them.
            lifetime: seconds for which addresses made of it, and name servers, are valid.
            preferred: seconds for which they are preferred; None is half of ``lifetime``.
            router_lifetime: seconds for which hosts send what is for elsewhere to this interface, at most 9,000. The
                default 0 is right for a stack that forwards nothing.
            mtu: bytes of the largest packet on this link, 1,280 at least, or None.
            name_servers: IPv6 addresses of DNS servers (RFC 8106).
            interval: seconds between two advertisements at most, 4 to 1,800.
            managed, other: whether hosts get addresses, and other settings, by DHCPv6; see
                `tcpip_wasm.services.Dhcp6Server`.
            autonomous: whether hosts make addresses of the prefixes; else these are only on the link.

        Returns:
            What advertises from now on; its `close` ends it.

        Raises:
            ValueError, TypeError: a malformed argument, or the MTU is too small for IPv6.
            OSError: ``EBUSY`` where it advertises already, or is a bridge's port; ``EBADF`` where it has no link-local
                address, because `ipv6` is False; ``ENODEV`` where it was removed.
        """
        self.check()
        self._check_advertising()
        if not self.ipv6:
            raise NetworkError(errno.EBADF, f"{self.name} has no link-local address, since ipv6 is False")
        if self.advertises:
            raise NetworkError(errno.EBUSY, f"{self.name} advertises already")
        self._advertiser = RouterAdvertiser(
            self,
            prefix,
            lifetime=lifetime,
            preferred=preferred,
            router_lifetime=router_lifetime,
            mtu=mtu,
            name_servers=name_servers,
            interval=interval,
            managed=managed,
            other=other,
            autonomous=autonomous,
        )
        return self._advertiser

    def _on_configuration_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that is not about frames."""
        if kind == abi.EVENT_ROUTER_SOLICITATION and self._advertiser is not None:
            self._advertiser._on_solicitation()  # noqa: SLF001  not for users of handlers

    def _give_back_soon(self) -> bool:
        """Stop advertising, before the stack closes; True if there is something to be sent."""
        try:
            return not self._removed and self._advertiser is not None and self._advertiser.stop()
        except StackError:
            return False

    def _detach_all(self, error: Exception | None) -> None:
        super()._detach_all(error)
        if self._advertiser is not None:
            self._advertiser.stop()
