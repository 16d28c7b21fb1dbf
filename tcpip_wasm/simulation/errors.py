"""Exceptions that end a simulation. All of them are `TcpipError` and `RuntimeError`.

SimulationError
├── DeadlockError       no task is runnable, no timer is armed, and no external event can arrive
├── TimeLimitError      the limit of virtual or real time of a run is reached
└── ScenarioError       callbacks or tasks failed with exceptions that no code awaited
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


class _NetworkAttachment:
    """A network attached to an exception, and the hash of its trace. Pickling drops both."""

    def __init__(self, network: Network | None = None, digest: str | None = None) -> None:
        self.network = network
        self.digest = digest

    def __reduce__(self) -> tuple[Any, ...]:
        return _NetworkAttachment, ()


def attach_network(error: BaseException, network: Network, digest: str | None) -> None:
    """Attach a network and the hash of its trace to an exception of any class, for `network_of` and `digest_of`."""
    error.__dict__["_tcpip_wasm_network"] = _NetworkAttachment(network, digest)


def network_of(error: BaseException) -> Network | None:
    """Return the network of the run that raised an exception: closed, with its trace.

    Args:
        error: an exception that `run` has raised.

    Returns:
        None for an exception that `run` has not raised, or that was pickled since.
    """
    attachment = error.__dict__.get("_tcpip_wasm_network")
    return attachment.network if isinstance(attachment, _NetworkAttachment) else None


def digest_of(error: BaseException) -> str | None:
    """Return the hash of the trace at the end of the scenario, which the exception's note contains; see `network_of`.
    It does not cover frames that are sent while the run is closed."""
    attachment = error.__dict__.get("_tcpip_wasm_network")
    return attachment.digest if isinstance(attachment, _NetworkAttachment) else None


class SimulationError(TcpipError, RuntimeError):
    """A simulation cannot go on."""

    @property
    def network(self) -> Network | None:
        """The network of the run, closed, with its trace; see `network_of`."""
        return network_of(self)


class DeadlockError(SimulationError):
    """No task can ever run again. The text lists the tasks, and what each waits for.

    Attributes:
        waiting: one text for each task, in the order of their creation.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting: tuple[str, ...] = tuple(waiting)


class TimeLimitError(SimulationError):
    """A run has reached its limit of virtual time, or a wait in real time has. The text lists the tasks.

    Attributes:
        waiting: one text for each task, in the order of their creation.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting: tuple[str, ...] = tuple(waiting)


class ScenarioError(SimulationError):
    """The scenario returned, but callbacks or tasks failed during it. The first failure is the exception's cause.

    Attributes:
        failures: the exceptions, in the order in which they were reported.
    """

    def __init__(self, text: str, failures: Sequence[BaseException] = ()) -> None:
        super().__init__(text)
        self.failures: tuple[BaseException, ...] = tuple(failures)
