"""Services and hosts as records of multicast DNS (RFC 6762) and service discovery (RFC 6763), and back.

Pure functions; it knows no sockets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from struct import pack, unpack_from
from typing import Final

from tcpip_wasm.addresses import Address, without_scope
from tcpip_wasm.arguments import check_port
from tcpip_wasm.services.mdns import wire
from tcpip_wasm.services.mdns.wire import Labels, Record

HOST_TTL: Final = 120
"""Seconds of records with a host's name (RFC 6762, section 10)."""

OTHER_TTL: Final = 4500

LOCAL: Final = b"local"
ALL_TYPES: Final[Labels] = (b"_services", b"_dns-sd", b"_udp", LOCAL)
"""Its PTR records are the types of services there are (RFC 6763, section 9)."""

_TYPE: Final = re.compile(r"_([a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?)\._(tcp|udp)(?:\.local\.?)?", re.IGNORECASE)
MAX_TEXT: Final = 1300

Properties = Mapping[str, str | bytes | None]


@dataclass(frozen=True, slots=True)
class MdnsService:
    """A service to announce.

    Attributes:
        type: such as ``"_http._tcp"``.
        port: its port.
        name: what people see, 63 bytes of UTF-8 at most; None is the responder's name.
        properties: keys and values of its TXT record; a value of None is a key alone.
    """

    type: str
    port: int
    name: str | None = None
    properties: Properties = field(default_factory=dict)


def type_labels(text: str) -> Labels:
    """Return the labels of a type of service, with ``local``.

    Raises:
        ValueError, TypeError: it is none (RFC 6335, section 5.1).
    """
    if not isinstance(text, str):
        raise TypeError(f"type must be text, not {type(text).__name__}")
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"type: {text!r} is not a type of service, such as '_http._tcp'")
    return b"_" + match[1].lower().encode(), b"_" + match[2].lower().encode(), LOCAL


def label_of(name: str, text: str) -> bytes:
    """Return a label of UTF-8 that a caller gave.

    Args:
        name: the argument's, for the message.
        text: what the caller gave.

    Raises:
        ValueError, TypeError: empty, too long, or no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be text, not {type(text).__name__}")
    label = text.encode()
    if not 0 < len(label) <= 63:
        raise ValueError(f"{name}: {text!r} has {len(label)} bytes, not 1 to 63")
    return label


def host_label(text: str) -> bytes:
    """Return the label of a host: letters, digits and hyphens; ``.local`` at its end is left out.

    Raises:
        ValueError, TypeError: it is no name of a host.
    """
    label = label_of("name", text.removesuffix(".").removesuffix(".local") if isinstance(text, str) else text)
    if not re.fullmatch(rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", label):
        raise ValueError(f"name: {text!r} is not a label of letters, digits and hyphens")
    return label


def numbered(label: bytes, number: int, *, host: bool) -> bytes:
    """Return another label for one that another host has (RFC 6762, section 9): ``name-2``, or ``name (2)``."""
    suffix = (b"-%d" if host else b" (%d)") % number
    kept = label[: 63 - len(suffix)]
    while not host and kept and len(kept.decode("utf-8", "ignore").encode()) < len(kept):
        kept = kept[:-1]  # in the middle of a character
    return kept + suffix


def encode_properties(properties: Properties) -> bytes:
    """Return the content of a TXT record (RFC 6763, section 6).

    Raises:
        ValueError, TypeError: a key or a value that cannot be in one.
    """
    packed = b""
    for key, value in properties.items():
        if not isinstance(key, str) or not key.isascii() or not key.isprintable() or not key or "=" in key:
            raise ValueError(f"properties: {key!r} is not a key of printable ASCII without '='")
        if not isinstance(value, (str, bytes, type(None))):
            raise TypeError(f"properties: {key} must be text, bytes or None, not {type(value).__name__}")
        content = value.encode() if isinstance(value, str) else value
        one = key.encode() + (b"=" + content if content is not None else b"")
        if len(one) > 255:
            raise ValueError(f"properties: {key} has {len(one)} bytes, more than 255")
        packed += bytes([len(one)]) + one
    if len(packed) > MAX_TEXT:
        raise ValueError(f"properties: {len(packed)} bytes are more than {MAX_TEXT:,}")
    return packed or b"\0"


def decode_properties(packed: bytes) -> dict[str, bytes | None]:
    """Return keys and values of a TXT record; of equal keys the first counts, malformed ones are left out."""
    found: dict[str, bytes | None] = {}
    at = 0
    while at < len(packed):
        one = packed[at + 1 : at + 1 + packed[at]]
        at += 1 + packed[at]
        key, separator, value = one.partition(b"=")
        if key and key.isascii():
            found.setdefault(key.decode().lower(), value if separator else None)
    return found


def address_record(name: Labels, address: Address) -> Record:
    """Return the record of an address."""
    rdtype = wire.A if address.version == 4 else wire.AAAA
    return Record(name, rdtype, without_scope(address).packed, HOST_TTL, True)


def pointer(name: Labels, target: Labels, ttl: int = OTHER_TTL, *, unique: bool = False) -> Record:
    """Return a PTR record."""
    return Record(name, wire.PTR, wire.pack_name(target), ttl, unique)


def reverse_name(address: Address) -> Labels:
    """Return the name at which the PTR record of an address is."""
    return tuple(label.encode() for label in without_scope(address).reverse_pointer.split("."))


def service_record(name: Labels, host: Labels, port: int) -> Record:
    """Return an SRV record (RFC 2782)."""
    return Record(name, wire.SRV, pack(">HHH", 0, 0, check_port("port", port)) + wire.pack_name(host), HOST_TTL, True)


def denial(name: Labels, rdtypes: Iterable[int]) -> Record:
    """Return the record that says of which types a name has records: it has no others (RFC 6762, section 6.1)."""
    bitmap = bytearray(32)
    for rdtype in rdtypes:
        bitmap[rdtype >> 3] |= 0x80 >> (rdtype & 7)
    packed = bytes(bitmap).rstrip(b"\0")
    return Record(name, wire.NSEC, wire.pack_name(name) + bytes([0, len(packed)]) + packed, HOST_TTL, True)


def address_of(record: Record) -> Address:
    """Return the address of an A or AAAA record."""
    return IPv4Address(record.data) if record.rdtype == wire.A else IPv6Address(record.data)


def service_of(record: Record) -> tuple[int, Labels]:
    """Return port and host of an SRV record."""
    return unpack_from(">H", record.data, 4)[0], wire.read_name(record.data, 6)


def text_of(name: Labels) -> str:
    """Return a name as text; dots and backslashes within labels have a backslash (RFC 6763, section 4.3)."""
    labels = (label.decode("utf-8", "replace").replace("\\", "\\\\").replace(".", "\\.") for label in name)
    return ".".join(labels)
