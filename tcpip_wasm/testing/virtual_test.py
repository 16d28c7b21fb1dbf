"""A coroutine test in virtual time: its fixtures, itself, and the ends of its fixtures, one after the other.

Owns the order, and when something counts as left open. What happens on the loop happens with the guarantees of
`tcpip_wasm.simulation.run`; between two steps the loop stands, and the process has its own clocks.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from tcpip_wasm.simulation import DeadlockError, Network, TimeLimitError
from tcpip_wasm.simulation.runs.runner import Stage
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.testing.left_open import Policy, report_left_open

STACK = "_tcpip_stack_here"
"""The plugin's own coroutine fixture."""


class StagedTest:
    """One test; ``with`` sets its network up and ends it.

    Args:
        seed: the network's.
        left_open: what becomes of a test that leaves something open.

    Attributes:
        seed: as given.
        network: the network.
        digest: the hash of what was sent until the test returned or failed; None before.
    """

    def __init__(self, seed: int | str, left_open: Policy = "fail") -> None:
        self.seed = seed
        self._left_open = left_open
        self.digest: str | None = None
        self._stage = Stage(seed=seed)
        self._aside = ExitStack()
        self._users = {"network", "stack", "_tcpip_staged"}  # names of fixtures
        self._shared = False
        self._ended = False

    def __enter__(self) -> StagedTest:
        with ExitStack() as stack:
            stack.enter_context(self._stage)
            self._aside.enter_context(self._stage.aside())
            self._closing = stack.pop_all()
        self.network: Network = self._stage.network
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.close()
        self._closing.close()

    def _perform(self, call: Callable[[], Awaitable[Any]], name: str) -> Any:
        async def scenario(_: Network) -> Any:
            return await call()

        __tracebackhide__ = True
        self._aside.close()
        try:
            return self._stage.perform(scenario, name)
        except BaseException:
            self._ended = True  # whatever is open: that is no news
            raise
        finally:
            self._aside.enter_context(self._stage.aside())

    # --- The test -------------------------------------------------------------------------------------------------

    def test(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Run the test.

        It fails if it has left something open, or if something failed that it could not catch.

        Where fixtures use the network, services run until their ends, and what is left open is found only then.
        """
        __tracebackhide__ = True
        try:
            value = self._perform(call, "test")
        except (DeadlockError, TimeLimitError) as error:  # the text says where; the traceback is the loop's
            raise pytest.fail.Exception(f"{type(error).__name__}: {error}", pytrace=False) from None
        finally:
            self.digest = self.network.trace().digest()
        if not self._shared:
            self.finish()
        return value

    def finish(self) -> None:
        """See what is left open, unless that was done or something failed before."""
        __tracebackhide__ = True
        if self._ended:
            return
        self._ended = True
        self._aside.close()
        try:
            left = self._stage.end()
        finally:
            self._aside.enter_context(self._stage.aside())
        if left:
            who = "the test or its fixtures" if self._shared else "the test"
            report_left_open(who, left.values(), self._left_open)
        self._stage.check()

    def adopt(self, stack: NetworkStack) -> None:
        """Let a stack stay open after the test; what is open on it counts all the same."""
        self._stage.stacks[stack.interfaces[0].driver] = "the stack"

    # --- Its fixtures -----------------------------------------------------------------------------------------------

    def is_used_by(self, fixture: Any, coroutine: bool) -> bool:
        """Whether a fixture uses the network, itself or by another one. A coroutine does in any case."""
        if not coroutine and self._users.isdisjoint(fixture.argnames):
            return False
        self._users.add(fixture.argname)
        self._shared = self._shared or fixture.argname != STACK
        return True

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Run a fixture without an end."""

        async def run() -> Any:
            value = function(**arguments)
            return await value if inspect.iscoroutine(value) else value

        return self._perform(run, "fixture")

    def generate(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
        """Run a fixture with an end."""

        async def begin() -> Any:
            return await anext(generator) if hasattr(generator, "__anext__") else next(generator)

        async def end() -> bool:
            try:
                await begin()
            except StopAsyncIteration:
                return True
            except RuntimeError as error:  # what a StopIteration becomes
                if isinstance(error.__cause__, StopIteration):
                    return True
                raise
            return False

        generator = function(**arguments)
        yield self._perform(begin, "fixture")
        if not self._perform(end, "end of a fixture"):
            raise ValueError(f"the fixture {function.__name__} yields more than once")
