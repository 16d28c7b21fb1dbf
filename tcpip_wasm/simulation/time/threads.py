"""Finds the threads that a loop has to wait for, from their stack frames.

A thread that waits for the result of a `concurrent.futures.Future` waits for the loop, if no other thread is busy: then
the clock has to advance.
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
    """Return the threads of anyio's `to_thread` that have a job. They pass the result to the loop, and are idle then.

    Args:
        loop: the loop.
        known: threads that do not belong to it.
    """
    working = []
    for thread in threading.enumerate():
        idle = getattr(thread, "idle_workers", None)
        if idle is not None and getattr(thread, "loop", None) is loop and thread not in known and thread not in idle:
            working.append(thread)
    return working


def all_wait_for_results(known: Iterable[threading.Thread], jobs: int) -> bool:
    """Whether as many threads as there are jobs wait for the result of a future, and no other thread is busy.

    Args:
        known: threads that do not count, and the caller's.
        jobs: the number of jobs.
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
                return False  # its result is set, and the thread is about to continue
            waiting += 1
    return waiting >= jobs


def _future_of(caller: FrameType | None) -> Future[Any] | None:
    """Return the future whose `result` has called the waiting function, or None."""
    if caller is None or caller.f_code.co_name != "result" or not caller.f_code.co_filename.endswith(_FUTURES):
        return None
    future = caller.f_locals.get("self")
    return future if isinstance(future, Future) else None
