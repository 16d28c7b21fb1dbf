"""`pipe_to`: payload, backpressure, ends and errors in both directions."""

from __future__ import annotations

import asyncio

import pytest

from tcpip_wasm import streams
from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams import ReadableStream, WritableStream
from tests.kit.memory_streams import MemorySink, MemorySource, collect, iterations, numbered, run


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

    def test_backpressure_pauses_the_source(self) -> None:
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

    def test_an_endless_pipe_lets_other_tasks_run(self) -> None:
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
