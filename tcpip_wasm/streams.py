"""Readable and writable streams: the interface of the WHATWG Streams standard in asyncio's spelling.

This module owns locks, order, backpressure, `pipe_to`, `pipe_through`, `tee` and transforms. It must not know
what a chunk is nor where it comes from: a socket or an interface hands in a `Source` or a `Sink`, and nothing
is imported from them. Nor is it a buffer; the only chunks it ever holds are counted below.

    Source ──► ReadableStream ──get_reader()──► ReadableStreamReader.read()
                     │ pipe_to, pipe_through, tee
                     ▼
    Sink ◄──── WritableStream ◄──get_writer()── WritableStreamWriter.write()

Rules that hold everywhere:

- A source that has a chunk and a sink that has room are served without a turn of the event loop. So a loop
  around `read` or `write` yields only when it has to wait; `pipe_to` also does after `PIPE_BURST` chunks.
- Overlapping reads of one reader, and writes of one writer, are served in the order of their calls.
- A cancelled read takes no chunk. A cancelled write has handed over the whole chunk or nothing of it.
- Chunks held here: one that a pipe had read and its sink refused (the next reader gets it first), up to
  `TEE_LIMIT` for the slower branch of a `tee`, `TRANSFORM_LIMIT` and one call's results in a transform.
- Nothing here is thread-safe: a stream belongs to one event loop.

Where it departs from the standard: leaving an `async for` early releases the readable, but cancels nothing; a
`tee` is bounded; a failed `TransformStream` still delivers what it had finished; closing twice is no error.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

from tcpip_wasm.errors import StreamClosedError, StreamLockedError

__all__ = [
    "EndOfStream",
    "ReadableStream",
    "ReadableStreamReader",
    "Sink",
    "Source",
    "StreamPair",
    "TransformStream",
    "WritableStream",
    "WritableStreamWriter",
]

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

PIPE_BURST = 32
"""Chunks a pipe moves before it lets others run: 2 MiB in pieces of 64 KiB, about 2 ms at 8 Gbit/s."""

TEE_LIMIT = 16
"""Chunks by which one branch of a tee may run ahead of the other: 1 MiB in pieces of 64 KiB."""

TRANSFORM_LIMIT = 16
"""Unread results at which a transform takes no more chunks. With 1, each chunk costs two loop turns."""


class EndOfStream(Exception):
    """A source's way to say that no chunk will follow. Readers never see it: they get None."""


class Source(Protocol[T_co]):
    """What a `ReadableStream` reads from; at most one `wait_readable` waits at a time."""

    def read_nowait(self) -> T_co | None:
        """Take a chunk, or return None where there is none yet.

        Raises:
            EndOfStream: no chunk will follow.
            Exception: the stream failed. Both are final: each later call raises the same.
        """

    async def wait_readable(self) -> None:
        """Return once `read_nowait` has something new to say: a chunk, the end or a failure.

        It may return too early, or raise the failure itself. It takes no chunk: cancelling it loses none.
        """

    def cancel(self, reason: BaseException | None) -> None:
        """Give up what is buffered and what would follow, and wake a waiting `wait_readable`."""


class Sink(Protocol[T_contra]):
    """What a `WritableStream` writes to; at most one `wait_writable` waits at a time."""

    def write_nowait(self, chunk: T_contra, /) -> bool:
        """Take the whole chunk and return True, or take nothing of it and return False.

        A chunk of any size must be taken in the end, for instance once nothing else is buffered.

        Raises:
            Exception: the sink is closed or has failed; nothing was taken.
        """

    async def wait_writable(self) -> None:
        """Return once `write_nowait` takes a chunk or raises. It may return too early."""

    async def wait_closed(self) -> None:
        """Return when the sink has closed, whoever closed it; raise its error when it has failed."""

    async def close(self) -> None:
        """Begin to close at once, then wait until what was taken is flushed and the end is sent.

        Cancelled, the closing goes on; a second call waits for the same end.
        """

    def abort(self, reason: BaseException | None) -> None:
        """Drop what is buffered, fail now, and wake every waiting call. Without effect after the end."""


class StreamPair(Protocol[T_contra, T_co]):
    """What `pipe_through` accepts: chunks go into `writable` and come out of `readable`."""

    @property
    def writable(self) -> WritableStream[T_contra]: ...
    @property
    def readable(self) -> ReadableStream[T_co]: ...


