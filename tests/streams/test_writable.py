"""Writable streams over memory: bounds, closing, cancellation and errors."""

from __future__ import annotations

import asyncio

import pytest

from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams import WritableStream
from tests.kit.memory_streams import MemorySink, at_once, iterations, run


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

    def test_abort_fails_waiting_and_later_writes(self) -> None:
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
