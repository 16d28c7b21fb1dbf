"""Runs a coroutine test in virtual time: its fixtures, the test, and the ends of its fixtures, one after the other.

Owns the order, and when something counts as leaked. Code on the loop runs as in `tcpip_wasm.simulation.run`; between
two steps the loop does not run, and the process has its own clocks.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from tcpip_wasm.simulation import DeadlockError, Network, TimeLimitError
from tcpip_wasm.simulation.runs.runner import Session
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.testing.leaks import Policy, report_leaks

STACK = "_tcpip_stack_here"
"""The plugin's own coroutine fixture."""


class VirtualTest:
    """One test; ``with`` sets its network up and closes it.

    Args:
        seed: the network's seed.
        policy: what to do about a test that leaks something.

    Attributes:
        seed: as given.
        network: the network.
        digest: the hash of the trace when the test returned or failed; None before.
    """

    def __init__(self, seed: int | str, policy: Policy = "fail") -> None:
        self.seed = seed
        self._policy = policy
        self.digest: str | None = None
        self._session = Session(seed=seed)
        self._suspension = ExitStack()
        self._users = {"network", "stack", "_tcpip_virtual_test"}  # names of fixtures
        self._shared = False
        self._ended = False

    def __enter__(self) -> VirtualTest:
        with ExitStack() as stack:
            stack.enter_context(self._session)
            self._suspension.enter_context(self._session.suspended())
            self._closing = stack.pop_all()
        self.network: Network = self._session.network
        return self

    def __exit__(self, *_: object) -> None:
        self._suspension.close()
        self._closing.close()

    def _run_coroutine(self, call: Callable[[], Awaitable[Any]], name: str) -> Any:
        async def scenario(_: Network) -> Any:
            return await call()

        __tracebackhide__ = True
        self._suspension.close()
        try:
            return self._session.run_coroutine(scenario, name)
        except BaseException:
            self._ended = True  # leaks of a failed test are not reported
            raise
        finally:
            self._suspension.enter_context(self._session.suspended())

    # --- The test -------------------------------------------------------------------------------------------------

    def test(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Run the test.

        It fails if it leaks something, or if a callback or service failed with an exception that it could not catch.

        If fixtures use the network, services run until the fixtures have ended, and leaks are checked only then.
        """
        __tracebackhide__ = True
        try:
            value = self._run_coroutine(call, "test")
        except (DeadlockError, TimeLimitError) as error:  # the text says where tasks wait
            raise pytest.fail.Exception(f"{type(error).__name__}: {error}", pytrace=False) from None
        finally:
            self.digest = self.network.trace().digest()
        if not self._shared:
            self.finish()
        return value

    def finish(self) -> None:
        """Check for leaks, unless that was done or the test has failed."""
        __tracebackhide__ = True
        if self._ended:
            return
        self._ended = True
        self._suspension.close()
        try:
            leaked = self._session.end()
        finally:
            self._suspension.enter_context(self._session.suspended())
        if leaked:
            owner = "the test or its fixtures" if self._shared else "the test"
            report_leaks(owner, leaked.values(), self._policy)
        self._session.check()

    def adopt(self, stack: NetworkStack) -> None:
        """Let a stack stay open after the test; open sockets on it still count as leaked."""
        self._session.stacks[stack.interfaces[0].driver] = "the stack"

    # --- Its fixtures -----------------------------------------------------------------------------------------------

    def is_used_by(self, fixture: Any, coroutine: bool) -> bool:
        """Whether a fixture uses the network, directly or through another fixture. A coroutine always does."""
        if not coroutine and self._users.isdisjoint(fixture.argnames):
            return False
        self._users.add(fixture.argname)
        self._shared = self._shared or fixture.argname != STACK
        return True

    def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Run a fixture that returns a value."""

        async def run() -> Any:
            value = function(**arguments)
            return await value if inspect.iscoroutine(value) else value

        return self._run_coroutine(run, "fixture")

    def generate(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
        """Run a fixture that yields a value."""

        async def begin() -> Any:
            return await anext(generator) if hasattr(generator, "__anext__") else next(generator)

        async def end() -> bool:
            try:
                await begin()
            except StopAsyncIteration:
                return True
            except RuntimeError as error:  # a coroutine converts StopIteration to RuntimeError
                if isinstance(error.__cause__, StopIteration):
                    return True
                raise
            return False

        generator = function(**arguments)
        yield self._run_coroutine(begin, "fixture")
        if not self._run_coroutine(end, "end of a fixture"):
            raise ValueError(f"the fixture {function.__name__} yields more than once")