class _Turns:
    """Lets overlapping calls through in the order of their arrival."""

    # asyncio.Lock alone is not enough: between its release and the next owner's turn it looks free, and a
    # call that needs no waiting would overtake. `waiting` counts those too.
    __slots__ = ("_lock", "waiting")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.waiting = 0

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self.waiting -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self.waiting -= 1
        self._lock.release()


class _Signal:
    """Wakes every task that waits at the moment it fires."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def fire(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


class _Stream:
    """The lock of a readable or a writable."""

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        self._owner: object = None

    @property
    def locked(self) -> bool:
        """Whether a reader or writer, an iteration, a pipe or a tee has this stream for itself."""
        return self._owner is not None

    def _check_unlocked(self) -> None:
        if self._owner is not None:
            raise StreamLockedError(f"this {type(self).__name__} is locked by another user of it")


S = TypeVar("S", bound=_Stream)


class _Owner(Generic[S]):
    """What a reader and a writer have in common; as a context manager it releases the lock."""

    __slots__ = ("_stream", "_turns")

    def __init__(self, stream: S) -> None:
        stream._check_unlocked()
        stream._owner = self
        self._stream: S | None = stream
        self._turns = _Turns()

    def release_lock(self) -> None:
        """Let others use the stream, which stays open. Without effect the second time.

        Raises:
            StreamLockedError: a call of this reader or writer still waits.
        """
        if self._turns.waiting:
            raise StreamLockedError(f"a call of this {type(self).__name__} still waits")
        if self._stream is not None:
            self._stream._owner = None
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release_lock()

    def _released(self) -> S:
        raise StreamLockedError(f"this {type(self).__name__} has released its lock")


class ReadableStream(_Stream, Generic[T_co]):
    """A sequence of chunks with one consumer at a time.

    Args:
        source: where the chunks come from.
    """

    __slots__ = ("_ended", "_held", "_source")

    def __init__(self, source: Source[T_co]) -> None:
        super().__init__()
        self._source = source
        self._held: T_co | None = None
        self._ended = False

    def get_reader(self) -> ReadableStreamReader[T_co]:
        """Lock the stream and return its reader.

        Raises:
            StreamLockedError: somebody else reads this stream.
        """
        return ReadableStreamReader(self)

    async def cancel(self, reason: BaseException | None = None) -> None:
        """Give the stream up: its source stops, and later reads see the end.

        Args:
            reason: handed to the source.

        Raises:
            StreamLockedError: the stream is locked; use the reader's `cancel`.
        """
        self._check_unlocked()
        self._cancel(reason)

    def __aiter__(self) -> _Iteration[T_co]:
        """Lock the stream and iterate over its chunks.

        The lock is released when the stream ends or fails, when the loop is left (at once on CPython, with
        the iterator's collection elsewhere), when a step is cancelled, and by `aclose()`. None of it loses a
        chunk: another iteration goes on where this one stopped.

        Raises:
            StreamLockedError: somebody else reads this stream.
        """
        return _Iteration(self.get_reader())

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
        reader, writer = _lock_both(self, destination)
        await _pipe(reader, writer, not prevent_close, not prevent_abort, not prevent_cancel)

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
        reader, writer = _lock_both(self, transform.writable)
        task = loop.create_task(_pipe(reader, writer, True, True, True))
        _pipes.add(task)
        task.add_done_callback(_pipes.discard)
        task.add_done_callback(_mark_seen)
        return transform.readable

    def tee(self) -> tuple[ReadableStream[T_co], ReadableStream[T_co]]:
        """Split the stream into two that both deliver every chunk (the same objects); this one stays locked.

        The branches pull on demand. One may run ahead of the other by `TEE_LIMIT` chunks, then it waits: both
        have to be read, or the idle one cancelled. The source is cancelled once both branches are.

        Raises:
            StreamLockedError: somebody else reads this stream.
        """
        self.get_reader()
        tee = _Tee(self)
        return ReadableStream(tee.branches[0]), ReadableStream(tee.branches[1])

    def _take(self) -> T_co | None:
        """`Source.read_nowait`, after what a pipe gave back and not past a cancellation."""
        if self._ended:
            raise EndOfStream
        if self._held is not None:
            chunk, self._held = self._held, None
            return chunk
        return self._source.read_nowait()

    def _cancel(self, reason: BaseException | None) -> None:
        if not self._ended:
            self._ended = True
            self._held = None
            self._source.cancel(reason)


class ReadableStreamReader(_Owner[ReadableStream[T_co]], Generic[T_co]):
    """The one reader of a locked `ReadableStream`."""

    __slots__ = ()

    async def read(self) -> T_co | None:
        """Return the next chunk, or None at the end (then and ever after). Cancelled, it takes no chunk.

        Raises:
            StreamLockedError: this reader has released its lock.
            Exception: what the stream failed with.
        """
        stream = self._stream or self._released()
        try:
            if not self._turns.waiting and (chunk := stream._take()) is not None:
                return chunk
            async with self._turns:
                while (chunk := stream._take()) is None:
                    await stream._source.wait_readable()
                return chunk
        except EndOfStream:
            return None

    async def cancel(self, reason: BaseException | None = None) -> None:
        """Give the stream up: its source stops, and waiting and later reads see the end.

        Args:
            reason: handed to the source.

        Raises:
            StreamLockedError: this reader has released its lock.
        """
        (self._stream or self._released())._cancel(reason)


class _Iteration(Generic[T_co]):
    """One `async for`. An async generator would release the lock only a loop turn after a `break`."""

    __slots__ = ("_reader",)

    def __init__(self, reader: ReadableStreamReader[T_co]) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        if self._reader._stream is None:
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

    def __del__(self) -> None:
        # Of overlapping steps, the last one releases.
        if not self._reader._turns.waiting:
            self._reader.release_lock()


class WritableStream(_Stream, Generic[T_contra]):
    """Takes chunks from one producer at a time.

    Args:
        sink: where the chunks go.
    """

    __slots__ = ("_aborted", "_closed", "_reason", "_sink")

    def __init__(self, sink: Sink[T_contra]) -> None:
        super().__init__()
        self._sink = sink
        self._closed = False
        self._aborted = False
        self._reason: BaseException | None = None

    def get_writer(self) -> WritableStreamWriter[T_contra]:
        """Lock the stream and return its writer.

        Raises:
            StreamLockedError: somebody else writes to this stream.
        """
        return WritableStreamWriter(self)

    def _put(self, chunk: T_contra) -> bool:
        """`Sink.write_nowait`, but not past a close or an abort."""
        if self._closed:
            self._refuse()
        return self._sink.write_nowait(chunk)

    async def _close(self) -> None:
        if self._aborted:
            self._refuse()
        self._closed = True
        await self._sink.close()

    def _abort(self, reason: BaseException | None) -> None:
        if not self._aborted:
            self._closed = self._aborted = True
            self._reason = reason
            self._sink.abort(reason)

    def _refuse(self) -> None:
        state = "aborted" if self._aborted else "closed"
        raise StreamClosedError(f"this WritableStream was {state}") from self._reason


class WritableStreamWriter(_Owner[WritableStream[T_contra]], Generic[T_contra]):
    """The one writer of a locked `WritableStream`. Releasing its lock does not close the stream."""

    __slots__ = ()

    async def write(self, chunk: T_contra) -> None:
        """Wait until the sink has accepted the chunk. Cancelled, it has accepted all of it or nothing.

        Raises:
            StreamClosedError: the stream was closed or aborted.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        stream = self._stream or self._released()
        if not self._turns.waiting and stream._put(chunk):
            return
        async with self._turns:
            while not stream._put(chunk):
                await stream._sink.wait_writable()

    async def close(self) -> None:
        """Wait for the writes before this one, then until the sink has sent everything and the end.

        Cancelled while earlier writes wait, nothing has happened; later, the closing goes on. A second call
        waits for the same end.

        Raises:
            StreamClosedError: the stream was aborted, so not everything was sent.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        stream = self._stream or self._released()
        async with self._turns:
            await stream._close()

    async def abort(self, reason: BaseException | None = None) -> None:
        """End the stream at once: what the sink still buffers is dropped, waiting and later writes fail.

        Args:
            reason: handed to the sink, and the `__cause__` of what later writes raise.

        Raises:
            StreamLockedError: this writer has released its lock.
        """
        (self._stream or self._released())._abort(reason)

    async def wait_closed(self) -> None:
        """Wait until the sink has closed, whoever closed it. Cancelled, it leaves nothing behind.

        Raises:
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        await (self._stream or self._released())._sink.wait_closed()


# The event loop refers to tasks weakly only; background pipes live here until they end.
_pipes: set[asyncio.Task[None]] = set()


def _mark_seen(task: asyncio.Task[None]) -> None:
    """Take a task's exception, which reaches its reader another way, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


def _lock_both(
    readable: ReadableStream[T], writable: WritableStream[T]
) -> tuple[ReadableStreamReader[T], WritableStreamWriter[T]]:
    reader = readable.get_reader()
    try:
        return reader, writable.get_writer()
    except StreamLockedError:
        reader.release_lock()
        raise


async def _pipe(
    reader: ReadableStreamReader[T],
    writer: WritableStreamWriter[T],
    close: bool,
    forward: bool,
    backward: bool,
) -> None:
    """Run a pipe between two locked streams and release them; the flags say what crosses it."""
    readable = reader._stream or reader._released()
    writable = writer._stream or writer._released()
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    # A task of its own, so that a sink that fails while the source is quiet can end it: one task a pipe costs
    # less than one a chunk. However often the caller is cancelled, it resumes after the pump has stopped.
    pump = asyncio.create_task(_pump(readable, writable, forward, backward))
    watch = asyncio.create_task(writable._sink.wait_closed())

    def sink_closed(watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            pump.cancel()

    watch.add_done_callback(sink_closed)
    failure: BaseException | None = None
    try:
        try:
            await pump
        except asyncio.CancelledError:
            if caller.cancelling() > cancellations or watch.cancelled() or not watch.done():
                raise
            failure = watch.exception() or StreamClosedError("the sink of a pipe was closed before its end")
        if failure is not None:
            if backward:
                readable._cancel(failure)
            raise failure
        if close:
            await writable._close()
    finally:
        watch.cancel()  # which also marks an error of its own as seen
        reader.release_lock()
        writer.release_lock()


async def _pump(
    readable: ReadableStream[T], writable: WritableStream[T], forward: bool, backward: bool
) -> None:
    """Move chunks until the readable ends or one side fails."""
    moved = 0
    while True:
        try:
            while (chunk := readable._take()) is None:
                await readable._source.wait_readable()
        except EndOfStream:
            return
        except Exception as error:
            if forward:
                writable._abort(error)
            raise
        try:
            while not writable._put(chunk):
                await writable._sink.wait_writable()
        except BaseException as error:
            readable._held = chunk
            if backward and isinstance(error, Exception):
                readable._cancel(error)
            raise
        moved += 1
        if moved % PIPE_BURST == 0:
            await asyncio.sleep(0)


class _Tee(Generic[T]):
    """What the two branches of a tee share: the parent stream and one task that waits for it."""

    def __init__(self, parent: ReadableStream[T]) -> None:
        self.parent = parent
        self.changed = _Signal()
        self.branches = (_Branch(self), _Branch(self))
        self.branches[0].other, self.branches[1].other = self.branches[1], self.branches[0]
        self._waiter: asyncio.Task[None] | None = None

    def wait_for_parent(self) -> None:
        # No branch waits itself: if one did, the other would have to take over when its read is cancelled.
        if self._waiter is None:
            self._waiter = asyncio.create_task(self.parent._source.wait_readable())
            self._waiter.add_done_callback(self._woken)

    def _woken(self, waiter: asyncio.Task[None]) -> None:
        _mark_seen(waiter)
        self._waiter = None
        self.changed.fire()


class _Branch(Generic[T]):
    """One side of a tee: the source of one of its two streams."""

    def __init__(self, tee: _Tee[T]) -> None:
        self.tee = tee
        self.other: _Branch[T] = self
        self.queue: deque[T] = deque()
        self.live = True

    def read_nowait(self) -> T | None:
        if self.queue:
            chunk: T | None = self.queue.popleft()
        elif len(self.other.queue) >= TEE_LIMIT:
            return None
        else:
            chunk = self.tee.parent._take()
            if chunk is None or not self.other.live:
                return chunk
            self.other.queue.append(chunk)
        self.tee.changed.fire()
        return chunk

    async def wait_readable(self) -> None:
        if self.live and not self.queue:
            if len(self.other.queue) < TEE_LIMIT:
                self.tee.wait_for_parent()
            await self.tee.changed.wait()

    def cancel(self, reason: BaseException | None) -> None:
        self.live = False
        self.queue.clear()
        if not self.other.live:
            self.tee.parent._cancel(reason)
        self.tee.changed.fire()


_Results: TypeAlias = R | list[R] | None


class TransformStream(Generic[T, R]):
    """A writable and a readable with a function between them.

    A chunk is accepted once the call for the one before has ended and fewer than `TRANSFORM_LIMIT` results
    are unread. What the function raises fails both sides. Aborting the writable fails the readable with the
    same reason, after the results that were ready; cancelling the readable fails the writable. Either cancels
    a call that still runs; cancelling a read or a write does not.

    Args:
        transform: plain or async; maps a chunk to one chunk, to a list of chunks, or to None (no chunk).
        flush: plain or async; called once when the writable is closed, for what is left.
    """

    def __init__(
        self,
        transform: Callable[[T], _Results[R] | Awaitable[_Results[R]]],
        flush: Callable[[], _Results[R] | Awaitable[_Results[R]]] = lambda: None,
    ) -> None:
        core = _Transform(transform, flush)
        self.readable: ReadableStream[R] = ReadableStream(core)
        self.writable: WritableStream[T] = WritableStream(core)


class _Transform(Generic[T, R]):
    """The source and the sink of a `TransformStream`."""

    def __init__(
        self,
        transform: Callable[[T], _Results[R] | Awaitable[_Results[R]]],
        flush: Callable[[], _Results[R] | Awaitable[_Results[R]]],
    ) -> None:
        self.transform = transform
        self.flush = flush
        self.out: deque[R] = deque()
        self.changed = _Signal()
        self.call: asyncio.Future[_Results[R]] | None = None
        self.closing = False
        self.ended = False
        self.error: BaseException | None = None

    def read_nowait(self) -> R | None:
        if self.out:
            chunk = self.out.popleft()
            if not self.out:
                self.changed.fire()
            return chunk
        if self.error is not None:
            raise self.error
        if self.ended:
            raise EndOfStream
        return None

    async def wait_readable(self) -> None:
        if not self.out and self.error is None and not self.ended:
            await self.changed.wait()

    def cancel(self, reason: BaseException | None) -> None:
        error = StreamClosedError("the readable side of a TransformStream was cancelled")
        error.__cause__ = reason
        self.out.clear()
        self.abort(error)

    def write_nowait(self, chunk: T, /) -> bool:
        if self.error is not None:
            raise self.error
        if len(self.out) >= TRANSFORM_LIMIT or self.call is not None:
            return False
        try:
            results = self.transform(chunk)
        except Exception as error:
            self.fail(error)
            raise
        if not isinstance(results, (bytes, list)) and inspect.isawaitable(results):
            self.begin(results)
        else:
            self.emit(results)
        return True

    async def wait_writable(self) -> None:
        if (len(self.out) >= TRANSFORM_LIMIT or self.call is not None) and self.error is None:
            await self.changed.wait()

    async def wait_closed(self) -> None:
        while self.error is None and not self.ended:
            await self.changed.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        if not self.closing and self.error is None:
            self.closing = True
            self.begin(self.finish(self.call))
        await self.wait_closed()

    def abort(self, reason: BaseException | None) -> None:
        if not self.ended:
            self.fail(reason or StreamClosedError("the writable side of a TransformStream was aborted"))
            if self.call is not None:
                self.call.cancel()

    def fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            self.changed.fire()

    def emit(self, results: _Results[R]) -> None:
        if isinstance(results, list):
            self.out.extend(results)
        elif results is not None:
            self.out.append(results)
        self.changed.fire()

    def begin(self, results: Awaitable[_Results[R]]) -> None:
        self.call = asyncio.ensure_future(results)
        self.call.add_done_callback(self.settle)

    def settle(self, call: asyncio.Future[_Results[R]]) -> None:
        """Pass on what an async call returned, or fail with what it raised."""
        last = call is self.call
        if last:
            self.call = None
        if call.cancelled():
            self.fail(StreamClosedError("the function of a TransformStream was cancelled"))
        elif (error := call.exception()) is not None:
            self.fail(error)
        elif self.error is None:
            self.ended = self.closing and last
            self.emit(call.result())

    async def finish(self, call: asyncio.Future[_Results[R]] | None) -> _Results[R]:
        """Let a call that runs end, then flush."""
        if call is not None:
            await call
        results = self.flush()
        return await results if inspect.isawaitable(results) else results
