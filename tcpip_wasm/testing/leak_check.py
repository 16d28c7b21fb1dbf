"""A stack on the running loop, whose ever it is, and what a test leaves open there.

Owns the comparison of before and after. Tasks and stacks that were there before the stack was made are nobody's
business: a loop may be used by many tests.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tcpip_wasm.driver import drivers_of
from tcpip_wasm.simulation.runs.leaked import open_sockets, open_stacks, open_tasks
from tcpip_wasm.simulation.seeds import derive
from tcpip_wasm.stack import NetworkStack, create_stack
from tcpip_wasm.testing.left_open import Policy, report_left_open

_TURNS: Final = 10
"""Turns of the loop that what was cancelled or closed has to end."""


class WatchedStack:
    """A stack for one test; ``async with`` makes and closes it.

    Args:
        seed: what its random choices derive from.
        left_open: what becomes of a test that leaves something open.

    Attributes:
        stack: the stack.
    """

    stack: NetworkStack

    def __init__(self, seed: int | str, left_open: Policy = "fail") -> None:
        self._seed = seed
        self._left_open = left_open
        self._told = False
        self._before: dict[Any, str] = {}

    async def __aenter__(self) -> WatchedStack:
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
        """The test begins: what is open by now, a fixture may close later."""
        self._before = self._open()

    def check(self) -> None:
        """The test has returned, and the loop stands: it fails if it has left something open."""
        __tracebackhide__ = True
        if self._new() and not self._loop.is_running() and not self._loop.is_closed():
            self._loop.run_until_complete(_turns())
        left = self._new()
        if left:
            self._told = True
            report_left_open("the test", left.values(), self._left_open)

    def _new(self) -> dict[Any, str]:
        return {thing: text for thing, text in self._open().items() if thing not in self._before}

    def give_up(self) -> None:
        """The test has failed: whatever is open is no news."""
        self._told = True

    async def finish(self) -> None:
        """The fixtures have ended, too: nothing may be open any more."""
        __tracebackhide__ = True
        if self._told:
            return
        await _turns()
        # Of tasks only those that the test has seen: others belong to whoever runs fixtures on this loop.
        left = {
            thing: text
            for thing, text in self._open().items()
            if thing in self._before or not isinstance(thing, asyncio.Task)
        }
        if left:
            report_left_open("the test or its fixtures", left.values(), self._left_open)


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
