"""Lists tasks, sockets, servers and stacks that a scenario has not closed, without closing them."""

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
    network: Network, stacks: Mapping[Driver, str] | None = None, *, exclude: Iterable[asyncio.Task[Any]] = ()
) -> dict[Any, str]:
    """Return each object that is still open, with a text: first those on no host, then host by host, then stacks.

    Objects that a service of a host opened end with the run and do not count, but a service that does not end does.

    Args:
        network: the scenario's network.
        stacks: drivers of stacks that may stay open, in addition to those of the hosts, with their names in texts.
        exclude: tasks that do not belong to the scenario.
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
    tasks = open_tasks(unfinished, exclude)
    found = {task: text for task, text in tasks.items() if _host_of(task) is None}
    for host in network.hosts.values():
        found |= {task: text for task, text in tasks.items() if _host_of(task) is host}
        found |= open_sockets({driver: name for driver, name in drivers.items() if name == host.name})
    return found | open_sockets(drivers) | open_stacks(network.loop, drivers)


def _host_of(task: asyncio.Task[Any]) -> Host | None:
    incarnation = getattr(task, "incarnation", None)
    return None if incarnation is None else incarnation.host


def open_tasks(tasks: Iterable[asyncio.Task[Any]], exclude: Iterable[asyncio.Task[Any]] = ()) -> dict[Any, str]:
    """Return those of some tasks that are not done, each with a text."""
    others = set(exclude)
    return {task: f"task {describe_task(task).strip()}" for task in tasks if task not in others and not task.done()}


def open_sockets(stacks: Mapping[Driver, str]) -> dict[Any, str]:
    """Return the open sockets and servers of stacks, each with a text.

    Args:
        stacks: drivers of stacks, with their names in texts.
    """
    return {target: f"{target!r} on {name}" for driver, name in stacks.items() for target in _sockets(driver)}


def open_stacks(loop: asyncio.AbstractEventLoop, exclude: Container[Driver]) -> dict[Any, str]:
    """Return the open stacks of a loop, each with a text; `exclude` has the drivers of those that may stay open."""
    found = [
        (_stack(driver), driver)
        for driver in drivers_of(loop)
        if driver not in exclude and driver.context.get(service) is None
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
            continue  # it was closed, and TCP sends the rest
        found.append(target)
    return found


def _stack(driver: Driver) -> str:
    interfaces = [repr(handler) for handler in driver.handlers.values() if isinstance(handler, Interface)]
    return f"stack with {', '.join(interfaces) or 'no interface'}"
