"""`run`: runs one scenario from beginning to end, in virtual time and deterministically.

Owns the order of set-up and tear-down, and defines what counts as a failure. `Session` has the same in steps, for the
pytest plugin, which runs fixtures between them.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Generic, Literal, TypeVar
from warnings import warn

from tcpip_wasm.compat import Polyfill
from tcpip_wasm.compat.loop.guard import Guard
from tcpip_wasm.driver import Driver, drivers_of
from tcpip_wasm.errors import StackClosedError
from tcpip_wasm.simulation.errors import ScenarioError, SimulationError, attach_network
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.place import current_stack, place
from tcpip_wasm.simulation.runs.leaked import still_open
from tcpip_wasm.simulation.runs.log import Log, label
from tcpip_wasm.simulation.time.clock import EPOCH, RandomState, follow
from tcpip_wasm.simulation.time.loop import REAL_LIMIT, VirtualLoop
from tcpip_wasm.simulation.time.nested import IN_PYODIDE, outside_of_running_loop

T = TypeVar("T")

CLOSE_TIMEOUT: Final = 15.0
"""Virtual seconds that services and cancelled tasks have to end: more than the ten for which libraries wait for a peer.
Tasks that still run go on sending."""

_REMEDY: Final = (
    "Only asyncio can reach simulated hosts: a call that blocks would stop the loop that the hosts run on. Use an "
    "asyncio client or server; machine_network() of tcpip_wasm.compat allows calls that are meant for the machine"
)


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """The result of a run.

    Attributes:
        value: the value that the scenario returned.
        seed: the seed.
        digest: the hash of the trace when the scenario returned; None where nothing was recorded.
        duration: virtual seconds that the scenario took.
        network: the network, closed, with its trace.
        leaked: a text for each task, socket, server and stack that the scenario has not closed. Those that services of
            hosts opened end with the service and do not count; a service that does not end when it is cancelled does.
        failures: the failures that `strict` would have raised as a `ScenarioError`.
    """

    value: T
    seed: int | str
    digest: str | None
    duration: float
    network: Network
    leaked: tuple[str, ...]
    failures: tuple[BaseException, ...] = ()

    @property
    def left_open(self) -> tuple[str, ...]:
        """Deprecated name of `leaked`."""
        warn("Run.left_open is now leaked", DeprecationWarning, stacklevel=2)
        return self.leaked


def run(
    scenario: Callable[[Network], Awaitable[T]],
    *,
    seed: int | str = 0,
    limit: float | None = 86_400.0,
    real_limit: float = REAL_LIMIT,
    follow_time: bool = True,
    epoch: float = EPOCH,
    trace: bool | Literal["digest"] = True,
    strict: bool = True,
    log: Log | None = None,
    capture: str | os.PathLike[str] | BinaryIO | None = None,
) -> Run[T]:
    """Run a scenario in virtual time, on a network of its own.

    Args:
        scenario: a coroutine function, which is called with the network, still empty. It runs outside of all hosts.
        seed: the seed of every random choice.
        limit: virtual seconds after which the run ends with `TimeLimitError`; None sets no limit.
        real_limit: real seconds that one wait for a thread or a process may take.
        follow_time: whether the process's clocks and random numbers follow the run; see `clock`.
        epoch: the value of `time.time` at the beginning of the run, in seconds since 1970-01-01 UTC.
        trace: whether every frame is recorded. False is faster, and there is no digest; ``"digest"`` has one, but keeps
            no frames.
        strict: whether exceptions that no code could catch fail the run: of callbacks, of servers' connections, of
            tasks on hosts that were not awaited. Those of a host that has crashed since do not count.
        log: a level of `logging`, from which on records are written to the standard error output with the virtual time
            and the host; or a stream for those from INFO on; or a `logging.Handler`. None adds no handler.
        capture: a pcapng file for all frames, as for `Network.capture`; it is written even if the run fails.

    Raises:
        DeadlockError: no task can ever run again, and the scenario has not returned.
        TimeLimitError: a limit was reached.
        ScenarioError: the scenario returned, but a callback failed, or a task of a host that was not awaited.
        RuntimeError: another event loop runs in this thread, as in a notebook: there,
            ``await asyncio.to_thread(run, scenario, seed=…)``. In Pyodide it takes the place of that loop.
        TypeError: the scenario is not a coroutine function.

    Exceptions of the scenario are raised here, and so are those of services of hosts, which end the scenario. They get
    a note with the seed, the virtual time and the trace's hash, and `network_of` returns their network.
    """
    # Longer than 60 lines by its docstring: each of the eleven options is documented here and nowhere else.
    check_scenario(scenario)
    if not IN_PYODIDE:
        _check_no_loop()
    session = Session(
        seed=seed,
        limit=limit,
        real_limit=real_limit,
        follow_time=follow_time,
        epoch=epoch,
        trace=trace,
        log=log,
    )
    digest, duration = None, 0.0
    try:
        with outside_of_running_loop() if IN_PYODIDE else nullcontext(), session:
            if capture is not None:
                session.network.capture(capture, comment=f"seed {seed}")
            try:
                value = session.run_coroutine(scenario)
            finally:
                digest = session.network.trace().digest() if trace else None
                duration = session.loop.time()
            leaked = session.end()
        if strict:
            session.check()
    except BaseException as error:
        if hasattr(session, "network"):
            hashed = "" if digest is None else f"trace {digest}; "
            begun = f"seed {seed!r}, {duration:.6f} s of virtual time"
            error.add_note(f"{begun}; {hashed}repeat with run(…, seed={seed!r})")
            attach_network(error, session.network, digest)
        raise
    return Run(value, seed, digest, duration, session.network, tuple(leaked.values()), tuple(session.failures))


def _check_no_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  the only call that does not raise
        raise RuntimeError(
            "run() makes an event loop, and one runs in this thread already, as it does in a notebook: there, "
            "await asyncio.to_thread(run, scenario, seed=…)"
        )


def check_scenario(scenario: object) -> None:
    """Raise TypeError for an object that is not a function, such as a coroutine."""
    if asyncio.iscoroutine(scenario):
        scenario.close()
    if not callable(scenario):
        raise TypeError(
            f"scenario must be a coroutine function (scenario, not scenario(network)), not {type(scenario).__name__}"
        )


class Session:
    """A network in virtual time, on which coroutines are run one after the other; ``with`` sets it up and closes it.

    Within the ``with`` block the process's clocks and random numbers follow the loop, except inside of
    ``with session.suspended():``.

    Args: those of `run`.

    Attributes:
        network: the network.
        loop: its loop.
        failures: the exceptions that were reported to the loop so far.
        stacks: drivers of stacks that do not count as leaked, with their names in texts.
    """

    network: Network

    def __init__(
        self,
        *,
        seed: int | str = 0,
        limit: float | None = 86_400.0,
        real_limit: float = REAL_LIMIT,
        follow_time: bool = True,
        epoch: float = EPOCH,
        trace: bool | Literal["digest"] = True,
        log: Log | None = None,
    ) -> None:
        self._runner = asyncio.Runner(
            loop_factory=lambda: VirtualLoop(limit=limit, real_limit=real_limit, collect=True)
        )
        self._seed = seed
        self._trace = trace
        self._epoch = epoch if follow_time else None
        self._log = log
        self._random_state = RandomState(str(seed))
        self._context = copy_context()
        self._main: asyncio.Task[Any] | None = None
        self._fatal: BaseException | None = None
        self.failures: list[BaseException] = []
        self._following = ExitStack()
        self.stacks: dict[Driver, str] = {}

    def __enter__(self) -> Session:
        try:
            loop = self._runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            self.loop = loop
            loop.seed = self._seed
            loop.set_exception_handler(self._report)
            self._resume()
            self.network = self._runner.run(self._make())
            self.network.on_failure = self._fail
        except BaseException:
            self._following.close()
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._close()
        finally:
            with self._following:
                self._runner.close()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Restore the process's clocks, random numbers and garbage collection, in a ``with`` block."""
        self._following.close()
        try:
            yield
        finally:
            self._resume()

    def _resume(self) -> None:
        with ExitStack() as stack:
            if self._epoch is not None:
                stack.enter_context(follow(self.loop, self._random_state, self._epoch))
            stack.enter_context(label(self.loop, self._log))
            guard = Guard("a simulation", _REMEDY, programs=False, everywhere=False)
            stack.enter_context(Polyfill(current_stack, loop=self.loop, strict=guard))
            if gc.isenabled():
                gc.disable()  # its times depend on all earlier allocations; the loop collects at fixed iterations
                stack.callback(gc.enable)
            self._following = stack.pop_all()

    def _report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, asyncio.CancelledError) or _is_of_crashed_host(context):
            return  # before 3.12, asyncio's streams report the cancellation of a handler
        self.failures.append(error if error is not None else SimulationError(str(context.get("message"))))

    def _fail(self, error: BaseException) -> None:
        if self._fatal is None:
            self._fatal = error
            if self._main is not None:
                self._main.cancel()

    async def _make(self) -> Network:
        return Network(self._seed, trace=self._trace)

    def run_coroutine(self, scenario: Callable[[Network], Awaitable[T]], name: str = "scenario") -> T:
        """Run a coroutine to its end, outside of all hosts, and return its result.

        Its exception is raised here, and so is that of a service of a host, which ends it.

        Args:
            scenario: the coroutine function, which is called with the network.
            name: the task's name.
        """
        try:
            value = self._runner.run(self._run_coroutine(scenario, name), context=self._context)
        except asyncio.CancelledError:
            if self._fatal is None:
                raise
        if self._fatal is not None:
            raise self._fatal
        return value

    async def _run_coroutine(self, scenario: Callable[[Network], Awaitable[T]], name: str) -> T:
        self._main = asyncio.current_task()
        assert self._main is not None
        self._main.set_name(name)
        try:
            waiting = scenario(self.network)
            if not inspect.isawaitable(waiting):
                raise TypeError(f"{name} must be a coroutine function (async def): {scenario!r} returned {waiting!r}")
            return await waiting
        finally:
            self._main = None

    def end(self) -> dict[Any, str]:
        """End services, and return the objects that are still open then, each with a text.

        An exception that a service raises when it is cancelled is raised here.
        """
        self.loop.limit = self.loop.time() + CLOSE_TIMEOUT
        mine: list[asyncio.Task[Any]] = []

        async def stop() -> None:
            mine.append(asyncio.current_task())  # type: ignore[arg-type]
            tasks = [task for host in self.network.hosts.values() for task in host.stop_services()]
            await asyncio.gather(*tasks, return_exceptions=True)

        with suppress(SimulationError):
            self._runner.run(stop())
        if self._fatal is not None:
            raise self._fatal
        self.failures += self.network.unretrieved_errors()
        leaked = still_open(self.network, self.stacks, exclude=mine)
        # Services may wait for the end of connections between them, or with hosts that have crashed. If nothing else
        # is open, these are reset; otherwise the text of a service says what it waits for.
        hosts = list(self.network.hosts.values())
        waiting = [task for host in hosts for task in host.unfinished_services()]
        if waiting and leaked.keys() == set(waiting) and sum([host.reset_connections_of_services() for host in hosts]):
            self.loop.limit = self.loop.time() + CLOSE_TIMEOUT

            async def wait() -> None:
                await asyncio.wait(waiting)

            with suppress(SimulationError):
                self._runner.run(wait())
        return {thing: text for thing, text in leaked.items() if not (thing in waiting and thing.done())}

    def check(self) -> None:
        """Raise the failures of callbacks and tasks that no code could catch.

        Raises:
            ScenarioError: a callback failed, or a task of a host that was not awaited.
        """
        if self.failures:
            raise ScenarioError(
                f"the scenario has ended, with seed {self._seed!r}, but: "
                + "; ".join(f"{type(one).__name__}: {one}" for one in self.failures),
                self.failures,
            ) from self.failures[0]

    def _close(self) -> None:
        """Cancel the tasks that run, in the order of their creation, and crash all hosts."""
        self.loop.limit = self.loop.time() + CLOSE_TIMEOUT

        async def end() -> None:
            mine = asyncio.current_task()
            tasks = [task for task in self.loop.unfinished() if task is not mine]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with suppress(SimulationError):
            self._runner.run(end())
        for task in self.loop.unfinished():  # it does not end when it is cancelled, and was reported as leaked
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  a task that will not run again must not be reported
            asyncio.tasks._unregister_task(task)  # noqa: SLF001  a task that will not run again must not be reported
        self.network.close()
        for driver in drivers_of(self.loop):
            driver.end(StackClosedError(errno.ECONNABORTED, "the run is over"))


def _is_of_crashed_host(context: dict[str, Any]) -> bool:
    """Whether a report is about a task or callback of a host that has crashed since."""
    task, handle = context.get("task") or context.get("future"), context.get("handle")
    incarnation = getattr(task, "incarnation", None)
    if incarnation is None and handle is not None:
        incarnation = handle._context.get(place)  # noqa: SLF001  asyncio has no public way to a callback's context
    return incarnation is not None and incarnation.ended
