"""Tasks of any task factory are numbered, and end with their host."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from tcpip_wasm.simulation import Network, run
from tests.kit.simulation_hosts import echoed

CONTENT = bytes(range(256)) * 40


def plain(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def factories() -> list[Any]:
    """Return None, a custom factory, and the eager task factory of Python 3.12 and later."""
    factories: list[Any] = [None, plain]
    newer: Any = asyncio
    if hasattr(newer, "eager_task_factory"):
        factories += [newer.eager_task_factory, newer.create_eager_task_factory(asyncio.Task)]
    return factories


async def scenario(network: Network) -> tuple[bytes, list[str]]:
    host = network.host("lonely")
    names: list[str] = []

    async def wait() -> None:
        names.append(asyncio.current_task().get_name())  # type: ignore[union-attr]
        await asyncio.Event().wait()

    async def spawn() -> list[asyncio.Task[None]]:
        named = asyncio.create_task(wait(), name="named")
        assert named.get_name() == "named"
        made = [named, asyncio.create_task(wait()), asyncio.create_task(wait())]
        await asyncio.sleep(0)
        return made

    made = await host.run(spawn())
    host.crash()
    await asyncio.wait(made, timeout=1)
    assert all(task.cancelled() for task in made)
    names += [task.get_name() for task in made]
    return await echoed(network, CONTENT, loss=0.2), names


@pytest.mark.parametrize("factory", factories(), ids=lambda factory: getattr(factory, "__qualname__", "None"))
def test_a_factory(factory: Any) -> None:
    async def with_factory(network: Network) -> tuple[bytes, list[str]]:
        asyncio.get_running_loop().set_task_factory(factory)
        assert asyncio.get_running_loop().get_task_factory() is factory
        return await scenario(network)

    first, second = run(with_factory, seed=7), run(with_factory, seed=7)
    assert first.value[0] == second.value[0] == CONTENT
    assert first.value[1][3:] == second.value[1][3:]
    numbered = first.value[1][4:]
    if sys.version_info[:3] != (3, 13, 0):  # which calls them None where a factory made them
        assert len(set(numbered)) == 2
        assert all(name.startswith("Task-") for name in numbered)
    assert first.digest == second.digest
    assert not first.leaked


def test_objects_that_are_not_factories_are_refused() -> None:
    async def refused(network: Network) -> None:
        with pytest.raises(TypeError):
            asyncio.get_running_loop().set_task_factory(7)  # type: ignore[arg-type]

    run(refused)
