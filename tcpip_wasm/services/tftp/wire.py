"""TFTP packets: read from bytes that any host may have sent, and written (RFC 1350), with options (RFC 2347).

It does no input or output and knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import pack, unpack_from
from typing import Final

__all__ = ["Ack", "BadPacket", "Data", "Error", "Request", "parse"]

RRQ, WRQ, DATA, ACK, ERROR, OACK = range(1, 7)

UNDEFINED, NOT_FOUND, ACCESS, FULL, ILLEGAL, UNKNOWN_TRANSFER, EXISTS, NO_USER, BAD_OPTIONS = range(9)
"""Codes of errors; the last one is RFC 2347's."""

BLOCK_SIZE: Final = 512
"""Bytes of a block without the option ``blksize``."""

MIN_BLOCK, MAX_BLOCK = 8, 65464
"""What ``blksize`` may be (RFC 2348)."""

MAX_WINDOW: Final = 64
"""Blocks that are sent before an acknowledgement (RFC 7440): a client that asks for more gets this."""

MAX_WINDOW_BYTES: Final = 128 * 1024
"""Bytes of such blocks."""

MAX_REQUEST: Final = 1024
"""Bytes of a request: RFC 2347 allows 512."""

MODES: Final = (b"octet", b"netascii")


class BadPacket(ValueError):
    """Bytes that are no packet.

    Attributes:
        code: what to answer a request with.
    """

    def __init__(self, text: str, code: int = ILLEGAL) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        writes: whether the client writes the file.
        name: the file's.
        netascii: whether line ends are converted.
        options: by name in lower case.
    """

    writes: bool
    name: bytes
    netascii: bool
    options: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Data:
    """A block of a file, numbered modulo 65,536."""

    block: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """All blocks up to this one have arrived."""

    block: int


@dataclass(frozen=True, slots=True)
class Error:
    """The peer ends the transfer."""

    code: int
    text: str


Packet = Request | Data | Ack | Error


def parse(data: bytes) -> Packet:
    """Read a packet of a client.

    Raises:
        BadPacket: it is none; nothing else, whatever the bytes are.
    """
    if len(data) < 4:
        raise BadPacket("too short")
    kind, number = unpack_from(">HH", data)
    if kind == DATA:
        return Data(number, data[4:])
    if kind == ACK:
        return Ack(number)
    if kind == ERROR:
        return Error(number, data[4:260].split(b"\0")[0].decode("ascii", "replace"))
    if kind in (RRQ, WRQ):
        return _parse_request(kind == WRQ, data)
    raise BadPacket(f"packets of type {kind} are not known")


def _parse_request(writes: bool, data: bytes) -> Request:
    if len(data) > MAX_REQUEST or data[-1:] != b"\0":
        raise BadPacket("a request too long, or without an end")
    name, mode, *rest = [*data[2:-1].split(b"\0"), b""][: 2 + 2 * 16 + 1]
    rest = rest[:-1] if len(rest) % 2 else rest
    if mode.lower() not in MODES:
        raise BadPacket("the mode is neither octet nor netascii")
    options: dict[bytes, bytes] = {}
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        options.setdefault(option.lower(), value)
    return Request(writes, name, mode.lower() == b"netascii", options)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both ends have agreed on.

    Attributes:
        block_size: bytes of a block.
        window: blocks before an acknowledgement.
        timeout: seconds until a packet is sent again, or None.
        accepted: the options to confirm; empty for none.
    """

    block_size: int
    window: int
    timeout: float | None
    accepted: Mapping[bytes, bytes]


def negotiate(request: Request, size: int | None) -> Agreement:
    """Return what a server agrees to; options that are unknown or malformed are left out (RFC 2347).

    Args:
        request: the client's.
        size: bytes of the file that is read; None where it is not known before.
    """
    accepted: dict[bytes, bytes] = {}
    block_size, window, timeout = BLOCK_SIZE, 1, None
    given = _number(request.options.get(b"blksize"), MIN_BLOCK, 65535)
    if given is not None:
        block_size = min(given, MAX_BLOCK)
        accepted[b"blksize"] = b"%d" % block_size
    given = _number(request.options.get(b"windowsize"), 1, 65535)
    if given is not None:
        window = max(1, min(given, MAX_WINDOW, MAX_WINDOW_BYTES // block_size))
        accepted[b"windowsize"] = b"%d" % window
    given = _number(request.options.get(b"timeout"), 1, 255)
    if given is not None:
        timeout = float(given)
        accepted[b"timeout"] = b"%d" % given
    given = _number(request.options.get(b"tsize"), 0, 1 << 62)
    if given is not None and (request.writes or size is not None):
        accepted[b"tsize"] = b"%d" % (given if request.writes else size or 0)
    return Agreement(block_size, window, timeout, accepted)


def _number(text: bytes | None, lowest: int, highest: int) -> int | None:
    if text is None or not text.isdigit() or len(text) > 19:
        return None
    return int(text) if lowest <= int(text) <= highest else None


def build_data(block: int, content: bytes) -> bytes:
    """Return a block."""
    return pack(">HH", DATA, block & 0xFFFF) + content


def build_ack(block: int) -> bytes:
    """Return an acknowledgement."""
    return pack(">HH", ACK, block & 0xFFFF)


def build_error(code: int, text: str) -> bytes:
    """Return an error."""
    return pack(">HH", ERROR, code) + text.encode("ascii", "replace") + b"\0"


def build_oack(accepted: Mapping[bytes, bytes]) -> bytes:
    """Return the confirmation of options."""
    return pack(">H", OACK) + b"".join(name + b"\0" + value + b"\0" for name, value in accepted.items())


def distance(earlier: int, later: int) -> int:
    """Return how many blocks are between two numbers, modulo 65,536."""
    return (later - earlier) & 0xFFFF


def to_netascii(data: bytes) -> bytes:
    """Return a text with the line ends of the wire (RFC 764)."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def from_netascii(data: bytes) -> bytes:
    """Return a text with the line ends of Unix."""
    return data.replace(b"\r\n", b"\n").replace(b"\r\0", b"\r")
