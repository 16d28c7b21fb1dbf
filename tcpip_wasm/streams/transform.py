"""`TransformStream`: a writable and a readable with a function between them.

Owns the results that were not read yet, and the one call that runs; a plain function costs no loop
iteration.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

from tcpip_wasm.errors import StreamClosedError
from tcpip_wasm.streams.locks import Signal
from tcpip_wasm.streams.protocols import EndOfStream
from tcpip_wasm.streams.readable import ReadableStream
from tcpip_wasm.streams.writable import WritableStream

T = TypeVar("T")
R = TypeVar("R")

TRANSFORM_LIMIT = 16
"""Unread results at which a transform takes no more chunks. With 1, each chunk costs two loop iterations."""

Results: TypeAlias = R | list[R] | None


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
        transform: Callable[[T], Results[R] | Awaitable[Results[R]]],
        flush: Callable[[], Results[R] | Awaitable[Results[R]]] = lambda: None,
    ) -> None:
        core = _Transform(transform, flush)
        self.readable: ReadableStream[R] = ReadableStream(core)
        self.writable: WritableStream[T] = WritableStream(core)


class _Transform(Generic[T, R]):
    """The source and the sink of a `TransformStream`."""

    def __init__(
        self,
        transform: Callable[[T], Results[R] | Awaitable[Results[R]]],
        flush: Callable[[], Results[R] | Awaitable[Results[R]]],
    ) -> None:
        self.transform = transform
        self.flush = flush
        self.out: deque[R] = deque()
        self.changed = Signal()
        self.call: asyncio.Future[Results[R]] | None = None
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

    def emit(self, results: Results[R]) -> None:
        if isinstance(results, list):
            self.out.extend(results)
        elif results is not None:
            self.out.append(results)
        self.changed.fire()

    def begin(self, results: Awaitable[Results[R]]) -> None:
        self.call = asyncio.ensure_future(results)
        self.call.add_done_callback(self.settle)

    def settle(self, call: asyncio.Future[Results[R]]) -> None:
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

    async def finish(self, call: asyncio.Future[Results[R]] | None) -> Results[R]:
        """Let a call that runs end, then flush."""
        if call is not None:
            await call
        results = self.flush()
        return await results if inspect.isawaitable(results) else results
