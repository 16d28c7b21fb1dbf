"""The links whose hosts a DHCPv6 server serves: its own, and those behind relays.

Owns callers' pools and reservations, checked, and which link an address belongs to. It knows neither messages nor
sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from tcpip_wasm.interfaces.interface_arguments import parse_mac
from tcpip_wasm.services.dhcp6.table import LeaseTable
from tcpip_wasm.services.leasing import address_of_kind, pools_of

Text6 = str | IPv6Address


@dataclass(frozen=True, slots=True)
class Dhcp6Pool:
    """Addresses to lend.

    Attributes:
        first, last: text or `IPv6Address`, both included.
        network: such as ``"fd00:1::/64"``, where it is another one than the interface's: clients there reach the server
            by a relay.
    """

    first: Text6
    last: Text6
    network: str | IPv6Network | None = None


PoolArgument6 = tuple[Text6, Text6] | Dhcp6Pool


@dataclass(frozen=True, slots=True)
class ServedLink:
    """A link whose hosts are served.

    Attributes:
        networks: of the link.
        table: the leases of its hosts.
        has_addresses: whether there are addresses to lend.
    """

    networks: tuple[IPv6Network, ...]
    table: LeaseTable
    has_addresses: bool

    def has(self, address: IPv6Address) -> bool:
        """Whether an address is on the link."""
        return any(address in network for network in self.networks)


def parse_links(
    name: str,
    own: tuple[IPv6Network, ...],
    own_addresses: frozenset[IPv6Address],
    pool: object,
    reservations: Mapping[str, Text6],
) -> tuple[ServedLink, ...]:
    """Return the links, the interface's own first.

    Args:
        name: the interface's, for messages.
        own: its networks.
        own_addresses: the stack's, which are not lent.
        pool: a pair of addresses, a `Dhcp6Pool` or several of them; None for none.
        reservations: addresses by hardware address, or by identifier in hexadecimal digits.

    Raises:
        ValueError, TypeError: a malformed argument, or two pools of one link.
    """
    pools: dict[tuple[IPv6Network, ...], tuple[IPv6Address, IPv6Address] | None] = {own: None}
    for one in [] if pool is None else pools_of(pool, Dhcp6Pool, IPv6Address):
        networks = own if one.network is None else (IPv6Network(one.network),)
        if networks[0] in own:
            networks = own
        first, last = (address_of_kind("pool", each, IPv6Address) for each in (one.first, one.last))
        for each in (first, last):
            if not any(each in network for network in networks):
                where = f"in no network of {name}" if networks == own else f"not in {networks[0]}"
                raise ValueError(f"pool: {each} is {where}")
        if not first <= last:
            raise ValueError(f"pool: {first} to {last} is empty")
        if pools.get(networks) is not None:
            raise ValueError(f"pool: {first} to {last} is another one of the same link")
        if any(network.overlaps(other) for network in networks for link in pools if link != networks for other in link):
            raise ValueError(f"pool: {networks[0]} overlaps another link")
        pools[networks] = first, last
    reserved = {
        parse_mac(key).hex(":") if ":" in key else bytes.fromhex(key).hex(): address_of_kind(
            "reservations", one, IPv6Address
        )
        for key, one in reservations.items()
    }
    for address in reserved.values():
        if not any(address in network for networks in pools for network in networks):
            raise ValueError(f"reservations: {address} is in no network of {name}, and of no pool")
    return tuple(_link(networks, ends, reserved, own_addresses) for networks, ends in pools.items())


def _link(
    networks: tuple[IPv6Network, ...],
    ends: tuple[IPv6Address, IPv6Address] | None,
    reserved: Mapping[str, IPv6Address],
    own: frozenset[IPv6Address],
) -> ServedLink:
    here = {key: address for key, address in reserved.items() if any(address in network for network in networks)}
    first, last = ends or (None, None)
    return ServedLink(networks, LeaseTable(first, last, here, own), ends is not None or bool(here))
