"""DNS messages of a server: queries read from bytes that any host may have sent, and answers as bytes.

Owns the layout of messages (RFC 1035, section 4; EDNS, RFC 6891), truncation, and what a forwarded answer must be
changed in. Every name and record is passed once, and no pointer is followed, so that the work a message causes grows
with its length alone. It knows no zone; records are bytes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct, error, pack, unpack_from
from typing import Final

__all__ = ["BadMessage", "Query", "Record", "build_answer", "parse_query", "read_forwarded"]

A, NS, CNAME, SOA, PTR, AAAA, OPT, ANY, AXFR, IXFR = 1, 2, 5, 6, 12, 28, 41, 255, 252, 251
IN: Final = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS: Final = 16

MAX_QUERY: Final = 1024
"""Bytes of a query that is read: a name has 255, cookies and client subnets less than 100."""

UDP_SIZE: Final = 1232
"""Bytes of an answer by UDP at most: what fits the smallest IPv6 packet (the figure of DNS Flag Day 2020)."""

PLAIN_SIZE: Final = 512
"""The same to a client without EDNS (RFC 1035, section 4.2.1)."""

MAX_ANSWER: Final = 65535

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_OPCODE, _RCODE = 0x7800, 0x000F
_DO: Final = 0x8000

_HEADER: Final = Struct(">HHHHHH")
_RECORD: Final = Struct(">HHIH")


class BadMessage(ValueError):
    """Bytes that are no query.

    Attributes:
        answer: what to answer, or None for nothing.
    """

    def __init__(self, text: str, answer: bytes | None = None) -> None:
        super().__init__(text)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        number: the message's id.
        flags: its flags.
        labels: of the name, as they were written, without the empty one at the end.
        rdtype, rdclass: of the records.
        question: the question as bytes.
        size: bytes of an answer by UDP that the client takes; 0 without EDNS.
        version: of EDNS.
        wants_dnssec: whether it understands DNSSEC (the DO bit).
    """

    number: int
    flags: int
    labels: tuple[bytes, ...]
    rdtype: int
    rdclass: int
    question: bytes
    size: int = 0
    version: int = 0
    wants_dnssec: bool = False

    @property
    def has_edns(self) -> bool:
        """Whether there was an OPT record, which the answer then has too."""
        return self.size > 0

    @property
    def opcode(self) -> int:
        """What is asked: 0 is a query."""
        return (self.flags & _OPCODE) >> 11

    @property
    def name(self) -> tuple[bytes, ...]:
        """The labels in lower case, in which names are compared."""
        return tuple(label.lower() for label in self.labels)

    def limit(self, by_tcp: bool) -> int:
        """Return how many bytes an answer may have."""
        if by_tcp:
            return MAX_ANSWER
        return min(max(self.size, PLAIN_SIZE), UDP_SIZE) if self.size else PLAIN_SIZE


@dataclass(frozen=True, slots=True)
class Record:
    """A record of an answer.

    Attributes:
        owner: the name in wire form, or empty for that of the question.
        rdtype: its type.
        ttl: seconds.
        data: its content in wire form, without compression.
    """

    owner: bytes
    rdtype: int
    ttl: int
    data: bytes

    def packed(self) -> bytes:
        """Return the record; the question's name is written as a pointer to it."""
        return (self.owner or b"\xc0\x0c") + _RECORD.pack(self.rdtype, IN, self.ttl, len(self.data)) + self.data


def pack_name(labels: Sequence[bytes]) -> bytes:
    """Return a name in wire form."""
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def parse_query(data: bytes) -> Query:
    """Read a query.

    Raises:
        BadMessage: it is none; nothing else, whatever the bytes are.
    """
    if not _HEADER.size <= len(data) <= MAX_QUERY:
        raise BadMessage(f"{len(data)} bytes are no query")
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & QR:
        raise BadMessage("an answer, not a query")  # never answered: two servers would go on for ever
    opcode = flags & _OPCODE
    if opcode:
        raise BadMessage("another operation", _HEADER.pack(number, QR | opcode | NOTIMP, 0, 0, 0, 0))
    malformed = _HEADER.pack(number, QR | flags & RD | FORMERR, 0, 0, 0, 0)
    if questions != 1 or answers or authorities or additionals > 2:
        raise BadMessage("not one question", malformed)
    try:
        labels, at = _read_name(data, _HEADER.size)
        rdtype, rdclass = unpack_from(">HH", data, at)
        question, at = data[_HEADER.size : at + 4], at + 4
        query = Query(number, flags, labels, rdtype, rdclass, question)
        for _ in range(additionals):
            owner = data[at]
            at = _skip_name(data, at)
            kind, payload, extended, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size + length
            if at > len(data):
                raise ValueError("a record beyond the end")
            if kind == OPT:
                if query.has_edns or owner:
                    raise ValueError("a second OPT record, or one of a name (RFC 6891, section 6.1.1)")
                size, version = max(payload, PLAIN_SIZE), extended >> 16 & 0xFF
                query = Query(number, flags, labels, rdtype, rdclass, question, size, version, bool(extended & _DO))
    except (ValueError, IndexError, OverflowError, error) as reason:
        raise BadMessage(str(reason), malformed) from None
    return query


