"""`tee` and `pipe_through`: payload, backpressure, ends and errors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm import streams
from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams import ReadableStream, TransformStream, WritableStream
from tests.kit.memory_streams import MemorySink, MemorySource, collect, iterations, numbered, run


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

    def test_the_slower_branch_limits_the_faster_one(self) -> None:
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

    def test_cancelled_reads_of_a_quiet_branch_leak_nothing(self) -> None:
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
    def test_an_exception_of_the_function_reaches_both_sides(self, asynchronous: bool, in_flush: bool) -> None:
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
    """For any chunks, sink sizes and times, both branches deliver the same bytes."""

    def parts_of(chunk: bytes) -> list[bytes]:
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
        cutter: TransformStream[bytes, bytes] = TransformStream(parts_of)
        through = other.pipe_through(slow).pipe_through(cutter)
        _, _, _, got = await asyncio.gather(
            feed(source), drain(sink), one.pipe_to(WritableStream(sink)), collect(through)
        )
        assert sink.drained == chunks
        assert got == [part for chunk in chunks for part in parts_of(chunk)]

    run(main())
