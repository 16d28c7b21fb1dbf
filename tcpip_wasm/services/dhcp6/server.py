"""`Dhcp6Server`: addresses and settings for the hosts of a link by IPv6, and the router advertisements that lead to it.

Owns the socket, what each message causes (RFC 8415, section 18.3), and the advertiser, whose flags say that there is a
server (RFC 4861, section 4.2). Relays are not served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.interfaces import Interface, RouterAdvertiser, TapInterface
from tcpip_wasm.interfaces.interface_arguments import parse_mac
from tcpip_wasm.services.datagrams import open_datagrams
from tcpip_wasm.services.dhcp.wire import encode_search
from tcpip_wasm.services.dhcp6 import wire
from tcpip_wasm.services.dhcp6.table import Dhcp6Lease, LeaseTable
from tcpip_wasm.services.service import Service
from tcpip_wasm.sockets import UdpTransport
from tcpip_wasm.stack_parts import parts_of_interface

MIN_LIFETIME: Final = 10

Text6 = str | IPv6Address


@dataclass(slots=True)
class Dhcp6Statistics:
    """What a server counted.

    Attributes:
        received: messages of clients.
        malformed: datagrams that are none.
        dropped: messages for another server, or of a host that is not on the link.
        advertises, replies: answers.
        exhausted: associations for which there was no address.
        declined: addresses that clients found in use.
    """

    received: int = 0
    malformed: int = 0
    dropped: int = 0
    advertises: int = 0
    replies: int = 0
    exhausted: int = 0
    declined: int = 0


class Dhcp6Server(Service):
    """A DHCPv6 server on one interface.

    Args:
        interface: a tap with an IPv6 address.
        pool: the first and the last address to lend, in a network of the interface; None serves settings alone
            (stateless).
        lifetime: seconds for which an address is valid, 10 at least; it is preferred for half of them.
        name_servers: DNS servers for the clients.
        search: domains in which clients look for short names.
        reservations: addresses by hardware address, or by the client's identifier (DUID) in hexadecimal digits.
        boot_file: URL of what clients boot (RFC 5970), or None.
        advertise: whether to advertise the interface's networks of 64 bits, with the flags that lead hosts to this
            server. With a pool, hosts then make no addresses of their own.
        router_lifetime: seconds for which hosts use this stack as their default router; 0 if it is none.

    Attributes:
        statistics: what it counted.

    Raises:
        ValueError, TypeError: a malformed argument.
        StackError: the stack is gone.
    """

    def __init__(
        self,
        interface: TapInterface,
        *,
        pool: tuple[Text6, Text6] | None = None,
        lifetime: int = 3600,
        name_servers: Iterable[Text6] = (),
        search: Iterable[str] = (),
        reservations: Mapping[str, Text6] | None = None,
        boot_file: str | None = None,
        advertise: bool = True,
        router_lifetime: int = 0,
    ) -> None:
        if not isinstance(interface, TapInterface):
            raise TypeError(f"interface must be a tap, not {interface!r}")
        super().__init__(interface.driver, max_tasks=0)
        self._parts = parts_of_interface(interface)
        self._interface: Interface = interface
        self._tap = interface
        self._networks = [one.network for one in interface.addresses if isinstance(one, IPv6Interface)]
        if interface.link_local is None or not self._networks:
            raise ValueError(f"interface: {interface.name} has no IPv6 address")
        self._lifetime = check_int("lifetime", lifetime, MIN_LIFETIME, 0xFFFFFFFE)
        first, last = (None, None) if pool is None else (self._address("pool", one) for one in pool)
        if first is not None and last is not None and not first <= last:
            raise ValueError(f"pool: {first} to {last} is empty")
        reserved = {
            parse_mac(key).hex(":") if ":" in key else bytes.fromhex(key).hex(): self._address("reservations", one)
            for key, one in (reservations or {}).items()
        }
        own = frozenset(one.ip for one in interface.addresses if isinstance(one, IPv6Interface))
        self._table = LeaseTable(first, last, reserved, own)
        self._has_addresses = first is not None or bool(reserved)
        self._servers = [_ipv6("name_servers", one) for one in name_servers]
        self._options = {}
        if self._servers:
            self._options[wire.NAME_SERVERS] = b"".join(one.packed for one in self._servers)
        if domains := list(search):
            self._options[wire.DOMAINS] = encode_search(domains)
        if boot_file is not None:
            self._options[wire.BOOT_FILE] = boot_file.encode()
        self._id = b"\0\3\0\1" + parse_mac(interface.mac)  # DUID-LL: section 11.4
        self._advertise = advertise
        self._router_lifetime = router_lifetime
        self.statistics: Dhcp6Statistics = Dhcp6Statistics()
        self._transport: UdpTransport | None = None
        self._advertiser: RouterAdvertiser | None = None

    def __repr__(self) -> str:
        return f"<Dhcp6Server on {self._interface.name}, {len(self._table)} leases>"

    @property
    def leases(self) -> tuple[Dhcp6Lease, ...]:
        """The leases that have not ended, in the order of their addresses."""
        return self._table.leases(self._driver.loop.time())

    def _address(self, name: str, given: Text6) -> IPv6Address:
        address = _ipv6(name, given)
        if not any(address in network for network in self._networks):
            raise ValueError(f"{name}: {address} is in no network of {self._interface.name}")
        return address

    async def _open(self) -> None:
        self._transport = await open_datagrams(
            self._parts, self._on_datagram, "::", wire.SERVER_PORT, multicast_interface=self._interface, reuse_port=True
        )
        self._transport.group(True, wire.SERVERS, self._interface.handle)
        if self._advertise:
            self._advertiser = await self._tap.advertise(
                [one for one in self._networks if isinstance(one, IPv6Network) and one.prefixlen == 64],
                name_servers=self._servers,
                router_lifetime=self._router_lifetime,
                managed=self._has_addresses,
                other=True,
                autonomous=not self._has_addresses,
            )

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._advertiser is not None:
            self._advertiser.stop()

    # --- Messages -------------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, source: tuple[Any, ...]) -> None:
        # A client sends from its link-local address (section 13), whose scope is the link.
        if source[0].partition("%")[2] != self._interface.name:
            self.statistics.dropped += 1
            return
        try:
            request = wire.parse_request(data)
        except wire.BadMessage:
            self.statistics.malformed += 1
            return
        self.statistics.received += 1
        if request.server and request.server != self._id:
            self.statistics.dropped += 1
            return
        answer = self._answer(request)
        if answer is not None:
            assert self._transport is not None
            self._transport.sendto(answer, (source[0], wire.CLIENT_PORT))

    def _answer(self, request: wire.Request) -> bytes | None:
        kind = request.kind
        if kind == wire.INFORMATION_REQUEST:
            return self._reply(request, options={**self._options, wire.REFRESH: self._lifetime.to_bytes(4)})
        if kind == wire.CONFIRM:
            addresses = [address for one in request.associations for address in one.addresses]
            if not addresses:
                return None  # section 18.3.3
            fits = all(any(address in network for network in self._networks) for address in addresses)
            state = (wire.SUCCESS, "on this link") if fits else (wire.NOT_ON_LINK, "not on this link")
            return self._reply(request, state=state)
        if kind in (wire.RELEASE, wire.DECLINE):
            return self._give_up(request)
        if kind == wire.SOLICIT and not request.rapid:
            granted = [self._grant(request, one, keeps=False) for one in request.associations]
            self.statistics.advertises += 1
            return wire.build_reply(request, wire.ADVERTISE, self._id, granted=granted, options=self._options)
        granted = [self._grant(request, one, keeps=True) for one in request.associations]
        return self._reply(request, granted=granted, options=self._options, rapid=kind == wire.SOLICIT)

    def _reply(self, request: wire.Request, **content: Any) -> bytes:
        self.statistics.replies += 1
        return wire.build_reply(request, wire.REPLY, self._id, **content)

    def _grant(self, request: wire.Request, association: wire.Association, *, keeps: bool) -> wire.Granted:
        """Return what an association gets; addresses that it has and must not use have no time (section 18.3.4)."""
        now = self._driver.loop.time()
        client, mac = (request.client, association.number), request.mac
        self._table.expire(now)
        renews = request.kind in (wire.RENEW, wire.REBIND)
        wanted = [one for one in association.addresses if self._table.may_have(one, client, mac)]
        address = next((one for one in wanted if self._table.holds(client, one) or renews), None)
        if address is None:
            address = self._table.choose(client, mac, now)
        granted = wire.Granted(association.number)
        if renews:
            granted.addresses = [(one, 0, 0) for one in association.addresses if one != address]
        if address is None:
            self.statistics.exhausted += 1
            granted.status = wire.NO_ADDRESSES, "no address is left"
            return granted
        granted.addresses.insert(0, (address, self._lifetime // 2, self._lifetime))
        if keeps:
            expires = now + self._lifetime
            self._table.grant(Dhcp6Lease(address, request.client, association.number, mac, expires))
        return granted

    def _give_up(self, request: wire.Request) -> bytes:
        """Take back addresses that a client releases, or that it found in use (sections 18.3.7 and 18.3.8)."""
        unknown = []
        for association in request.associations:
            client = request.client, association.number
            known = [one for one in association.addresses if self._table.holds(client, one)]
            for address in known:
                if request.kind == wire.DECLINE:
                    self.statistics.declined += 1
                    self._table.decline(address, self._driver.loop.time())
                else:
                    self._table.remove(address)
            if not known:
                unknown.append(wire.Granted(association.number, status=(wire.NO_BINDING, "no such lease")))
        return self._reply(request, granted=unknown, state=(wire.SUCCESS, "done"))


def _ipv6(name: str, given: object) -> IPv6Address:
    if isinstance(given, IPv6Address):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{name} must be text or an IPv6Address, not {type(given).__name__}")
    try:
        return IPv6Address(given)
    except ValueError:
        raise ValueError(f"{name}: {given!r} is not an IPv6 address") from None
