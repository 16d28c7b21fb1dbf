"""The asyncio driver: it polls cores when they have work, hands out their events, and arms one timer for each.

Owns wake-ups: which stacks of an event loop are to be polled, in which order, and when other callbacks of the loop run
in between. It knows of interfaces only that frames wait in them, and of sockets nothing; they register a `Handler` for
their handle.

Theory of operation. A stack has work when a program has called it, when frames have arrived in it, or when its timer
has fired; then it is in the scheduler's queue (`Driver.wake`). Stacks of one loop share one `_Scheduler`. One run of it
is one callback of the loop: it polls the stack at the front of the queue (`Driver.turn`), which hands out events and
moves frames; a frame that crosses a cable to another stack of the loop puts that one into the queue, and it is polled
in the same run. A request and its answer between two stacks thus cost no loop iteration for each frame. Four rules
keep the run short and the order useful:

1. Time. After `SLICE` seconds the run ends, and the rest of the queue waits for the next one, so that other callbacks
   of the loop are not delayed for longer. The clock is read after every `TURNS_A_LOOK` polls. In a simulation it stands
   still during a run, and `MOST_TURNS` bounds that instead.
2. Programs first. A stack that has notified a program of something, such as data, is not polled again in this run: it
   is held until the program had its loop iteration, in which it often writes, and then data and acknowledgement leave
   together. The next run is scheduled at once behind the callbacks of these programs, which saves an iteration.
3. Acknowledgements wait. A stack that has nothing but acknowledgements or window updates to send is polled in the next
   run (`wake_soon`), unless something else has it polled before.
4. Order. First come, first served, with two exceptions: a stack that sends is polled before those that receive, so
   that they receive everything in one poll, unless the run before had no time for all (`behind`), since a busy sender
   could delay the others for ever; and a stack whose receive buffer is full is polled next.

Some calls need no poll. Where nothing else waits, `Driver.send` and `Driver.received` let the core send within the
call, and hand the frame on. The core's next deadline is then out of date, so it is polled within `LATEST_POLL`.

The timer of a stack is set to the core's deadline, and only if there is one: an idle stack has no timer. One that has
become too early is left to fire, because setting it anew for each segment would cost more.

The reasons, with figures, are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import wraps
from math import inf
from time import monotonic
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

from tcpip_wasm.engine import Core, FrameBuffers, abi
from tcpip_wasm.errors import StackError, StackTrappedError

_log: Final = logging.getLogger("tcpip_wasm.stack")
_engine_log: Final = logging.getLogger("tcpip_wasm.engine")

SLICE: Final = 0.002
"""Seconds of work after which a run ends: what a saturating transfer may delay other callbacks of the loop."""

MOST_TURNS: Final = 4096
"""Polls after which a run ends where the clock stands, as it does in a simulation."""

TURNS_A_LOOK: Final = 4
"""Polls between two readings of the clock."""

LATEST_POLL: Final = 0.025
"""Seconds after which a core that sent something at once has to be polled: one tick of TCP, an eighth of the shortest
retransmission time-out."""


class Handler(Protocol):
    """What a handle belongs to: an interface, a listener, a connection."""

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event of the core that concerns this handle. A TRANSMIT of 0 means only that some frames wait."""

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack was closed or has trapped: end every pending call with the error."""


class Monitor(Protocol):
    """Writes log records about a stack. What its methods raise goes to the loop's exception handler."""

    def look(self, now: float) -> None:
        """A timer of the stack has fired: writing a record now delays no frame.

        Args:
            now: the time of the event loop's clock.
        """

    def end(self) -> None:
        """The stack ends. Its handlers and its core are still there, unless the module has trapped."""


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return the function that reads a loop's clock: for asyncio's own loops the one that their `time` calls."""
    own = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
    return monotonic if own else loop.time


class _Scheduler:
    """The stacks of one loop that have work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time: Callable[[], float] = clock_of(loop)
        self._context = Context()  # that of no stack, which could not be entered again for its poll
        self.ready: deque[Driver] = deque()
        self.later: list[Driver] = []  # to be polled in the next run, unless they are before
        self.drivers: WeakSet[Driver] = WeakSet()
        self.scheduled = False
        self.runs = 0
        self.behind = False  # the latest run had no time for all: no stack goes before those that wait since then
        self.notified = False  # whether a program was notified of something in this run

    def begin(self) -> None:
        """Run soon."""
        self.scheduled = True
        self._loop.call_soon(self._run, context=self._context)

    def run(self, callback: Callable[[], None]) -> None:
        """See `Driver.at_once`."""
        if self.scheduled:
            callback()
            return
        self.scheduled = True  # by this call
        try:
            callback()
        finally:
            self._run()

    def _run(self) -> None:
        ready, time = self.ready, self.time
        self.scheduled = True  # until the end: what is woken meanwhile is polled below
        later, self.later = self.later, []
        self.runs += 1
        held: list[Driver] = []
        now = time()
        until = now + SLICE
        turns = 0
        try:
            while ready:
                driver = ready.popleft()
                if not driver.awake:
                    continue  # it was in the queue twice
                if driver.notified == self.runs:  # its programs have a loop iteration before it is polled again
                    held.append(driver)
                    continue
                driver.context.run(driver.turn, now)
                turns += 1
                if turns % TURNS_A_LOOK == 0:
                    now = time()
                    if now >= until or turns >= MOST_TURNS:
                        break
            for driver in later:
                if driver.is_late:
                    driver.context.run(driver.turn, now)
        except BaseException:
            self.later += [driver for driver in later if driver.is_late and driver not in self.later]
            raise
        finally:
            self.scheduled = False
            self.behind = bool(ready)
            ready.extend(held)
            # A program that was notified often writes in the next loop iteration. To run again behind it, in the same
            # iteration, saves the one that a wake-up of its own would cost.
            notified, self.notified = self.notified, False
            if notified or ready or self.later:
                self.begin()


