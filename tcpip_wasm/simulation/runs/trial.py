"""Runs one seed of a sweep in the worker: a process, another machine, a thread.

Arguments and results can be pickled; exceptions and networks stay in the worker.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter  # by name: a run replaces those of the module
from typing import Any, Final

from tcpip_wasm.capture import Trace
from tcpip_wasm.simulation.errors import digest_of
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.runs.runner import run

Scenario = Callable[[Network], Awaitable[Any]]
Options = Mapping[str, Any]

MOST_TEXT: Final = 20_000
"""Characters that are kept of a traceback, from its end."""

MOST_CAPTURE: Final = 2**26
"""Most bytes of a capture, which then has the last frames."""

_FRAME: Final = 64
"""Bytes of a capture per frame in addition to the frame."""

_alone = threading.Lock()


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one seed.

    Attributes:
        seed: the seed.
        digest: the hash of its trace; None where nothing was recorded, or where the process died.
        value: the scenario's result; None if it failed.
        error: why it failed, in one line, or None.
        traceback: the traceback of the error.
        seconds: real seconds that it took.
        duration: virtual seconds that it took.
        repeats: for a failure that was run again, whether the digest was the same. None: it was not run again, or has
            no digest.
        capture: the file with the frames of the second run, or None.
    """

    seed: int | str
    digest: str | None
    value: Any = None
    error: str | None = None
    traceback: str = ""
    seconds: float = 0.0
    duration: float = 0.0
    repeats: bool | None = None
    capture: Path | None = None

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.error is not None

    def __str__(self) -> str:
        text = f"seed {self.seed}: {self.error or 'passed'}"
        if self.digest is not None:
            text += f"\n    trace    {self.digest}"
        if self.repeats is False:
            text += "\n    a second run of this seed had another trace: the scenario does not depend on the seed alone"
        if self.capture is not None:
            text += f"\n    capture  {self.capture}"
        return text


def begin_worker() -> None:
    """Prepare a process of the pool: it ignores Ctrl-C, which the process that waits for it handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def try_seeds(scenario: Scenario, seeds: Iterable[int | str], options: Options) -> list[Trial]:
    """Run a scenario with some seeds, one after the other."""
    return [_try(scenario, seed, options)[0] for seed in seeds]


def try_again(scenario: Scenario, seed: int | str, options: Options) -> tuple[Trial, bytes]:
    """Run a scenario again, and return its result and a capture of its frames."""
    trial, trace = _try(scenario, seed, {**options, "trace": True})
    if trace is None:
        return trial, b""
    return trial, capture_of(trace, f"seed {seed}, trace {trial.digest}: {trial.error or 'passed'}")


def capture_of(trace: Trace, comment: str, most: int = MOST_CAPTURE) -> bytes:
    """Return a trace as a pcapng file; if it is too long, its last frames, and all events.

    Args:
        trace: the trace.
        comment: a comment on the whole file.
        most: the most bytes of the file.
    """
    kept = trace.observations
    room, first = most, len(kept)
    while first and (room := room - len(kept[first - 1].frame) - _FRAME) >= 0:
        first -= 1
    if first:
        comment += f"; {first:,} frames before these are left out"
    file = io.BytesIO()
    trace[first:].save(file, comment=comment)
    return file.getvalue()


def _try(scenario: Scenario, seed: int | str, options: Options) -> tuple[Trial, Trace | None]:
    networks: list[Network] = []

    async def watched(network: Network) -> Any:
        networks.append(network)
        return await scenario(network)

    error: BaseException | str | None = None
    value, digest = None, None
    with _alone:  # only one run at a time can replace the process's clocks
        began = perf_counter()
        try:
            result = run(watched, seed=seed, **options)
        except (Exception, SystemExit, asyncio.CancelledError) as raised:
            error, digest = raised, digest_of(raised)
        else:
            value, digest = result.value, result.digest
            error = _leak_error(result.leaked) or _cannot_be_sent(value)
        seconds = perf_counter() - began
    network = networks[0] if networks else None
    trace = network.trace() if network is not None and options.get("trace", True) else None
    if digest is None and trace is not None:
        digest = trace.digest()
    duration = network.loop.time() if network is not None else 0.0
    if error is None:
        return Trial(seed, digest, value, seconds=seconds, duration=duration), trace
    text = error if isinstance(error, str) else _one_line(error)
    story = "" if isinstance(error, str) else "".join(traceback.format_exception(error))[-MOST_TEXT:]
    return Trial(seed, digest, None, text, story, seconds, duration), trace


def _leak_error(things: tuple[str, ...]) -> str | None:
    return f"leaked: {'; '.join(things)}" if things else None


def _cannot_be_sent(value: object) -> str | None:
    if value is None or type(value) in (bool, int, float, str, bytes):
        return None
    try:
        pickle.dumps(value)
    except Exception as error:
        return f"the scenario's result cannot be pickled: {_one_line(error)}"
    return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:500]}" if text else name
