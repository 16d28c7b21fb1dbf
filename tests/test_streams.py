"""Readable and writable streams over memory: payload, order, bounds, cancellation, errors both ways."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm import streams
from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams import EndOfStream, ReadableStream, TransformStream, WritableStream

T = TypeVar("T")


class MemorySource:
    """Gives what the test has fed; counts what was taken and refuses a second waiter."""

    def __init__(self, *chunks: bytes, end: bool = False) -> None:
        self.chunks = deque(chunks)
        self.ended = end
        self.error: Exception | None = None
        self.cancelled: list[BaseException | None] = []
        self.taken = 0
        self.waiter: asyncio.Future[None] | None = None

    def feed(self, *chunks: bytes, end: bool = False) -> None:
        self.chunks.extend(chunks)
        self.ended = self.ended or end
        self.wake()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def read_nowait(self) -> bytes | None:
        if self.chunks:
            self.taken += 1
            return self.chunks.popleft()
        if self.error is not None:
            raise self.error
        if self.ended:
            raise EndOfStream
        return None

    async def wait_readable(self) -> None:
        assert self.waiter is None, "two waits at a time"
        if self.chunks or self.error is not None or self.ended or self.cancelled:
            return
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def cancel(self, reason: BaseException | None) -> None:
        self.cancelled.append(reason)
        self.chunks.clear()
        self.wake()


class MemorySink:
    """Buffers up to `limit` chunks until the test drains them; closing waits for the drain."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.buffer: list[bytes] = []
        self.drained: list[bytes] = []
        self.error: BaseException | None = None
        self.aborted: list[BaseException | None] = []
        self.closing = False
        self.changed: list[asyncio.Future[None]] = []

    @property
    def accepted(self) -> list[bytes]:
        return self.drained + self.buffer

    def drain(self, count: int = 1 << 30) -> None:
        self.drained += self.buffer[:count]
        del self.buffer[:count]
        self.fire()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.fire()

    def fire(self) -> None:
        changed, self.changed = self.changed, []
        for waiter in changed:
            if not waiter.done():
                waiter.set_result(None)

    async def change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.changed.append(waiter)
        await waiter

    def write_nowait(self, chunk: bytes, /) -> bool:
        if self.error is not None:
            raise self.error
        if len(self.buffer) >= self.limit:
            return False
        self.buffer.append(chunk)
        return True

    async def wait_writable(self) -> None:
        if self.error is None and len(self.buffer) >= self.limit:
            await self.change()

    async def wait_closed(self) -> None:
        while self.error is None and not (self.closing and not self.buffer):
            await self.change()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closing = True
        self.fire()
        await self.wait_closed()

    def abort(self, reason: BaseException | None) -> None:
        self.aborted.append(reason)
        self.fail(reason or ConnectionAbortedError("aborted"))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; nothing may hang, nor reach the loop's handler of unseen exceptions."""
    unseen: list[dict[str, Any]] = []

    async def guarded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with asyncio.timeout(100):
            result = await main
        await iterations()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
        return result

    result = asyncio.run(guarded())
    gc.collect()
    assert unseen == []
    return result