# Drivers hold their scheduler, which holds the loop: held from here, no loop would ever be freed.
_schedulers: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_Scheduler]] = WeakKeyDictionary()


def _find_scheduler(loop: asyncio.AbstractEventLoop) -> _Scheduler | None:
    found = _schedulers.get(loop)
    return None if found is None else found()


def _scheduler_of(loop: asyncio.AbstractEventLoop) -> _Scheduler:
    scheduler = _find_scheduler(loop)
    if scheduler is None:
        scheduler = _Scheduler(loop)
        _schedulers[loop] = ref(scheduler)
    return scheduler


def drivers_of(loop: asyncio.AbstractEventLoop) -> list[Driver]:
    """Return the drivers of a loop whose stacks are not gone, in no order."""
    scheduler = _find_scheduler(loop)
    return [] if scheduler is None else [driver for driver in scheduler.drivers if driver.error is None]


def _on_own_thread(loop: asyncio.AbstractEventLoop, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def checked(*arguments: Any, **options: Any) -> Any:
        # As `loop._check_thread`, which uvloop's loops do not have for others.
        if loop.is_running() and asyncio._get_running_loop() is not loop:  # noqa: SLF001  the only call that does not raise
            raise RuntimeError(
                "Non-thread-safe operation: a stack was used from another thread than that of its event loop; use "
                "loop.call_soon_threadsafe() or asyncio.run_coroutine_threadsafe()"
            )
        return call(*arguments, **options)

    return checked


class Driver:
    """Drives one core on one event loop.

    Args:
        core: the stack's core.
        loop: the loop on which all its callbacks run.

    Attributes:
        context: what callbacks run in, whatever caused them: a copy of the context that the stack was created in.
        turns: how often the core was polled.
        awake: whether it is in the queue of those to be polled.
        notified: the scheduler's latest run in which handlers received more than frames to be sent.
        handlers: what each handle belongs to.
        is_late: whether it is to be polled in the next run: acknowledgements or a window update wait, and may leave
            together with what the application sends next.
        error: why the stack is gone, or None.
        monitor: writes log records when a timer fires and when the stack ends, or None.
    """

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.loop = loop
        self.context: Context = copy_context()
        self.turns: int = 0
        self.notified: int = 0
        self.handlers: dict[int, Handler] = {}
        self.error: StackError | None = None
        self.monitor: Monitor | None = None
        self._scheduler = _scheduler_of(loop)
        self._time = core.calls.clock = self._scheduler.time
        self._scheduler.drivers.add(self)
        self.awake: bool = False
        self.is_late: bool = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf  # when it fires
        self._sent_since_poll = False
        self._waiting: list[tuple[FrameBuffers, Callable[[], None]]] = []
        self._watchers: list[Callable[[], None]] = []
        if loop.get_debug():
            self._check_threads()

    def _check_threads(self) -> None:
        """Let calls from another thread raise, as those of asyncio's loops do in debug mode."""
        for name in ("check", "received", "send", "wake", "wake_soon", "when_room"):
            setattr(self, name, _on_own_thread(self.loop, getattr(self, name)))

    def wake(self, *, first: bool = False) -> None:
        """See to it that the core is polled soon. Cheap when it is already awake.

        Args:
            first: before the cores that wait for it already, unless there was no time for them in the latest run.
        """
        if not self.awake and self.error is None:
            self.awake = True
            scheduler = self._scheduler
            if first and not scheduler.behind:
                scheduler.ready.appendleft(self)
            else:
                scheduler.ready.append(self)
            if not scheduler.scheduled:
                scheduler.begin()

    def send(self, handle: int, data: bytes | memoryview) -> tuple[int, bool]:
        """`Core.tcp_send`, and see to it that what was taken leaves: at once where that is possible, else soon.

        Returns:
            How many bytes were taken, and whether no more would be now, so that a WRITABLE event follows. Nothing and
            False where the connection or the stack has ended: the next poll reports how.
        """
        core = self.core
        now = self._time()
        try:
            taken = core.tcp_send(handle, data, now)
        except OSError:
            self.wake()
            return 0, False
        full = core.send_full
        if core.sent_at_once:
            self._hand_on(core.sent_at_once, now)
        else:
            self.wake(first=True)  # before the stacks that receive it, which else would be polled for a part of it
        return taken, full

    def received(self, handle: int, length: int) -> None:
        """`Core.tcp_received`, and have a window that opens by it advertised, at once where possible."""
        core = self.core
        now = self._time()
        core.tcp_received(handle, length, now)
        if core.sent_at_once:
            self._hand_on(core.sent_at_once, now)
        else:
            self.wake_soon()

    def _hand_on(self, interface: int, now: float) -> None:
        """Hand on what a call has sent at once. Then nothing else waits for the poll of the next run."""
        self.is_late = False
        try:
            self.handlers[interface]._on_event(abi.EVENT_TRANSMIT, 0, b"")  # noqa: SLF001  not for users of handlers
        except Exception as error:  # of a port; the core has the data, even if this frame is lost
            self.report(error, "a port of the virtual stack failed")
            self.wake()
        if not self._sent_since_poll:
            self._sent_since_poll = True
            if not self.awake and self._due > now + LATEST_POLL:
                # The core was not polled, so its next deadline is out of date.
                if self._timer is not None:
                    self._timer.cancel()
                self._arm(now + LATEST_POLL)

    def at_once(self, callback: Callable[[], None]) -> None:
        """Call back, and poll the cores that this wakes before returning, instead of in the next loop iteration.

        For callbacks of the loop that have a context of their own, such as readers. Where cores are being polled
        already, or a run is scheduled, that is left to it.
        """
        self._scheduler.run(callback)

    def wake_soon(self) -> None:
        """See to it that the core is polled in the next run, when the application may have more to send."""
        if not self.awake and not self.is_late and self.error is None:
            self.is_late = True
            scheduler = self._scheduler
            scheduler.later.append(self)
            if not scheduler.scheduled:
                scheduler.begin()

    def when_room(self, buffers: FrameBuffers, callback: Callable[[], None]) -> None:
        """Call back once the core has emptied an interface's receive buffer."""
        if self.error is not None:
            return
        self._waiting.append((buffers, callback))
        # At once, even if its programs were notified in this run: the caller may have to drop what arrives meanwhile.
        self.awake = True
        self.notified = 0
        self._scheduler.ready.appendleft(self)
        if not self._scheduler.scheduled:
            self._scheduler.begin()

    def turn(self, now: float) -> None:
        """Poll the core once and hand out its events. Only the scheduler calls this."""
        self.awake = self.is_late = self._sent_since_poll = False
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
        events = core.events()
        if events and events[0][0] != abi.EVENT_TRANSMIT:  # those come last
            self.notified = self._scheduler.runs
            self._scheduler.notified = True
        stop: BaseException | None = None
        for kind, handle, value, payload in events:
            handler = handlers.get(handle)
            try:
                if handler is not None:
                    handler._on_event(kind, value, payload)  # noqa: SLF001  not for users of handlers
                elif kind == abi.EVENT_ACCEPTED:
                    core.tcp_abort(value)  # its listener was closed by an earlier event of this poll
            except StackError as error:
                self.end(error)
            except (SystemExit, KeyboardInterrupt) as error:
                stop = error  # raised below: events are handed out once, and streams of others would have a hole
            except BaseException as error:  # CancelledError too: one callback must not stop the stacks of a loop
                self.report(error, "a callback of the virtual stack failed")
            if self.error is not None:
                break
        else:
            self._go_on()
        if stop is not None:
            raise stop

    def _go_on(self) -> None:
        """See to it that the next poll comes when it has to."""
        core = self.core
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for buffers, callback in waiting:
                if buffers.receive_length == 0:
                    callback()
                else:
                    self._waiting.append((buffers, callback))
        if core.more or self._waiting:
            self.wake()
        elif core.soon:
            self.wake_soon()
        deadline = core.deadline
        if deadline < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(deadline)

    def _on_timer(self) -> None:
        # A timer that has become too early is left to fire: re-arming it for each segment would cost more.
        self._timer = None
        self._due = inf
        if self.monitor is not None:
            self._look(self.monitor)
        deadline = self.core.deadline
        if self._sent_since_poll:
            self.wake()
        elif deadline == inf:
            return
        elif deadline > self._time():
            self._arm(deadline)
        else:
            self.wake()

    def _look(self, monitor: Monitor) -> None:
        try:
            self.context.run(monitor.look, self._time())
        except Exception as error:  # of a logging handler
            self.report(error, "a log record of the virtual stack failed")

    def _arm(self, deadline: float) -> None:
        self._due = deadline
        try:
            self._timer = self.loop.call_at(deadline, self._on_timer)
        except ValueError:  # Pyodide's loop refuses a time that is over
            self._timer = self.loop.call_later(0, self._on_timer)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back after each poll and at the stack's end, until `unwatch`. Without watchers nothing is spent on
        it."""
        self._watchers.append(callback)
        vars(self)["turn"] = self._watched_turn

    def unwatch(self, callback: Callable[[], None]) -> None:
        """Take back `watch`."""
        self._watchers.remove(callback)
        if not self._watchers:
            del vars(self)["turn"]

    def _watched_turn(self, now: float) -> None:
        Driver.turn(self, now)
        for callback in list(self._watchers):
            callback()

    def report(self, error: BaseException, message: str) -> None:
        """Hand an exception that no caller can catch to the loop's exception handler."""
        self.loop.call_exception_handler({"message": message, "exception": error})

    def end(self, error: StackError) -> None:
        """End the stack: every handler is notified once, and nothing is polled any more."""
        if self.error is not None:
            return
        if self.monitor is not None:
            self._end_monitor(self.monitor, error)
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handlers, self.handlers = list(self.handlers.values()), {}
        self._waiting.clear()
        for handler in handlers:
            try:
                handler._on_stack_gone(error)  # noqa: SLF001  not for users of handlers
            except Exception as failure:
                self.report(failure, "a callback failed while the virtual stack ended")
        self.core.close()
        for callback in list(self._watchers):
            callback()

    def _end_monitor(self, monitor: Monitor, error: StackError) -> None:
        self.monitor = None  # a handler of logging may end the stack, too
        try:
            if isinstance(error, StackTrappedError):
                _engine_log.error("%s; the stack is gone with all its connections", error, exc_info=error)
            else:
                _log.debug("the stack ends: %s", error)
            monitor.end()
        except Exception as failure:
            self.report(failure, "a log record of the virtual stack failed")

    def check(self) -> None:
        """Raise the stack's error if it is gone."""
        if self.error is not None:
            raise self.error
