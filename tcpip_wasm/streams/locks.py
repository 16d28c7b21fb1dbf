"""Locks, turns and signals: who may use a stream, in which order, and how those who wait are woken.

Must not know what a stream does: readable and writable share this.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Self, TypeVar

from tcpip_wasm.errors import StreamLockedError


class Turns:
    """Lets overlapping calls through in the order of their arrival."""

    # asyncio.Lock alone is not enough: between its release and the next owner's turn it looks free, and a
    # call that needs no waiting would overtake. `waiting` counts those too.
    __slots__ = ("_lock", "waiting")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.waiting: int = 0

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


class Signal:
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


class Lockable:
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


S = TypeVar("S", bound=Lockable)


class LockOwner(Generic[S]):
    """What a reader and a writer have in common; as a context manager it releases the lock."""

    __slots__ = ("_stream", "_turns")

    def __init__(self, stream: S) -> None:
        stream._check_unlocked()
        stream._owner = self
        self._stream: S | None = stream
        self._turns = Turns()

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
