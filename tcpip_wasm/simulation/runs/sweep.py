"""`sweep`: runs one scenario under many seeds, in many processes, and reports each result as it arrives.

Schedules the seeds, and runs each failure again, to write a capture of it and to detect a scenario that is not
deterministic. `trial` runs one seed.

Without an executor it uses a pool of processes of its own, started by `spawn` on every system: a forked process would
inherit locks, threads and event loops in any state. Seeds are submitted in chunks of about a quarter of a second.

The reasons are in docs/explanation/tests.md.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tcpip_wasm.simulation.runs.progress import ProgressLine
from tcpip_wasm.simulation.runs.trial import Scenario, Trial, begin_worker, try_again, try_seeds

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

CHUNK_SECONDS: Final = 0.25
"""Seconds that a chunk of seeds should take."""

MOST_IN_CHUNK: Final = 256
MOST_FAILURES: Final = 1_000
"""Most failures that a report lists; further ones are only counted."""

DEFAULT_WORKERS: Final = 64
"""Number of workers that is assumed for an executor that does not report it."""

CHUNKS_AHEAD: Final = 3
"""Chunks per worker that are submitted in advance."""

Seeds = int | Iterable[int | str]


@dataclass(slots=True)
class SweepReport:
    """The result of a sweep.

    Attributes:
        runs: seeds that have run.
        failed: how many of them failed.
        failures: the first thousand of those, in the order of their arrival.
        seconds: real seconds that it took.
        stopped: whether it ended early, after `stop_after` failures.
    """

    runs: int = 0
    failed: int = 0
    failures: list[Trial] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def passed(self) -> int:
        """How many seeds passed."""
        return self.runs - self.failed

    def __str__(self) -> str:
        rate = self.runs / self.seconds if self.seconds else 0.0
        text = f"{self.runs:,} seeds, {self.failed:,} failed, {self.seconds:.1f} s, {rate:,.0f}/s"
        return text + (", stopped early" if self.stopped else "")

    def check(self) -> None:
        """Raise AssertionError if a seed failed.

        Raises:
            AssertionError: at least one seed failed; the text lists the first ones.
        """
        if self.failed:
            listed = "\n".join(str(one) for one in self.failures[:10])
            raise AssertionError(f"{self}\n{listed}")


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C has ended a sweep.

    Attributes:
        report: the results until then.
    """

    def __init__(self, report: SweepReport) -> None:
        super().__init__(str(report))
        self.report = report


