"""SNTP messages: requests read and answers written (RFC 4330, RFC 5905, section 7.3). Dates are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

__all__ = ["BadMessage", "Request", "build_answer", "parse_request"]

SIZE: Final = 48
MOST: Final = 1024
"""Bytes of a request: extension fields and an authenticator may follow, which are not read."""

ERA: Final = 2_208_988_800
"""Seconds from 1900, when NTP's era 0 begins, to 1970."""

CLIENT, SERVER = 3, 4
"""Modes."""

PRECISION: Final = -20
"""Of the clock, as a power of two in seconds: a microsecond."""

_MESSAGE: Final = Struct(">BBbbII4sQQQQ")


class BadMessage(ValueError):
    """Bytes that are no request of a client."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        version: of the protocol, 1 to 4.
        poll: the client's interval, as a power of two in seconds.
        sent: when the client sent it, by its own clock: a timestamp that the answer repeats.
    """

    version: int
    poll: int
    sent: int


def parse_request(data: bytes) -> Request:
    """Read a request.

    Raises:
        BadMessage: it is none; nothing else, whatever the bytes are.
    """
    if not SIZE <= len(data) <= MOST:
        raise BadMessage(f"{len(data)} bytes are no request")
    first, _, poll, *_, sent = _MESSAGE.unpack_from(data)
    version, mode = first >> 3 & 7, first & 7
    # Version 1 has no mode. Other modes are not answered: two servers could go on for ever.
    if not 1 <= version <= 4 or mode != (CLIENT if version > 1 else mode) or (version == 1 and mode not in (0, CLIENT)):
        raise BadMessage("not of a client")
    return Request(version, poll, sent)


def timestamp(date: float) -> int:
    """Return seconds since 1970 as NTP has them: since 1900, modulo 2**32, with 32 bits of fraction."""
    return int((date + ERA) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def date_of(stamp: int, near: float) -> float:
    """Return the date of a timestamp, of those that are 2**32 seconds apart the one nearest to another date."""
    date = stamp / (1 << 32) - ERA
    era = 1 << 32
    return date + round((near - date) / era) * era


def build_answer(request: Request, *, arrived: float, leaves: float, stratum: int, reference: bytes) -> bytes:
    """Return an answer.

    Args:
        request: what it answers.
        arrived, leaves: seconds since 1970 by the server's clock.
        stratum: 1 to 15: distance from a reference clock.
        reference: four bytes that name the server's own source.
    """
    return _MESSAGE.pack(
        request.version << 3 | SERVER,
        stratum,
        request.poll,
        PRECISION,
        0,
        1 << 6,  # root dispersion: about a millisecond, in units of 2**-16 s
        reference,
        timestamp(arrived),
        request.sent,
        timestamp(arrived),
        timestamp(leaves),
    )
