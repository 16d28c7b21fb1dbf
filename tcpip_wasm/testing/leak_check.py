"""A stack on the running loop, and a check for tasks, sockets and stacks that a test leaks there.

Compares what is open before and after the test. Tasks and stacks that are older than the stack are ignored: many tests
may share a loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tcpip_wasm.driver import drivers_of
from tcpip_wasm.simulation.runs.leaked import open_sockets, open_stacks, open_tasks
from tcpip_wasm.simulation.seeds import derive
from tcpip_wasm.stack import NetworkStack, create_stack
from tcpip_wasm.testing.leaks import Policy, report_leaks

_ITERATIONS: Final = 10
"""Loop iterations in which cancelled tasks and closed sockets have to end."""


class LeakCheckedStack:
    """A stack for one test; ``async with`` creates and closes it.

    Args:
        seed: the seed of its random choices.
        policy: what to do about a test that leaks something.

    Attributes:
        stack: the stack.
    """

    stack: NetworkStack

    def __init__(self, seed: int | str, policy: Policy = "fail") -> None:
        self._seed = seed
        self._policy = policy
        self._reported = False
        self._before: dict[Any, str] = {}

    async def __aenter__(self) -> LeakCheckedStack:
        self._loop = asyncio.get_running_loop()
        self._stacks = set(drivers_of(self._loop))
        self._tasks = asyncio.all_tasks(self._loop)
        self.stack = await create_stack(seed=derive(self._seed, "stack").encode())
        self._driver = self.stack.interfaces[0].driver
        self._stacks.add(self._driver)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    def _open(self) -> dict[Any, str]:
        tasks = sorted(asyncio.all_tasks(self._loop), key=lambda task: task.get_name())
        sockets = open_sockets({self._driver: "the stack"})
        return {**open_tasks(tasks, self._tasks), **sockets, **open_stacks(self._loop, self._stacks)}

    def begin(self) -> None:
        """Record at the beginning of the test what is open: fixtures may close it later."""
        self._before = self._open()

    def check(self) -> None:
        """Report what the test has leaked, after it has returned and while the loop is not running."""
        __tracebackhide__ = True
        if self._new() and not self._loop.is_running() and not self._loop.is_closed():
            self._loop.run_until_complete(_iterate())
        leaked = self._new()
        if leaked:
            self._reported = True
            report_leaks("the test", leaked.values(), self._policy)

    def _new(self) -> dict[Any, str]:
        return {item: text for item, text in self._open().items() if item not in self._before}

    def skip(self) -> None:
        """Do not report leaks: the test has failed."""
        self._reported = True

    async def finish(self) -> None:
        """Report what is still open after the fixtures have ended."""
        __tracebackhide__ = True
        if self._reported:
            return
        await _iterate()
        # Only tasks that existed in the test: others belong to a plugin that runs fixtures on this loop.
        leaked = {
            item: text
            for item, text in self._open().items()
            if item in self._before or not isinstance(item, asyncio.Task)
        }
        if leaked:
            report_leaks("the test or its fixtures", leaked.values(), self._policy)


async def _iterate() -> None:
    for _ in range(_ITERATIONS):
        await asyncio.sleep(0)
