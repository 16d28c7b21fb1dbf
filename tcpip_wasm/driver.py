"""The asyncio driver: it polls cores when they have work, hands out their events, and arms one timer for each.

Owns wake-ups: which stacks of an event loop are to be polled, in which order, and when the loop gets its turn again. It
must not know what an interface or a socket is; they register a `Handler` for their handle. Stacks of one loop share one
`_Scheduler`, so that frames which travel over a cable between two of them arrive in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from tcpip_wasm.engine import Core, FrameBuffers, abi
from tcpip_wasm.errors import StackError

SLICE: Final = 0.002
"""Seconds of work after which the loop gets its turn: what a saturating transfer may delay everybody else."""


class Handler(Protocol):
    """What stands behind a handle: an interface, a listener, a connection."""

    def on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event of the core that concerns this handle."""

    def on_stack_gone(self, error: StackError) -> None:
        """The stack was closed or has trapped: end every pending call with the error."""


class _Scheduler:
    """The stacks of one loop that have work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[Driver] = deque()
        self._scheduled = False

    def add(self, driver: Driver) -> None:
        self._ready.append(driver)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        ready, time = self._ready, self._loop.time
        now = time()
        until = now + SLICE
        while ready and now < until:
            driver = ready.popleft()
            driver.turn(now)
            now = time()
        self._scheduled = bool(ready)
        if ready:
            self._loop.call_soon(self._run)


_schedulers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Scheduler] = WeakKeyDictionary()


def _scheduler_of(loop: asyncio.AbstractEventLoop) -> _Scheduler:
    scheduler = _schedulers.get(loop)
    if scheduler is None:
        scheduler = _schedulers[loop] = _Scheduler(loop)
    return scheduler


class Driver:
    """Drives one core on one event loop.

    Args:
        core: the stack's core.
        loop: the loop on which all its callbacks run.

    Attributes:
        turns: how often the core was polled.
        handlers: what stands behind each handle.
        error: why the stack is gone, or None.
    """

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.loop = loop
        self.turns = 0
        self.handlers: dict[int, Handler] = {}
        self.error: StackError | None = None
        self._scheduler = _scheduler_of(loop)
        self._awake = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[FrameBuffers, Callable[[], None]]] = []

    def wake(self) -> None:
        """See to it that the core is polled soon. Cheap when it is already awake."""
        if not self._awake and self.error is None:
            self._awake = True
            self._scheduler.add(self)

    def when_room(self, buffers: FrameBuffers, callback: Callable[[], None]) -> None:
        """Call back once the core has emptied an interface's receive buffer."""
        self._waiting.append((buffers, callback))
        self.wake()

    def turn(self, now: float) -> None:
        """Poll the core once and hand out its events. Only the scheduler calls this."""
        self._awake = False
        if self.error is not None:
            return
        self.turns += 1
        core = self.core
        try:
            core.poll(now)
        except StackError as error:
            self.end(error)
            return
        handlers = self.handlers
        for kind, handle, value, payload in core.events():
            handler = handlers.get(handle)
            try:
                if handler is not None:
                    handler.on_event(kind, value, payload)
                elif kind == abi.EVENT_ACCEPTED:
                    core.tcp_abort(value)  # its listener was closed in this very turn
            except StackError as error:
                self.end(error)
            except Exception as error:
                self.report(error, "a callback of the virtual stack failed")
            if self.error is not None:
                return
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for buffers, callback in waiting:
                if buffers.receive_length == 0:
                    callback()
                else:
                    self._waiting.append((buffers, callback))
        if core.more or self._waiting:
            self.wake()
        deadline = core.deadline
        if deadline is not None:
            timer = self._timer
            if timer is None or deadline < timer.when():
                if timer is not None:
                    timer.cancel()
                # A microsecond later, so that the truncated time the core sees is not before its deadline.
                self._timer = self.loop.call_at(deadline + 1e-6, self._on_timer)

    def _on_timer(self) -> None:
        # A timer that has become too early is left to fire: re-arming it for each segment would cost more.
        self._timer = None
        deadline = self.core.deadline
        if deadline is None:
            return
        if deadline > self.loop.time():
            self._timer = self.loop.call_at(deadline + 1e-6, self._on_timer)
        else:
            self.wake()

    def report(self, error: BaseException, message: str) -> None:
        """Hand an exception that nobody can catch to the loop's exception handler."""
        self.loop.call_exception_handler({"message": message, "exception": error})

    def end(self, error: StackError) -> None:
        """End the stack: every handler hears of it once, and nothing is polled any more."""
        if self.error is not None:
            return
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handlers, self.handlers = list(self.handlers.values()), {}
        self._waiting.clear()
        for handler in handlers:
            try:
                handler.on_stack_gone(error)
            except Exception as failure:
                self.report(failure, "a callback failed while the virtual stack ended")
        self.core.close()

    def check(self) -> None:
        """Raise the stack's error if it is gone."""
        if self.error is not None:
            raise self.error