def _read_name(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """Return the labels of a name that has no pointers, and the position behind it."""
    labels, begin = [], at
    while length := data[at]:
        label = data[at + 1 : at + 1 + length]
        if length > 63 or len(label) < length:
            raise ValueError("a label too long, or a pointer, in a question")
        labels.append(label)
        at += 1 + length
    if at + 1 - begin > 255:
        raise ValueError("a name too long")
    return tuple(labels), at + 1


def _skip_name(data: bytes, at: int) -> int:
    """Return the position behind a name, which may end in a pointer."""
    while length := data[at]:
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise ValueError("a label of unknown kind")
        at += 1 + length
    return at + 1


def build_answer(
    query: Query,
    limit: int,
    *,
    rcode: int = NOERROR,
    flags: int = 0,
    answers: Sequence[Record] = (),
    authorities: Sequence[Record] = (),
) -> bytes:
    """Return an answer; what does not fit is left out and the flag TC set (RFC 2181, section 9).

    Args:
        query: what it answers.
        limit: bytes at most, see `Query.limit`.
        rcode: its code.
        flags: `AA` and `RA`.
        answers, authorities: records.
    """
    option = _option(query, rcode) if query.has_edns else b""
    flags |= QR | query.flags & (RD | CD) | rcode & _RCODE
    body = b"".join([one.packed() for one in answers])
    authority = b"".join([one.packed() for one in authorities])
    counts = len(answers), len(authorities)
    if _HEADER.size + len(query.question) + len(body) + len(authority) + len(option) > limit:
        body, authority, counts = b"", b"", (0, 0)
        flags |= TC
    return _HEADER.pack(query.number, flags, 1, *counts, bool(option)) + query.question + body + authority + option


def _option(query: Query, rcode: int) -> bytes:
    """Return the OPT record of an answer (RFC 6891, section 6.1)."""
    extended = rcode >> 4 << 24 | (_DO if query.wants_dnssec else 0)
    return b"\0" + _RECORD.pack(OPT, UDP_SIZE, extended, 0)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An answer of another server, without its OPT record.

    Attributes:
        data: the message.
        ttls: positions of the TTLs of its records.
        ttl: seconds for which it may be kept.
    """

    data: bytes
    ttls: tuple[int, ...]
    ttl: int


def read_forwarded(data: bytes) -> Forwarded:
    """Read an answer that `names.wire` has found to be one of the query that was forwarded.

    Raises:
        BadMessage: it cannot be read.
    """
    try:
        return _read_forwarded(data)
    except (ValueError, IndexError, error) as reason:
        raise BadMessage(str(reason)) from None


def _read_forwarded(data: bytes) -> Forwarded:
    number, flags, _, *counts = _HEADER.unpack_from(data)
    _, at = _read_name(data, _HEADER.size)
    at += 4
    ttls: list[int] = []
    least, denial = 0xFFFFFFFF, None
    kept = counts[:]
    end_of_kept = None
    for section, count in enumerate(counts):
        for index in range(count):
            begin = at
            at = _skip_name(data, at)
            kind, _, ttl, length = _RECORD.unpack_from(data, at)
            if at + _RECORD.size + length > len(data):
                raise ValueError("a record beyond the end")
            if kind == OPT:
                # The last record, as a rule. If not, what follows goes with it: all else is additional.
                kept[section], end_of_kept = index, begin
                break
            ttls.append(at + 4)
            least = min(least, ttl if ttl < 1 << 31 else 0)  # RFC 2181, section 8
            at += _RECORD.size + length
            if section == 1 and kind == SOA and length >= 20:
                denial = min(ttl, unpack_from(">I", data, at - 4)[0])
    if not counts[0]:
        least = denial if denial is not None else 0  # RFC 2308, section 5
    packed = _HEADER.pack(number, flags, 1, *kept) + data[_HEADER.size : end_of_kept if end_of_kept is not None else at]
    return Forwarded(packed, tuple(ttls), least)


def build_forwarded(query: Query, answer: Forwarded, age: int, limit: int) -> bytes:
    """Return a forwarded answer for a client, with its own id, question and EDNS, and TTLs that have passed.

    Args:
        query: the client's.
        answer: the answer.
        age: seconds that it was kept.
        limit: bytes at most.
    """
    _, flags, _, *counts = _HEADER.unpack_from(answer.data)
    rcode = flags & _RCODE
    option = _option(query, rcode) if query.has_edns else b""
    flags = QR | RA | query.flags & (RD | CD) | rcode
    if len(answer.data) + len(option) > limit:
        return _HEADER.pack(query.number, flags | TC, 1, 0, 0, bool(option)) + query.question + option
    message = bytearray(answer.data)
    _HEADER.pack_into(message, 0, query.number, flags, 1, counts[0], counts[1], counts[2] + bool(option))
    message[_HEADER.size : _HEADER.size + len(query.question)] = query.question  # the client's upper and lower case
    for at in answer.ttls if age else ():
        (ttl,) = unpack_from(">I", message, at)
        message[at : at + 4] = pack(">I", max(ttl - age, 0))
    return bytes(message) + option
