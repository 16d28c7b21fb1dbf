"""IP addresses: the types, the numbers of the two families, and their text.

Everything above uses these, so this module imports nothing of the package. It knows no interface: which one a
link-local address belongs to is decided by `interfaces.table`.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Any, Final

Address = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
"""An address of an interface with its prefix."""

Network = IPv4Network | IPv6Network
Host = str | Address
"""What callers write for a host: a name, the text of an address, or an address."""

Endpoint = tuple[Address, int]
"""An address, and the handle of the interface that it belongs to if it is link-local, or 0."""

SOCKET_FAMILIES: Final[dict[int, socket.AddressFamily]] = {4: socket.AF_INET, 6: socket.AF_INET6}
"""The family of the `socket` module by IP version. The ABI's families are the IP versions."""

VERSIONS: Final[dict[int, tuple[int, ...]]] = {0: (4, 6), int(socket.AF_INET): (4,), int(socket.AF_INET6): (6,)}
"""The IP versions by family of the `socket` module; 0 (``AF_UNSPEC``) is both."""

ABI_FAMILIES: Final[dict[int, int]] = {0: 0, int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
"""The ABI's families by family of the `socket` module; 0 is both."""

LOOPBACK: Final[dict[int, Address]] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
UNSPECIFIED: Final[dict[int, Address]] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


def parse_address(text: str) -> Address | None:
    """Return the address that a text is, perhaps in brackets as in a URL (RFC 3986, section 3.2.2), or None."""
    try:
        return _parsed(text)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Address:
    """Return the address of a text, with or without brackets. Programs connect to the same few addresses many times.

    Raises:
        ValueError: it is none. Nothing is kept then, so that a long text does not stay in memory.
    """
    return ip_address(text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text)


def address_of(name: str, given: Any) -> Address:
    """Return an address that a caller gave as text or as an object.

    Args:
        name: the argument's, for the message.
        given: what the caller gave.

    Raises:
        TypeError: neither text nor an address.
        ValueError: the text is no address.
    """
    if isinstance(given, (IPv4Address, IPv6Address)):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{name} must be text or an ipaddress object, not {type(given).__name__}")
    try:
        return ip_address(given)
    except ValueError:
        raise ValueError(f"{name}: {given!r} is not an IP address") from None


def without_scope(address: Address) -> Address:
    """Return an address without its scope (RFC 4007, section 11)."""
    return address if isinstance(address, IPv4Address) or address.scope_id is None else IPv6Address(int(address))


def without_mapping(address: Address) -> Address:
    """Return the IPv4 address where IPv6 maps one (RFC 4291, section 2.5.5.2): such packets are IPv4's."""
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address


def destination(address: Address) -> Address:
    """Return an address to send to: this host's own for the unspecified one, as Linux and the BSDs do."""
    return address if int(address) else LOOPBACK[address.version]


def with_scope(address: Address | str, scope: str | int) -> str:
    """Return the text of an address with its scope, if it has one, as in ``fe80::1%tap0``."""
    return f"{address}%{scope}" if scope else str(address)


def c_text(address: Address) -> str:
    """Return an address as the C library writes it; versions of Python differ in how they write a mapped one."""
    mapped = None if isinstance(address, IPv4Address) else address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"
