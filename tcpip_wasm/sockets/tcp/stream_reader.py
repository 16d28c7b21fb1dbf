"""The reader of `open_connection` and `start_server`: asyncio's, without its copies.

asyncio's own copies each byte three times: into its buffer, into a slice of it, and into what `read` returns. Here
chunks are kept as they came, and `read` returns them as they are. Owns how chunks wait; every other way of reading is
asyncio's, which finds the chunks joined as soon as it looks at its buffer.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, SupportsIndex, TypeVar, cast

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

_WORTH_A_READ: Final = 4096
"""Bytes: a smaller chunk is returned together with those that follow it."""

_LIMITS_HELD: Final = 4
"""Limits that are held before the peer is held back. asyncio's 2 is half a window of `open_connection`'s default, and
holding the peer back in the middle of each window costs a quarter of the rate (`python -m benchmarks --only bulk`)."""


class PieceReader(asyncio.StreamReader):
    """An `asyncio.StreamReader` whose `read` returns chunks as they arrived, or cut from them.

    Args:
        limit: bytes of the longest line, and a quarter of what is held before the peer is held back.
        loop: the connection's.
    """

    # asyncio's, which its stubs do not have
    _eof: bool
    _exception: BaseException | None
    _limit: int
    _paused: bool
    _transport: asyncio.ReadTransport | None
    _waiter: asyncio.Future[None] | None

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self._begin()

    def _begin(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()  # what has arrived since `_joined` was filled
        self._held = 0  # bytes of them
        self._most = _LIMITS_HELD * self._limit

    @property
    def _buffer(self) -> bytearray:
        """All that waits, where asyncio's methods look for it."""
        if self._held:
            self._joined += b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
        return self._joined

    @_buffer.setter
    def _buffer(self, buffer: bytearray) -> None:
        self._joined = buffer

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Keep what has arrived; hold the peer back if it is much."""
        assert not self._eof, "feed_data after feed_eof"
        piece = bytes(data)
        if not piece:
            return
        self._pieces.append(piece)
        self._held = held = self._held + len(piece)
        if self._waiter is not None:
            self._wakeup_waiter()  # type: ignore[attr-defined]
        if held + len(self._joined) > self._most and not self._paused and self._transport is not None:
            try:
                self._transport.pause_reading()
            except NotImplementedError:
                self._transport = None  # as asyncio: it cannot be paused, and is not asked again
            else:
                self._paused = True

    def at_eof(self) -> bool:
        """Whether all was read and no more will come."""
        return self._eof and not self._held and not self._joined

    async def read(self, n: int = -1) -> bytes:
        """Return at most so many bytes as soon as there are some; see `asyncio.StreamReader.read`.

        Cancelled, it takes nothing.
        """
        if n <= 0 or self._joined:
            return await super().read(n)
        if self._exception is not None:
            raise self._exception
        pieces = self._pieces
        if not pieces and not self._eof:
            await self._wait_for_data("read")  # type: ignore[attr-defined]
        # Since this was woken, the buffer may have been used, or an exception set, which is for the next call.
        if self._joined or (len(pieces) > 1 and len(pieces[0]) < min(n, _WORTH_A_READ)):
            return self._take_joined(n)
        return self._take(n) if pieces else b""

    async def readexactly(self, n: int) -> bytes:
        """Return so many bytes; see `asyncio.StreamReader.readexactly`.

        Cancelled, it takes nothing.
        """
        pieces = self._pieces
        if n > 0 and self._exception is None:
            if not pieces and not self._joined and not self._eof:
                await self._wait_for_data("readexactly")  # type: ignore[attr-defined]
            if not self._joined and pieces and len(pieces[0]) >= n:
                return self._take(n)
            if self._held + len(self._joined) >= n:
                return self._take_joined(n)
        return await super().readexactly(n)

    def _take(self, n: int) -> bytes:
        """Return so many bytes of the first chunk, or all of it if it has fewer."""
        piece = self._pieces[0]
        if len(piece) <= n:
            data = bytes(self._pieces.popleft())
        else:
            view = memoryview(piece)
            data = bytes(view[:n])
            self._pieces[0] = view[n:]
        self._held -= len(data)
        if self._paused:
            self._maybe_resume_transport()
        return data

    def _take_joined(self, n: int) -> bytes:
        """Return so many bytes of all that waits, or all of it if there are fewer."""
        buffer = self._buffer
        data = bytes(memoryview(buffer)[:n])
        del buffer[:n]
        self._maybe_resume_transport()
        return data

    def _maybe_resume_transport(self) -> None:
        waiting = self._held + len(self._joined)
        if self._paused and self._transport is not None and waiting <= self._most // 2:
            self._paused = False
            self._transport.resume_reading()


def keep_pieces(protocol: ProtocolT) -> ProtocolT:
    """Make the reader of `asyncio.open_connection` or `asyncio.start_server` a `PieceReader`; return the protocol.

    Args:
        protocol: a new one, which has received nothing yet. Without effect on any but `asyncio.StreamReaderProtocol`,
            and on readers of a class of their own.
    """
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader = protocol._stream_reader  # type: ignore[attr-defined]  # noqa: SLF001  asyncio's streams and TLS have no public way to it
        if type(reader) is asyncio.StreamReader:
            buffer = vars(reader).pop("_buffer")
            reader.__class__ = PieceReader
            kept = cast(PieceReader, reader)
            kept._buffer = buffer  # noqa: SLF001  asyncio's streams and TLS have no public way to it
            kept._begin()  # noqa: SLF001  for this package alone: the class is public
    return protocol


def take_unread(protocol: asyncio.BaseProtocol) -> bytes:
    """Return what the reader of a stream has received and not handed out, and take it from the reader.

    Args:
        protocol: a connection's; of any but `asyncio.StreamReaderProtocol` it is nothing.
    """
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, asyncio.StreamReaderProtocol) else None
    if reader is None:
        return b""
    data = bytes(reader._buffer)  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    reader._buffer.clear()  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    reader._paused = False  # the caller, which takes the data, resumes reading  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    return data
