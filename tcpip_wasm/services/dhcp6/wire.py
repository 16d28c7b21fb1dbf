"""DHCPv6 messages: requests read from bytes that any host may have sent, and replies as bytes (RFC 8415).

Owns the layout of messages and options. It does no input or output and knows no leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from struct import error, pack, unpack_from
from typing import Final

__all__ = ["Association", "BadMessage", "Request", "build_reply", "parse_request"]

SERVER_PORT: Final = 547
CLIENT_PORT: Final = 546
SERVERS: Final = "ff02::1:2"
"""All servers and relays on a link (section 7.1)."""
SITE_SERVERS: Final = "ff05::1:3"
"""All servers of a site, for relays (section 7.1)."""

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
INFORMATION_REQUEST: Final = 11

CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDRESS, ORO, PREFERENCE, ELAPSED = range(1, 9)
STATUS, RAPID_COMMIT, NAME_SERVERS, DOMAINS, IA_PD, REFRESH, BOOT_FILE = 13, 14, 23, 24, 25, 32, 59

SUCCESS, UNSPECIFIED, NO_ADDRESSES, NO_BINDING, NOT_ON_LINK = range(5)

MOST_REQUEST: Final = 1500
MAX_ASSOCIATIONS: Final = 4
"""Associations (IA_NA) of one message: one for each interface of a client, as a rule."""

MAX_ADDRESSES: Final = 8
"""Addresses of one association."""

MAX_ID: Final = 130
"""Bytes of a client's or server's identifier (section 11.1)."""

_KINDS: Final = frozenset({SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE, INFORMATION_REQUEST})


class BadMessage(ValueError):
    """Bytes that are no message of a client."""


@dataclass(frozen=True, slots=True)
class Association:
    """Addresses of one interface of a client (IA_NA).

    Attributes:
        number: chosen by the client.
        addresses: what it has, or would like.
    """

    number: int
    addresses: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A message of a client.

    Attributes:
        kind: its type.
        transaction: the client's number of this exchange.
        client: its identifier (DUID); empty where an information request has none.
        server: the identifier of the server that it addresses, or empty.
        associations: of its interfaces.
        rapid: whether it wants addresses at once (option 14).
        wanted: options that it asks for.
    """

    kind: int
    transaction: int
    client: bytes
    server: bytes
    associations: tuple[Association, ...]
    rapid: bool
    wanted: tuple[int, ...]

    @property
    def mac(self) -> str | None:
        """The hardware address in the identifier (section 11.2 and 11.4), or None."""
        kind = self.client[:4]
        packed = self.client[8:] if kind == b"\0\1\0\1" else self.client[4:] if kind == b"\0\3\0\1" else b""
        return packed.hex(":") if len(packed) == 6 else None


def options_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return the options of a message, or those in an option (section 21.1).

    Raises:
        ValueError, struct.error: they do not end where the bytes do.
    """
    found, at = [], 0
    while at < len(data):
        code, length = unpack_from(">HH", data, at)
        value = data[at + 4 : at + 4 + length]
        if len(value) < length:
            raise ValueError("an option beyond the end")
        found.append((code, value))
        at += 4 + length
    return found


def parse_request(data: bytes) -> Request:
    """Read a message.

    Raises:
        BadMessage: it is none of a client; nothing else, whatever the bytes are.
    """
    if not 4 <= len(data) <= MOST_REQUEST:
        raise BadMessage(f"{len(data)} bytes are no message")
    if data[0] not in _KINDS:
        raise BadMessage("no type of a client's message")
    try:
        return _parse(data)
    except (ValueError, error) as reason:
        raise BadMessage(str(reason)) from None


def _parse(data: bytes) -> Request:
    client = server = b""
    wanted: tuple[int, ...] = ()
    associations: list[Association] = []
    rapid = False
    for code, value in options_of(data[4:]):
        if code == CLIENT_ID:
            client = value
        elif code == SERVER_ID:
            server = value
        elif code == IA_NA and len(associations) < MAX_ASSOCIATIONS:
            (number,) = unpack_from(">I", value)
            inner = [one[:16] for kind, one in options_of(value[12:]) if kind == IA_ADDRESS and len(one) >= 24]
            associations.append(Association(number, tuple(IPv6Address(one) for one in inner[:MAX_ADDRESSES])))
        elif code == ORO:
            wanted = unpack_from(f">{len(value) // 2}H", value)
        elif code == RAPID_COMMIT:
            rapid = True
    kind = data[0]
    if len(client) > MAX_ID or len(server) > MAX_ID or (len(client) < 3 and kind != INFORMATION_REQUEST):
        raise ValueError("no identifier of a client")
    # Section 16: these name their server, and those must not.
    if kind in (REQUEST, RENEW, RELEASE, DECLINE) and not server:
        raise ValueError("no server's identifier")
    if kind in (SOLICIT, CONFIRM, REBIND) and server:
        raise ValueError("a server's identifier in a message to all")
    return Request(kind, int.from_bytes(data[1:4]), client, server, tuple(associations), rapid, wanted)


@dataclass(slots=True)
class Granted:
    """What an association gets.

    Attributes:
        number: the association's.
        addresses: with the seconds for which each is preferred and valid; 0 for one that must not be used.
        status: a code, and text.
    """

    number: int
    addresses: list[tuple[IPv6Address, int, int]] = field(default_factory=list)
    status: tuple[int, str] | None = None


def option(code: int, value: bytes) -> bytes:
    """Return an option."""
    return pack(">HH", code, len(value)) + value


def status(code: int, text: str) -> bytes:
    """Return an option of status (section 21.13)."""
    return option(STATUS, pack(">H", code) + text.encode())


def build_reply(
    request: Request,
    kind: int,
    server: bytes,
    *,
    granted: Iterable[Granted] = (),
    options: Mapping[int, bytes] | None = None,
    state: tuple[int, str] | None = None,
    rapid: bool = False,
) -> bytes:
    """Return a reply.

    Args:
        request: what it answers.
        kind: `ADVERTISE` or `REPLY`.
        server: the server's identifier.
        granted: what the associations get.
        options: further ones.
        state: a status of the whole message.
        rapid: whether it answers to a solicitation at once.
    """
    packed = pack(">I", kind << 24 | request.transaction) + option(SERVER_ID, server)
    if request.client:
        packed += option(CLIENT_ID, request.client)
    if rapid:
        packed += option(RAPID_COMMIT, b"")
    for one in granted:
        body = b"".join(
            option(IA_ADDRESS, address.packed + pack(">II", preferred, valid))
            for address, preferred, valid in one.addresses
        )
        if one.status is not None:
            body += status(*one.status)
        least = min((preferred for _, preferred, _ in one.addresses if preferred), default=0)
        times = pack(">III", one.number, least // 2, least * 4 // 5)  # section 21.4
        packed += option(IA_NA, times + body)
    if state is not None:
        packed += status(*state)
    return packed + b"".join(option(code, value) for code, value in (options or {}).items())
