"""Reads capture files: pcapng (draft-ietf-opsawg-pcapng) and the older pcap (draft-ietf-opsawg-pcap), of any program.

Owns the layout of both in either byte order. A file is hostile input: every length is checked against the bytes that
are left, blocks are bounded, and an error has its offset in the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import BinaryIO, Final, Literal

from tcpip_wasm.capture import pcapng
from tcpip_wasm.capture.observation import Event
from tcpip_wasm.errors import CaptureFormatError

__all__ = ["CapturedFrame", "read_capture"]

MAX_BLOCK: Final = 16 << 20
"""Most bytes of a block, or of a packet of a pcap file. Wireshark has the same bound for blocks."""

MAX_INTERFACES: Final = 65_536
"""Most interfaces of a section."""

_Order = Literal["<", ">"]
_BLOCK_TYPE: Final = pcapng.SECTION_HEADER.to_bytes(4, "big")  # the same in both byte orders
_PCAP: Final[dict[bytes, tuple[_Order, int]]] = {
    struct.pack(f"{order}I", magic): (order, unit)
    for order in ("<", ">")
    for magic, unit in ((0xA1B2C3D4, 1000), (0xA1B23C4D, 1))
}
"""First bytes of a pcap file -> its byte order, and the nanoseconds in a unit of its time stamps."""


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame of a file.

    Attributes:
        time: nanoseconds since 1970-01-01 UTC, or of virtual time; 0 where the file has none.
        interface: the name of its interface, ``interface 0`` and so on where the file has none.
        link_type: the type of its first header, one of `link_types`.
        outgoing: its direction, or None where the file does not have it.
        frame: its bytes.
        length: bytes that it had on the wire.
        comment: its comment in the file, or None.
    """

    time: int
    interface: str
    link_type: int
    outgoing: bool | None
    frame: bytes
    length: int
    comment: str | None = None


