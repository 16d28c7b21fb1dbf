"""Lets a loop run to its end within a call, inside of a loop that runs already: that of Pyodide.

Pyodide's loop, which is the page's, always runs, and there is no other thread. While a call has not returned, neither
the page nor that loop runs, so that another loop can take its place until the call returns. It must not wait for the
page, and a loop in virtual time does not.

In other interpreters a loop that runs already is an error of the caller, and `outside_of_running_loop` is not used.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

IN_PYODIDE: Final = sys.platform == "emscripten"
"""Whether this is Pyodide, in a page or in Node: it has no threads, and a loop always runs."""


@contextmanager
def outside_of_running_loop() -> Iterator[None]:
    """Let no loop and no task be the running one, in a ``with`` block without ``await``."""
    loop = asyncio._get_running_loop()  # noqa: SLF001  the only call that does not raise
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    swap = asyncio.tasks._swap_current_task  # type: ignore[attr-defined]  # noqa: SLF001  of eager tasks, since 3.12
    swap(loop, None)
    asyncio._set_running_loop(None)  # noqa: SLF001  what loops call
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001
        asyncio.set_event_loop(loop)  # a runner leaves none
        swap(loop, task)
