"""What ends a simulation that cannot go on. All of them are `TcpipError` and `RuntimeError`.

    SimulationError
    ├── DeadlockError       nothing is runnable, nothing is due, and nothing outside can change that
    ├── TimeLimitError      the virtual or the real time that a run may take is used up
    └── ScenarioError       callbacks or services of hosts failed where nobody could catch it
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpip_wasm.errors import TcpipError

__all__ = ["DeadlockError", "ScenarioError", "SimulationError", "TimeLimitError"]


class SimulationError(TcpipError, RuntimeError):
    """A simulation cannot go on."""


class DeadlockError(SimulationError):
    """Every task waits for another. The text lists them, and what each waits for.

    Attributes:
        waiting: one text for each task, in the order in which the tasks were made.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting = tuple(waiting)


class TimeLimitError(SimulationError):
    """A run has used up its virtual time, or has really waited for too long. The text lists the tasks.

    Attributes:
        waiting: as of `DeadlockError`.
    """

    def __init__(self, text: str, waiting: Sequence[str] = ()) -> None:
        super().__init__("\n".join([text, *waiting]))
        self.waiting = tuple(waiting)


class ScenarioError(SimulationError):
    """The scenario came to its end, but something failed beside it. The first failure is the cause.

    Attributes:
        failures: what was reported, in the order in which it was.
    """

    def __init__(self, text: str, failures: Sequence[BaseException] = ()) -> None:
        super().__init__(text)
        self.failures = tuple(failures)
