"""Messages of multicast DNS: read from bytes that any host may have sent, and written (RFC 6762, section 18).

Owns names with compression and the records that service discovery needs. Pointers lead back only, and the steps of one
message are bounded, so that no message costs more than its length is worth. It needs no library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct, error, pack, unpack_from
from typing import Final

__all__ = ["BadMessage", "Labels", "Message", "Question", "Record", "build", "parse"]

Labels = tuple[bytes, ...]

A, PTR, TXT, AAAA, SRV, NSEC, ANY, OPT = 1, 12, 16, 28, 33, 47, 255, 41
IN: Final = 1
UNIQUE: Final = 0x8000
"""In the class of a record: it replaces all others of its name and type; of a question: a unicast answer will do."""

RESPONSE, AUTHORITATIVE, TRUNCATED, _OPCODE, _RCODE = 0x8000, 0x0400, 0x0200, 0x7800, 0x000F

MAX_MESSAGE: Final = 9000
"""Bytes of a message (RFC 6762, section 17)."""

MAX_PACKET: Final = 1440
"""Bytes of a message that is sent, unless one record alone is longer: what fits one frame, by IPv6 too."""

MAX_RECORDS: Final = 512
"""Questions and records of one message together."""

MAX_STEPS: Final = 8192
"""Labels and pointers of one message together."""

_HEADER: Final = Struct(">HHHHHH")
_RECORD: Final = Struct(">HHIH")


class BadMessage(ValueError):
    """Bytes that are no message."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        name: labels as they were written.
        rdtype: type of the records.
        unicast: whether an answer to the sender alone will do.
    """

    name: Labels
    rdtype: int
    unicast: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A record.

    Attributes:
        name: labels as they were written.
        rdtype: its type.
        data: its content, with names that are not compressed.
        ttl: seconds.
        unique: whether it replaces all others of its name and type.
    """

    name: Labels
    rdtype: int
    data: bytes
    ttl: int = 120
    unique: bool = False

    @property
    def key(self) -> tuple[Labels, int]:
        """Name in lower case, and type."""
        return lower(self.name), self.rdtype

    def is_same(self, other: Record) -> bool:
        """Whether another record says the same, for whatever time."""
        return self.key == other.key and self.data.lower() == other.data.lower()


@dataclass(slots=True)
class Message:
    """A message.

    Attributes:
        response: whether it is a response.
        number: id, which only legacy queries have.
        truncated: of a query: more known answers follow.
        questions, answers, authorities, additionals: its sections.
    """

    response: bool = False
    number: int = 0
    truncated: bool = False
    questions: list[Question] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)
    authorities: list[Record] = field(default_factory=list)
    additionals: list[Record] = field(default_factory=list)


def lower(name: Labels) -> Labels:
    """Return a name in the form in which names are compared: ASCII alone has cases."""
    return tuple(label.lower() for label in name)


def pack_name(name: Labels) -> bytes:
    """Return a name without compression."""
    return b"".join(bytes([len(label)]) + label for label in name) + b"\0"


def read_name(packed: bytes, at: int = 0) -> Labels:
    """Return a name of a record's content. Raises BadMessage where there is none."""
    try:
        return _Reader(packed).name(at)[0]
    except (ValueError, IndexError) as reason:
        raise BadMessage(str(reason)) from None


def parse(data: bytes) -> Message:
    """Read a message.

    Raises:
        BadMessage: it is none; nothing else, whatever the bytes are.
    """
    if not _HEADER.size <= len(data) <= MAX_MESSAGE:
        raise BadMessage(f"{len(data)} bytes are no message")
    number, flags, *counts = _HEADER.unpack_from(data)
    if flags & (_OPCODE | _RCODE):  # RFC 6762, sections 18.3 and 18.11
        raise BadMessage("another operation, or an error")
    if sum(counts) > MAX_RECORDS:
        raise BadMessage("too many records")
    message = Message(bool(flags & RESPONSE), number, bool(flags & TRUNCATED))
    try:
        _read(_Reader(data), message, counts)
    except (ValueError, IndexError, error) as reason:
        raise BadMessage(str(reason)) from None
    return message


