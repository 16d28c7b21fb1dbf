"""`VirtualLoop`: an asyncio event loop whose clock stands while something runs, and then jumps to what is due next.

The clock is a number of nanoseconds and moves in one place, when nothing is runnable. Real things that a program uses
beside the network keep the clock standing, and the loop really waits for them:

- jobs of `run_in_executor` and `asyncio.to_thread`. Their results arrive when nothing else is runnable, in the order
  in which the jobs were submitted, so that the speed of a thread changes nothing. (A job that is not done a second
  after a later one is overtaken: it may be waiting for what follows from the later one.)
- jobs of anyio's ``to_thread``, which arrive in the order in which they end,
- subprocesses, until they have ended,
- whatever else is done inside ``with loop.hold():``, such as a thread of one's own that calls `call_soon_threadsafe`.

Jobs that wait for a result of the loop, as by `asyncio.run_coroutine_threadsafe`, hold nothing up: the clock goes on.

Real file descriptors (pipes, sockets of the machine) are looked at before every jump, and what is readable then is
handled first, but the clock does not stand for them: a listening socket of the machine would stop it for ever. When
nothing is due any more they are waited for, and so are threads that were started since the loop was made.

A wait that never ends becomes an error: `DeadlockError` when nothing can happen any more, `TimeLimitError` for a real
wait, for the end of virtual time, and for callbacks that follow each other without any time passing.

What would make two runs differ is taken away here: the names of tasks count from one, and a task's hash is its number,
since asyncio keeps tasks in sets, of which the order would otherwise depend on addresses of memory.

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

from tcpip_wasm.simulation.errors import DeadlockError, TimeLimitError
from tcpip_wasm.simulation.place import place, service
from tcpip_wasm.simulation.runs.task_dump import describe_tasks
from tcpip_wasm.simulation.time.threads import all_wait_for_results, working_for

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SECOND: Final = 1_000_000_000
"""Nanoseconds."""

REAL_LIMIT: Final = 60.0
"""Seconds that the loop really waits for something outside, unless it is told otherwise."""

OVERTAKEN: Final = 1.0
"""Real seconds after which a job that is done goes before one that was submitted earlier."""

MOST_TURNS: Final = 1_000_000
"""Turns of the loop without any time passing, after which something runs in a circle."""

_COARSE: Final = 2**21 * SECOND
"""24 days, from which on two neighbours among floating point numbers are not much nearer than a nanosecond."""

_LOOK: Final = 64
"""Turns between two looks at real events while there is something to run: signals must get through."""

_LOOK_AT_THREADS: Final = 0.01
"""Real seconds between two looks at what threads do while the loop waits for them; they wake it when they are done."""

_COLLECT: Final = 4096
"""Turns between two collections of garbage, if the loop collects; every sixteenth is a full one."""


class VirtualTask(asyncio.Task[T]):
    """A task that is numbered, and that knows which host it runs on.

    Attributes:
        number: counts from 1 on each loop.
        life: the life of the host that it was made on, or None.
        service: the service that it was made by, or None; see `Host.start`.
    """

    number: int
    life: Any
    service: object | None

    def __new__(cls, coro: Any, *, loop: VirtualLoop, context: Context | None = None, **_: Any) -> VirtualTask[T]:
        """Number the task before anything hashes it."""
        task = super().__new__(cls)
        task.number = next(loop.numbers)
        task.life = place.get() if context is None else context.get(place)
        task.service = service.get() if context is None else context.get(service)
        return task

    def __init__(self, coro: Any, *, name: object = None, **options: Any) -> None:
        """Name it before it may begin, which an eager one does at once."""
        super().__init__(coro, name=f"Task-{self.number}" if name is None else str(name), **options)

    def __hash__(self) -> int:
        return self.number

    def set_name(self, value: object, /) -> None:
        """See `asyncio.Task.set_name`. CPython 3.13.0 names each task that a factory made, after None if need be."""
        if value is not None:
            super().set_name(value)


def _task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return VirtualTask(coro, loop=loop, **options)


def _eager_task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return VirtualTask(coro, loop=loop, **{"eager_start": True, **options})


class _Selector(selectors.DefaultSelector):
    """What the loop waits with: asks it whether and for how long to really wait."""

    loop: VirtualLoop
    descriptors = -1
    """Those that are registered, but for the loop's own, by which threads wake it."""

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

    def really(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0.0.

    Args:
        limit: virtual seconds after which a run ends with `TimeLimitError`; None has no limit.
        real_limit: real seconds that one wait for something outside may take.
        collect: whether garbage is collected at set turns; then the automatic collection should be off.

    Attributes:
        turns: how often the loop has turned.
        jumps: how often the clock has jumped.
        limit: may be changed while the loop runs.
    """

    def __init__(self, *, limit: float | None = None, real_limit: float = REAL_LIMIT, collect: bool = False) -> None:
        self.numbers: itertools.count[int] = itertools.count(1)
        self._now = 0
        self.limit = limit
        self.real_limit = real_limit
        self.seed: int | str | None = None
        self.turns: int = 0
        self.jumps: int = 0
        self._at_once = 0
        self._collect = collect
        self._jobs: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._from_threads: deque[asyncio.Handle] = deque()
        self._processes: list[asyncio.SubprocessTransport] = []
        self._held = 0
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

    def set_task_factory(self, factory: Any) -> None:
        """As asyncio's. Tasks of None and of `asyncio.eager_task_factory` are `VirtualTask`s; to what another factory
        makes, its number and its host are added, so that it ends with its host."""
        super().set_task_factory(factory)  # refuses what is none
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
                task.life = place.get() if context is None else context.get(place)
                task.service = service.get() if context is None else context.get(service)
                if options.get("name") is None:
                    task.set_name(f"Task-{task.number}")
            return task

        return make

    def get_task_factory(self) -> Any:
        """Return what `set_task_factory` was given."""
        return self._task_factory_given

    # --- Time -----------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now / SECOND

    def time_ns(self) -> int:
        """Return the virtual time in nanoseconds."""
        return self._now

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return real events. Asked to wait, let the clock jump instead, or really wait."""
        self.turns = turns = self.turns + 1
        if self._collect and not turns % _COLLECT:
            gc.collect(1 if turns % (16 * _COLLECT) else 2)
        if timeout is None or timeout > 0:
            return self._idle(timeout)
        self._at_once += 1
        if self._at_once > MOST_TURNS:
            self._at_once = 0
            raise TimeLimitError(
                f"the loop has turned {MOST_TURNS:,} times at {self._when()} without any time passing:",
                self._list(),
            )
        if turns % _LOOK and not self._selecting.descriptors:
            return []
        return self._selecting.really(0)

    def _idle(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing is runnable: take what came from outside, else wait for it, else let the clock jump."""
        events = self._selecting.really(0) if self._selecting.descriptors or not self.turns % _LOOK else []
        if self._take_from_outside() or events:
            self._waiting_since = None
            return events
        if self._is_outside_busy():
            return self._really_wait()
        if timeout is None:
            if self._jobs or self._selecting.descriptors or self._has_new_threads():
                return self._really_wait()
            raise DeadlockError(f"nothing can happen any more at {self._when()}; these tasks wait:", self._list())
        self._waiting_since = None
        now = self._now + max(1, round(timeout * SECOND))
        if self.limit is not None and now > self.limit * SECOND:
            raise TimeLimitError(
                f"the limit of {self.limit:g} s of virtual time is reached{self._seed()}; these tasks wait:",
                self._list(),
            )
        self._now = now
        if now > _COARSE:
            self._clock_resolution = 2 * ulp(now / SECOND)
        self._at_once = 0
        self.jumps += 1
        return []

    def _seed(self) -> str:
        return "" if self.seed is None else f" with seed {self.seed!r}"

    def _when(self) -> str:
        return f"{self.time():.9f} s{self._seed()}"

    def _list(self) -> list[str]:
        return describe_tasks(self.unfinished())

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order in which they were made."""
        return sorted(asyncio.all_tasks(self), key=lambda task: getattr(task, "number", 0))

    def forget_timers(self, life: object) -> None:
        """Cancel what is to be called later in a life of a host."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        for timer in list(timers):
            context = timer._context  # type: ignore[attr-defined]  # noqa: SLF001  asyncio has no public way to a callback's context
            if not timer.cancelled() and context.get(place) is life:
                timer.cancel()

    # --- What is real -----------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the clock stand, and the loop really wait, for something outside; in a ``with`` block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def _has_new_threads(self) -> bool:
        """Whether a thread may still call back that is none of the executor's, which would be idle."""
        pool = getattr(self._pool, "_threads", ())
        return any(one not in self._threads and one not in pool for one in threading.enumerate())

    def _is_outside_busy(self) -> bool:
        while self._jobs and self._jobs[0][1].done():  # cancelled: nobody waits for it
            self._jobs.popleft()
        if self._processes:
            self._processes = [one for one in self._processes if one.get_returncode() is None]
        if self._held or self._processes:
            return True
        if threading.active_count() <= self._known_threads:
            return bool(self._jobs)
        jobs = len(self._jobs) + len(working_for(self, self._threads))
        return jobs > 0 and not all_wait_for_results(self._threads, jobs)

    def _take_from_outside(self, overtaking: bool = False) -> bool:
        """Make runnable what threads have called and done; whether there was anything."""
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

    def _really_wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        now = monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        if waited >= self.real_limit:
            self._waiting_since = None
            what = [
                *[f"{len(self._jobs)} jobs of executors"][: len(self._jobs)],
                *[f"process {one.get_pid()}" for one in self._processes],
                *[f"{self._held} blocks of hold()"][: self._held],
                *[f"{self._selecting.descriptors} descriptors"][: self._selecting.descriptors],
            ]
            raise TimeLimitError(
                f"nothing has happened for {self.real_limit:g} real seconds at {self.time():.9f} s of virtual time"
                f"{self._seed()}, waiting for {', '.join(what) or 'threads'}; these tasks wait:",
                self._list(),
            )
        if waited >= OVERTAKEN and self._take_from_outside(overtaking=True):
            self._waiting_since = None
            return []
        return self._selecting.really(min(_LOOK_AT_THREADS, self.real_limit - waited))

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
        """As asyncio's; what another thread calls runs when nothing else is runnable."""
        if self._running_in in (None, threading.get_ident()):
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._from_threads.append(handle)
        super().call_soon_threadsafe(_nothing)
        return handle

    def run_in_executor(  # type: ignore[override]  # typeshed knows its type variables only by private names
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the clock stands until the job is done."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if executor is None:
            if self._pool is None:
                self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
                assert self._pool is not None
            executor = self._pool
        job = executor.submit(func, *args)
        future: asyncio.Future[T] = self.create_future()
        future.add_done_callback(lambda _: job.cancel())  # nobody waits for it any more, if it has not begun
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
        """As asyncio's, which has a thread wait for it."""
        with self.hold():
            await super().shutdown_default_executor(*arguments)

    async def subprocess_exec(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's; the clock stands until the process has ended."""
        with self.hold():
            made = await super().subprocess_exec(*arguments, **options)
        self._processes.append(made[0])
        return made

    async def subprocess_shell(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's; the clock stands until the process has ended."""
        with self.hold():
            made = await super().subprocess_shell(*arguments, **options)
        self._processes.append(made[0])
        return made


def _nothing() -> None:
    """Wake the loop."""


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
    """Run a coroutine on a `VirtualLoop`; what was reported to the loop's exception handler fails it.

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
