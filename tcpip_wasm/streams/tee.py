"""The two branches of a `tee`: each pulls on demand, and queues for the other what that has not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from tcpip_wasm.streams.locks import Signal
from tcpip_wasm.streams.pipe import mark_seen
from tcpip_wasm.streams.state import Reading

T = TypeVar("T")

TEE_LIMIT = 16
"""Chunks by which one branch of a tee may run ahead of the other: 1 MiB in chunks of 64 KiB."""


class Tee(Generic[T]):
    """What the two branches of a tee share: the parent stream and one task that waits for it."""

    def __init__(self, parent: Reading[T]) -> None:
        self.parent = parent
        self.changed: Signal = Signal()
        self.branches: tuple[_Branch[T], _Branch[T]] = (_Branch(self), _Branch(self))
        self.branches[0].other, self.branches[1].other = self.branches[1], self.branches[0]
        self._waiter: asyncio.Task[None] | None = None

    def wait_for_parent(self) -> None:
        # No branch waits itself: if one did, the other would have to take over when its read is cancelled.
        if self._waiter is None:
            self._waiter = asyncio.create_task(self.parent.source.wait_readable())
            self._waiter.add_done_callback(self._woken)

    def _woken(self, waiter: asyncio.Task[None]) -> None:
        mark_seen(waiter)
        self._waiter = None
        self.changed.fire()


class _Branch(Generic[T]):
    """One side of a tee: the source of one of its two streams."""

    def __init__(self, tee: Tee[T]) -> None:
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
            chunk = self.tee.parent.take()
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
            self.tee.parent.cancel(reason)
        self.tee.changed.fire()
