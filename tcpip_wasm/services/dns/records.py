"""Records as callers write them: addresses, or text such as ``"MX 10 mail.lab.internal."``.

The only module of the DNS server that imports dnspython, which knows the text and the wire form of each type.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from tcpip_wasm.addresses import Address
from tcpip_wasm.services.dns import wire

RecordText = str | Address
"""A record: an address, its text, or the name of a type and its content."""

Records = RecordText | Iterable[RecordText]

_IN: Final = dns.rdataclass.IN


def parse_name(text: str) -> tuple[bytes, ...]:
    """Return the labels of a name in lower case.

    Raises:
        ValueError: it is no name.
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"records: a name must be text, not {type(text).__name__}")
    try:
        name = dns.name.from_text(text, dns.name.root)
    except dns.exception.DNSException as error:
        raise ValueError(f"records: {text!r} is not a name: {error}") from None
    return tuple(label.lower() for label in name.labels[:-1])


def parse_type(text: str) -> int:
    """Return the number of a type. Raises ValueError where there is none of this name."""
    try:
        return int(dns.rdatatype.from_text(text))
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"records: {text!r} is not a type of record") from None


def type_text(rdtype: int) -> str:
    """Return the name of a type, such as ``"AAAA"`` or ``"TYPE65280"``."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


def name_text(labels: tuple[bytes, ...]) -> str:
    """Return a name as text, without the last dot."""
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True)


def parse_records(given: Records, ttl: int, *, default: int | None = None) -> list[wire.Record]:
    """Return records of the question's name.

    Args:
        given: one or several.
        ttl: seconds.
        default: type of what is neither an address nor begins with the name of a type.

    Raises:
        ValueError, TypeError: one of them is malformed.
    """
    if isinstance(given, (str, IPv4Address, IPv6Address)):
        given = [given]
    elif isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"records must be text, an address or a list of them, not {type(given).__name__}")
    return [_parse_record(one, ttl, default) for one in given]


def _parse_record(given: RecordText, ttl: int, default: int | None) -> wire.Record:
    address = _address(given)
    if address is not None:
        return wire.Record(b"", wire.A if address.version == 4 else wire.AAAA, ttl, address.packed)
    if not isinstance(given, str):
        raise TypeError(f"records: {given!r} is neither text nor an address")
    first, _, rest = given.strip().partition(" ")
    try:
        rdtype = parse_type(first)
    except ValueError:
        if default is None:
            raise ValueError(f"records: {given!r} is neither an address nor a type with its content") from None
        rdtype, rest = default, given
    try:
        kind = dns.rdatatype.RdataType.make(rdtype)
        data = dns.rdata.from_text(_IN, kind, rest, dns.name.root, relativize=False).to_wire()
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"records: {given!r}: {error}") from None
    assert data is not None
    return wire.Record(b"", rdtype, ttl, data)


def _address(given: object) -> Address | None:
    if isinstance(given, (IPv4Address, IPv6Address)):
        return given
    try:
        return ip_address(given) if isinstance(given, str) else None
    except ValueError:
        return None


def reverse_name(record: wire.Record) -> tuple[bytes, ...] | None:
    """Return the name at which PTR records of an address are, or None for other records."""
    if record.rdtype not in (wire.A, wire.AAAA):
        return None
    return parse_name(ip_address(record.data).reverse_pointer)


def soa_of(labels: tuple[bytes, ...], ttl: int) -> wire.Record:
    """Return the SOA record of a zone, which says for how long a denial holds (RFC 2308, section 3)."""
    owner = wire.pack_name(labels)
    data = (
        owner + wire.pack_name((b"hostmaster", *labels)) + b"".join(n.to_bytes(4) for n in (1, 7200, 900, 1209600, ttl))
    )
    return wire.Record(owner, wire.SOA, ttl, data)
