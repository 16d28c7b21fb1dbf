"""Writes pcapng files: section header, interface descriptions, enhanced packets (draft-ietf-opsawg-pcapng), events.

Owns the layout of the blocks, and knows nothing of stacks, clocks and headers of frames; `reading` reads the same
blocks. A file is only appended to, so that it may be a pipe, and flushed blocks can be read while it grows.

The reasons are in docs/explanation/captures.md.
"""

from __future__ import annotations

import contextlib
import os
import struct
from types import TracebackType
from typing import BinaryIO, Final

from tcpip_wasm.capture.link_types import ETHERNET

__all__ = ["PcapngWriter"]

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION: Final = 1
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6
JOURNAL: Final = 9
"""Section 4.7, a record of systemd's journal, for events. Wireshark lists it between the packets."""
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
"""Section 4.1: a reader that reads it as 0x4D3C2B1A has the other byte order."""

JOURNAL_TIME: Final = "TCPIP_WASM_TIME"
"""The field of a record with its time in nanoseconds."""

# Options, section 3.5 for the first two and 4.1 to 4.3 for those of one kind of block.
OPTION_END: Final = 0
OPTION_COMMENT: Final = 1
OPTION_USER_APPLICATION: Final = 4
OPTION_NAME: Final = 2
OPTION_DESCRIPTION: Final = 3
OPTION_MAC: Final = 6
OPTION_TIME_RESOLUTION: Final = 9
OPTION_TIME_OFFSET: Final = 14
OPTION_FLAGS: Final = 2
INBOUND: Final = 1
OUTBOUND: Final = 2

_NANOSECONDS: Final = 9
"""if_tsresol: time stamps are in units of 10⁻⁹ seconds."""

_BLOCK = struct.Struct("<II")
_SECTION = struct.Struct("<IHHq")
_INTERFACE = struct.Struct("<HHI")
_PACKET = struct.Struct("<IIIIIII")
_LENGTH = struct.Struct("<I")
_OPTION = struct.Struct("<HH")
_FLAGS: Final = {
    outgoing: _OPTION.pack(OPTION_FLAGS, 4) + _LENGTH.pack(OUTBOUND if outgoing else INBOUND)
    for outgoing in (True, False)
}
_NO_OPTION: Final = _OPTION.pack(OPTION_END, 0)
_MOST_OPTION: Final = 65_535
"""Bytes: the length of an option has 16 bits."""


