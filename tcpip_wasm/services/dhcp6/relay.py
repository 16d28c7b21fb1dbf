"""Messages of clients that relays pass on: read from bytes that any host may have sent, and the way back as bytes.

Owns the layout of Relay-forward and Relay-reply (RFC 8415, sections 9 and 19), with one message in another for each
relay on the way. It does no input or output, and does not look into the message of the client.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import error, pack, unpack_from
from typing import Final

from tcpip_wasm.services.dhcp6.wire import BadMessage, option, options_of

FORWARD, REPLY = 12, 13
RELAY_MESSAGE, INTERFACE_ID = 9, 18

HOP_LIMIT: Final = 8
"""HOP_COUNT_LIMIT of section 7.6: a relay passes nothing on that has this count or more."""

MOST_RELAYED: Final = 4096
"""Bytes of a message with all that relays added; a client's own has 1,500 at most."""

_HEADER: Final = 2 + 2 * 16


@dataclass(frozen=True, slots=True)
class Relay:
    """What a relay has added (RFC 8415, section 9).

    Attributes:
        hops: relays between it and the client.
        link: the link-address, an address of the link by which the message came to it; `::` where it has none there.
        peer: the peer-address, from which the message came.
        interface_id: the option Interface-Id, which goes back unchanged; None where there is none.
    """

    hops: int
    link: IPv6Address
    peer: IPv6Address
    interface_id: bytes | None


def parse_relayed(data: bytes) -> tuple[tuple[Relay, ...], bytes]:
    """Return the relays, that next to the server first, and the client's message.

    Raises:
        BadMessage: it is no Relay-forward; nothing else, whatever the bytes are.
    """
    if len(data) > MOST_RELAYED:
        raise BadMessage(f"{len(data)} bytes are more than {MOST_RELAYED}")
    relays: list[Relay] = []
    while data[:1] == bytes([FORWARD]):
        if len(relays) > HOP_LIMIT:
            raise BadMessage(f"more than {HOP_LIMIT + 1} relays")
        relay, data = _unwrapped(data)
        relays.append(relay)
    if not relays:
        raise BadMessage("no relay has passed it on")
    return tuple(relays), data


def _unwrapped(data: bytes) -> tuple[Relay, bytes]:
    """Return what one relay has added, and the message in it."""
    if len(data) < _HEADER:
        raise BadMessage(f"{len(data)} bytes are less than a header")
    if data[1] > HOP_LIMIT:
        raise BadMessage(f"{data[1]} hops are more than {HOP_LIMIT}")
    try:
        options = options_of(data[_HEADER:])
    except (ValueError, error) as reason:
        raise BadMessage(str(reason)) from None
    messages = [value for code, value in options if code == RELAY_MESSAGE]
    identifiers = [value for code, value in options if code == INTERFACE_ID]
    if len(messages) != 1 or len(identifiers) > 1:
        raise BadMessage(f"{len(messages)} messages and {len(identifiers)} interfaces, where one of each may be")
    hops, link, peer = unpack_from(">xB16s16s", data)
    identifier = identifiers[0] if identifiers else None
    return Relay(hops, IPv6Address(link), IPv6Address(peer), identifier), messages[0]


def link_of(relays: tuple[Relay, ...]) -> IPv6Address | None:
    """Return an address of the client's link: that of the relay next to the client, else of the next one that knows
    it (section 13.1). None where none does."""
    return next((relay.link for relay in reversed(relays) if int(relay.link)), None)


def build_relayed(relays: tuple[Relay, ...], reply: bytes) -> bytes:
    """Return a reply to a client with the way back (section 19.3).

    Args:
        relays: as `parse_relayed` has returned them.
        reply: to the client.
    """
    for relay in reversed(relays):
        body = option(RELAY_MESSAGE, reply)
        if relay.interface_id is not None:
            body = option(INTERFACE_ID, relay.interface_id) + body
        reply = pack(">BB16s16s", REPLY, relay.hops, relay.link.packed, relay.peer.packed) + body
    return reply
