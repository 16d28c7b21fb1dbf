"""Reading what callers write: addresses with prefixes, MACs, MTUs, ports. Wrong input gets an error that names it."""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from tcpip_wasm.addresses import IPInterface
from tcpip_wasm.arguments import check_int

InterfaceAddresses = str | IPInterface | Iterable[str | IPInterface] | None

_EVERYBODY: Final = ipaddress.IPv4Address("255.255.255.255")

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")

MIN_MTU: Final = 68
"""Bytes: RFC 791, section 3.2."""
MIN_MTU6: Final = 1280
"""Bytes: RFC 8200, section 5."""
MAX_MTU: Final = 65535
"""Bytes: the length field of IPv4 (RFC 791, section 3.1)."""


def parse_addresses(ip: InterfaceAddresses) -> list[IPInterface]:
    """Return interface addresses from text such as ``"192.168.1.1/24"``, an object, a list of either, or None.

    Raises:
        TypeError: something else.
        ValueError: malformed text, or an address given twice.
    """
    if ip is None:
        return []
    given = [ip] if isinstance(ip, (str, IPv4Interface, IPv6Interface)) else ip
    if isinstance(given, (bytes, int)) or not isinstance(given, Iterable):
        raise TypeError(f"ip must be text, an interface object, a list of them or None, not {type(ip).__name__}")
    parsed: list[IPInterface] = []
    for one in given:
        if isinstance(one, (IPv4Interface, IPv6Interface)):
            address: IPInterface = one
        elif isinstance(one, str):
            try:
                address = ipaddress.ip_interface(one)
            except ValueError as error:
                raise ValueError(f"ip: {error}") from None
        else:
            raise TypeError(f"ip must be text or an interface object, not {type(one).__name__}")
        if address.ip.is_multicast or address.ip.is_unspecified or address.ip == _EVERYBODY:
            raise ValueError(f"ip: {one!s} is no address that an interface can have")
        if isinstance(address, IPv6Interface):
            if address.scope_id is not None:
                raise ValueError(f"ip: {one!s} has a scope, which its interface is")
            if address.ipv4_mapped is not None:
                raise ValueError(f"ip: {one!s} is an IPv4 address: write it as {address.ipv4_mapped}")
        if any(address.ip == other.ip for other in parsed):
            raise ValueError(f"ip: {one!s} is given twice")
        parsed.append(address)
    if sum(address.version == 4 for address in parsed) > 1:
        raise ValueError(f"ip: an interface has at most one IPv4 address, got {[str(a) for a in parsed]}")
    return parsed


def parse_mac(mac: str | bytes | None) -> bytes:
    """Return the six bytes of a MAC written as ``02:00:00:00:00:01``, or given as bytes.

    A group address (IEEE 802, the lowest bit of the first byte) is no station's, and neighbours do not believe it. It
    is accepted with a warning, since the documentation of tcpip.js uses one; see `station_mac`.

    Raises:
        TypeError: neither text nor bytes.
        ValueError: malformed, all zeros, or the broadcast address.
    """
    if isinstance(mac, (bytes, bytearray)):
        packed = bytes(mac)
    elif isinstance(mac, str):
        packed = bytes.fromhex(re.sub("[:-]", "", mac)) if _MAC.fullmatch(mac) else b""
    else:
        raise TypeError(f"mac must be text or bytes, not {type(mac).__name__}")
    if len(packed) != 6:
        raise ValueError(f"mac: {mac!r} is not six bytes such as '02:00:00:00:00:01'")
    if not any(packed) or packed == b"\xff" * 6:
        raise ValueError(f"mac: {mac!r} is not the address of one station")
    if packed[0] & 1:
        text = f"mac: {mac!r} is a group address; frames have {station_mac(packed).hex(':')} instead"
        warnings.warn(text, UserWarning, stacklevel=3)
    return packed


def station_mac(mac: bytes) -> bytes:
    """Return a MAC without the group bit, as frames have it."""
    return bytes([mac[0] & 0xFE]) + mac[1:]


def check_ipv6(ipv6: bool, addresses: Iterable[IPInterface]) -> bool:
    """Return whether an interface takes part in IPv6.

    Raises:
        TypeError: not a bool.
        ValueError: False, and an address is one of IPv6.
    """
    if not isinstance(ipv6, bool):
        raise TypeError(f"ipv6 must be a bool, not {type(ipv6).__name__}")
    address = next((one for one in addresses if one.version == 6), None)
    if address is not None and not ipv6:
        raise ValueError(f"ipv6: it is False, and ip has {address}")
    return ipv6


def parse_mtu(mtu: int, addresses: Iterable[IPInterface] = ()) -> int:
    """Return an MTU in bytes, 68 to 65,535.

    Args:
        mtu: what the caller wrote.
        addresses: those of the interface.

    Raises:
        TypeError: not an int.
        ValueError: out of range, or too small for an IPv6 address.
    """
    check_int("mtu", mtu, MIN_MTU, MAX_MTU)
    address = next((one for one in addresses if one.version == 6), None)
    if address is not None and mtu < MIN_MTU6:
        raise ValueError(f"mtu: {mtu} is less than the {MIN_MTU6} that IPv6 needs (RFC 8200), and ip has {address}")
    return mtu
