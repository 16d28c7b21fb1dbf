"""Waits for what another process, thread or library changes and sends no event for: a file, a counter, an address.

Where there is an event, a test waits for that, and in virtual time it advances the clock.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

__all__ = ["poll", "poll_blocking"]

T = TypeVar("T")

_INTERVAL = 0.02
_SECONDS = 60.0
"""Time limit of what takes a few seconds; it ends a test that hangs, and decides none."""


@overload
async def poll(look: Callable[[], Awaitable[T | None]], *, seconds: float = ...) -> T: ...


@overload
async def poll(look: Callable[[], T | None], *, seconds: float = ...) -> T: ...


async def poll(look: Callable[[], Any], *, seconds: float = _SECONDS) -> Any:
    """Call a function again and again until it returns something true, and return that.

    Args:
        look: a function or a coroutine function. What it raises ends the wait.
        seconds: the time limit.

    Raises:
        TimeoutError: it returned nothing true in that time.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = look()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(_INTERVAL)


def poll_blocking(look: Callable[[], T], *, seconds: float = _SECONDS) -> T:
    """Do what `poll` does, in a thread without an event loop."""
    until = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > until:
            raise TimeoutError(f"nothing in {seconds} s: the latest result is {found!r}")
        time.sleep(_INTERVAL)
    return found
