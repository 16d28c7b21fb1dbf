"""DNS messages: queries as bytes, and answers read from bytes that any host may have sent.

The only module that imports dnspython, and of dnspython only what knows the wire format. Reads of an answer what a stub
resolver needs: addresses, CNAME, PTR, and the SOA that says how long a denial holds; everything else is skipped.

The work that a message causes is bounded before it is done: dnspython of some versions follows chains of compression
pointers as long as the message, once for each name, which would take minutes for 64 KiB of the right bytes.

The reasons are in docs/explanation/names.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.wire
from dns.name import Name
from dns.rdatatype import AAAA, CNAME, OPT, PTR, SOA, A

from tcpip_wasm.addresses import Address

__all__ = [
    "AAAA",
    "ADDRESS_TYPES",
    "CNAME",
    "PTR",
    "A",
    "BadMessage",
    "Name",
    "Record",
    "Response",
    "build_query",
    "name_of",
    "read_response",
]

ADDRESS_TYPES: Final = {4: A, 6: AAAA}
"""The type of a record with an address, by IP version."""

UDP_SIZE: Final = 1232
"""Bytes of the largest answer by UDP: what fits the smallest IPv6 packet (the figure of DNS Flag Day 2020)."""

TCP_SIZE: Final = 16384
"""Bytes of the largest answer by TCP: pointers reach no further (RFC 1035, section 4.1.4), and a thousand addresses
fit."""

MAX_STEPS: Final = 20_000
"""Labels, pointers and records of one answer together: three times what a thousand addresses need."""

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

_HEADER: Final = Struct(">HHHHHH")
_RESPONSE, _TRUNCATED, _OPCODE, _RCODE = 0x8000, 0x0200, 0x7800, 0x000F


class BadMessage(Exception):
    """Bytes that are no answer, or not the answer to this question.

    Attributes:
        cause: ``"unasked"`` for an answer to something else, ``"malformed"`` for what cannot be read.
    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the answer section.

    Attributes:
        owner: whose it is.
        rdtype: A, AAAA, CNAME or PTR.
        ttl: seconds.
        value: an address, or the name that CNAME and PTR point to.
    """

    owner: Name
    rdtype: int
    ttl: int
    value: Address | Name


@dataclass(frozen=True, slots=True)
class Response:
    """The content of an answer.

    Attributes:
        rcode: its code, the extended bits of EDNS among it.
        truncated: the rest is to be had by TCP; then nothing else was read.
        answers: records of its answer section.
        denial: owner of the SOA in its authority section, and for how many seconds a denial holds; or None.
        whole: the message as it arrived.
    """

    rcode: int
    truncated: bool = False
    answers: tuple[Record, ...] = ()
    denial: tuple[Name, int] | None = None
    whole: bytes = b""


def name_of(text: str) -> Name:
    """Return an absolute name from its comparable form."""
    return dns.name.from_text(text + ".")


def build_query(name: Name, rdtype: int, number: int, *, edns: bool) -> bytes:
    """Return a question with recursion desired.

    Args:
        name: whose records.
        rdtype: of which type.
        number: the message's id.
        edns: whether to announce how large an answer by UDP may be (RFC 6891).
    """
    kind = dns.rdatatype.RdataType(rdtype)
    message = dns.message.make_query(name, kind, id=number)
    if edns:
        message.use_edns(0, payload=UDP_SIZE)
    return message.to_wire()


def read_response(data: bytes, *, number: int, name: Name, rdtype: int) -> Response:
    """Return the content of the answer to a query.

    Args: as for `build_query`, of the question.

    Raises:
        BadMessage: it is not the answer to this question, or cannot be read; nothing else, whatever the bytes are.
    """
    if len(data) < _HEADER.size:
        raise BadMessage("malformed", "shorter than a header")
    found, flags, *counts = _HEADER.unpack_from(data)
    answers = found == number and flags & (_RESPONSE | _OPCODE) == _RESPONSE
    if answers and counts[0] == 0 and flags & _RCODE in (FORMERR, NOTIMP):
        return Response(flags & _RCODE)  # a server that could not read the question does not repeat it
    if not answers or counts[0] != 1:
        raise BadMessage("unasked", "an answer to another question")
    if len(data) > TCP_SIZE:
        raise BadMessage("malformed", "longer than any answer")
    try:
        return _read(_Reader(data, _HEADER.size), flags, counts, name, rdtype)
    except (dns.exception.DNSException, ValueError) as error:
        raise BadMessage("malformed", str(error)) from None


class _Reader(dns.wire.Parser):
    """A parser with a bound on its steps."""

    steps = 0

    def get_uint8(self) -> int:  # what every label and every pointer begins with
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise ValueError("more work than an answer is worth")
        return super().get_uint8()

    def name(self) -> Name:
        return dns.name.from_wire_parser(self)


def _read(reader: _Reader, flags: int, counts: list[int], name: Name, rdtype: int) -> Response:
    asked = reader.name(), reader.get_uint16(), reader.get_uint16()
    if asked != (name, rdtype, dns.rdataclass.IN):
        raise BadMessage("unasked", "an answer to another question")
    if flags & _TRUNCATED:
        return Response(flags & _RCODE, truncated=True)
    rcode, answers, denial = flags & _RCODE, [], None
    for section, count in enumerate(counts[1:]):
        for _ in range(count):
            reader.steps += 1
            owner, kind, rdclass = reader.name(), reader.get_uint16(), reader.get_uint16()
            ttl, size = reader.get_uint32(), reader.get_uint16()
            if ttl > 0x7FFFFFFF and kind != OPT:
                ttl = 0  # RFC 2181, section 8
            with reader.restrict_to(size):
                if section == 2 and kind == OPT:
                    rcode |= ttl >> 24 << 4  # RFC 6891, section 6.1.3
                    reader.get_remaining()
                elif rdclass != dns.rdataclass.IN:
                    reader.get_remaining()
                elif section == 0 and kind in (A, AAAA, CNAME, PTR):
                    answers.append(Record(owner, kind, ttl, _value(reader, kind)))
                elif section == 1 and kind == SOA and denial is None:
                    reader.name(), reader.name()
                    *_, minimum = reader.get_struct("!IIIII")
                    denial = owner, min(ttl, minimum)  # RFC 2308, section 5
                else:
                    reader.get_remaining()
    return Response(rcode, answers=tuple(answers), denial=denial, whole=reader.wire)


def _value(reader: _Reader, kind: int) -> Address | Name:
    if kind == A:
        return IPv4Address(reader.get_bytes(4))
    if kind == AAAA:
        return IPv6Address(reader.get_bytes(16))
    return reader.name()