def _read(reader: _Reader, message: Message, counts: Sequence[int]) -> None:
    at = _HEADER.size
    for _ in range(counts[0]):
        name, at = reader.name(at)
        rdtype, rdclass = unpack_from(">HH", reader.data, at)
        at += 4
        if rdclass & ~UNIQUE in (IN, ANY):
            message.questions.append(Question(name, rdtype, bool(rdclass & UNIQUE)))
    for section, count in zip((message.answers, message.authorities, message.additionals), counts[1:], strict=True):
        for _ in range(count):
            name, at = reader.name(at)
            rdtype, rdclass, ttl, length = _RECORD.unpack_from(reader.data, at)
            at += _RECORD.size
            if at + length > len(reader.data):
                raise ValueError("a record beyond the end")
            if rdtype != OPT and rdclass & ~UNIQUE == IN:
                content = reader.content(rdtype, at, length)
                section.append(Record(name, rdtype, content, min(ttl, 0x7FFFFFFF), bool(rdclass & UNIQUE)))
            at += length


class _Reader:
    """Reads names; the steps of all of them together are bounded."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._steps = 0

    def name(self, at: int) -> tuple[Labels, int]:
        """Return a name, and the position behind it."""
        data, labels, behind, size = self.data, [], None, 1
        lowest = at  # pointers lead to before what was read of this name
        while length := data[at]:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise ValueError("more work than a message is worth")
            if length >= 0xC0:
                target = (length & 0x3F) << 8 | data[at + 1]
                behind = at + 2 if behind is None else behind
                if target >= lowest:
                    raise ValueError("a pointer that does not lead back")
                at = lowest = target
                continue
            label = data[at + 1 : at + 1 + length]
            size += 1 + length
            if length > 63 or len(label) < length or size > 255:
                raise ValueError("a label or a name too long")
            labels.append(label)
            at += 1 + length
        return tuple(labels), at + 1 if behind is None else behind

    def content(self, rdtype: int, at: int, length: int) -> bytes:
        """Return the content of a record, with names that are not compressed."""
        head = {PTR: 0, SRV: 6, NSEC: 0}.get(rdtype)
        if head is None:
            if length != {A: 4, AAAA: 16}.get(rdtype, length):
                raise ValueError("an address of another length")
            return self.data[at : at + length]
        name, behind = self.name(at + head)
        if behind > at + length or (rdtype != NSEC and behind != at + length):
            raise ValueError("a name of another length than its record")
        return self.data[at : at + head] + pack_name(name) + self.data[behind : at + length]


class _Writer:
    """Writes names; one that is there already is written as a pointer."""

    def __init__(self) -> None:
        self.data = bytearray(_HEADER.size)
        self._known: dict[Labels, int] = {}

    def name(self, name: Labels) -> None:
        """Write a name."""
        for at in range(len(name)):
            known = self._known.get(name[at:])
            if known is not None:
                self.data += pack(">H", 0xC000 | known)
                return
            if len(self.data) < 0x4000:
                self._known[name[at:]] = len(self.data)
            self.data += bytes([len(name[at])]) + name[at]
        self.data.append(0)

    def record(self, record: Record, legacy: bool) -> None:
        """Write a record; for a legacy client without the bit of uniqueness, and for 10 seconds (section 6.7)."""
        self.name(record.name)
        rdclass = IN | (UNIQUE if record.unique and not legacy else 0)
        ttl = min(record.ttl, 10) if legacy else record.ttl
        self.data += _RECORD.pack(record.rdtype, rdclass, ttl, len(record.data)) + record.data


def build(message: Message, *, legacy: bool = False) -> bytes:
    """Return a message as bytes; see `split` for long ones."""
    writer = _Writer()
    for question in message.questions:
        writer.name(question.name)
        writer.data += pack(">HH", question.rdtype, IN | (UNIQUE if question.unicast and not legacy else 0))
    for section in (message.answers, message.authorities, message.additionals):
        for record in section:
            writer.record(record, legacy)
    flags = (RESPONSE | AUTHORITATIVE if message.response else 0) | (TRUNCATED if message.truncated else 0)
    counts = [len(message.questions), len(message.answers), len(message.authorities), len(message.additionals)]
    _HEADER.pack_into(writer.data, 0, message.number, flags, *counts)
    return bytes(writer.data)


def split(message: Message) -> list[bytes]:
    """Return a response or query as packets of `MAX_PACKET` bytes; those of a query but the last say that more follows
    (section 7.2)."""
    whole = build(message)
    count = len(message.answers)
    if len(whole) <= MAX_PACKET or count < 2:
        return [whole] if len(whole) <= MAX_PACKET or not message.additionals else [_without_additionals(message)]
    first = Message(
        message.response, message.number, not message.response, message.questions, message.answers[: count // 2]
    )
    rest = Message(
        message.response,
        0,
        message.truncated,
        [],
        message.answers[count // 2 :],
        message.authorities,
        message.additionals,
    )
    return split(first) + split(rest)


def _without_additionals(message: Message) -> bytes:
    return build(
        Message(
            message.response, message.number, message.truncated, message.questions, message.answers, message.authorities
        )
    )
