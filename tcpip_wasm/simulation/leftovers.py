"""What a scenario has left open: tasks, sockets, servers, stacks of its own. It is only named here, not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from tcpip_wasm.driver import Driver, drivers_of
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.waiting import describe_task


def left_open(network: Network, tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return one text for each thing that is still open.

    Args:
        network: the scenario's network.
        tasks: tasks that are no business of the scenario.
    """
    others = set(tasks)
    found = [
        f"task {describe_task(task).strip()}" for task in network.loop.unfinished() if task not in others
    ]
    drivers: dict[Driver, None] = {}
    for host in network.hosts.values():
        if host.up:
            driver = host.stack.interfaces[0].driver
            drivers[driver] = None
            found += [f"{what} on {host.name}" for what in _sockets(driver)]
    foreign = [_stack(driver) for driver in drivers_of(network.loop) if driver not in drivers]
    return found + sorted(foreign)


def _sockets(driver: Driver) -> list[str]:
    found: dict[object, str] = {}  # a server has a handle for each address
    for handler in driver.handlers.values():
        target = getattr(handler, "_transport", handler)
        target = target() if callable(target) else target  # a weak reference
        if target is None or isinstance(target, Interface):
            continue
        if isinstance(target, asyncio.BaseTransport) and target.is_closing():
            continue  # what is left to do is TCP's
        found[target] = repr(target)
    return list(found.values())


def _stack(driver: Driver) -> str:
    interfaces = [repr(handler) for handler in driver.handlers.values() if isinstance(handler, Interface)]
    return f"stack with {', '.join(interfaces) or 'no interface'}"
