"""`run`: one scenario from its beginning to its end, in virtual time and with everything that repeats it in place.

Owns the order in which things are set up and taken down, and what counts as a failure. `Stage` is the same in steps,
for who has to do something between them.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Generic, Literal, TypeVar

from tcpip_wasm.compat import Polyfill
from tcpip_wasm.compat.loop.guard import Guard
from tcpip_wasm.driver import Driver, drivers_of
from tcpip_wasm.errors import StackClosedError
from tcpip_wasm.simulation.errors import ScenarioError, SimulationError, attach_network
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.place import current_stack, place
from tcpip_wasm.simulation.runs.leaked import still_open
from tcpip_wasm.simulation.runs.log import Log, label
from tcpip_wasm.simulation.time.clock import EPOCH, Chance, follow
from tcpip_wasm.simulation.time.loop import REAL_LIMIT, VirtualLoop

T = TypeVar("T")

CLEARING: Final = 15.0
"""Virtual seconds that services and cancelled tasks have to end: more than the ten for which libraries wait for a peer.
What lives on meanwhile goes on sending."""

_REMEDY: Final = (
    "Simulated hosts are reached by asyncio alone: a call that blocks would stop the loop that the hosts run on. Use "
    "an asyncio client or server; machine_network() of tcpip_wasm.compat allows what is meant to reach the machine"
)


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """What came out of a run.

    Attributes:
        value: what the scenario returned.
        seed: the seed.
        digest: the hash of the trace when the scenario returned; None where nothing was recorded.
        duration: virtual seconds that the scenario took.
        network: the network, closed by now, with its trace.
        left_open: a text for each task, socket, server and stack that the scenario has left open. What services of
            hosts have opened ends with them and does not count; a service that does not end when it is cancelled does.
        failures: where `strict` is off, what would have been a `ScenarioError`.
    """

    value: T
    seed: int | str
    digest: str | None
    duration: float
    network: Network
    left_open: tuple[str, ...]
    failures: tuple[BaseException, ...] = ()


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
        scenario: a coroutine function, which is handed the network, still empty. It runs on no host.
        seed: what every random choice derives from.
        limit: virtual seconds after which the run ends with `TimeLimitError`; None has no limit.
        real_limit: real seconds that one wait for a thread or a process may take.
        follow_time: whether the process's clocks and random numbers follow the run; see `clock`.
        epoch: what `time.time` says when the run begins, in seconds since 1970-01-01 UTC.
        trace: whether every frame is recorded. False is faster, and there is no digest; ``"digest"`` has one, but keeps
            no frames.
        strict: whether failures that nobody could catch fail the run: of callbacks, of servers' connections, of tasks
            on hosts that nobody awaited. What runs on a host that has crashed since never does.
        log: a level of `logging`, from which on records are written to the standard error output with the virtual time
            and the host; or a stream for those from INFO on; or a `logging.Handler`. None leaves it to the handlers
            that are there.
        capture: a pcapng file for all frames, as for `Network.capture`: it is there however the run ends.

    Raises:
        DeadlockError: nothing can happen any more, and the scenario has not returned.
        TimeLimitError: a limit was reached.
        ScenarioError: the scenario returned, but a callback failed or a task of a host did and nobody awaited it.
        RuntimeError: another event loop runs in this thread, as in a notebook: there,
            ``await asyncio.to_thread(run, scenario, seed=…)``.
        TypeError: the scenario is no coroutine function.

    What the scenario raises is raised here, and so is what a service of a host raises, which ends the scenario. It gets
    a note with the seed, the virtual time and the trace's hash, and `network_of` finds its network.
    """
    check_scenario(scenario)
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "run() makes an event loop, and one runs in this thread already, as it does in a notebook: there, "
            "await asyncio.to_thread(run, scenario, seed=…)"
        )
    stage = Stage(
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
        with stage:
            if capture is not None:
                stage.network.capture(capture, comment=f"seed {seed}")
            try:
                value = stage.perform(scenario)
            finally:
                digest = stage.network.trace().digest() if trace else None
                duration = stage.loop.time()
            left = stage.end()
        if strict:
            stage.check()
    except BaseException as error:
        if hasattr(stage, "network"):
            hashed = "" if digest is None else f"trace {digest}; "
            begun = f"seed {seed!r}, {duration:.6f} s of virtual time"
            error.add_note(f"{begun}; {hashed}repeat with run(…, seed={seed!r})")
            attach_network(error, stage.network, digest)
        raise
    return Run(value, seed, digest, duration, stage.network, tuple(left.values()), tuple(stage.failures))


def check_scenario(scenario: object) -> None:
    """Raise TypeError for what is no function, such as a coroutine that was made already."""
    if asyncio.iscoroutine(scenario):
        scenario.close()
    if not callable(scenario):
        raise TypeError(
            f"scenario must be a coroutine function (scenario, not scenario(network)), not {type(scenario).__name__}"
        )


class Stage:
    """A network in virtual time, on which coroutines are performed one by one; ``with`` sets it up and ends it.

    Within the ``with`` block the process's clocks and random numbers follow the loop, but for the time inside of
    ``with stage.aside():``.

    Args: those of `run`.

    Attributes:
        network: the network.
        loop: its loop.
        failures: what was reported to the loop so far, where nobody could catch it.
        stacks: drivers of stacks which are nobody's leftovers, with what they are called.
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
        self._chance = Chance(str(seed))
        self._context = copy_context()
        self._main: asyncio.Task[Any] | None = None
        self._fatal: BaseException | None = None
        self.failures: list[BaseException] = []
        self._aside = ExitStack()
        self.stacks: dict[Driver, str] = {}

    def __enter__(self) -> Stage:
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
            self._aside.close()
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._close()
        finally:
            with self._aside:
                self._runner.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Give the process back its clocks, random numbers and garbage collection, in a ``with`` block."""
        self._aside.close()
        try:
            yield
        finally:
            self._resume()

    def _resume(self) -> None:
        with ExitStack() as stack:
            if self._epoch is not None:
                stack.enter_context(follow(self.loop, self._chance, self._epoch))
            stack.enter_context(label(self.loop, self._log))
            guard = Guard("a simulation", _REMEDY, programs=False, everywhere=False)
            stack.enter_context(Polyfill(current_stack, loop=self.loop, strict=guard))
            if gc.isenabled():
                gc.disable()  # when it runs depends on all that was done before; the loop does it at set turns
                stack.callback(gc.enable)
            self._aside = stack.pop_all()

    def _report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, asyncio.CancelledError) or _is_of_the_dead(context):
            return  # until 3.12, asyncio's streams report a handler that was cancelled
        self.failures.append(error if error is not None else SimulationError(str(context.get("message"))))

    def _fail(self, error: BaseException) -> None:
        if self._fatal is None:
            self._fatal = error
            if self._main is not None:
                self._main.cancel()

    async def _make(self) -> Network:
        return Network(self._seed, trace=self._trace)

    def perform(self, scenario: Callable[[Network], Awaitable[T]], name: str = "scenario") -> T:
        """Run the loop until a coroutine, which is handed the network and runs on no host, is done; return its result.

        What it raises is raised here, and so is what a service of a host raises, which ends it.

        Args:
            scenario: the coroutine function.
            name: of its task.
        """
        try:
            value = self._runner.run(self._perform(scenario, name), context=self._context)
        except asyncio.CancelledError:
            if self._fatal is None:
                raise
        if self._fatal is not None:
            raise self._fatal
        return value

    async def _perform(self, scenario: Callable[[Network], Awaitable[T]], name: str) -> T:
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
        """End services, and return what is still open then: each thing with a text.

        What a service raises when it is cancelled is raised here.
        """
        self.loop.limit = self.loop.time() + CLEARING
        mine: list[asyncio.Task[Any]] = []

        async def stop() -> None:
            mine.append(asyncio.current_task())  # type: ignore[arg-type]
            tasks = [task for host in self.network.hosts.values() for task in host.stop_services()]
            await asyncio.gather(*tasks, return_exceptions=True)

        with suppress(SimulationError):
            self._runner.run(stop())
        if self._fatal is not None:
            raise self._fatal
        self.failures += self.network.unheard()
        left = still_open(self.network, self.stacks, but=mine)
        # Services may wait for the ends of connections between them, or with hosts that have crashed. Where nothing
        # else is open, these are reset: else the text of a service says what holds it.
        hosts = list(self.network.hosts.values())
        waiting = [task for host in hosts for task in host.unfinished_services()]
        if waiting and left.keys() == set(waiting) and sum([host.reset_connections_of_services() for host in hosts]):
            self.loop.limit = self.loop.time() + CLEARING

            async def wait() -> None:
                await asyncio.wait(waiting)

            with suppress(SimulationError):
                self._runner.run(wait())
        return {thing: text for thing, text in left.items() if not (thing in waiting and thing.done())}

    def check(self) -> None:
        """Raise what failed where nobody could catch it.

        Raises:
            ScenarioError: a callback failed, or a task of a host did and nobody awaited it.
        """
        if self.failures:
            raise ScenarioError(
                f"the scenario has ended, with seed {self._seed!r}, but: "
                + "; ".join(f"{type(one).__name__}: {one}" for one in self.failures),
                self.failures,
            ) from self.failures[0]

    def _close(self) -> None:
        """Cancel what runs, in the order in which it was begun, and cut the power of all hosts."""
        self.loop.limit = self.loop.time() + CLEARING

        async def end() -> None:
            mine = asyncio.current_task()
            tasks = [task for task in self.loop.unfinished() if task is not mine]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with suppress(SimulationError):
            self._runner.run(end())
        for task in self.loop.unfinished():  # it refuses to end, and was named
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            asyncio.tasks._unregister_task(task)
        self.network.close()
        for driver in drivers_of(self.loop):
            driver.end(StackClosedError(errno.ECONNABORTED, "the run is over"))


def _is_of_the_dead(context: dict[str, Any]) -> bool:
    """Whether a report is about something that ran on a host which has crashed since."""
    task, handle = context.get("task") or context.get("future"), context.get("handle")
    life = getattr(task, "life", None)
    if life is None and handle is not None:
        life = handle._context.get(place)
    return life is not None and life.ended