async def iterations(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that must not suspend. No event loop runs here."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    call.close()
    raise AssertionError("the call waited for the event loop")


async def collect(readable: ReadableStream[T]) -> list[T]:
    return [chunk async for chunk in readable]


def numbered(count: int) -> list[bytes]:
    return [b"chunk %d" % number for number in range(count)]


class TestReading:
    def test_a_ready_chunk_is_read_without_the_loop(self) -> None:
        readable = ReadableStream(MemorySource(b"one", b"two", end=True))
        reader = readable.get_reader()
        assert at_once(reader.read()) == b"one"
        assert at_once(reader.read()) == b"two"
        assert at_once(reader.read()) is None
        assert at_once(reader.read()) is None

    def test_a_read_waits_for_its_chunk(self) -> None:
        async def main() -> None:
            source = MemorySource()
            task = asyncio.create_task(ReadableStream(source).get_reader().read())
            await iterations()
            assert not task.done()
            source.feed(b"late")
            assert await task == b"late"

        run(main())

    def test_overlapping_reads_are_served_in_order(self) -> None:
        async def main() -> None:
            source = MemorySource()
            reader = ReadableStream(source).get_reader()
            tasks = [asyncio.create_task(reader.read()) for _ in range(4)]
            await iterations()
            source.feed(b"0", b"1")
            # The chunks are there, but earlier reads have not run yet: this one must not overtake them.
            last = reader.read()
            source.feed(b"2", b"3", b"4")
            assert await last == b"4"
            assert await asyncio.gather(*tasks) == [b"0", b"1", b"2", b"3"]

        run(main())

    def test_a_read_cancelled_at_any_moment_takes_no_chunk(self) -> None:
        async def cancelled_after(steps: int, feed_first: bool) -> bool:
            source = MemorySource()
            reader = ReadableStream(source).get_reader()
            task = asyncio.create_task(reader.read())
            await iterations(steps)
            if feed_first:
                source.feed(b"a", b"b")
            task.cancel()
            if not feed_first:
                source.feed(b"a", b"b")
            got = [chunk for chunk in await asyncio.gather(task, return_exceptions=True) if chunk == b"a"]
            source.feed(end=True)
            while (chunk := await reader.read()) is not None:
                got.append(chunk)
            assert got == [b"a", b"b"]
            reader.release_lock()
            return task.cancelled()

        outcomes = [run(cancelled_after(steps, first)) for steps in range(4) for first in (True, False)]
        assert any(outcomes)

    def test_cancelling_the_second_of_two_reads_leaves_the_first(self) -> None:
        async def main() -> None:
            source = MemorySource()
            reader = ReadableStream(source).get_reader()
            first, second = (asyncio.create_task(reader.read()) for _ in range(2))
            await iterations()
            second.cancel()
            await iterations()
            source.feed(b"a", b"b")
            assert await first == b"a"
            assert await reader.read() == b"b"
            reader.release_lock()

        run(main())

    def test_a_failure_follows_what_arrived_before_it_and_stays(self) -> None:
        async def main() -> None:
            source = MemorySource(b"last words")
            reader = ReadableStream(source).get_reader()
            source.fail(ConnectionResetError("reset"))
            assert await reader.read() == b"last words"
            for _ in range(2):
                with pytest.raises(ConnectionResetError):
                    await reader.read()

        run(main())

    def test_cancel_ends_a_waiting_read_and_reaches_the_source_once(self) -> None:
        async def main() -> None:
            source = MemorySource()
            reader = ReadableStream(source).get_reader()
            task = asyncio.create_task(reader.read())
            await iterations()
            reason = ValueError("enough")
            await reader.cancel(reason)
            await reader.cancel()
            assert await task is None
            source.feed(b"too late")
            assert await reader.read() is None
            assert source.cancelled == [reason]

        run(main())


class TestReadableLock:
    def test_a_second_reader_is_refused_until_the_first_releases(self) -> None:
        readable = ReadableStream(MemorySource(b"x"))
        with readable.get_reader() as reader:
            assert readable.locked
            with pytest.raises(StreamLockedError):
                readable.get_reader()
            with pytest.raises(StreamLockedError):
                readable.tee()
            with pytest.raises(StreamLockedError):
                aiter(readable)
            with pytest.raises(StreamLockedError):
                at_once(readable.cancel())
        assert not readable.locked
        with pytest.raises(StreamLockedError):
            at_once(reader.read())
        with pytest.raises(StreamLockedError):
            at_once(reader.cancel())
        second = readable.get_reader()
        reader.release_lock()
        assert readable.locked, "a released reader must not release another's lock"
        assert at_once(second.read()) == b"x"

    def test_a_lock_is_not_released_under_a_waiting_read(self) -> None:
        async def main() -> None:
            source = MemorySource()
            reader = ReadableStream(source).get_reader()
            task = asyncio.create_task(reader.read())
            await iterations()
            with pytest.raises(StreamLockedError):
                reader.release_lock()
            source.feed(b"x")
            assert await task == b"x"
            reader.release_lock()

        run(main())

    def test_cancel_of_an_unlocked_stream(self) -> None:
        source = MemorySource(b"x")
        readable = ReadableStream(source)
        at_once(readable.cancel())
        assert source.cancelled == [None]
        assert at_once(readable.get_reader().read()) is None


class TestIteration:
    def test_it_locks_and_releases_at_the_end(self) -> None:
        async def main() -> None:
            readable = ReadableStream(MemorySource(b"a", b"b", end=True))
            got = []
            async for chunk in readable:
                assert readable.locked
                got.append(chunk)
            assert got == [b"a", b"b"]
            assert not readable.locked

        run(main())

    def test_break_releases_at_once_and_loses_nothing(self) -> None:
        async def main() -> None:
            readable = ReadableStream(MemorySource(*numbered(5), end=True))
            async for chunk in readable:
                assert chunk == b"chunk 0"
                break
            assert not readable.locked
            assert await collect(readable) == numbered(5)[1:]

        run(main())

    def test_an_exception_in_the_body_releases(self) -> None:
        async def main() -> None:
            readable = ReadableStream(MemorySource(b"a", b"b"))

            async def body() -> None:
                async for _ in readable:
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await body()
            assert await readable.get_reader().read() == b"b"

        run(main())

    def test_aclose_ends_it(self) -> None:
        async def main() -> None:
            readable = ReadableStream(MemorySource(b"a", b"b"))
            iteration = aiter(readable)
            assert await anext(iteration) == b"a"
            await iteration.aclose()
            assert not readable.locked
            with pytest.raises(StopAsyncIteration):
                await anext(iteration)

        run(main())

    def test_a_failure_or_cancellation_releases(self) -> None:
        async def main() -> None:
            source = MemorySource()
            readable = ReadableStream(source)
            task = asyncio.create_task(collect(readable))
            await iterations()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert not readable.locked
            source.fail(ConnectionResetError())
            with pytest.raises(ConnectionResetError):
                await collect(readable)
            assert not readable.locked

        run(main())

    def test_overlapping_steps_release_with_the_last(self) -> None:
        async def main() -> None:
            source = MemorySource()
            readable = ReadableStream(source)
            iteration = aiter(readable)
            first, second = (asyncio.ensure_future(anext(iteration)) for _ in range(2))
            await iterations()
            first.cancel()
            await iterations()
            assert first.cancelled()
            assert readable.locked
            with pytest.raises(StreamLockedError):
                await iteration.aclose()
            source.feed(b"x")
            assert await second == b"x"

        run(main())


class TestWriting:
    def test_a_sink_with_room_is_written_without_the_loop(self) -> None:
        sink = MemorySink(limit=2)
        writer = WritableStream(sink).get_writer()
        at_once(writer.write(b"a"))
        at_once(writer.write(b"b"))
        assert sink.accepted == [b"a", b"b"]

    def test_writes_wait_for_room_and_keep_their_order(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=1)
            writer = WritableStream(sink).get_writer()
            await writer.write(b"0")
            tasks = [asyncio.create_task(writer.write(b"%d" % number)) for number in (1, 2, 3)]
            for accepted in range(1, 4):
                await iterations()
                assert len(sink.accepted) == accepted
                assert sum(task.done() for task in tasks) == accepted - 1
                sink.drain()
            sink.limit = 5
            # There is room, but the write of 3 has not run yet: this one must not overtake it.
            await writer.write(b"4")
            assert sink.accepted == [b"0", b"1", b"2", b"3", b"4"]

        run(main())

    def test_a_write_cancelled_at_any_moment_is_whole_or_nothing(self) -> None:
        async def cancelled_after(steps: int) -> bool:
            sink = MemorySink(limit=1)
            writer = WritableStream(sink).get_writer()
            await writer.write(b"before")
            task = asyncio.create_task(writer.write(b"maybe"))
            await iterations(steps)
            sink.drain()
            await iterations(steps % 3)
            task.cancel()
            await asyncio.wait({task})
            sink.limit = 9
            await writer.write(b"after")
            maybe = [] if task.cancelled() else [b"maybe"]
            assert sink.accepted == [b"before", *maybe, b"after"]
            return task.cancelled()

        assert {run(cancelled_after(steps)) for steps in range(6)} == {True, False}

    def test_close_waits_for_earlier_writes_and_the_flush(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=1)
            writer = WritableStream(sink).get_writer()
            await writer.write(b"a")
            write = asyncio.create_task(writer.write(b"b"))
            close = asyncio.create_task(writer.close())
            await iterations()
            late = asyncio.create_task(writer.write(b"c"))
            await iterations()
            assert not sink.closing
            sink.drain()
            await write
            await iterations()
            assert sink.closing
            assert not close.done()
            sink.drain()
            await close
            with pytest.raises(StreamClosedError):
                await late
            assert sink.accepted == [b"a", b"b"]
            await writer.close()

        run(main())

    def test_write_after_close_is_a_connection_aborted_error(self) -> None:
        writer = WritableStream(MemorySink()).get_writer()
        at_once(writer.close())
        with pytest.raises(ConnectionAbortedError) as caught:
            at_once(writer.write(b"x"))
        assert isinstance(caught.value, StreamClosedError)

    def test_a_cancelled_close_either_did_not_begin_or_goes_on(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=1)
            writer = WritableStream(sink).get_writer()
            await writer.write(b"a")
            write = asyncio.create_task(writer.write(b"b"))
            early = asyncio.create_task(writer.close())
            await iterations()
            early.cancel()
            await iterations()
            sink.drain()
            await write
            assert not sink.closing
            late = asyncio.create_task(writer.close())
            await iterations()
            late.cancel()
            await asyncio.wait({early, late})
            assert sink.closing
            sink.drain()
            await writer.close()
            assert sink.drained == [b"a", b"b"]

        run(main())

    def test_abort_fails_what_waits_and_what_follows(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=1)
            writer = WritableStream(sink).get_writer()
            await writer.write(b"a")
            task = asyncio.create_task(writer.write(b"b"))
            closed = asyncio.create_task(writer.wait_closed())
            await iterations()
            reason = ValueError("enough")
            await writer.abort(reason)
            await writer.abort()
            for call in (task, writer.write(b"c"), writer.close()):
                with pytest.raises(StreamClosedError) as caught:
                    await call
                assert caught.value.__cause__ is reason
            with pytest.raises(ValueError, match="enough"):
                await closed
            assert sink.aborted == [reason]
            assert sink.accepted == [b"a"]

        run(main())

    def test_a_failing_sink_fails_the_waiting_write_and_wait_closed(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=0)
            writer = WritableStream(sink).get_writer()
            task = asyncio.create_task(writer.write(b"x"))
            await iterations()
            sink.fail(ConnectionResetError())
            for call in (task, writer.wait_closed(), writer.close()):
                with pytest.raises(ConnectionResetError):
                    await call

        run(main())

    def test_the_lock(self) -> None:
        async def main() -> None:
            sink = MemorySink(limit=1)
            writable = WritableStream(sink)
            with writable.get_writer() as writer:
                assert writable.locked
                with pytest.raises(StreamLockedError):
                    writable.get_writer()
                await writer.write(b"a")
                task = asyncio.create_task(writer.write(b"b"))
                await iterations()
                with pytest.raises(StreamLockedError):
                    writer.release_lock()
                sink.drain()
                await task
            assert not writable.locked
            for call in (writer.write(b"c"), writer.close(), writer.abort(), writer.wait_closed()):
                with pytest.raises(StreamLockedError):
                    await call
            assert not sink.closing

        run(main())


class TestPipeTo:
    def test_it_moves_everything_closes_and_releases(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(*numbered(100), end=True), MemorySink()
            readable, writable = ReadableStream(source), WritableStream(sink)
            task = asyncio.create_task(readable.pipe_to(writable))
            await iterations()
            assert readable.locked
            assert writable.locked
            sink.drain()
            await task
            assert sink.drained == numbered(100)
            assert sink.closing
            assert not readable.locked
            assert not writable.locked

        run(main())

    def test_prevent_close(self) -> None:
        async def main() -> None:
            sink = MemorySink()
            writable = WritableStream(sink)
            for part in (b"a", b"b"):
                await ReadableStream(MemorySource(part, end=True)).pipe_to(writable, prevent_close=True)
            assert sink.accepted == [b"a", b"b"]
            assert not sink.closing

        run(main())

    def test_backpressure_holds_the_source(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(*numbered(10)), MemorySink(limit=3)
            task = asyncio.create_task(ReadableStream(source).pipe_to(WritableStream(sink)))
            await iterations()
            assert source.taken == 4, "three in the sink, one in the pipe's hand"
            sink.drain(2)
            await iterations()
            assert source.taken == 6
            task.cancel()

        run(main())

    @pytest.mark.parametrize("prevent", [False, True])
    def test_a_failing_source_aborts_the_destination(self, prevent: bool) -> None:
        async def main() -> None:
            source, sink = MemorySource(b"a"), MemorySink()
            readable, writable = ReadableStream(source), WritableStream(sink)
            task = asyncio.create_task(readable.pipe_to(writable, prevent_abort=prevent))
            await iterations()
            error = ConnectionResetError("reset")
            source.fail(error)
            with pytest.raises(ConnectionResetError):
                await task
            assert sink.accepted == [b"a"]
            assert sink.aborted == ([] if prevent else [error])
            assert not readable.locked
            assert not writable.locked

        run(main())

    @pytest.mark.parametrize("prevent", [False, True])
    @pytest.mark.parametrize("quiet", [False, True])
    def test_a_failing_destination_cancels_the_source(self, prevent: bool, quiet: bool) -> None:
        async def main() -> None:
            source, sink = MemorySource(b"a", b"b"), MemorySink(limit=9 if quiet else 1)
            readable, writable = ReadableStream(source), WritableStream(sink)
            task = asyncio.create_task(readable.pipe_to(writable, prevent_cancel=prevent))
            await iterations()
            error = ConnectionResetError("reset")
            sink.fail(error)
            with pytest.raises(ConnectionResetError):
                await task
            assert source.cancelled == ([] if prevent else [error])
            assert not readable.locked
            assert not writable.locked
            if prevent:
                source.feed(b"c", end=True)
                assert sink.accepted + await collect(readable) == [b"a", b"b", b"c"]
            else:
                assert await collect(readable) == []

        run(main())

    def test_a_destination_that_closes_early_is_an_error(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(), MemorySink()
            task = asyncio.create_task(ReadableStream(source).pipe_to(WritableStream(sink)))
            await iterations()
            await sink.close()
            with pytest.raises(StreamClosedError):
                await task
            assert isinstance(source.cancelled[0], StreamClosedError)

        run(main())

    def test_a_close_that_fails_is_raised(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(b"a", end=True), MemorySink()
            task = asyncio.create_task(ReadableStream(source).pipe_to(WritableStream(sink)))
            await iterations()
            sink.fail(ConnectionResetError())
            with pytest.raises(ConnectionResetError):
                await task

        run(main())

    def test_a_locked_side_leaves_both_untouched(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(b"a", end=True), MemorySink()
            readable, writable = ReadableStream(source), WritableStream(sink)
            with writable.get_writer():
                with pytest.raises(StreamLockedError):
                    await readable.pipe_to(writable)
                assert not readable.locked
            with readable.get_reader():
                with pytest.raises(StreamLockedError):
                    await readable.pipe_to(writable)
                assert not writable.locked
            assert source.taken == 0
            assert source.cancelled == sink.aborted == []

        run(main())

    def test_cancelled_at_any_moment_it_loses_nothing(self) -> None:
        chunks = numbered(3 * streams.PIPE_BURST)

        async def cancelled_after(steps: int) -> bool:
            source, sink = MemorySource(), MemorySink(limit=40)
            readable, writable = ReadableStream(source), WritableStream(sink)
            task = asyncio.create_task(readable.pipe_to(writable))
            for step in range(steps):
                if step == 3:
                    source.feed(*chunks, end=True)
                if step > 8:
                    sink.drain(20)
                await asyncio.sleep(0)
            task.cancel()
            task.cancel()
            await asyncio.wait({task})
            assert not readable.locked
            assert not writable.locked
            assert source.cancelled == sink.aborted == []
            if steps <= 3:
                source.feed(*chunks, end=True)
            sink.limit = 1 << 30
            rest = asyncio.create_task(readable.pipe_to(writable))
            await iterations()
            sink.drain()
            await rest
            assert sink.drained == chunks
            return task.cancelled()

        assert {run(cancelled_after(steps)) for steps in range(40)} == {True, False}

    def test_a_cancellation_wins_over_a_failing_destination(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(), MemorySink()
            task = asyncio.create_task(ReadableStream(source).pipe_to(WritableStream(sink)))
            await iterations()
            sink.fail(ConnectionResetError())
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()

        run(main())

    def test_a_task_that_survived_a_cancellation_still_sees_the_failure(self) -> None:
        async def main() -> None:
            source, sink = MemorySource(), MemorySink()

            async def survivor() -> None:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    await ReadableStream(source).pipe_to(WritableStream(sink))

            task = asyncio.create_task(survivor())
            await iterations()
            task.cancel()
            await iterations()
            sink.fail(ConnectionResetError())
            with pytest.raises(ConnectionResetError):
                await task

        run(main())

    def test_an_endless_pipe_lets_others_run(self) -> None:
        class Endless(MemorySource):
            def read_nowait(self) -> bytes | None:
                return b"more"

        async def main() -> None:
            sink = MemorySink()
            task = asyncio.create_task(ReadableStream(Endless()).pipe_to(WritableStream(sink)))
            await iterations(5)
            task.cancel()
            await asyncio.wait({task})
            assert 0 < len(sink.accepted) <= 5 * streams.PIPE_BURST

        run(main())


class TestTee:
    def test_both_branches_get_everything(self) -> None:
        async def main() -> None:
            source = MemorySource()
            readable = ReadableStream(source)
            branches = readable.tee()
            assert readable.locked
            both = asyncio.gather(*(collect(branch) for branch in branches))
            for chunk in numbered(50):
                await asyncio.sleep(0)
                source.feed(chunk)
            source.feed(end=True)
            assert await both == [numbered(50), numbered(50)]

        run(main())

    def test_the_slower_branch_holds_the_faster_one_back(self) -> None:
        async def main() -> None:
            source = MemorySource(*numbered(100))
            fast, slow = (branch.get_reader() for branch in ReadableStream(source).tee())
            for number in range(streams.TEE_LIMIT):
                assert await fast.read() == b"chunk %d" % number
            task = asyncio.create_task(fast.read())
            await iterations()
            assert not task.done()
            assert source.taken == streams.TEE_LIMIT
            assert await slow.read() == b"chunk 0"
            assert await task == b"chunk %d" % streams.TEE_LIMIT
            task = asyncio.create_task(fast.read())
            await iterations()
            assert not task.done()
            await slow.cancel()
            assert await task == b"chunk %d" % (streams.TEE_LIMIT + 1)
            for number in range(streams.TEE_LIMIT + 2, 100):
                assert await fast.read() == b"chunk %d" % number

        run(main())

    def test_the_source_is_cancelled_with_the_second_branch(self) -> None:
        async def main() -> None:
            source = MemorySource(b"x")
            one, other = ReadableStream(source).tee()
            await one.cancel()
            assert source.cancelled == []
            reader = other.get_reader()
            assert await reader.read() == b"x"
            reason = ValueError("enough")
            waiting = asyncio.create_task(reader.read())
            await iterations()
            await reader.cancel(reason)
            assert await waiting is None
            assert source.cancelled == [reason]

        run(main())

    def test_cancelling_a_branch_ends_its_read_while_the_source_is_quiet(self) -> None:
        async def main() -> None:
            source = MemorySource()
            one, other = (branch.get_reader() for branch in ReadableStream(source).tee())
            quiet, going = (asyncio.create_task(reader.read()) for reader in (one, other))
            await iterations()
            await one.cancel()
            assert await quiet is None
            source.feed(b"x")
            assert await going == b"x"

        run(main())

    def test_a_cancelled_read_loses_nothing_on_either_branch(self) -> None:
        async def cancelled_after(before: int, after: int) -> None:
            source = MemorySource()
            branches = ReadableStream(source).tee()
            one, other = (branch.get_reader() for branch in branches)
            tasks = [asyncio.create_task(one.read()), asyncio.create_task(other.read())]
            await iterations(before)
            source.feed(b"a", b"b")
            await iterations(after)
            tasks[0].cancel()
            await asyncio.wait(tasks)
            source.feed(end=True)
            one.release_lock()
            other.release_lock()
            for task, branch in zip(tasks, branches, strict=True):
                first = [] if task.cancelled() else [task.result()]
                assert first + await collect(branch) == [b"a", b"b"]

        for before in range(4):
            for after in range(4):
                run(cancelled_after(before, after))

    def test_cancelled_reads_of_a_quiet_branch_leave_nothing_behind(self) -> None:
        async def main() -> None:
            source = MemorySource()
            one, other = ReadableStream(source).tee()
            reader = one.get_reader()
            gc.collect()
            before = sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects())
            for _ in range(100):
                task = asyncio.create_task(reader.read())
                await iterations(3)
                task.cancel()
                await asyncio.wait({task})
            assert sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects()) < before + 50
            source.feed(b"x")
            assert await reader.read() == await other.get_reader().read() == b"x"

        run(main())

    @pytest.mark.parametrize("raised_by_the_wait", [False, True])
    def test_a_failure_reaches_both(self, raised_by_the_wait: bool) -> None:
        class Raising(MemorySource):
            async def wait_readable(self) -> None:
                await super().wait_readable()
                if self.error is not None:
                    raise self.error

        async def main() -> None:
            source = Raising(b"x") if raised_by_the_wait else MemorySource(b"x")
            branches = ReadableStream(source).tee()
            tasks = [asyncio.create_task(collect(branch)) for branch in branches]
            await iterations()
            source.fail(ConnectionResetError())
            for task in tasks:
                with pytest.raises(ConnectionResetError):
                    await task

        run(main())


def shout(chunk: bytes) -> bytes:
    return chunk.upper()


class TestTransform:
    def test_pipe_through_a_chain(self) -> None:
        async def halves(chunk: bytes) -> list[bytes]:
            await asyncio.sleep(0)
            return [chunk[:4], chunk[4:]]

        async def main() -> None:
            kept: list[bytes] = []

            def keep(chunk: bytes) -> None:
                kept.append(chunk)

            source = MemorySource(*numbered(20), end=True)
            split: TransformStream[bytes, bytes] = TransformStream(halves)
            gather: TransformStream[bytes, bytes] = TransformStream(keep, lambda: b"".join(kept))
            out = ReadableStream(source).pipe_through(TransformStream(shout)).pipe_through(split)
            assert await collect(out.pipe_through(gather)) == [b"".join(numbered(20)).upper()]

        run(main())

    def test_an_async_flush_follows_a_call_that_still_runs(self) -> None:
        async def main() -> None:
            gate = asyncio.Event()

            async def slow(chunk: bytes) -> bytes:
                await gate.wait()
                return chunk

            async def flush() -> list[bytes]:
                await asyncio.sleep(0)
                return [b"the", b"end"]

            pair: TransformStream[bytes, bytes] = TransformStream(slow, flush)
            writer = pair.writable.get_writer()
            await writer.write(b"x")
            close = asyncio.create_task(writer.close())
            out = asyncio.create_task(collect(pair.readable))
            await iterations()
            assert not close.done()
            gate.set()
            await close
            assert await out == [b"x", b"the", b"end"]

        run(main())

    def test_a_cancelled_close_goes_on(self) -> None:
        async def main() -> None:
            gate = asyncio.Event()

            async def flush() -> bytes:
                await gate.wait()
                return b"end"

            pair = TransformStream(shout, flush)
            writer = pair.writable.get_writer()
            close = asyncio.create_task(writer.close())
            await iterations()
            close.cancel()
            await iterations()
            gate.set()
            assert await collect(pair.readable) == [b"end"]
            await writer.close()

        run(main())

    def test_backpressure(self) -> None:
        async def main() -> None:
            def doubled(chunk: bytes) -> list[bytes]:
                return [chunk, chunk]

            source = MemorySource(*numbered(100))
            pair: TransformStream[bytes, bytes] = TransformStream(doubled)
            reader = ReadableStream(source).pipe_through(pair).get_reader()
            in_hand, room = 1, streams.TRANSFORM_LIMIT // 2
            await iterations()
            assert source.taken == room + in_hand
            for chunk in numbered(room):
                assert await reader.read() == await reader.read() == chunk
            await iterations()
            assert source.taken == 2 * room + in_hand
            await reader.cancel()

        run(main())

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("in_flush", [False, True])
    def test_what_the_function_raises_reaches_both_sides(self, asynchronous: bool, in_flush: bool) -> None:
        error = ValueError("bad chunk")

        def bad(*_: bytes) -> bytes:
            raise error

        async def bad_later(*_: bytes) -> bytes:
            await asyncio.sleep(0)
            raise error

        async def main() -> None:
            function: Callable[..., bytes | Awaitable[bytes]] = bad_later if asynchronous else bad
            pair: TransformStream[bytes, bytes]
            pair = TransformStream(shout, function) if in_flush else TransformStream(function)
            source = MemorySource(b"x", end=in_flush)
            reader = ReadableStream(source).pipe_through(pair).get_reader()
            if in_flush:
                assert await reader.read() == b"X"
            with pytest.raises(ValueError, match="bad chunk"):
                await reader.read()
            await iterations()
            assert source.cancelled == ([] if in_flush else [error])
            with pytest.raises(ValueError, match="bad chunk"):
                await pair.writable.get_writer().wait_closed()

        run(main())

    def test_a_failing_source_fails_the_reader(self) -> None:
        async def main() -> None:
            source = MemorySource(b"x")
            reader = ReadableStream(source).pipe_through(TransformStream(shout)).get_reader()
            await iterations()
            source.fail(ConnectionResetError())
            await iterations()
            assert await reader.read() == b"X"
            with pytest.raises(ConnectionResetError):
                await reader.read()

        run(main())

    def test_cancelling_the_result_cancels_the_source(self) -> None:
        async def main() -> None:
            source = MemorySource(b"x")
            readable = ReadableStream(source)
            out = readable.pipe_through(TransformStream(shout))
            await iterations()
            reason = ValueError("enough")
            await out.cancel(reason)
            await iterations()
            [error] = source.cancelled
            assert isinstance(error, StreamClosedError)
            assert error.__cause__ is reason
            assert not readable.locked

        run(main())

    def test_a_locked_transform_is_refused_at_once(self) -> None:
        async def main() -> None:
            pair = TransformStream(shout)
            readable = ReadableStream(MemorySource())
            with pair.writable.get_writer(), pytest.raises(StreamLockedError):
                readable.pipe_through(pair)
            assert not readable.locked

        run(main())

    @pytest.mark.parametrize("steps", [0, 1, 5])
    def test_abort_cancels_a_call_that_runs(self, steps: int) -> None:
        async def main() -> None:
            stopped = []

            async def forever(chunk: bytes) -> bytes:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    stopped.append(chunk)
                return chunk

            pair: TransformStream[bytes, bytes] = TransformStream(forever)
            writer = pair.writable.get_writer()
            await writer.write(b"x")
            blocked = asyncio.create_task(writer.write(b"y"))
            close = asyncio.create_task(writer.close())
            await iterations(steps)
            await writer.abort()
            for call in (blocked, close):
                with pytest.raises(StreamClosedError):
                    await call
            with pytest.raises(StreamClosedError):
                await pair.readable.get_reader().read()
            await iterations()
            assert stopped == ([b"x"] if steps else [])

        run(main())

    def test_a_function_that_is_cancelled_fails_both_sides(self) -> None:
        async def cancelled(chunk: bytes) -> bytes:
            raise asyncio.CancelledError

        async def main() -> None:
            pair: TransformStream[bytes, bytes] = TransformStream(cancelled)
            await pair.writable.get_writer().write(b"x")
            with pytest.raises(StreamClosedError):
                await pair.readable.get_reader().read()

        run(main())

    def test_cancelling_a_read_does_not_cancel_the_call(self) -> None:
        async def main() -> None:
            gate = asyncio.Event()

            async def slow(chunk: bytes) -> bytes:
                await gate.wait()
                return chunk

            pair: TransformStream[bytes, bytes] = TransformStream(slow)
            reader = pair.readable.get_reader()
            read = asyncio.create_task(reader.read())
            await pair.writable.get_writer().write(b"x")
            await iterations()
            read.cancel()
            await iterations()
            gate.set()
            assert await reader.read() == b"x"

        run(main())


@settings(max_examples=60)
@given(
    chunks=st.lists(st.binary(max_size=20), max_size=80),
    limit=st.integers(1, 5),
    schedule=st.lists(st.integers(0, 4), min_size=1, max_size=10),
    cut=st.integers(1, 7),
)
def test_payload_survives_pipe_tee_and_transform(
    chunks: list[bytes], limit: int, schedule: list[int], cut: int
) -> None:
    """Whatever the chunks, the room in the sink and the timing: both branches deliver the same bytes."""

    def chunks(chunk: bytes) -> list[bytes]:
        return [chunk[start : start + cut] for start in range(0, len(chunk), cut)]

    async def later(chunk: bytes) -> bytes:
        for _ in range(schedule[len(chunk) % len(schedule)]):
            await asyncio.sleep(0)
        return chunk

    async def feed(source: MemorySource) -> None:
        for number, chunk in enumerate(chunks):
            for _ in range(schedule[number % len(schedule)]):
                await asyncio.sleep(0)
            source.feed(chunk)
        source.feed(end=True)

    async def drain(sink: MemorySink) -> None:
        while not sink.closing or sink.buffer:
            sink.drain(schedule[0] + 1)
            assert len(sink.buffer) <= limit
            await asyncio.sleep(0)

    async def main() -> None:
        source, sink = MemorySource(), MemorySink(limit)
        one, other = ReadableStream(source).tee()
        slow: TransformStream[bytes, bytes] = TransformStream(later)
        cutter: TransformStream[bytes, bytes] = TransformStream(chunks)
        through = other.pipe_through(slow).pipe_through(cutter)
        _, _, _, got = await asyncio.gather(
            feed(source), drain(sink), one.pipe_to(WritableStream(sink)), collect(through)
        )
        assert sink.drained == chunks
        assert got == [chunk for chunk in chunks for chunk in chunks(chunk)]

    run(main())
