"""Frame streams: an interface's frames as `readable` and `writable`, one `bytes` each.

Owns the queue between the module's buffer and a reader. It is bounded in bytes; when it is full, frames wait in the
module, and when that is full too, TCP waits and other packets are dropped and counted there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from tcpip_wasm.engine import abi, record_size, split_records
from tcpip_wasm.errors import StackClosedError, StreamLockedError
from tcpip_wasm.interfaces.interface import Interface
from tcpip_wasm.streams import EndOfStream, ReadableStream, WritableStream
from tcpip_wasm.streams.locks import Signal

QUEUE_BYTES: Final = abi.TRANSMIT_CAPACITY
"""Bytes of frames that wait for a reader at most."""


class FrameSource:
    """The frames that leave an interface, as a source for a `ReadableStream`. It is attached from the start."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._full = False
        self._changed = Signal()
        self._ended = False
        self._error: Exception | None = None
        interface.attach(self)

    def transmit(self, records: memoryview) -> int:
        """Queue what fits."""
        taken = 0
        for frame in split_records(records):
            size = record_size(len(frame))
            if self._size + size > QUEUE_BYTES and self._frames:
                self._full = True
                break
            self._frames.append(bytes(frame))
            self._size += size
            taken += size
        self._changed.fire()
        return taken

    def detached(self, error: Exception | None) -> None:
        """The interface is gone: what is queued may still be read, then the stream ends."""
        self._ended = True
        # A stack that was closed in order ends its streams; one that trapped fails them.
        self._error = None if isinstance(error, StackClosedError) else error
        self._changed.fire()

    def read_nowait(self) -> bytes | None:
        """Return the next frame, or None where there is none yet."""
        if self._frames:
            frame = self._frames.popleft()
            self._size -= record_size(len(frame))
            if self._full and self._size <= QUEUE_BYTES // 2:
                self._full = False
                self._interface.resume_transmit()
            return frame
        if self._error is not None:
            raise self._error
        if self._ended:
            raise EndOfStream
        return None

    async def wait_readable(self) -> None:
        """Return once `read_nowait` has a frame or an end to report."""
        if self._frames or self._ended:
            return
        await self._changed.wait()

    def cancel(self, reason: BaseException | None) -> None:
        """Detach: further frames are dropped and counted by the interface."""
        if not self._ended:
            self._ended = True
            self._interface.detach()
        self._frames.clear()
        self._size = 0
        self._changed.fire()


class FrameSink:
    """The way into an interface, as a sink for a `WritableStream`. A malformed frame is dropped and counted."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._closed: asyncio.Future[None] = interface.driver.loop.create_future()
        self._changed = Signal()

    def write_nowait(self, frame: bytes, /) -> bool:
        """Take a frame if there is room."""
        if not isinstance(frame, (bytes, bytearray, memoryview)):
            raise TypeError(f"a frame must be bytes-like, not {type(frame).__name__}")
        self._interface.check()
        return self._interface.inject(frame)

    async def wait_writable(self) -> None:
        """Return once there is room, or the interface is gone."""
        interface = self._interface
        interface.check()
        interface.driver.when_room(interface.buffers, self._changed.fire)
        await self._changed.wait()

    async def close(self) -> None:
        """End the stream; the interface stays."""
        self._finish()

    async def wait_closed(self) -> None:
        """Return when the stream was closed."""
        await asyncio.shield(self._closed)

    def abort(self, reason: BaseException | None) -> None:
        """End the stream; the interface stays."""
        self._finish()

    def on_interface_gone(self) -> None:
        """Wake waiting calls; the next write raises."""
        self._finish()

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._changed.fire()


class StreamInterface(Interface):
    """An interface whose frames leave the stack: by a cable, by a device, or as streams."""

    _source: FrameSource | None = None
    _readable: ReadableStream[bytes] | None = None
    _sink: FrameSink | None = None
    _writable: WritableStream[bytes] | None = None

    @property
    def readable(self) -> ReadableStream[bytes]:
        """The frames that leave, from the first use of this attribute on: nothing is kept before.

        Raises:
            OSError: ``EBUSY`` where a cable or another port is attached.
        """
        if self._readable is None or self._source is None or (self._port is not self._source and not self._removed):
            self._source = FrameSource(self)
            self._readable = ReadableStream(self._source)
        return self._readable

    @property
    def writable(self) -> WritableStream[bytes]:
        """The way in for frames."""
        if self._writable is None:
            self._sink = FrameSink(self)
            self._writable = WritableStream(self._sink)
        return self._writable

    def listen(self) -> ReadableStream[bytes]:
        """Return `readable`, for ``async for frame in tap.listen()``.

        Raises:
            OSError: ``EBUSY`` where a cable or another port is attached.
            StreamLockedError: another iteration has the stream.
        """
        readable = self.readable
        if readable.locked:
            raise StreamLockedError(f"{self.name} has a listener already")
        return readable

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the frames that leave; the same as `listen`."""
        return self.listen().__aiter__()

    def _detach_all(self, error: Exception | None) -> None:
        super()._detach_all(error)
        if self._sink is not None:
            self._sink.on_interface_gone()
