"""Scheduled calls, and captures of links."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tcpip_wasm.capture import read_capture
from tcpip_wasm.simulation import (
    Network,
    run,
)
from tests.kit.simulation_hosts import ask, serve_upper, two


def test_schedules() -> None:
    async def scenario(network: Network) -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        def note(text: str) -> None:
            seen.append((network.loop.time(), text))

        async def slow(text: str) -> None:
            await asyncio.sleep(1)
            note(text)

        await asyncio.sleep(1)
        network.at(5, note, "at 5")
        network.at(1, note, "now")
        network.after(2, note, "after 2")
        network.after(3, slow, "coroutine")
        network.after(2.5, note, "cancelled").cancel()
        await asyncio.sleep(10)
        return seen

    assert run(scenario).value == [(1.0, "now"), (3.0, "after 2"), (5.0, "at 5"), (5.0, "coroutine")]


def test_malformed_schedules() -> None:
    def call() -> None:
        raise AssertionError("called")

    async def coroutine() -> None:
        raise AssertionError("called")

    async def scenario(network: Network) -> None:
        await asyncio.sleep(5)
        with pytest.raises(ValueError, match=r"time: 3 s is past, it is 5 s since the run began; after\(\) counts"):
            network.at(3, call)
        for wrong in (float("inf"), float("nan")):
            for schedule in (network.at, network.after):
                with pytest.raises(ValueError, match=str(wrong)):
                    schedule(wrong, call)
        with pytest.raises(ValueError, match="delay: -1 is not within 0"):
            network.after(-1, call)
        for schedule in (network.at, network.after):
            with pytest.raises(TypeError, match=r"call must be a function \(network.at\(5, restart\), not restart"):
                schedule(6, coroutine())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="call must be a function"):
                schedule(6, network.host(f"h{len(network.hosts)}").crash())  # type: ignore[func-returns-value, arg-type]
            with pytest.raises(TypeError, match="must be a number"):
                schedule("6", call)  # type: ignore[arg-type]
        await asyncio.sleep(5)

    run(scenario)


def test_rounding_of_times_is_tolerated() -> None:
    async def scenario(network: Network) -> list[float]:
        called: list[float] = []
        await asyncio.sleep(0.8)
        network.at(sum([0.1] * 8), lambda: called.append(network.loop.time()))
        await asyncio.sleep(1)
        return called

    assert sum([0.1] * 8) < 0.8
    assert run(scenario).value == [0.8]


def test_a_run_in_a_notebook() -> None:
    """Where a loop runs already, the error names the call to use instead, which gives the same run."""

    async def cell() -> str | None:
        with pytest.raises(RuntimeError, match=r"notebook: there, await asyncio.to_thread\(run, scenario, seed=…\)"):
            run(_greeting, seed=3)
        return (await asyncio.to_thread(run, _greeting, seed=3)).digest

    result = run(_greeting, seed=3)
    assert result.value == b"QUESTION\n"
    assert asyncio.run(cell()) == result.digest


async def _greeting(network: Network) -> bytes:
    a, b = two(network)
    b.start(serve_upper)
    return await a.run(ask("b"))


def test_objects_that_are_not_scenarios() -> None:
    async def scenario(network: Network) -> None: ...

    def plain(network: Network) -> str:
        return "nothing to await"

    with pytest.raises(TypeError, match=r"scenario must be a coroutine function \(scenario, not scenario\(network\)\)"):
        run(scenario(None))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scenario must be a coroutine function"):
        run(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"scenario must be a coroutine function \(async def\).*'nothing to await'"):
        run(plain)  # type: ignore[arg-type]


def test_captures_of_links(tmp_path: Path) -> None:
    async def scenario(network: Network) -> tuple[int, int]:
        a, b = two(network, loss=0.2)
        c = network.host("c")
        network.link(b.interface("10.9.0.1/24"), c, name="other")
        network.capture(tmp_path / "all.pcapng")
        network.capture(tmp_path / "one.pcapng", "other")
        with pytest.raises(ValueError, match="'none' is not a link"):
            network.capture(tmp_path / "none.pcapng", "none")
        b.start(serve_upper)
        await a.run(ask("b"))
        await asyncio.sleep(5)
        seen = network.trace().observations
        return len(seen), sum(one.point == "other" for one in seen)

    result = run(scenario, seed=5)
    whole, part = list(read_capture(tmp_path / "all.pcapng")), list(read_capture(tmp_path / "one.pcapng"))
    assert (len(whole), len(part)) == result.value
    assert 0 < len(part) < len(whole)
    trace = result.network.trace().observations
    assert [one.frame for one in whole] == [one.frame for one in trace]
    assert [one.time for one in whole] == [round(one.time * 1e9) for one in trace]
