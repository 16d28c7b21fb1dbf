"""Pipes: chunks from a readable to a writable, and how the end or failure of one side reaches the other.

Owns the tasks of pipes that run in the background. A pipe holds at most the chunk that its sink refused, and
returns it to the readable.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams.protocols import EndOfStream
from tcpip_wasm.streams.state import Reading, Writing, state_of

if TYPE_CHECKING:
    from tcpip_wasm.streams.readable import ReadableStream, ReadableStreamReader
    from tcpip_wasm.streams.writable import WritableStream, WritableStreamWriter

T = TypeVar("T")

PIPE_BURST = 32
"""Chunks a pipe moves before it lets others run: 2 MiB in chunks of 64 KiB, about 2 ms at 8 Gbit/s."""

# The event loop refers to tasks weakly only; background pipes live here until they end.
_background: set[asyncio.Task[None]] = set()


def lock_both(
    readable: ReadableStream[T], writable: WritableStream[T]
) -> tuple[ReadableStreamReader[T], WritableStreamWriter[T]]:
    """Lock both streams, or neither."""
    reader = readable.get_reader()
    try:
        return reader, writable.get_writer()
    except StreamLockedError:
        reader.release_lock()
        raise


def pipe_in_background(
    loop: asyncio.AbstractEventLoop, reader: ReadableStreamReader[T], writer: WritableStreamWriter[T]
) -> None:
    """Run a pipe as a task of its own; its failure arrives at the reader behind the writable."""
    task = loop.create_task(pipe(reader, writer, True, True, True))
    _background.add(task)
    task.add_done_callback(_background.discard)
    task.add_done_callback(mark_seen)


async def pipe(
    reader: ReadableStreamReader[T],
    writer: WritableStreamWriter[T],
    close: bool,
    forward: bool,
    backward: bool,
) -> None:
    """Run a pipe between two locked streams, and release them.

    Args:
        reader, writer: the two ends.
        close: whether the end of the source closes the sink.
        forward: whether an error of the source aborts the sink.
        backward: whether an error of the sink cancels the source.
    """
    readable, writable = state_of(reader), state_of(writer)
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    # A task of its own, so that a sink that fails while the source is quiet can end it: one task a pipe costs
    # less than one a chunk. However often the caller is cancelled, it resumes after the pump has stopped.
    pump = asyncio.create_task(_pump(readable, writable, forward, backward))
    watch = asyncio.create_task(writable.sink.wait_closed())

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
                readable.cancel(failure)
            raise failure
        if close:
            await writable.close()
    finally:
        watch.cancel()  # which also marks an error of its own as seen
        reader.release_lock()
        writer.release_lock()


async def _pump(readable: Reading[T], writable: Writing[T], forward: bool, backward: bool) -> None:
    """Move chunks until the readable ends or one side fails."""
    moved = 0
    while True:
        try:
            while (chunk := readable.take()) is None:
                await readable.source.wait_readable()
        except EndOfStream:
            return
        except Exception as error:
            if forward:
                writable.abort(error)
            raise
        try:
            while not writable.put(chunk):
                await writable.sink.wait_writable()
        except BaseException as error:
            readable.held = chunk
            if backward and isinstance(error, Exception):
                readable.cancel(error)
            raise
        moved += 1
        if moved % PIPE_BURST == 0:
            await asyncio.sleep(0)


def mark_seen(task: asyncio.Task[None]) -> None:
    """Take a task's exception, which reaches its reader another way, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
