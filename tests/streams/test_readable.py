"""Readable streams over memory: payload, order, locks, iteration, cancellation and errors."""

from __future__ import annotations

import asyncio

import pytest

from tcpip_wasm.errors import StreamLockedError
from tcpip_wasm.streams import ReadableStream
from tests.kit.memory_streams import MemorySource, at_once, collect, iterations, numbered, run


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
