"""Describes where each task is suspended, and what it waits for.

Reads coroutines and frames, and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

import tcpip_wasm
from tcpip_wasm.simulation.place import place
from tcpip_wasm.sockets.tcp.server import TcpServer

_LIBRARIES: Final = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep for module in (asyncio, tcpip_wasm) if module.__file__
)
_MAX_DEPTH: Final = 100
_DESCRIBED: Final = (
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.Queue,
    asyncio.Barrier,
    asyncio.TaskGroup,
)


def describe_tasks(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return one text for each task that is not done."""
    return [describe_task(task) for task in tasks if not task.done()]


def describe_task(task: asyncio.Task[Any]) -> str:
    """Return a task's name, its host, the line of its own code where it is suspended, and what it waits for."""
    frames = _frames(task)
    incarnation = getattr(task, "incarnation", None)
    where = f" on {incarnation.host.name}" if incarnation is not None else ""
    text = f"  {task.get_name()}{where}"
    if frames:
        own = next((frame for frame in reversed(frames) if not _is_library(frame)), frames[-1])
        text += f", {own.f_code.co_filename}:{own.f_lineno} in {own.f_code.co_name}"
    return f"{text}: {_reason(task, frames)}"


def _frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Return the frames of a task's coroutine and of those it awaits, the outermost first."""
    frames = []
    at: Any = task.get_coro()
    for _ in range(_MAX_DEPTH):
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        if frame is not None:
            frames.append(frame)
        following = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
        if following is None:
            break
        at = following
    return frames


def _is_library(frame: FrameType) -> bool:
    return os.path.abspath(frame.f_code.co_filename).startswith(_LIBRARIES)


def _reason(task: asyncio.Task[Any], frames: list[FrameType]) -> str:
    for frame in reversed(frames):
        if not _is_library(frame):
            break  # outer frames only wait for this one
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "_wait" and "fs" in frame.f_locals:
            return "some of " + _names(frame.f_locals["fs"])
        if owner is None:
            continue
        if isinstance(owner, asyncio.StreamReader):
            return f"reading from {_ends(getattr(owner, '_transport', None))}"
        if isinstance(owner, asyncio.StreamWriter):
            doing = "the end of" if "close" in frame.f_code.co_name else "writing to"
            return f"{doing} {_ends(owner.transport)}"
        if isinstance(owner, _DESCRIBED):
            return f"{frame.f_code.co_name}() of {_short(owner)}"
        if type(owner).__module__.startswith("tcpip_wasm."):
            hint = ""
            if isinstance(owner, TcpServer) and frame.f_code.co_name == "wait_closed":
                # The exit of ``async with server`` waits for that, too, as asyncio's server does from Python 3.12 on.
                hint = ", which waits until its open connections are closed: see close_clients() and abort_clients()"
            return f"{frame.f_code.co_name}() of {_short(owner)}{hint}"
    waiter = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        return f"the task {waiter.get_name()}"
    children = getattr(waiter, "_children", None)
    if children is not None:
        return "all of " + _names(children)
    if waiter is None:
        return "nothing: it is runnable"
    inside = f" in {frames[-1].f_code.co_name}()" if frames else ""
    return f"{_short(waiter)}{inside}"


def _names(futures: Iterable[asyncio.Future[Any]]) -> str:
    names = [one.get_name() if isinstance(one, asyncio.Task) else _short(one) for one in futures if not one.done()]
    return ", ".join(sorted(names))


def _ends(transport: Any) -> str:
    if transport is None:
        return "a stream without a transport"
    own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    if own is None and peer is None:
        return _short(transport)
    return f"{_address(peer)} (local address {_address(own)})"


def _address(name: Any) -> str:
    if not isinstance(name, tuple) or len(name) < 2:
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def current_host_name() -> str:
    """Return the name of the host that the caller runs on, or ``-``."""
    incarnation = place.get()
    return "-" if incarnation is None else incarnation.host.name
