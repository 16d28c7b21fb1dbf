"""The process's clocks and random numbers, which follow a simulation while one runs.

Functions of the module `time` are replaced, for the thread of the loop and threads that are started in the meantime:
``time``, ``monotonic``, ``perf_counter`` and their variants with ``_ns``; ``clock_gettime`` of the same clocks; and
``localtime``, ``gmtime``, ``ctime``, ``asctime`` and ``strftime`` without a time argument. Threads that ran before,
such as those of a debugger or of a worker that runs simulations, keep real time. Dates follow, see `dates`. Virtual
time begins at a fixed date, so that dates in headers and logs repeat. The global generator of `random` is seeded.
`os.urandom` is derived from the seed in the thread of the loop, and with it `secrets`, `uuid.uuid4` and
`random.SystemRandom`: the keys of a WebSocket repeat, too. All of it is restored at the end.

What stays real is listed for users in docs/how-to/testing.md, "What is virtual": `time.sleep`, `time.process_time`,
`uuid.uuid1`, time stamps of files, OpenSSL's random numbers (so the bytes of TLS differ in each run), the clock by
which it checks certificates, and names that were imported from these modules before (``from time import time``).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tcpip_wasm.simulation.errors import SimulationError
from tcpip_wasm.simulation.seeds import random_for
from tcpip_wasm.simulation.time.dates import follow_dates
from tcpip_wasm.simulation.time.loop import SECOND, VirtualLoop

EPOCH: Final = 946_684_800.0
"""2000-01-01 00:00:00 UTC: the default of `time.time` at the beginning of a run."""

_MONOTONIC: Final = ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME", "CLOCK_UPTIME_RAW")

_one_at_a_time: Final = threading.Lock()


class RandomState:
    """State of the process's random generators in one run, kept while the run is suspended.

    Args:
        seed: the seed of the generators.
    """

    def __init__(self, seed: str) -> None:
        self.bytes: random.Random = random_for(seed, "urandom")
        self.state: tuple[Any, ...] = random_for(seed, "random").getstate()


@contextmanager
def follow(loop: VirtualLoop, random_state: RandomState, epoch: float = EPOCH) -> Iterator[None]:
    """Let the process's clocks and random numbers follow a loop, in a ``with`` block.

    Args:
        loop: the loop whose time they follow.
        random_state: the random generators; another block with the same object continues them.
        epoch: the value of `time.time` at the loop's time 0.

    Raises:
        SimulationError: the clocks follow another simulation.
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise SimulationError("the process's clocks follow another simulation already: run() with follow_time=False")
    begun = round(epoch * SECOND)

    def now() -> float:
        return (begun + loop.time_ns()) / SECOND

    def now_ns() -> int:
        return begun + loop.time_ns()

    mine = threading.get_ident()
    others = {thread.ident for thread in threading.enumerate()} - {mine}
    wanted: list[tuple[Any, str, Callable[..., Any]]] = [(time, "time", now), (time, "time_ns", now_ns)]
    for name in ("monotonic", "perf_counter"):
        wanted += [(time, name, loop.time), (time, f"{name}_ns", loop.time_ns)]
    wanted += _functions_of_time(now, loop)
    if others:
        wanted = [(owner, name, _except_in(others, made, getattr(owner, name))) for owner, name, made in wanted]
    draw = _bytes_of(random_state.bytes)
    wanted += [(os, "urandom", draw), (random, "_urandom", draw)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted if hasattr(owner, name)]
    state = random.getstate()
    try:
        random.setstate(random_state.state)
        for owner, name, function in wanted:
            if hasattr(owner, name):
                setattr(owner, name, function)
        with follow_dates():
            yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        random_state.state = random.getstate()
        random.setstate(state)
        _one_at_a_time.release()


def _functions_of_time(now: Callable[[], float], loop: VirtualLoop) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return the replacements of functions that take a time or a clock."""
    localtime, gmtime, asctime, strftime = time.localtime, time.gmtime, time.asctime, time.strftime
    replaced: dict[str, Callable[..., Any]] = {
        "localtime": lambda secs=None, /: localtime(now() if secs is None else secs),
        "gmtime": lambda secs=None, /: gmtime(now() if secs is None else secs),
        "ctime": lambda secs=None, /: asctime(localtime(now() if secs is None else secs)),
        "asctime": lambda *given: asctime(*given or (localtime(now()),)),
        "strftime": lambda text, *given: strftime(text, *given or (localtime(now()),)),
    }
    clock_gettime, clock_gettime_ns = getattr(time, "clock_gettime", None), getattr(time, "clock_gettime_ns", None)
    if clock_gettime is not None and clock_gettime_ns is not None:
        monotonic = [getattr(time, name) for name in _MONOTONIC if hasattr(time, name)]
        begun = round(now() * SECOND) - loop.time_ns()

        def gettime_ns(clock: int, /) -> int:
            if clock == time.CLOCK_REALTIME:
                return begun + loop.time_ns()
            return loop.time_ns() if clock in monotonic else int(clock_gettime_ns(clock))

        def gettime(clock: int, /) -> float:
            if clock == time.CLOCK_REALTIME or clock in monotonic:
                return gettime_ns(clock) / SECOND
            return float(clock_gettime(clock))

        replaced |= {"clock_gettime": gettime, "clock_gettime_ns": gettime_ns}
    return [(time, name, function) for name, function in replaced.items()]


def _except_in(others: set[int | None], virtual: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    ident = threading.get_ident
    return lambda *given: real(*given) if ident() in others else virtual(*given)


def _bytes_of(source: random.Random) -> Callable[[int], bytes]:
    real, mine = os.urandom, threading.get_ident()

    def urandom(size: int, /) -> bytes:
        if threading.get_ident() != mine:  # other threads do not belong to the simulation
            return real(size)
        if size < 0:
            raise ValueError("negative argument not allowed")
        return source.randbytes(size)

    return urandom
