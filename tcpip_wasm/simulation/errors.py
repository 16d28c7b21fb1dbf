"""What ends a simulation that cannot go on. All of them are `TcpipError` and `RuntimeError`.

SimulationError
├── DeadlockError       nothing is runnable, nothing is due, and nothing outside can change that
├── TimeLimitError      the virtual or the real time that a run may take is used up
└── ScenarioError       callbacks or services of hosts failed where nobody could catch it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tcpip_wasm.errors import TcpipError

if TYPE_CHECKING:
    from tcpip_wasm.simulation.network import Network

__all__ = [
    "DeadlockError",
    "ScenarioError",
    "SimulationError",
    "TimeLimitError",
    "attach_network",
    "digest_of",
    "network_of",
]


class _Kept:
    """A network within an exception, and the hash of its trace. A pickled exception leaves both behind."""

    def __init__(self, network: Network | None = None, digest: str | None = None) -> None:
        self.network = network
        self.digest = digest

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()


def attach_network(error: BaseException, network: Network, digest: str | None) -> None:
    """Let `network_of` find a network by an exception, whatever its class, and `digest_of` the hash of its trace."""
    error.__dict__["_tcpip_wasm_network"] = _Kept(network, digest)


def network_of(error: BaseException) -> Network | None:
    """Return the network of the run from which an exception came, closed by now, with its trace.

    Args:
        error: what `run` has raised.

    Returns:
        None for what no run has raised, or was pickled since.
    """
    kept = error.__dict__.get("_tcpip_wasm_network")
    return kept.network if isinstance(kept, _Kept) else None


def digest_of(error: BaseException) -> str | None:
    """Return the hash of the trace as it was when the scenario ended, which the exception's note tells; see
    `network_of`. What is sent while a run is cleared away is no part of it."""
    kept = error.__dict__.get("_tcpip_wasm_network")
    return kept.digest if isinstance(kept, _Kept) else None


class SimulationError(TcpipError, RuntimeError):
    """A simulation cannot go on."""

    @property
    def network(self) -> Network | None:
        """The network of the run, closed by now, with its trace; see `network_of`."""
        return network_of(self)


class DeadlockError(SimulationError):
    """Every task waits for another. The text lists them, and what each waits for.

    Attributes:
        waiting: one text for each task, in the order in which the tasks were made.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting: tuple[str, ...] = tuple(waiting)


class TimeLimitError(SimulationError):
    """A run has used up its virtual time, or has really waited for too long. The text lists the tasks.

    Attributes:
        waiting: as of `DeadlockError`.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting: tuple[str, ...] = tuple(waiting)


class ScenarioError(SimulationError):
    """The scenario came to its end, but something failed beside it. The first failure is the cause.

    Attributes:
        failures: what was reported, in the order in which it was.
    """

    def __init__(self, text: str, failures: Sequence[BaseException] = ()) -> None:
        super().__init__(text)
        self.failures: tuple[BaseException, ...] = tuple(failures)