class PcapngWriter:
    """Writes a pcapng file: one section, its interfaces, packets with time stamps in nanoseconds.

    Args:
        file: a path, which is overwritten, and closed by `close`; or a file open for writing bytes, to which the
            section is appended, and which stays open.
        snaplen: most bytes that are kept of each frame; 0 keeps all.
        comment: a comment on the whole capture.

    Raises:
        OSError: the file cannot be opened or written, also by the methods; blocks that were written remain.
        ValueError: a negative `snaplen`.
    """

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, *, snaplen: int = 0, comment: str | None = None
    ) -> None:
        if snaplen < 0:
            raise ValueError(f"snaplen must be 0 or more bytes, not {snaplen}")
        self.snaplen = snaplen
        self._owned = isinstance(file, (str, os.PathLike))
        self._file: BinaryIO | None = open(file, "wb") if isinstance(file, (str, os.PathLike)) else file  # noqa: SIM115
        self._interfaces = 0
        options = _option(OPTION_USER_APPLICATION, b"tcpip_wasm")
        if comment is not None:
            options = _text(OPTION_COMMENT, comment) + options
        try:
            # Version 1.0; a section length of -1 means unknown.
            self._block(SECTION_HEADER, _SECTION.pack(BYTE_ORDER_MAGIC, 1, 0, -1), options)
        except BaseException:
            self.abandon()
            raise

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or writing a block failed."""
        return self._file is None

    def add_interface(
        self, name: str, link_type: int = ETHERNET, *, description: str | None = None, mac: bytes | None = None
    ) -> int:
        """Describe an interface, and return its number, for `write`.

        Args:
            name: such as ``tap0``.
            link_type: one of `link_types`.
            description: more about it.
            mac: its six bytes.
        """
        options = _text(OPTION_NAME, name)
        if description is not None:
            options += _text(OPTION_DESCRIPTION, description)
        if mac is not None:
            options += _option(OPTION_MAC, mac)
        options += _option(OPTION_TIME_RESOLUTION, bytes([_NANOSECONDS]))
        self._block(INTERFACE_DESCRIPTION, _INTERFACE.pack(link_type, 0, self.snaplen), options)
        number, self._interfaces = self._interfaces, self._interfaces + 1
        return number

    def write(
        self,
        interface: int,
        time: int,
        frame: bytes | memoryview,
        *,
        outgoing: bool | None = None,
        comment: str | None = None,
        length: int | None = None,
    ) -> None:
        """Write a frame.

        Args:
            interface: a number of `add_interface`.
            time: nanoseconds since 1970-01-01 UTC, or of virtual time, 0 to 2⁶⁴ - 1.
            frame: its bytes; what exceeds the `snaplen` is left out.
            outgoing: its direction as the interface sees it, or None for unknown.
            comment: a comment, such as why it was dropped; at most 65,535 bytes of UTF-8 are kept.
            length: bytes that it had on the wire, if `frame` has fewer.

        Raises:
            ValueError: an unknown interface number, or a time out of range.
        """
        if not 0 <= interface < self._interfaces:
            raise ValueError(f"interface: {interface} is not one of the {self._interfaces} that were added")
        if not 0 <= time < 1 << 64:
            raise ValueError(f"time: {time} ns is out of range")
        total = len(frame)
        if self.snaplen and total > self.snaplen:
            frame = frame[: self.snaplen]
        kept = len(frame)
        options = b"" if comment is None else _text(OPTION_COMMENT, comment)
        if outgoing is not None:
            options += _FLAGS[outgoing]
        if options:
            options += _NO_OPTION
        padding = -kept % 4
        size = _PACKET.size + kept + padding + len(options) + 4
        head = _PACKET.pack(
            ENHANCED_PACKET, size, interface, time >> 32, time & 0xFFFFFFFF, kept, total if length is None else length
        )
        self._put(b"".join((head, frame, bytes(padding), options, _LENGTH.pack(size))))

    def write_event(self, time: int, text: str) -> None:
        """Write an event as a journal record, which programs that do not support it skip.

        Args:
            time: nanoseconds, as for `write`.
            text: a description, in one line.

        Raises:
            ValueError: a time out of range.
        """
        if not 0 <= time < 1 << 64:
            raise ValueError(f"time: {time} ns is out of range")
        fields = {
            "__REALTIME_TIMESTAMP": time // 1000,
            JOURNAL_TIME: time,
            "PRIORITY": 5,
            "SYSLOG_IDENTIFIER": "tcpip_wasm",
            "MESSAGE": " ".join(text.split()),
        }
        body = "".join(f"{name}={value}\n" for name, value in fields.items()).encode("utf-8", "replace")
        size = _BLOCK.size + len(body) + -len(body) % 4 + 4
        self._put(_BLOCK.pack(JOURNAL, size) + body + bytes(-len(body) % 4) + _LENGTH.pack(size))

    def flush(self) -> None:
        """Flush the file."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush, and close the file if the writer opened it. Idempotent."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.flush()
        finally:
            if self._owned:
                file.close()

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _block(self, kind: int, body: bytes, options: bytes) -> None:
        size = _BLOCK.size + len(body) + len(options) + len(_NO_OPTION) + 4
        self._put(_BLOCK.pack(kind, size) + body + options + _NO_OPTION + _LENGTH.pack(size))

    def _put(self, block: bytes) -> None:
        file = self._file
        if file is None:
            raise ValueError("the capture file is closed")
        try:
            written = file.write(block)
            while written is not None and written < len(block):  # an unbuffered file may write less
                block = block[written:]
                written = file.write(block)
        except BaseException:
            self.abandon()  # a part of the block may be written: no block can follow it
            raise

    def abandon(self) -> None:
        """Write no more, and close the file if the writer opened it; errors are ignored."""
        file, self._file = self._file, None
        if file is not None and self._owned:
            with contextlib.suppress(OSError):  # the error of the write is raised already
                file.close()


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    if len(value) > _MOST_OPTION:
        value = value[:_MOST_OPTION].decode("utf-8", "ignore").encode()
    return _option(code, value)