def read_capture(
    file: str | os.PathLike[str] | BinaryIO, *, on_event: Callable[[Event], None] | None = None
) -> Iterator[CapturedFrame]:
    """Yield the frames of a pcapng or pcap file, in the order of the file.

    Args:
        file: a path, or a file open for reading bytes, which stays open.
        on_event: called with each event, in the order of the file.

    Raises:
        CaptureFormatError: the file is not a capture, is damaged or ends in the middle of a block; the frames before
            that are yielded first.
        OSError: it cannot be read.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            yield from read_capture(opened, on_event=on_event)
        return
    source = _Source(file)
    magic = source.take(4, "the first four bytes")
    if magic == _BLOCK_TYPE:
        yield from _read_pcapng(source, on_event)
    elif magic in _PCAP:
        yield from _read_pcap(source, *_PCAP[magic])
    else:
        raise CaptureFormatError(f"neither pcapng nor pcap: it begins with {magic.hex(' ')}", 0)


class _Source:
    """A file with its current offset."""

    def __init__(self, file: BinaryIO | BufferedIOBase) -> None:
        self._file = file
        self.offset = 0

    def take(self, count: int, what: str, *, may_end: bool = False) -> bytes:
        """Return `count` bytes; with `may_end` none where the file ends before them."""
        parts = []
        missing = count
        while missing:
            part = self._file.read(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        if missing and not (may_end and missing == count):
            raise CaptureFormatError(f"the file ends in {what}: {missing} of {count} bytes are missing", self.offset)
        self.offset += count - missing
        return b"".join(parts)


# --- pcap -----------------------------------------------------------------------------------------------------------


def _read_pcap(source: _Source, order: _Order, unit: int) -> Iterator[CapturedFrame]:
    # Version, two unused words, the snapshot length, and the link type with flags above its 16 bits.
    *_, word = struct.unpack(f"{order}HHIIII", source.take(20, "the header"))
    link_type = word & 0xFFFF
    while True:
        at = source.offset
        header = source.take(16, "the header of a packet", may_end=True)
        if not header:
            return
        seconds, fraction, kept, length = struct.unpack(f"{order}IIII", header)
        if kept > MAX_BLOCK:
            raise CaptureFormatError(f"a packet of {kept} bytes", at)
        frame = source.take(kept, "a packet")
        yield CapturedFrame(
            seconds * 1_000_000_000 + fraction * unit, "interface 0", link_type, None, frame, max(length, kept)
        )


# --- pcapng ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Interface:
    name: str
    link_type: int
    snaplen: int
    units: int = 1_000_000
    """Units of a time stamp per second; the default is microseconds."""
    offset: int = 0
    """Seconds to be added to a time stamp."""

    def time(self, high: int, low: int) -> int:
        return (high << 32 | low) * 1_000_000_000 // self.units + self.offset * 1_000_000_000


def _read_pcapng(source: _Source, on_event: Callable[[Event], None] | None) -> Iterator[CapturedFrame]:
    order: _Order = "<"
    interfaces: list[_Interface] = []
    block_type = _BLOCK_TYPE  # of the first block, which was read already
    at = 0
    while block_type:
        rest = source.take(4, "the length of a block")
        if block_type == _BLOCK_TYPE:
            magic = source.take(4, "a section header")
            order = "<" if magic == pcapng.BYTE_ORDER_MAGIC.to_bytes(4, "little") else ">"
            if order == ">" and magic != pcapng.BYTE_ORDER_MAGIC.to_bytes(4, "big"):
                raise CaptureFormatError(f"a section header with the byte-order magic {magic.hex(' ')}", at)
            already = 12
        else:
            already = 8
        (size,) = struct.unpack(f"{order}I", rest)
        if size < already + 4 or size % 4 or size > MAX_BLOCK:
            raise CaptureFormatError(f"a block of {size} bytes", at)
        body = source.take(size - already, "a block")
        if struct.unpack_from(f"{order}I", body, len(body) - 4)[0] != size:
            raise CaptureFormatError(f"a block of {size} bytes that ends with another length", at)
        body = body[:-4]
        try:
            kind = struct.unpack(f"{order}I", block_type)[0]
            if kind == pcapng.SECTION_HEADER:
                major, _, _ = struct.unpack_from(f"{order}HHq", body)
                if major != 1:
                    raise CaptureFormatError(f"a section of version {major}", at)
                interfaces = []
            elif kind == pcapng.INTERFACE_DESCRIPTION:
                if len(interfaces) == MAX_INTERFACES:
                    raise CaptureFormatError(f"more than {MAX_INTERFACES} interfaces", at)
                interfaces.append(_interface(order, body, len(interfaces), at))
            elif kind == pcapng.ENHANCED_PACKET:
                yield _enhanced(order, body, interfaces, at)
            elif kind == pcapng.SIMPLE_PACKET:
                yield _simple(order, body, interfaces, at)
            elif kind == pcapng.JOURNAL and on_event is not None and (event := _event(body)) is not None:
                on_event(event)
            # Other blocks have no packets that current programs write; section 3.1: skip them.
        except struct.error as error:
            raise CaptureFormatError("a block that is shorter than its fields", at) from error
        at = source.offset
        block_type = source.take(4, "the type of a block", may_end=True)


def _event(body: bytes) -> Event | None:
    """Return the event of a journal record, or None for a record of another program."""
    lines = body.rstrip(b"\0").decode("utf-8", "replace").split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    time = fields.get(pcapng.JOURNAL_TIME, "")
    if not (time.isascii() and time.isdigit() and len(time) < 20):
        return None
    return Event(int(time) / 1e9, fields.get("MESSAGE", ""))


def _interface(order: _Order, body: bytes, number: int, at: int) -> _Interface:
    link_type, _, snaplen = struct.unpack_from(f"{order}HHI", body)
    interface = _Interface(f"interface {number}", link_type, snaplen)
    for code, value in _options(order, body, 8, at):
        if code == pcapng.OPTION_NAME:
            interface.name = value.decode("utf-8", "replace")
        elif code == pcapng.OPTION_TIME_RESOLUTION and len(value) == 1:
            exponent = value[0] & 0x7F
            interface.units = 2**exponent if value[0] & 0x80 else 10 ** min(exponent, 40)
        elif code == pcapng.OPTION_TIME_OFFSET and len(value) == 8:
            (interface.offset,) = struct.unpack(f"{order}q", value)
    return interface


def _enhanced(order: _Order, body: bytes, interfaces: list[_Interface], at: int) -> CapturedFrame:
    number, high, low, kept, length = struct.unpack_from(f"{order}IIIII", body)
    if number >= len(interfaces):
        raise CaptureFormatError(f"a packet of interface {number}, of {len(interfaces)} interfaces", at)
    if kept > len(body) - 20:
        raise CaptureFormatError(f"a packet of {kept} bytes in a block that has room for {len(body) - 20}", at)
    interface = interfaces[number]
    outgoing: bool | None = None
    comments = []
    for code, value in _options(order, body, 20 + kept + -kept % 4, at):
        if code == pcapng.OPTION_FLAGS and len(value) == 4:
            direction = struct.unpack(f"{order}I", value)[0] & 3
            outgoing = {pcapng.INBOUND: False, pcapng.OUTBOUND: True}.get(direction)
        elif code == pcapng.OPTION_COMMENT:
            comments.append(value.decode("utf-8", "replace"))
    return CapturedFrame(
        interface.time(high, low),
        interface.name,
        interface.link_type,
        outgoing,
        body[20 : 20 + kept],
        max(length, kept),
        "; ".join(comments) if comments else None,
    )


def _simple(order: _Order, body: bytes, interfaces: list[_Interface], at: int) -> CapturedFrame:
    (length,) = struct.unpack_from(f"{order}I", body)
    if not interfaces:
        raise CaptureFormatError("a packet before any interface is described", at)
    interface = interfaces[0]
    kept = min(length, len(body) - 4, interface.snaplen or length)
    return CapturedFrame(0, interface.name, interface.link_type, None, body[4 : 4 + kept], length)


def _options(order: _Order, body: bytes, start: int, at: int) -> Iterator[tuple[int, bytes]]:
    while start < len(body):
        code, size = struct.unpack_from(f"{order}HH", body, start)
        if code == pcapng.OPTION_END:
            return
        start += 4
        if size > len(body) - start:
            raise CaptureFormatError(f"an option of {size} bytes where {len(body) - start} are left", at)
        yield code, body[start : start + size]
        start += size + -size % 4
