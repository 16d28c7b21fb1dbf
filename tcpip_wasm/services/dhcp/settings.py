"""What a DHCP server is configured with: callers' arguments checked and in the form of options.

It knows no leases and no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from tcpip_wasm.interfaces import Interface
from tcpip_wasm.interfaces.interface_arguments import parse_mac
from tcpip_wasm.services.dhcp import wire
from tcpip_wasm.services.dhcp.table import MAX_POOL, Pool
from tcpip_wasm.services.leasing import address_of_kind, iterable_of, pools_of

MIN_LEASE: Final = 10.0
"""Seconds of a lease at least: clients renew after half of it."""

OptionValue = str | bytes
BootFile = str | Mapping[int | None, str] | Callable[[wire.Request], str | None] | None
"""A file, files by architecture (option 93; None for others), or a function of the request."""

_OWN: Final = frozenset({0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82, 255})
"""Options that the server sets itself, or that only clients and relays send."""


@dataclass(frozen=True, slots=True)
class DhcpPool:
    """Addresses to lend.

    Attributes:
        first, last: text or `IPv4Address`, both included.
        network: such as ``"10.1.0.0/24"``, where it is another one than the interface's: clients there reach the
            server by a relay.
        router: the default router of that network; None is the server's setting, if it is in that network.
    """

    first: str | IPv4Address
    last: str | IPv4Address
    network: str | IPv4Network | None = None
    router: str | IPv4Address | None = None


PoolArgument = tuple[str | IPv4Address, str | IPv4Address] | DhcpPool
Pools = PoolArgument | Iterable[PoolArgument]


def interface_network(interface: Interface) -> IPv4Interface:
    """Return the IPv4 address of an interface with its network.

    Raises:
        TypeError: it is no interface, or one that has no broadcasts.
        ValueError: it has no IPv4 address.
    """
    if not isinstance(interface, Interface) or interface.type not in ("tap", "bridge"):
        raise TypeError(f"interface must be a tap or a bridge, not {interface!r}")
    own = next((one for one in interface.addresses if isinstance(one, IPv4Interface)), None)
    if own is None:
        raise ValueError(f"interface: {interface.name} has no IPv4 address, which clients need to reach the server")
    return own


def parse_pools(given: Pools, own: IPv4Interface, router: IPv4Address | None) -> tuple[Pool, ...]:
    """Return pools.

    Args:
        given: one or several.
        own: the address of the server's interface.
        router: the default router, for pools that do not name their own.

    Raises:
        ValueError, TypeError: a malformed one, or two that overlap.
    """
    pools: list[Pool] = []
    for one in pools_of(given, DhcpPool, IPv4Address):
        pool = _pool(one, own, router)
        if any(pool.first <= other.last and other.first <= pool.last for other in pools):
            raise ValueError(f"pool: {pool.first} to {pool.last} overlaps another one")
        pools.append(pool)
    if not pools:  # reservations alone: nothing is in between these
        near = router if router is not None and router in own.network else None
        pools.append(Pool(own.ip, own.ip - 1, own.network, near))
    return tuple(pools)


def _pool(given: DhcpPool, own: IPv4Interface, router: IPv4Address | None) -> Pool:
    first, last = address_of_kind("pool", given.first, IPv4Address), address_of_kind("pool", given.last, IPv4Address)
    network = own.network if given.network is None else IPv4Network(given.network)
    if not (first in network and last in network):
        raise ValueError(f"pool: {first} to {last} is not within {network}")
    if not 0 <= int(last) - int(first) < MAX_POOL:
        raise ValueError(f"pool: {first} to {last} are not 1 to {MAX_POOL:,} addresses")
    if network.prefixlen < 31:
        ends = network.network_address, network.broadcast_address
        if first in ends or last in ends:
            raise ValueError(f"pool: {first} to {last} has an address of {network} that no host may have")
    if given.router is not None:
        return Pool(first, last, network, address_of_kind("pool: router", given.router, IPv4Address))
    return Pool(first, last, network, router if router is not None and router in network else None)


def parse_reservations(given: Mapping[str, str | IPv4Address]) -> dict[str, IPv4Address]:
    """Return addresses by hardware address in its usual form.

    Raises:
        ValueError, TypeError: a malformed one, or an address twice.
    """
    parsed = {
        parse_mac(mac).hex(":"): address_of_kind("reservations", address, IPv4Address) for mac, address in given.items()
    }
    if len(set(parsed.values())) < len(parsed):
        raise ValueError("reservations: an address is reserved twice")
    return parsed


def parse_options(given: Mapping[int, OptionValue]) -> dict[int, bytes]:
    """Return options of the caller as bytes; text is encoded as UTF-8.

    Raises:
        ValueError, TypeError: a number that is not the caller's to set, a value of another type or too long.
    """
    parsed = {}
    for code, value in given.items():
        if not isinstance(code, int) or not 0 < code < 255:
            raise ValueError(f"options: {code!r} is not a number from 1 to 254")
        if code in _OWN:
            raise ValueError(f"options: {code} is set by the server or by clients alone")
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"options: {code} must be text or bytes, not {type(value).__name__}")
        parsed[code] = value.encode() if isinstance(value, str) else value
        if len(parsed[code]) > 1024:
            raise ValueError(f"options: {code} has {len(parsed[code])} bytes, more than 1,024")
    return parsed


def common_options(
    name_servers: Iterable[str | IPv4Address], domain: str | None, search: Iterable[str]
) -> dict[int, bytes]:
    """Return the options that all clients get.

    Raises:
        ValueError, TypeError: a malformed argument.
    """
    options = {}
    servers = [
        address_of_kind("name_servers", one, IPv4Address).packed
        for one in iterable_of("name_servers", name_servers, "a list")
    ]
    if servers:
        options[wire.NAME_SERVERS] = b"".join(servers)
    if domain:
        options[wire.DOMAIN] = domain.encode("idna")
    domains = [str(one) for one in iterable_of("search", search, "a list")]
    if domains:
        options[wire.SEARCH] = wire.encode_search(domains)
    return options


def boot_file_for(boot_file: BootFile, request: wire.Request) -> str | None:
    """Return what a client boots, or None. What a caller's function raises is not caught here."""
    if boot_file is None or isinstance(boot_file, str):
        return boot_file
    if isinstance(boot_file, Mapping):
        return boot_file.get(request.architecture, boot_file.get(None))
    return boot_file(request)


def address_or_none(text: str) -> IPv4Address | None:
    """Return the IPv4 address that a text is, or None."""
    try:
        return IPv4Address(text)
    except ValueError:
        return None
