"""`Dhcp6Server`: addresses and settings for the hosts of a link by IPv6, and the router advertisements that lead to it.

Owns the sockets, what each message causes (RFC 8415, section 18.3), and the advertiser, whose flags say that there is a
server (RFC 4861, section 4.2). Relays (section 19) reach it at its interface's addresses, from wherever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, IPv6Interface
from typing import Any, Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.interfaces import BridgeInterface, RouterAdvertiser, TapInterface
from tcpip_wasm.interfaces.interface_arguments import parse_mac
from tcpip_wasm.services.dhcp.wire import encode_search
from tcpip_wasm.services.dhcp6 import relay, wire
from tcpip_wasm.services.dhcp6.links import PoolArgument6, ServedLink, Text6, parse_links
from tcpip_wasm.services.dhcp6.table import Dhcp6Lease, LeaseTable
from tcpip_wasm.services.leasing import LeasingServer, address_of_kind

MIN_LIFETIME: Final = 10


@dataclass(slots=True)
class Dhcp6Statistics:
    """What a server counted.

    Attributes:
        received: messages of clients.
        malformed: datagrams that are none.
        dropped: messages for another server, of a host that is not on the link, or from a link without a pool, by a
            relay.
        relayed: how many of those in `received` came by a relay.
        advertises, replies: answers.
        exhausted: associations for which there was no address.
        declined: addresses that clients found in use.
    """

    received: int = 0
    malformed: int = 0
    dropped: int = 0
    relayed: int = 0
    advertises: int = 0
    replies: int = 0
    exhausted: int = 0
    declined: int = 0


class Dhcp6Server(LeasingServer[Dhcp6Lease]):
    """A DHCPv6 server on one interface.

    Args:
        interface: a tap or a bridge with an IPv6 address.
        pool: the first and the last address to lend, a `Dhcp6Pool`, or a list of these, one for each link; None serves
            settings alone (stateless).
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
        interface: TapInterface | BridgeInterface,
        *,
        pool: PoolArgument6 | Iterable[PoolArgument6] | None = None,
        lifetime: int = 3600,
        name_servers: Iterable[Text6] = (),
        search: Iterable[str] = (),
        reservations: Mapping[str, Text6] | None = None,
        boot_file: str | None = None,
        advertise: bool = True,
        router_lifetime: int = 0,
    ) -> None:
        if not isinstance(interface, (TapInterface, BridgeInterface)):
            raise TypeError(f"interface must be a tap or a bridge, not {interface!r}")
        super().__init__(interface, max_tasks=0)
        self._router = interface
        own = [one for one in interface.addresses if isinstance(one, IPv6Interface)]
        if interface.link_local is None or not own:
            raise ValueError(f"interface: {interface.name} has no IPv6 address")
        self._lifetime = check_int("lifetime", lifetime, MIN_LIFETIME, 0xFFFFFFFE)
        self._addresses = [one.ip for one in own]
        networks = tuple(dict.fromkeys(one.network for one in own))
        self._links = parse_links(interface.name, networks, frozenset(self._addresses), pool, reservations or {})
        self._own = self._links[0]
        self._servers = [address_of_kind("name_servers", one, IPv6Address) for one in name_servers]
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
        self._advertiser: RouterAdvertiser | None = None

    def _tables(self) -> list[LeaseTable]:
        return [link.table for link in self._links]

    async def _open(self) -> None:
        receive = partial(self._on_datagram, 0)
        transport = await self._listen(receive, "::", wire.SERVER_PORT, reuse_port=True)
        for group in (wire.SERVERS, wire.SITE_SERVERS):
            transport.group(True, group, self._interface.handle)
        # What is sent to an address goes to a socket of this address: not to a server of another interface.
        for number, address in enumerate(self._addresses, 1):
            await self._listen(partial(self._on_datagram, number), str(address), wire.SERVER_PORT, reuse_port=True)
        if self._advertise:
            self._advertiser = await self._router.advertise(
                [one for one in self._own.networks if one.prefixlen == 64],
                name_servers=self._servers,
                router_lifetime=self._router_lifetime,
                managed=self._own.has_addresses,
                other=True,
                autonomous=not self._own.has_addresses,
            )

    def _close(self) -> None:
        super()._close()
        if self._advertiser is not None:
            self._advertiser.stop()

    # --- Messages -------------------------------------------------------------------------------------------------

    def _on_datagram(self, number: int, data: bytes, source: tuple[Any, ...]) -> None:
        """Take a datagram of a client or of a relay, and answer by the socket with this number in `_transports`."""
        host, _, scope = source[0].partition("%")
        local = scope == self._interface.name
        relayed = data[:1] == bytes([relay.FORWARD])
        # A client sends from its link-local address (section 13), whose scope is the link.
        if not local and (scope or not relayed):
            self.statistics.dropped += 1
            return
        relays: tuple[relay.Relay, ...] = ()
        try:
            if relayed:
                relays, data = relay.parse_relayed(data)
            request = wire.parse_request(data)
        except wire.BadMessage:
            self.statistics.malformed += 1
            return
        self.statistics.received += 1
        self.statistics.relayed += relayed
        link = self._link_of(relays)
        # A host elsewhere must not change leases of the own link.
        from_elsewhere = link is self._own and not local and not link.has(IPv6Address(host))
        if link is None or from_elsewhere or (request.server and request.server != self._id):
            self.statistics.dropped += 1
            return
        answer = self._answer(request, link)
        if answer is not None:
            answer = relay.build_relayed(relays, answer)
            self._transports[number].sendto(answer, (source[0], wire.SERVER_PORT if relays else wire.CLIENT_PORT))

    def _link_of(self, relays: tuple[relay.Relay, ...]) -> ServedLink | None:
        """Return the client's link, or None where it is not served (section 13.1)."""
        address = relay.link_of(relays)
        if address is None:
            return self._own
        return next((link for link in self._links if link.has(address)), None)

    def _answer(self, request: wire.Request, link: ServedLink) -> bytes | None:
        kind = request.kind
        if kind == wire.INFORMATION_REQUEST:
            return self._reply(request, options={**self._options, wire.REFRESH: self._lifetime.to_bytes(4)})
        if kind == wire.CONFIRM:
            addresses = [address for one in request.associations for address in one.addresses]
            if not addresses:
                return None  # section 18.3.3
            fits = all(map(link.has, addresses))
            state = (wire.SUCCESS, "on this link") if fits else (wire.NOT_ON_LINK, "not on this link")
            return self._reply(request, state=state)
        if kind in (wire.RELEASE, wire.DECLINE):
            return self._give_up(request, link.table)
        if kind == wire.SOLICIT and not request.rapid:
            granted = [self._grant(request, one, link.table, keeps=False) for one in request.associations]
            self.statistics.advertises += 1
            return wire.build_reply(request, wire.ADVERTISE, self._id, granted=granted, options=self._options)
        granted = [self._grant(request, one, link.table, keeps=True) for one in request.associations]
        return self._reply(request, granted=granted, options=self._options, rapid=kind == wire.SOLICIT)

    def _reply(self, request: wire.Request, **content: Any) -> bytes:
        self.statistics.replies += 1
        return wire.build_reply(request, wire.REPLY, self._id, **content)

    def _grant(
        self, request: wire.Request, association: wire.Association, table: LeaseTable, *, keeps: bool
    ) -> wire.Granted:
        """Return what an association gets; addresses that it has and must not use have no time (section 18.3.4)."""
        now = self._now()
        client, mac = (request.client, association.number), request.mac
        table.expire(now)
        renews = request.kind in (wire.RENEW, wire.REBIND)
        wanted = [one for one in association.addresses if table.may_have(one, client, mac)]
        address = next((one for one in wanted if table.holds(client, one) or renews), None)
        if address is None:
            address = table.choose(client, mac, now)
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
            table.grant(Dhcp6Lease(address, request.client, association.number, mac, expires))
        return granted

    def _give_up(self, request: wire.Request, table: LeaseTable) -> bytes:
        """Take back addresses that a client releases, or that it found in use (sections 18.3.7 and 18.3.8)."""
        unknown = []
        for association in request.associations:
            client = request.client, association.number
            known = [one for one in association.addresses if table.holds(client, one)]
            for address in known:
                if request.kind == wire.DECLINE:
                    self.statistics.declined += 1
                    table.decline(address, self._now())
                else:
                    table.remove(address)
            if not known:
                unknown.append(wire.Granted(association.number, status=(wire.NO_BINDING, "no such lease")))
        return self._reply(request, granted=unknown, state=(wire.SUCCESS, "done"))
