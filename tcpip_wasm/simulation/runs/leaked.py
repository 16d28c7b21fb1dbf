"""What a scenario has left open: tasks, sockets, servers, stacks of its own. It is only named here, not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping
from typing import Any

from tcpip_wasm.driver import Driver, drivers_of
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.simulation.host import Host
from tcpip_wasm.simulation.network import Network
from tcpip_wasm.simulation.place import service
from tcpip_wasm.simulation.runs.task_dump import describe_task


def still_open(
    network: Network, stacks: Mapping[Driver, str] | None = None, *, but: Iterable[asyncio.Task[Any]] = ()
) -> dict[Any, str]:
    """Return each thing that is still open, with a text: first what is on no host, then host by host, then stacks.

    What a service of a host has opened ends with the run and is not among it, but for a service that refuses to end.

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
    services = [task for host in network.hosts.values() for task in host.unfinished_services()]
    unfinished = [
        task for task in network.loop.unfinished() if getattr(task, "service", None) is None or task in services
    ]
    tasks = open_tasks(unfinished, but)
    found = {task: text for task, text in tasks.items() if _host_of(task) is None}
    for host in network.hosts.values():
        found |= {task: text for task, text in tasks.items() if _host_of(task) is host}
        found |= open_sockets({driver: name for driver, name in drivers.items() if name == host.name})
    return found | open_sockets(drivers) | open_stacks(network.loop, drivers)


def _host_of(task: asyncio.Task[Any]) -> Host | None:
    life = getattr(task, "life", None)
    return None if life is None else life.host


def open_tasks(tasks: Iterable[asyncio.Task[Any]], but: Iterable[asyncio.Task[Any]] = ()) -> dict[Any, str]:
    """Return those of some tasks that are not done, each with a text."""
    others = set(but)
    return {task: f"task {describe_task(task).strip()}" for task in tasks if task not in others and not task.done()}


def open_sockets(stacks: Mapping[Driver, str]) -> dict[Any, str]:
    """Return what is open on stacks, each with a text.

    Args:
        stacks: drivers of stacks, with what these are called.
    """
    return {target: f"{target!r} on {name}" for driver, name in stacks.items() for target in _sockets(driver)}


def open_stacks(loop: asyncio.AbstractEventLoop, but: Container[Driver]) -> dict[Any, str]:
    """Return the stacks of a loop which are not gone, each with a text; `but` are drivers of those that may stay."""
    found = [
        (_stack(driver), driver)
        for driver in drivers_of(loop)
        if driver not in but and driver.context.get(service) is None
    ]
    return {driver: text for text, driver in sorted(found, key=lambda one: one[0])}


def _sockets(driver: Driver) -> list[Any]:
    found = []
    owners = getattr(driver.handlers, "owners", {})
    for handle, handler in driver.handlers.items():
        if handle in owners:
            continue
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
