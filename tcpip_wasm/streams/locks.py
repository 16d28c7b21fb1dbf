"""Locks, queues and signals: the one user of a stream, the order of its calls, and how waiting tasks are woken.

Must not depend on a type of stream: readable and writable streams share this. `Signal` is used wherever tasks wait for
a change.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Self, TypeVar

from tcpip_wasm.errors import StreamLockedError
from tcpip_wasm.streams.state import StreamState


class Queue:
    """Lets overlapping calls through in the order of their arrival."""

    # asyncio.Lock alone is not enough: between its release and the next owner's wake-up it looks free, and a
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
    """Wakes every task that waits at the moment it fires, in the order in which they began to wait.

    A task that is woken looks again at what it waits for: another one may have changed it meanwhile. Each waits for a
    future of its own, so that a task whose wait is cancelled takes nothing from the others.
    """

    __slots__ = ("_most", "_waiters")

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []
        self._most = 8  # waiters from which on those that were cancelled are removed

    def wait(self) -> asyncio.Future[None]:
        """Return a future that is done when the signal fires next. It belongs to the caller, who may cancel it."""
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters
        if len(waiters) >= self._most:
            waiters[:] = [one for one in waiters if not one.done()]
            self._most = 2 * len(waiters) + 8
        waiters.append(waiter)
        return waiter

    def fire(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


S = TypeVar("S", bound=StreamState)


class Lockable(Generic[S]):
    """A readable or a writable: something with one user at a time."""

    __slots__ = ("_state",)

    def __init__(self, state: S) -> None:
        self._state = state

    @property
    def locked(self) -> bool:
        """Whether a reader or writer, an iteration, a pipe or a tee has this stream for itself."""
        return self._state.owner is not None


class LockOwner(Generic[S]):
    """What a reader and a writer have in common; as a context manager it releases the lock."""

    __slots__ = ("_queue", "_state")

    def __init__(self, state: S) -> None:
        state.check_unlocked()
        state.owner = self
        self._state: S | None = state
        self._queue = Queue()

    def release_lock(self) -> None:
        """Let others use the stream, which stays open. Without effect the second time.

        Raises:
            StreamLockedError: a call of this reader or writer still waits.
        """
        if self._queue.waiting:
            raise StreamLockedError(f"a call of this {type(self).__name__} still waits")
        if self._state is not None:
            self._state.owner = None
            self._state = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release_lock()
