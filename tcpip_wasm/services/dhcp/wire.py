"""DHCP messages: requests read from bytes that any host may have sent, and replies as bytes (RFC 2131, RFC 2132).

Owns the layout of messages and options, and what is left out of a reply that must be short. It does no input or output
and knows no leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from struct import Struct, pack
from typing import Final

from tcpip_wasm.engine import dhcp_options

__all__ = ["BadMessage", "Reply", "Request", "build_reply", "encode_search", "parse_request"]

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
"""Values of option 53 (RFC 2132, section 9.6)."""

SUBNET_MASK, ROUTER, NAME_SERVERS, HOST_NAME, DOMAIN, BROADCAST = 1, 3, 6, 12, 15, 28
REQUESTED, LEASE_TIME, OVERLOAD, MESSAGE_TYPE, SERVER_ID, PARAMETERS, MESSAGE, MAX_SIZE = 50, 51, 52, 53, 54, 55, 56, 57
RENEWAL, REBINDING, CLIENT_ID, BOOT_SERVER, BOOT_FILE, FQDN, RELAY_AGENT, ARCHITECTURE = 58, 59, 61, 66, 67, 81, 82, 93
SEARCH: Final = 119
END: Final = 255

MIN_MESSAGE: Final = 300
"""Bytes of a reply at least: clients of BOOTP expect a vendor area of 64 (RFC 1542, section 2.1)."""

DEFAULT_MESSAGE: Final = 576 - 28
"""Bytes of a reply that every client takes: an IP packet of 576 (RFC 2131, section 2)."""

MOST_REQUEST: Final = 4096
"""Bytes of the longest request that is read: clients send 300 to 600."""

MOST_REPLY: Final = 1472
"""Bytes of the longest reply, whatever a client offers to take: one Ethernet frame."""

UNSPECIFIED: Final = IPv4Address(0)

_FIXED: Final = Struct(">BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE: Final = b"\x63\x82\x53\x63"
_FIRST: Final = (MESSAGE_TYPE, SERVER_ID, LEASE_TIME, SUBNET_MASK, ROUTER, NAME_SERVERS, RENEWAL, REBINDING)
"""What a client needs most: these options come first, so that they are in a reply that is too short for all."""


class BadMessage(ValueError):
    """Bytes that are no request of a DHCP client."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message of a client.

    Attributes:
        kind: value of option 53.
        transaction: the client's number of this exchange.
        seconds: since when it tries, by its own account.
        broadcast: whether the reply must be broadcast.
        client: the address that it uses, or 0.0.0.0.
        relay: the address of the relay that passed it on (giaddr), or 0.0.0.0.
        hops: relays so far.
        mac: its hardware address, as text.
        hardware: its hardware address as it stands in the message, 16 bytes.
        options: by number.
    """

    kind: int
    transaction: int
    seconds: int
    broadcast: bool
    client: IPv4Address
    relay: IPv4Address
    hops: int
    mac: str
    hardware: bytes
    options: Mapping[int, bytes]

    @property
    def identity(self) -> bytes:
        """What distinguishes clients: option 61, else the hardware address (RFC 2131, section 4.2)."""
        given = self.options.get(CLIENT_ID, b"")
        return given if len(given) >= 2 else b"\x01" + bytes.fromhex(self.mac.replace(":", ""))

    @property
    def requested(self) -> IPv4Address | None:
        """The address that it asks for in option 50, or None."""
        return self.address(REQUESTED)

    @property
    def server(self) -> IPv4Address | None:
        """The server that it addresses in option 54, or None."""
        return self.address(SERVER_ID)

    @property
    def parameters(self) -> bytes:
        """The options that it wants (option 55)."""
        return self.options.get(PARAMETERS, b"")

    @property
    def architecture(self) -> int | None:
        """What kind of machine boots (option 93, RFC 4578, section 2.1), or None."""
        given = self.options.get(ARCHITECTURE, b"")
        return int.from_bytes(given[:2]) if len(given) >= 2 else None

    @property
    def hostname(self) -> str | None:
        """Its name (option 12, or 81 of RFC 4702), of letters, digits, hyphens and dots; or None."""
        name = self.options.get(HOST_NAME, b"").rstrip(b"\0")
        if not name:
            full = self.options.get(FQDN, b"")
            name = full[3:].rstrip(b"\0.") if len(full) > 3 and not full[0] & 4 else b""
        text = name.decode("ascii", "replace")
        fits = 0 < len(text) <= 253 and text.isascii() and all(c.isalnum() or c in "-._" for c in text)
        return text if fits else None

    @property
    def longest_reply(self) -> int:
        """Bytes of a reply that the client takes (option 57)."""
        given = self.options.get(MAX_SIZE, b"")
        if len(given) != 2:
            return DEFAULT_MESSAGE
        return min(max(int.from_bytes(given) - 28, DEFAULT_MESSAGE), MOST_REPLY)

    def address(self, option: int) -> IPv4Address | None:
        """Return the address in an option, or None where there is no option of four bytes."""
        given = self.options.get(option, b"")
        return IPv4Address(given) if len(given) == 4 else None


def parse_request(data: bytes) -> Request:
    """Read a message.

    Args:
        data: payload of a UDP datagram.

    Raises:
        BadMessage: it is none of a client of DHCP over Ethernet; nothing else, whatever the bytes are.
    """
    if not _FIXED.size <= len(data) <= MOST_REQUEST:
        raise BadMessage(f"{len(data)} bytes are no request")
    operation, hardware_type, length, hops, transaction, seconds, flags, *rest = _FIXED.unpack_from(data)
    client, _, _, relay, hardware, _, _, cookie = rest
    if operation != 1 or cookie != _COOKIE:
        raise BadMessage("not a request of DHCP")
    if hardware_type != 1 or length != 6:
        raise BadMessage("not of an Ethernet host")
    if hardware[0] & 1 or not any(hardware[:6]):
        raise BadMessage("a hardware address that no host has")
    options = dhcp_options(data)
    kind = options.get(MESSAGE_TYPE, b"")
    if len(kind) != 1 or not DISCOVER <= kind[0] <= INFORM or kind[0] in (OFFER, ACK, NAK):
        raise BadMessage("no type of a client's message")
    mac = hardware[:6].hex(":")
    addresses = IPv4Address(client), IPv4Address(relay)
    return Request(kind[0], transaction, seconds, bool(flags & 0x8000), *addresses, hops, mac, hardware, options)


@dataclass(slots=True)
class Reply:
    """A message to a client.

    Attributes:
        kind: `OFFER`, `ACK` or `NAK`.
        address: what the client gets, or 0.0.0.0.
        next_server: where it boots from, or 0.0.0.0.
        boot_server: name of that server.
        boot_file: the file that it boots.
        options: by number; those of the address and the lease among them.
    """

    kind: int
    address: IPv4Address = UNSPECIFIED
    next_server: IPv4Address = UNSPECIFIED
    boot_server: bytes = b""
    boot_file: bytes = b""
    options: dict[int, bytes] = field(default_factory=dict)


def build_reply(request: Request, reply: Reply, server: IPv4Address) -> bytes:
    """Return a reply, no longer than its client takes.

    Options that do not fit go on in the fields for a file and a server's name where these are free (RFC 2132, section
    9.3); what fits nowhere is left out, the least important first.

    Args:
        request: what it answers.
        reply: its content.
        server: the server's own address.
    """
    options = {MESSAGE_TYPE: bytes([reply.kind]), SERVER_ID: server.packed, **reply.options}
    if RELAY_AGENT in request.options:
        options[RELAY_AGENT] = request.options[RELAY_AGENT]  # RFC 3046, section 2.2
    names = {field_size: text if len(text) < field_size else b"" for field_size, text in _names(reply)}
    if reply.boot_file and (BOOT_FILE in request.parameters or not names[128]):
        options[BOOT_FILE] = reply.boot_file
    if reply.boot_server and (BOOT_SERVER in request.parameters or not names[64]):
        options[BOOT_SERVER] = reply.boot_server
    room = request.longest_reply - _FIXED.size - 1
    areas = _distribute(_ordered(options, request.parameters), room, free_file=not names[128], free_name=not names[64])
    main, file_area, name_area = areas
    answered = request.client if reply.kind == ACK else IPv4Address(0)
    fixed = _FIXED.pack(
        *(2, 1, 6, 0, request.transaction, 0, 0x8000 if request.broadcast or reply.kind == NAK else 0),
        *(answered.packed, reply.address.packed, reply.next_server.packed, request.relay.packed, request.hardware),
        *(name_area or names[64], file_area or names[128], _COOKIE),
    )
    return (fixed + main + b"\xff").ljust(MIN_MESSAGE, b"\0")


def _names(reply: Reply) -> Iterable[tuple[int, bytes]]:
    return (64, reply.boot_server), (128, reply.boot_file)


def _ordered(options: Mapping[int, bytes], wanted: bytes) -> list[bytes]:
    """Return options with their headers: what every client needs, what this one wants in its order, and the others.

    Options of more than 255 bytes are split (RFC 3396); the parts of one option stay together.
    """
    order = [code for code in dict.fromkeys([*_FIRST, *wanted, *options]) if code in options and code != RELAY_AGENT]
    if RELAY_AGENT in options:
        order.append(RELAY_AGENT)  # the last one: RFC 3046, section 2.1
    packed = []
    for code in order:
        value = options[code]
        parts = [value[at : at + 255] for at in range(0, len(value), 255)] or [b""]
        packed.append(b"".join(bytes([code, len(part)]) + part for part in parts))
    return packed


def _distribute(options: list[bytes], room: int, *, free_file: bool, free_name: bool) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of the options' own area and of the two fields, which are empty if not needed."""
    if sum(map(len, options)) <= room:
        return b"".join(options), b"", b""
    room -= 3  # for option 52
    areas = [bytearray(), bytearray(), bytearray()]
    sizes = [room, 127 if free_file else 0, 63 if free_name else 0]
    for option in options:
        for area, size in zip(areas, sizes, strict=True):
            if len(area) + len(option) <= size:
                area += option
                break
    overload = (1 if areas[1] else 0) | (2 if areas[2] else 0)
    if overload:
        areas[0] += bytes([OVERLOAD, 1, overload])
    main, file_area, name_area = (bytes(area) for area in areas)
    return main, file_area and file_area + b"\xff", name_area and name_area + b"\xff"


def encode_search(domains: Iterable[str]) -> bytes:
    """Return a search list as names of DNS, without compression (RFC 3397).

    Raises:
        ValueError: one of them is no name.
    """
    packed = b""
    for domain in domains:
        labels = [label.encode("idna") for label in domain.rstrip(".").split(".")]
        if not all(0 < len(label) < 64 for label in labels):
            raise ValueError(f"search: {domain!r} is not a domain name")
        packed += b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return packed


def seconds_option(seconds: float) -> bytes:
    """Return a time as options have it, 32 bits; infinity is all ones."""
    return pack(">I", min(int(seconds), 0xFFFFFFFF) if seconds < 0xFFFFFFFF else 0xFFFFFFFF)
