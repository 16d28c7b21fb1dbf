"""Options of DHCP messages and router advertisements, beyond those that lwIP itself uses.

Owns the reading of DHCP options (RFC 2132) and of router advertisements (RFC 4861, RFC 8106), and the writing of the
latter. Both come from the wire: whatever does not fit its length is left out, and nothing here raises for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from struct import Struct, pack, unpack_from
from typing import Final

OPTION_OVERLOAD: Final = 52
OPTION_NAME_SERVERS: Final = 6
OPTION_DOMAIN: Final = 15
OPTION_SEARCH: Final = 119

_OPTIONS: Final = 240  # where they begin, behind the cookie
_FILE: Final = slice(108, 236)
_SERVER_NAME: Final = slice(44, 108)

MAX_SERVERS: Final = 8
"""Name servers taken from one message; resolvers query three."""
MAX_DOMAINS: Final = 8

_ADVERTISEMENT: Final = Struct(">BBHBBHII")
_PREFIX: Final = Struct(">BBBBIII16s")
_ROUTER_ADVERTISEMENT: Final = 134
_LINK_ADDRESS, _PREFIX_INFORMATION, _MTU, _RDNSS = 1, 3, 5, 25
_ON_LINK_AND_AUTONOMOUS: Final = 0xC0
_ON_LINK: Final = 0x80
_MANAGED, _OTHER = 0x80, 0x40


def dhcp_options(message: bytes) -> dict[int, bytes]:
    """Return the options of a DHCP message; parts of one option are joined (RFC 3396).

    Args:
        message: the UDP payload, with its fixed part. Options may go on in the fields for a file and a server's name
            (RFC 2132, section 9.3).
    """
    found: dict[int, bytes] = {}
    _collect(message[_OPTIONS:], found)
    overload = found.get(OPTION_OVERLOAD, b"")[:1]
    if overload in (b"\x01", b"\x03"):
        _collect(message[_FILE], found)
    if overload in (b"\x02", b"\x03"):
        _collect(message[_SERVER_NAME], found)
    return found


def _collect(area: bytes, found: dict[int, bytes]) -> None:
    at = 0
    while at + 1 < len(area) and area[at] != 255:
        if area[at] == 0:
            at += 1
            continue
        value = area[at + 2 : at + 2 + area[at + 1]]
        if len(value) < area[at + 1]:
            return
        found[area[at]] = found.get(area[at], b"") + value
        at += 2 + len(value)


def dhcp_name_servers(options: dict[int, bytes]) -> tuple[IPv4Address, ...]:
    """Return the name servers that options give (RFC 2132, section 3.8), those that can be hosts."""
    packed = options.get(OPTION_NAME_SERVERS, b"")
    addresses = [IPv4Address(packed[at : at + 4]) for at in range(0, len(packed) - 3, 4)]
    hosts = [a for a in addresses if not (a.is_multicast or a.is_unspecified or a.is_reserved)]
    return tuple(dict.fromkeys(hosts))[:MAX_SERVERS]


def dhcp_domain(options: dict[int, bytes]) -> str | None:
    """Return the domain name that options give (RFC 2132, section 3.17), or None."""
    return _domain(options.get(OPTION_DOMAIN, b"").rstrip(b"\0"))


def _domain(packed: bytes) -> str | None:
    text = packed.decode("ascii", "replace")
    labels = text.rstrip(".").split(".")
    fits = all(0 < len(label) < 64 and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    return text if packed.isascii() and len(text) < 254 and fits else None


def dhcp_search(options: dict[int, bytes]) -> tuple[str, ...]:
    """Return the search list that options give (RFC 3397): names as DNS writes them, with its pointers."""
    packed = options.get(OPTION_SEARCH, b"")
    domains: list[str] = []
    at = 0
    while at < len(packed) and len(domains) < MAX_DOMAINS:
        labels: list[bytes] = []
        here, behind = at, None
        while here < len(packed) and packed[here] != 0 and len(labels) < 128:
            if packed[here] >= 0xC0:
                target = int.from_bytes(packed[here : here + 2]) & 0x3FFF
                behind = behind or here + 2
                if target >= here:  # a pointer goes back, so that following them ends
                    return tuple(domains)
                here = target
                continue
            labels.append(packed[here + 1 : here + 1 + packed[here]])
            here += 1 + packed[here]
        domain = _domain(b".".join(labels))
        if here >= len(packed) or domain is None:
            break
        domains.append(domain)
        at = behind or here + 1
    return tuple(domains)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """The fields of a router advertisement that lwIP does not process.

    Attributes:
        lifetime: seconds for which it is a default router; 0 if it is none.
        name_servers: recursive DNS servers, each with the seconds for which it may be used (RFC 8106, section 5.1).
    """

    lifetime: int
    name_servers: tuple[tuple[IPv6Address, int], ...]


def parse_advertisement(message: bytes) -> Advertisement:
    """Read a router advertisement that the module has checked."""
    lifetime = int.from_bytes(message[6:8])
    servers: list[tuple[IPv6Address, int]] = []
    at = _ADVERTISEMENT.size
    while at + 8 <= len(message) and message[at + 1] and len(servers) < MAX_SERVERS:
        option = message[at : at + 8 * message[at + 1]]
        if option[0] == _RDNSS and len(option) == 8 * option[1]:
            (seconds,) = unpack_from(">I", option, 4)
            for start in range(8, len(option) - 15, 16):
                address = IPv6Address(option[start : start + 16])
                if not (address.is_multicast or address.is_unspecified or address.is_loopback):
                    servers.append((address, seconds))
        at += 8 * message[at + 1]
    return Advertisement(lifetime, tuple(servers[:MAX_SERVERS]))


def build_advertisement(
    *,
    mac: bytes,
    prefixes: tuple[IPv6Network, ...],
    lifetime: int,
    preferred: int,
    router_lifetime: int,
    mtu: int | None,
    name_servers: tuple[IPv6Address, ...],
    managed: bool = False,
    other: bool = False,
    autonomous: bool = True,
) -> bytes:
    """Return a router advertisement (RFC 4861, section 4.2), without its checksum.

    Args:
        mac: the sender's link-layer address.
        prefixes: of 64 bits each; hosts make addresses of them.
        lifetime, preferred: seconds for which these addresses are valid and preferred.
        router_lifetime: seconds for which the sender is a default router; 0 if it is none.
        mtu: bytes of the largest packet on the link, or None.
        name_servers: recursive DNS servers, valid as long as the addresses.
        managed, other: whether hosts get addresses, and other settings, by DHCPv6.
        autonomous: whether hosts make addresses of the prefixes; else these are only on the link.
    """
    flags = (_MANAGED if managed else 0) | (_OTHER if other else 0)
    prefix_flags = _ON_LINK_AND_AUTONOMOUS if autonomous else _ON_LINK
    message = _ADVERTISEMENT.pack(_ROUTER_ADVERTISEMENT, 0, 0, 64, flags, router_lifetime, 0, 0)
    message += bytes([_LINK_ADDRESS, 1]) + mac
    if mtu is not None:
        message += pack(">BBHI", _MTU, 1, 0, mtu)
    for prefix in prefixes:
        packed = prefix.network_address.packed
        message += _PREFIX.pack(_PREFIX_INFORMATION, 4, 64, prefix_flags, lifetime, preferred, 0, packed)
    if name_servers:
        message += pack(">BBHI", _RDNSS, 1 + 2 * len(name_servers), 0, lifetime)
        message += b"".join(server.packed for server in name_servers)
    return message