def sweep(
    scenario: Scenario,
    seeds: Seeds,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    stop_after: int | None = None,
    captures: str | os.PathLike[str] | None = ".tcpip",
    keep: int = 20,
    on_trial: Callable[[Trial], object] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> SweepReport:
    """Run a scenario under many seeds, in many processes, and report the result of each as it arrives.

    A seed fails if `run` raises, if the scenario leaks a task, socket or stack, or if its process dies.

    Args:
        scenario: as for `run`. For the pool it must be a function at the top level of a module; other executors have
            rules of their own.
        seeds: an iterable of seeds, which is read as needed, or their number, from 0 on.
        executor: the executor; it stays open. Dask's is ``Client.get_executor()``. None creates a pool of processes.
        workers: processes of the pool (None: one for each core), or the executor's number of workers (None: as it
            reports, else 64), for each of which three chunks are submitted in advance.
        stop_after: failures after which no further seed is started. None runs all.
        captures: folder for captures of failures, created when needed. None writes none.
        keep: how many failures are run again, for captures and to check that they repeat.
        on_trial: called in this thread with each `Trial` as it arrives; an exception that it raises ends the sweep.
        progress: whether to show the progress, and failures as they arrive, on the standard error output; None does so
            on a terminal.
        options: further arguments of `run`, such as ``limit``.

    Raises:
        TypeError: seeds or a scenario that cannot be pickled, for the pool; `seed` among the options.
        ValueError: a number out of range; for the pool, a scenario that another process cannot import.
        BrokenExecutor: the executor that was given is broken.
        SweepInterrupted: Ctrl-C; its attribute `report` has the results until then. Processes of the pool have ended.
    """
    if "seed" in options:
        raise TypeError("seed: a sweep takes seeds instead")
    for name, number in (("workers", workers), ("stop_after", stop_after)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be 1 or more, or None, not {number}")
    if keep < 0:
        raise ValueError(f"keep must be 0 or more, not {keep}")
    if isinstance(seeds, (str, bytes)):
        raise TypeError(f"seeds must be a number or an iterable of seeds, not {type(seeds).__name__}")
    if isinstance(seeds, int):
        if seeds < 0:
            raise ValueError(f"seeds must be 0 or more, not {seeds}")
        seeds = range(seeds)
    if executor is None:
        check_scenario(scenario)
    folder = None if captures is None else Path(captures)
    line = ProgressLine(len(seeds) if isinstance(seeds, Sized) else None, shown=progress)
    one = _Sweep(scenario, seeds, executor, workers, options, stop_after, folder, keep, on_trial, line)
    return one.run_all()


def check_scenario(scenario: Scenario) -> None:
    """Check that a new process can import a scenario.

    Raises:
        TypeError: it cannot be pickled.
        ValueError: its program has no file.
    """
    if not callable(scenario):
        raise TypeError(f"scenario must be a coroutine function, not {type(scenario).__name__}")
    try:
        pickle.dumps(scenario)
    except Exception as error:
        raise TypeError(
            f"scenario: {scenario!r} cannot be sent to other processes ({error}); "
            "it must be a function at the top level of a module"
        ) from error
    main = sys.modules["__main__"]
    function = getattr(scenario, "func", scenario)  # of functools.partial
    if getattr(function, "__module__", None) == "__main__" and not hasattr(main, "__file__"):
        raise ValueError(
            f"scenario: {scenario!r} was typed in, and other processes cannot import it; put it into a module"
        )


def _workers_of(executor: Executor | None) -> int:
    if executor is not None:
        return getattr(executor, "_max_workers", None) or DEFAULT_WORKERS
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@dataclass(slots=True)
class _Job:
    """A submitted job: a chunk of seeds, or a failure that is run again."""

    seeds: list[int | str]
    failure: Trial | None = None


class _Sweep:
    """A running sweep."""

    def __init__(
        self,
        scenario: Scenario,
        seeds: Iterable[int | str],
        executor: Executor | None,
        workers: int | None,
        options: dict[str, Any],
        stop_after: int | None,
        folder: Path | None,
        keep: int,
        on_trial: Callable[[Trial], object] | None,
        line: ProgressLine,
    ) -> None:
        self._scenario = scenario
        self._seeds: Iterator[int | str] = iter(seeds)
        self._remaining = len(seeds) if isinstance(seeds, Sized) else None
        self._given = executor
        self._workers: int = workers or _workers_of(executor)
        self._options = options
        self._stop_after = stop_after
        self._folder = folder
        self._keep = keep
        self._on_trial = on_trial
        self._line = line
        self._report = SweepReport()
        self._jobs: dict[Future[Any], _Job] = {}
        self._waiting: deque[_Job] = deque()  # to be submitted before further seeds
        self._seconds = self._measured = 0.0
        self._pool: Executor | None = executor

    def run_all(self) -> SweepReport:
        began = time.monotonic()
        try:
            if self._given is None and self._remaining != 0:
                self._pool = self._make_pool(self._workers)
            self._drive()
        except KeyboardInterrupt:
            self._report.seconds = time.monotonic() - began
            self._abandon()
            raise SweepInterrupted(self._report) from None
        except BaseException:
            self._abandon()
            raise
        finally:
            self._line.close()
            if self._given is None and self._pool is not None:
                self._pool.shutdown()
        self._report.seconds = time.monotonic() - began
        return self._report

    # --- Scheduling -------------------------------------------------------------------------------------

    def _drive(self) -> None:
        while True:
            while len(self._jobs) < CHUNKS_AHEAD * self._workers and (job := self._next()) is not None:
                self._submit(job)
            if not self._jobs:
                return
            done, _ = wait_for(self._jobs, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=list(self._jobs).index):
                job = self._jobs.pop(future, None)
                if job is not None:  # else the pool broke, and `_recover` has handled it
                    self._collect(future, job)
            self._line.update(self._report.runs, self._report.failed)

    def _next(self) -> _Job | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._report.stopped:
            return None
        size = 1
        if self._measured:
            size = int(min(max(CHUNK_SECONDS * self._measured / max(self._seconds, 1e-9), 1), MOST_IN_CHUNK))
            if self._remaining is not None:  # no worker should have a long chunk when the others are done
                size = max(min(size, self._remaining // (2 * self._workers)), 1)
        chunk = [seed for _, seed in zip(range(size), self._seeds, strict=False)]
        if self._remaining is not None:
            self._remaining -= len(chunk)
        return _Job(chunk) if chunk else None

    def _submit(self, job: _Job) -> None:
        try:
            future = self._begin(self._pool, job)
        except BrokenExecutor:
            if self._given is not None:
                raise
            self._waiting.appendleft(job)
            self._recover([])
            return
        self._jobs[future] = job

    def _begin(self, pool: Executor | None, job: _Job) -> Future[Any]:
        assert pool is not None
        if job.failure is not None:
            return pool.submit(try_again, self._scenario, job.seeds[0], self._options)
        return pool.submit(try_seeds, self._scenario, job.seeds, self._options)

    # --- Results --------------------------------------------------------------------------------------------

    def _collect(self, future: Future[Any], job: _Job) -> None:
        try:
            result = future.result()
        except CancelledError:
            if not self._report.stopped:
                raise
            return
        except BrokenExecutor:
            if self._given is not None:
                raise
            self._recover([job])
            return
        except Exception as error:  # its worker died, or the result could not be pickled
            self._on_lost(job, f"the worker returned no result: {type(error).__name__}: {error}")
            return
        if job.failure is not None:
            self._on_rerun(job.failure, *result)
            return
        for trial in result:
            self._measured += 1
            self._seconds += trial.seconds
            self._count(trial)

    def _count(self, trial: Trial) -> None:
        report = self._report
        report.runs += 1
        if not trial.failed:
            self._report_trial(trial)
            return
        report.failed += 1
        if self._stop_after is not None and report.failed >= self._stop_after and not report.stopped:
            report.stopped = True
            self._waiting = deque(job for job in self._waiting if job.failure is not None)
            for future, job in list(self._jobs.items()) if self._given is not None else ():
                if job.failure is None and future.cancel():
                    del self._jobs[future]
        if trial.digest is not None and self._keep > 0:
            self._keep -= 1
            self._waiting.append(_Job([trial.seed], trial))
        else:
            self._report_trial(trial)

    def _on_rerun(self, first: Trial, second: Trial, capture: bytes) -> None:
        """Report a failure that was run again."""
        compared = self._options.get("trace", True)
        repeats = (second.digest, second.failed) == (first.digest, True) if compared else None
        path = None
        if self._folder is not None and capture:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = file_name(getattr(self._scenario, "__name__", "scenario"))
            path = self._folder / f"{name}-seed{file_name(first.seed)}.pcapng"
            path.write_bytes(capture)
        self._report_trial(replace(first, repeats=repeats, capture=path))

    def _report_trial(self, trial: Trial) -> None:
        if trial.failed:
            if len(self._report.failures) < MOST_FAILURES:
                self._report.failures.append(trial)
            self._line.write_above(str(trial))
        if self._on_trial is not None:
            self._on_trial(trial)

    # --- When workers die -------------------------------------------------------------------------------------------

    def _on_lost(self, job: _Job, why: str) -> None:
        """Handle a job without a result. Several seeds are run again one by one; a single one has failed."""
        if job.failure is not None:
            self._report_trial(replace(job.failure, repeats=False))
        elif len(job.seeds) > 1:
            self._waiting.extend(_Job([seed]) for seed in job.seeds)
        else:
            self._count(Trial(job.seeds[0], None, error=why))

    def _recover(self, jobs: list[_Job]) -> None:
        """Replace a pool of which a process died, and run the lost jobs one by one to find the seed that did it."""
        jobs = jobs + list(self._jobs.values())
        self._jobs.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        alone: ProcessPoolExecutor | None = None
        suspects = deque(jobs)
        try:
            while suspects:
                job = suspects.popleft()
                if self._report.stopped and job.failure is None:
                    continue
                if alone is None:
                    alone = self._make_pool(1)
                future = self._begin(alone, job)
                process = next(iter((getattr(alone, "_processes", None) or {}).values()), None)
                try:
                    future.result()
                except BrokenExecutor:
                    alone.shutdown(wait=True)
                    alone = None
                    if len(job.seeds) > 1:
                        suspects.extendleft(_Job([seed]) for seed in reversed(job.seeds))
                    else:
                        code = getattr(process, "exitcode", None)
                        self._on_lost(job, f"its process died{'' if code is None else f' with exit code {code}'}")
                    continue
                except Exception:  # handled by `_collect`
                    pass
                self._collect(future, job)
        finally:
            if alone is not None:
                _end(alone)
        self._pool = self._make_pool(self._workers)

    @staticmethod
    def _make_pool(workers: int) -> ProcessPoolExecutor:
        import multiprocessing  # here, since most programs that import this module do not sweep
        from concurrent.futures import ProcessPoolExecutor

        with _interrupts_ignored():
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
            for _ in range(workers):  # each starts a process, as long as none is idle
                pool.submit(_nothing)
        return pool

    def _abandon(self) -> None:
        """Cancel what was submitted, and end the pool's processes."""
        if self._given is not None:
            for future in self._jobs:
                future.cancel()
        elif self._pool is not None:
            _end(self._pool)
            self._pool = None
        self._jobs.clear()


def _nothing() -> None:
    """Do nothing: submitting this starts a process."""


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C, also in processes that are started inside, from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def file_name(text: object) -> str:
    """Return a text in a form that a file's name may contain."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in str(text))[:100]


def _end(pool: Executor) -> None:
    """End a pool and its processes, whatever they do.

    Its futures must not be cancelled: a pool whose process has ended fails on cancelled futures (CPython 3.11).
    """
    processes = list((getattr(pool, "_processes", None) or {}).values())
    for process in processes:  # before the shutdown, which removes files that starting processes need
        with suppress(Exception):
            process.terminate()
    for process in processes:
        with suppress(Exception):
            process.join(5)
    pool.shutdown(wait=True)
