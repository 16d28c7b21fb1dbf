"""What a scenario has left open: tasks, sockets, servers, stacks of its own. It is only named here, not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from tcpip_wasm.driver import Driver, drivers_of
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.waiting import describe_task


def still_open(
    network: Network, stacks: Mapping[Driver, str] | None = None, *, but: Iterable[asyncio.Task[Any]] = ()
) -> dict[Any, str]:
    """Return each thing that is still open, with a text.

    Args:
        network: the scenario's network.
        stacks: drivers of stacks that are to stay, beside those of the hosts, with what they are called.
        but: tasks that are no business of the scenario.
    """
    drivers: dict[Driver, str] = {}
    for host in network.hosts.values():
        if host.up:
            drivers[host.stack.interfaces[0].driver] = host.name
    drivers.update(stacks or {})
    return {**open_tasks(network.loop.unfinished(), but), **open_sockets(network.loop, drivers)}


def open_tasks(tasks: Iterable[asyncio.Task[Any]], but: Iterable[asyncio.Task[Any]] = ()) -> dict[Any, str]:
    """Return those of some tasks that are not done, each with a text."""
    others = set(but)
    return {
        task: f"task {describe_task(task).strip()}" for task in tasks if task not in others and not task.done()
    }


def open_sockets(loop: asyncio.AbstractEventLoop, stacks: Mapping[Driver, str]) -> dict[Any, str]:
    """Return what is open on stacks, and the other stacks of a loop, each with a text.

    Args:
        loop: whose stacks they are.
        stacks: drivers of stacks that are to stay, with what they are called.
    """
    found: dict[Any, str] = {}
    for driver, name in stacks.items():
        for target in _sockets(driver):
            found[target] = f"{target!r} on {name}"
    foreign = [(_stack(driver), driver) for driver in drivers_of(loop) if driver not in stacks]
    for text, driver in sorted(foreign, key=lambda one: one[0]):
        found[driver] = text
    return found


def _sockets(driver: Driver) -> list[Any]:
    found = []
    for handler in driver.handlers.values():
        target = getattr(handler, "_transport", handler)
        target = target() if callable(target) else target  # a weak reference
        if target is None or isinstance(target, Interface):
            continue
        if isinstance(target, asyncio.BaseTransport) and target.is_closing():
            continue  # what is left to do is TCP's
        found.append(target)
    return found


def _stack(driver: Driver) -> str:
    interfaces = [repr(handler) for handler in driver.handlers.values() if isinstance(handler, Interface)]
    return f"stack with {', '.join(interfaces) or 'no interface'}"
