"""Sources and sinks in memory, for tests of streams."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from tcpip_wasm.streams import EndOfStream, ReadableStream

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
