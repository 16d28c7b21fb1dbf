"""Which threads a loop has to wait for: what each does at the moment, as far as that can be seen from outside.

Owns the reading of other threads' frames. A thread that waits for the result of a `concurrent.futures.Future` waits for
the loop, if nobody else is at work: then the clock has to go on for it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import FrameType
from typing import Any, Final

_FUTURES: Final = os.path.join("concurrent", "futures", "_base.py")
_WAITING: Final = ("threading.py", "queue.py", os.path.join("concurrent", "futures", "thread.py"))


def working_for(loop: object, known: Iterable[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of anyio's `to_thread` that have a job. They report to the loop, and then are idle again.

    Args:
        loop: whose threads.
        known: threads that are none of its.
    """
    working = []
    for thread in threading.enumerate():
        idle = getattr(thread, "idle_workers", None)
        if idle is not None and getattr(thread, "loop", None) is loop and thread not in known and thread not in idle:
            working.append(thread)
    return working


def all_wait_for_results(known: Iterable[threading.Thread], jobs: int) -> bool:
    """Whether as many threads as there are jobs wait for the result of a future, and no other is at work.

    Args:
        known: threads that do not count, and the caller's.
        jobs: how many there are.
    """
    frames = sys._current_frames()  # noqa: SLF001  CPython's documented way, though its name begins so
    waiting = 0
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if thread in known or frame is None:
            continue
        if not frame.f_code.co_filename.endswith(_WAITING):
            return False
        future = _future_of(frame.f_back)
        if future is not None:
            if future.done():
                return False  # it was told, and has yet to wake
            waiting += 1
    return waiting >= jobs


def _future_of(caller: FrameType | None) -> Future[Any] | None:
    """Return the future of which a method has called what waits."""
    if caller is None or caller.f_code.co_name != "result" or not caller.f_code.co_filename.endswith(_FUTURES):
        return None
    future = caller.f_locals.get("self")
    return future if isinstance(future, Future) else None
