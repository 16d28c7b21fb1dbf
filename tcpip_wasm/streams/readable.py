"""`ReadableStream`, its reader, and iteration over it.

What a reader, a pipe and a tee do with a stream they do with its state, see `state`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from tcpip_wasm.errors import StreamLockedError
from tcpip_wasm.streams.locks import Lockable, LockOwner
from tcpip_wasm.streams.pipe import lock_both, pipe, pipe_in_background
from tcpip_wasm.streams.protocols import EndOfStream, Source, StreamPair
from tcpip_wasm.streams.state import Reading, state_of
from tcpip_wasm.streams.tee import Tee

if TYPE_CHECKING:
    from tcpip_wasm.streams.writable import WritableStream

R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class ReadableStream(Lockable[Reading[T_co]], Generic[T_co]):
    """A sequence of chunks with one consumer at a time.

    Args:
        source: where the chunks come from.
    """

    __slots__ = ()

    def __init__(self, source: Source[T_co]) -> None:
        super().__init__(Reading(type(self).__name__, source))

    def get_reader(self) -> ReadableStreamReader[T_co]:
        """Lock the stream and return its reader.

        Raises:
            StreamLockedError: another reader has this stream.
        """
        return ReadableStreamReader(self)

    async def cancel(self, reason: BaseException | None = None) -> None:
        """Cancel the stream: its source stops, and later reads return the end.

        Args:
            reason: handed to the source.

        Raises:
            StreamLockedError: the stream is locked; use the reader's `cancel`.
        """
        self._state.check_unlocked()
        self._state.cancel(reason)

    def __aiter__(self) -> Iteration[T_co]:
        """Lock the stream and iterate over its chunks.

        The lock is released when the stream ends or fails, when the loop is left (at once on CPython, with
        the iterator's collection elsewhere), when a step is cancelled, and by `aclose()`. None of it loses a
        chunk: another iteration goes on where this one stopped.

        Raises:
            StreamLockedError: another reader has this stream.
        """
        return Iteration(self.get_reader())

    async def pipe_to(
        self,
        destination: WritableStream[T_co],
        *,
        prevent_close: bool = False,
        prevent_abort: bool = False,
        prevent_cancel: bool = False,
    ) -> None:
        """Move every chunk to a writable, as fast as that takes them; both are locked meanwhile.

        When this stream ends, the destination is closed; when it fails, the destination is aborted with its
        error. When the destination fails or closes, this stream is cancelled with that error, even while it
        is quiet. A cancelled call releases both and neither closes nor aborts them: what the destination
        accepted stays accepted, a chunk it had not accepted is the next one read from this stream, and a
        close that had begun goes on.

        Args:
            destination: where the chunks go.
            prevent_close: leave the destination open at the end.
            prevent_abort: leave the destination open when this stream fails.
            prevent_cancel: leave this stream readable when the destination fails; no chunk is lost.

        Raises:
            StreamLockedError: one of the two is locked; neither is touched.
            StreamClosedError: the destination was closed before this stream's end.
            Exception: what either of the two failed with.
        """
        reader, writer = lock_both(self, destination)
        await pipe(reader, writer, not prevent_close, not prevent_abort, not prevent_cancel)

    def pipe_through(self, transform: StreamPair[T_co, R]) -> ReadableStream[R]:
        """Pipe to a transform's writable in the background, and return its readable.

        A failure on the way arrives at the reader of what is returned; cancelling that cancels this stream.

        Args:
            transform: anything with a `writable` and a `readable`, such as a `TransformStream`.

        Raises:
            StreamLockedError: this stream or the transform's writable is locked; neither is touched.
            RuntimeError: no event loop runs.
        """
        loop = asyncio.get_running_loop()
        reader, writer = lock_both(self, transform.writable)
        pipe_in_background(loop, reader, writer)
        return transform.readable

    def tee(self) -> tuple[ReadableStream[T_co], ReadableStream[T_co]]:
        """Split the stream into two that both deliver every chunk (the same objects); this one stays locked.

        The branches pull on demand. One may run ahead of the other by `TEE_LIMIT` chunks, then it waits: both
        have to be read, or the idle one cancelled. The source is cancelled once both branches are.

        Raises:
            StreamLockedError: another reader has this stream.
        """
        self.get_reader()
        tee = Tee(self._state)
        return ReadableStream(tee.branches[0]), ReadableStream(tee.branches[1])


class ReadableStreamReader(LockOwner[Reading[T_co]], Generic[T_co]):
    """The one reader of a locked `ReadableStream`."""

    __slots__ = ()

    def __init__(self, stream: ReadableStream[T_co]) -> None:
        super().__init__(state_of(stream))

    async def read(self) -> T_co | None:
        """Return the next chunk, or None at the end (then and ever after). Cancelled, it takes no chunk.

        Raises:
            StreamLockedError: this reader has released its lock.
            Exception: what the stream failed with.
        """
        state = self._state or state_of(self)
        try:
            if not self._queue.waiting and (chunk := state.take()) is not None:
                return chunk
            async with self._queue:
                while (chunk := state.take()) is None:
                    await state.source.wait_readable()
                return chunk
        except EndOfStream:
            return None

    async def cancel(self, reason: BaseException | None = None) -> None:
        """Cancel the stream: its source stops, and waiting and later reads return the end.

        Args:
            reason: handed to the source.

        Raises:
            StreamLockedError: this reader has released its lock.
        """
        state_of(self).cancel(reason)


class Iteration(Generic[T_co]):
    """One `async for`. An async generator would release the lock only a loop iteration after a `break`."""

    __slots__ = ("_ended", "_reader")

    def __init__(self, reader: ReadableStreamReader[T_co]) -> None:
        self._reader = reader
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        if self._ended:
            raise StopAsyncIteration
        try:
            chunk = await self._reader.read()
        except BaseException:
            self.__del__()
            raise
        if chunk is None:
            self.__del__()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """End the iteration and release the stream.

        Raises:
            StreamLockedError: a step of this iteration still waits.
        """
        self._reader.release_lock()
        self._ended = True

    def __del__(self) -> None:
        try:
            self._reader.release_lock()
        except StreamLockedError:
            return  # of overlapping steps, the last one releases
        self._ended = True
