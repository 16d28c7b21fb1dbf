"""`VirtualLoop`: an asyncio event loop whose clock jumps to the next timer when no callback is runnable.

The clock is a number of nanoseconds, and changes nowhere else. External work that a program starts stops the clock, and
the loop waits for it in real time:

- jobs of `run_in_executor` and `asyncio.to_thread`. Their results arrive when nothing else is runnable, in the order
  in which the jobs were submitted, so that the speed of a thread changes nothing. (A job that is not done a second
  after a later one is overtaken: it may be waiting for what follows from the later one.)
- jobs of anyio's ``to_thread``, which arrive in the order in which they end,
- subprocesses, until they have ended,
- other work inside ``with loop.hold():``, such as a thread of the program that calls `call_soon_threadsafe`.

Jobs that wait for a result of the loop, as by `asyncio.run_coroutine_threadsafe`, do not stop the clock.

Real file descriptors (pipes, sockets of the machine) are polled before every jump, and those that are ready are handled
first, but they do not stop the clock: a listening socket of the machine would stop it for ever. When no timer is armed
the loop waits for them, and for threads that were started since the loop was created.

A wait without an end raises an error: `DeadlockError` when no callback can ever run again, `TimeLimitError` for a wait
in real time, for the limit of virtual time, and for callbacks that follow each other while no time passes.

Two sources of nondeterminism are removed here: the names of tasks count from one, and a task's hash is its number,
since asyncio keeps tasks in sets, whose order would otherwise depend on memory addresses.

The reasons are in docs/explanation/simulation.md.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context
from math import ulp
from time import monotonic  # by name: `run` replaces those of the module
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack
from warnings import warn

from tcpip_wasm.simulation.errors import DeadlockError, TimeLimitError
from tcpip_wasm.simulation.place import place, service
from tcpip_wasm.simulation.runs.task_dump import describe_tasks
from tcpip_wasm.simulation.time.nested import IN_PYODIDE
from tcpip_wasm.simulation.time.threads import all_wait_for_results, working_for

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SECOND: Final = 1_000_000_000
"""Nanoseconds."""

REAL_LIMIT: Final = 60.0
"""Default limit in seconds of one wait for external work."""

OVERTAKE_AFTER: Final = 1.0
"""Real seconds after which a finished job is delivered before one that was submitted earlier."""

MAX_ITERATIONS: Final = 1_000_000
"""Loop iterations without time passing after which callbacks are taken to repeat for ever."""

_COARSE: Final = 2**21 * SECOND
"""24 days, from which on adjacent floating point numbers differ by nearly a nanosecond."""

_POLL_EVERY: Final = 64
"""Loop iterations between two polls of real events while callbacks are runnable, so that signals are handled."""

_THREAD_POLL: Final = 0.01
"""Real seconds between two checks of the threads that the loop waits for; they wake it when they are done."""

_COLLECT_EVERY: Final = 4096
"""Loop iterations between two garbage collections, if the loop collects; every sixteenth is a full one."""


class VirtualTask(asyncio.Task[T]):
    """A task with a number and the host it runs on.

    Attributes:
        number: counts from 1 on each loop.
        incarnation: the incarnation of the host that it was created on, or None.
        service: the service that created it, or None; see `Host.start`.
    """

    number: int
    incarnation: Any
    service: object | None

    def __new__(cls, coro: Any, *, loop: VirtualLoop, context: Context | None = None, **_: Any) -> VirtualTask[T]:
        """Number the task before its first hash."""
        task = super().__new__(cls)
        task.number = next(loop.numbers)
        task.incarnation = place.get() if context is None else context.get(place)
        task.service = service.get() if context is None else context.get(service)
        return task

    def __init__(self, coro: Any, *, name: object = None, **options: Any) -> None:
        """Name it before it starts, which an eager one does in the constructor."""
        super().__init__(coro, name=f"Task-{self.number}" if name is None else str(name), **options)

    def __hash__(self) -> int:
        return self.number

    def set_name(self, value: object, /) -> None:
        """See `asyncio.Task.set_name`. CPython 3.13.0 calls it for each task of a factory, even with None."""
        if value is not None:
            super().set_name(value)


def _task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return VirtualTask(coro, loop=loop, **options)


def _eager_task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return VirtualTask(coro, loop=loop, **{"eager_start": True, **options})


class _Selector(selectors.DefaultSelector):
    """The loop's selector: it asks the loop whether and for how long to wait in real time."""

    loop: VirtualLoop
    descriptors = -1
    """Number of registered descriptors, without the loop's own, by which threads wake it."""

    def register(self, *arguments: Any, **options: Any) -> selectors.SelectorKey:
        key = super().register(*arguments, **options)
        self.descriptors += 1
        return key

    def unregister(self, *arguments: Any) -> selectors.SelectorKey:
        key = super().unregister(*arguments)
        self.descriptors -= 1
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self.loop._select(timeout)  # noqa: SLF001  the loop's own selector

    def wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0.0.

    Args:
        limit: virtual seconds after which a run ends with `TimeLimitError`; None has no limit.
        real_limit: real seconds that one wait for external work may take.
        collect: whether garbage is collected at fixed iterations; then the automatic collection should be off.

    Attributes:
        iterations: the number of loop iterations.
        jumps: how often the clock has jumped.
        limit: may be changed while the loop runs.
    """

    def __init__(self, *, limit: float | None = None, real_limit: float = REAL_LIMIT, collect: bool = False) -> None:
        self.numbers: itertools.count[int] = itertools.count(1)
        self._now = 0
        self.limit = limit
        self.real_limit = real_limit
        self.seed: int | str | None = None
        self.iterations: int = 0
        self.jumps: int = 0
        self._without_time = 0
        self._collect = collect
        self._jobs: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._from_threads: deque[asyncio.Handle] = deque()
        self._processes: list[asyncio.SubprocessTransport] = []
        self._holds = 0
        self._waiting_since: float | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._threads = {*threading.enumerate(), threading.current_thread()}
        self._known_threads = len(self._threads)
        self._running_in: int | None = None
        self._selecting = _Selector()
        self._selecting.loop = self
        super().__init__(self._selecting)
        self._clock_resolution = 1 / SECOND  # of asyncio: a timer is due if it is less than this ahead
        self.set_task_factory(None)

    if IN_PYODIDE:  # no thread can wake the loop, and there are no socket pairs

        def _make_self_pipe(self) -> None:
            self._selecting.descriptors = 0

        def _close_self_pipe(self) -> None: ...

        def _write_to_self(self) -> None: ...

    def set_task_factory(self, factory: Any) -> None:
        """As asyncio's. The tasks of None and of `asyncio.eager_task_factory` are `VirtualTask`s; those of another
        factory get their number and their host as attributes, so that they end with their host."""
        super().set_task_factory(factory)  # raises for an object that is not a factory
        self._task_factory_given = factory
        if factory is None:
            factory = _task
        elif factory is getattr(asyncio, "eager_task_factory", None):  # since 3.12
            factory = _eager_task
        else:
            factory = self._numbering(factory)
        super().set_task_factory(factory)

    def _numbering(self, factory: Any) -> Callable[..., Any]:
        def make(loop: Any, coro: Any, **options: Any) -> Any:
            context = options.get("context")
            task = factory(loop, coro, **options)
            if not isinstance(task, VirtualTask):
                task.number = next(self.numbers)
                task.incarnation = place.get() if context is None else context.get(place)
                task.service = service.get() if context is None else context.get(service)
                if options.get("name") is None:
                    task.set_name(f"Task-{task.number}")
            return task

        return make

    def get_task_factory(self) -> Any:
        """Return the argument of `set_task_factory`."""
        return self._task_factory_given

    # --- Time -----------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now / SECOND

    def time_ns(self) -> int:
        """Return the virtual time in nanoseconds."""
        return self._now

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return real events. With a timeout, let the clock jump instead, or wait in real time."""
        self.iterations = iterations = self.iterations + 1
        if self._collect and not iterations % _COLLECT_EVERY:
            gc.collect(1 if iterations % (16 * _COLLECT_EVERY) else 2)
        if timeout is None or timeout > 0:
            return self._idle(timeout)
        self._without_time += 1
        if self._without_time > MAX_ITERATIONS:
            self._without_time = 0
            raise TimeLimitError(
                f"the loop has iterated {MAX_ITERATIONS:,} times at {self._when()} without any time passing:",
                self._describe_tasks(),
            )
        if iterations % _POLL_EVERY and not self._selecting.descriptors:
            return []
        return self._selecting.wait(0)

    def _idle(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """No callback is runnable: collect results of external work, else wait for them, else let the clock jump."""
        events = self._selecting.wait(0) if self._selecting.descriptors or not self.iterations % _POLL_EVERY else []
        if self._collect_external() or events:
            self._waiting_since = None
            return events
        if self._is_external_busy():
            return self._wait_in_real_time()
        if timeout is None:
            if self._jobs or self._selecting.descriptors or self._has_new_threads():
                return self._wait_in_real_time()
            raise DeadlockError(f"no task can run again at {self._when()}; these tasks wait:", self._describe_tasks())
        self._waiting_since = None
        now = self._now + max(1, round(timeout * SECOND))
        if self.limit is not None and now > self.limit * SECOND:
            raise TimeLimitError(
                f"the limit of {self.limit:g} s of virtual time is reached{self._seed()}; these tasks wait:",
                self._describe_tasks(),
            )
        self._now = now
        if now > _COARSE:
            self._clock_resolution = 2 * ulp(now / SECOND)
        self._without_time = 0
        self.jumps += 1
        return []

    def _seed(self) -> str:
        return "" if self.seed is None else f" with seed {self.seed!r}"

    def _when(self) -> str:
        return f"{self.time():.9f} s{self._seed()}"

    def _describe_tasks(self) -> list[str]:
        return describe_tasks(self.unfinished())

    @property
    def turns(self) -> int:
        """Deprecated name of `iterations`."""
        warn("VirtualLoop.turns is now iterations", DeprecationWarning, stacklevel=2)
        return self.iterations

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order of their creation."""
        return sorted(asyncio.all_tasks(self), key=lambda task: getattr(task, "number", 0))

    def forget_timers(self, incarnation: object) -> None:
        """Cancel the timers of an incarnation of a host."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        for timer in list(timers):
            context = timer._context  # type: ignore[attr-defined]  # noqa: SLF001  asyncio has no public way to a callback's context
            if not timer.cancelled() and context.get(place) is incarnation:
                timer.cancel()

    # --- External work -----------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Stop the clock, and wait in real time for external work, in a ``with`` block."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def _has_new_threads(self) -> bool:
        """Whether a thread that is not one of the executor's may still call back; those are idle."""
        pool = getattr(self._pool, "_threads", ())
        return any(one not in self._threads and one not in pool for one in threading.enumerate())

    def _is_external_busy(self) -> bool:
        while self._jobs and self._jobs[0][1].done():  # cancelled
            self._jobs.popleft()
        if self._processes:
            self._processes = [one for one in self._processes if one.get_returncode() is None]
        if self._holds or self._processes:
            return True
        if threading.active_count() <= self._known_threads:
            return bool(self._jobs)
        jobs = len(self._jobs) + len(working_for(self, self._threads))
        return jobs > 0 and not all_wait_for_results(self._threads, jobs)

    def _collect_external(self, overtaking: bool = False) -> bool:
        """Schedule the calls and results of threads; return whether there were any."""
        taken = False
        while self._from_threads:
            self.call_soon(_run_handle, self._from_threads.popleft())
            taken = True
        while self._jobs and (self._jobs[0][0].done() or self._jobs[0][1].done()):
            _deliver(*self._jobs.popleft())
            taken = True
        if overtaking and not taken:
            for job in [job for job in self._jobs if job[0].done()]:
                self._jobs.remove(job)
                _deliver(*job)
                taken = True
        return taken

    def _wait_in_real_time(self) -> list[tuple[selectors.SelectorKey, int]]:
        now = monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        if waited >= self.real_limit:
            self._waiting_since = None
            what = [
                *[f"{len(self._jobs)} jobs of executors"][: len(self._jobs)],
                *[f"process {one.get_pid()}" for one in self._processes],
                *[f"{self._holds} blocks of hold()"][: self._holds],
                *[f"{self._selecting.descriptors} descriptors"][: self._selecting.descriptors],
            ]
            raise TimeLimitError(
                f"no event for {self.real_limit:g} real seconds at {self.time():.9f} s of virtual time"
                f"{self._seed()}, waiting for {', '.join(what) or 'threads'}; these tasks wait:",
                self._describe_tasks(),
            )
        if waited >= OVERTAKE_AFTER and self._collect_external(overtaking=True):
            self._waiting_since = None
            return []
        return self._selecting.wait(min(_THREAD_POLL, self.real_limit - waited))

    def run_forever(self) -> None:
        """As asyncio's."""
        self._running_in = threading.get_ident()
        try:
            super().run_forever()
        finally:
            self._running_in = None

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's; a call from another thread runs when no other callback is runnable."""
        if self._running_in in (None, threading.get_ident()):
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._from_threads.append(handle)
        super().call_soon_threadsafe(_nothing)
        return handle

    def run_in_executor(  # type: ignore[override]  # typeshed knows its type variables only by private names
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the clock is stopped until the job is done."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if executor is None:
            if self._pool is None:
                self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
                assert self._pool is not None
            executor = self._pool
        job = executor.submit(func, *args)
        future: asyncio.Future[T] = self.create_future()
        future.add_done_callback(lambda _: job.cancel())  # without effect once the job has begun
        self._jobs.append((job, future))
        job.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            super().call_soon_threadsafe(_nothing)

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """As asyncio's."""
        super().set_default_executor(executor)
        self._pool = executor

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """As asyncio's, which waits in a thread."""
        with self.hold():
            await super().shutdown_default_executor(*arguments)

    async def subprocess_exec(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's; the clock is stopped until the process has ended."""
        with self.hold():
            made = await super().subprocess_exec(*arguments, **options)
        self._processes.append(made[0])
        return made

    async def subprocess_shell(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's; the clock is stopped until the process has ended."""
        with self.hold():
            made = await super().subprocess_shell(*arguments, **options)
        self._processes.append(made[0])
        return made


def _nothing() -> None:
    """Do nothing: being called wakes the loop."""


def _run_handle(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()  # noqa: SLF001  what BaseEventLoop._run_once calls


def _deliver(job: Future[Any], future: asyncio.Future[Any]) -> None:
    if future.done():
        return
    if job.cancelled():
        future.cancel()
    elif (error := job.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(job.result())


def run_virtually(main: Coroutine[Any, Any, T], **options: Any) -> T:
    """Run a coroutine on a `VirtualLoop`; reports to the loop's exception handler raise AssertionError.

    Args:
        main: the coroutine.
        options: of `VirtualLoop`.
    """
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(**options)) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reports.append(context))
        result = runner.run(main)
    if reports:
        raise AssertionError(reports)
    return result
