"""What all services have in common: a start, an end, and tasks whose number is bounded.

Owns the life of a service: it ends when it is closed, or with its stack. It knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final, Self

from tcpip_wasm.driver import Driver
from tcpip_wasm.errors import StackError

_numbers: Final = count(1)


class Service:
    """A service over one stack; as an asynchronous context manager it starts and closes itself.

    Args:
        driver: the stack's driver.
        max_tasks: requests that are answered at the same time at most.

    Attributes:
        closed: whether it has ended: it was closed, or its stack is gone.
    """

    def __init__(self, driver: Driver, *, max_tasks: int) -> None:
        self.closed: bool = False
        self._driver = driver
        self._max_tasks = max_tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._key = -next(_numbers)  # handles of the core are positive
        self._started = False

    async def start(self) -> Self:
        """Begin to serve, and return the service; ``async with`` does it.

        Raises:
            RuntimeError: it was started before.
            OSError: ``EADDRINUSE`` where another socket has the port; see the service.
            StackError: the stack is gone.

        Cancelled, it is closed.
        """
        if self._started:
            raise RuntimeError(f"{self!r} was started before")
        self._driver.check()
        self._started = True
        self._driver.handlers[self._key] = self
        try:
            await self._open()
        except BaseException:
            self._end()
            raise
        return self

    async def aclose(self) -> None:
        """Stop serving and close all sockets; requests under way are dropped. Idempotent.

        Cancelled, it is closed all the same.
        """
        self._end()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # protocols receive `connection_lost` before this returns

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- For subclasses -------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Open sockets."""
        raise NotImplementedError

    def _close(self) -> None:
        """Close sockets and cancel timers; called once."""
        raise NotImplementedError

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run a coroutine in a task of the service and return True, or return False where too many run."""
        if self.closed or len(self._tasks) >= self._max_tasks:
            return False
        task = self._driver.loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return True

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StackError):
            self._driver.report(error, f"{self!r} failed to answer")

    # --- The end --------------------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """There are no events of the core: a service has no handle."""

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and so is the service."""
        self._end()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._driver.handlers.pop(self._key, None)
        for task in list(self._tasks):
            if task is not _current_task():
                task.cancel()
        if self._started:
            self._close()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None
