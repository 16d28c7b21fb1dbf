"""Runs that fail: their messages, their captures, and logs."""

from __future__ import annotations

import asyncio
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.capture import Trace
from tcpip_wasm.simulation import (
    LOG_FORMAT,
    DeadlockError,
    Network,
    ScenarioError,
    SimulationError,
    TimeLimitError,
    network_of,
    run,
)
from tests.kit.simulation_hosts import ask, serve_upper, star, two


async def talk(network: Network) -> None:
    a, b = two(network)
    b.start(serve_upper)
    await a.run(ask("b"))


async def fails(network: Network) -> None:
    await talk(network)
    raise LookupError("the scenario's own")


async def blocks(network: Network) -> None:
    await talk(network)
    await asyncio.Event().wait()


async def fails_beside(network: Network) -> None:
    await talk(network)
    network.loop.call_soon(int, "x")
    await asyncio.sleep(0)


async def fails_in_service(network: Network) -> None:
    async def service() -> None:
        await asyncio.sleep(3)
        raise ArithmeticError("of a service")

    await talk(network)
    network.hosts["a"].start(service)
    await asyncio.sleep(10)


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        (fails, LookupError),
        (blocks, DeadlockError),
        (fails_beside, ScenarioError),
        (fails_in_service, ArithmeticError),
    ],
)
def test_exceptions_say_how_to_repeat_the_run(scenario: object, kind: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    caught = []
    for _ in range(2):
        with pytest.raises(kind) as one:
            run(scenario, seed="13 b", capture=path)  # type: ignore[arg-type]
        caught.append(one.value)
    first, second = caught
    assert first.__notes__ == second.__notes__
    (note,) = first.__notes__
    network = network_of(first)
    assert network is not None
    trace = network.trace()
    assert note.startswith("seed '13 b', ")
    assert note.endswith("; repeat with run(…, seed='13 b')")
    assert f"; trace {run_digest(scenario)}; " in note
    assert len(trace.tcp(port=7)) > 6
    assert Trace.load(path).digest() == trace.digest()
    back = pickle.loads(pickle.dumps(first))
    assert back.__notes__ == first.__notes__, "exceptions travel"
    assert network_of(back) is None
    if isinstance(first, SimulationError):
        assert first.network is network
        assert "seed '13 b'" in str(first)


def run_digest(scenario: object) -> str:
    """Return the trace's hash at the end of the scenario."""
    found: list[str] = []

    async def wrapped(network: Network) -> None:
        try:
            await scenario(network)  # type: ignore[operator]
        finally:
            found.append(network.trace().digest())

    with pytest.raises(Exception, match=r".*"):
        run(wrapped, seed="13 b")
    return found[0]


def test_limits_name_the_seed() -> None:
    async def forever(network: Network) -> None:
        await asyncio.sleep(1e9)

    with pytest.raises(TimeLimitError, match="of virtual time is reached with seed 5; these tasks wait"):
        run(forever, seed=5, limit=10)
    assert network_of(ValueError()) is None


def test_a_capture_that_cannot_be_opened() -> None:
    with pytest.raises(FileNotFoundError):
        run(talk, capture="/nonexistent/a.pcapng")


def test_a_capture_of_a_run_without_a_trace(tmp_path: Path) -> None:
    result = run(talk, seed=1, trace=False, capture=tmp_path / "a.pcapng")
    assert result.digest is None
    assert len(result.network.trace()) == 0
    whole = run(talk, seed=1)
    assert Trace.load(tmp_path / "a.pcapng").digest() == whole.network.trace().digest()


def test_only_the_digest() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network, loss=0.05, bandwidth=1e6)
        b.start(serve_upper)

        async def client() -> None:
            for number in range(100):
                await ask("b", question=b"%d" % number * 100 + b"\n")

        await a.run(client())

    hashed, whole = run(scenario, seed=1, trace="digest"), run(scenario, seed=1)
    assert hashed.digest == whole.digest
    assert len(hashed.network.trace()) == 0
    assert len(whole.network.trace()) > 900


# --- Logs ------------------------------------------------------------------------------------------------------------


async def says(network: Network) -> None:
    async def speak() -> None:
        await asyncio.sleep(1.5)
        logging.getLogger("program").info("what there is to say")
        logging.getLogger("program").debug("too much")

    a, _ = two(network)
    await a.run(speak())


LINE = "     1.500000 a            INFO    program: what there is to say\n"


def test_logs_go_to_a_stream_or_a_handler() -> None:
    level = logging.getLogger().level
    stream = io.StringIO()
    run(says, log=stream)
    assert stream.getvalue() == LINE
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    run(says, log=handler)
    assert LINE in stream.getvalue()
    assert "too much" in stream.getvalue()
    assert handler.formatter is None
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(host)s says %(message)s"))
    run(says, log=handler)
    assert stream.getvalue() == "a says what there is to say\n"
    assert logging.getLogger().level == level
    assert handler not in logging.getLogger().handlers


def test_the_format_accepts_records_without_a_run() -> None:
    record = logging.makeLogRecord({"msg": "hello", "name": "x", "levelname": "INFO"})
    assert logging.Formatter(LOG_FORMAT).format(record) == "          nan -            INFO    x: hello"


# --- Random numbers --------------------------------------------------------------------------------------------------


def test_random_streams_of_the_scenario() -> None:
    def scenario_of(others: int) -> list[float]:
        async def scenario(network: Network) -> list[float]:
            for number in range(others):
                network.random(f"other {number}").random()
                network.loop.call_soon(__import__("random").random)
            await talk(network)
            first = network.random("mine").random()
            assert network.random("mine") is network.random("mine")
            return [first, network.random("mine").random()]

        return run(scenario, seed=9).value

    drawn = scenario_of(0)
    assert drawn == scenario_of(3)
    assert drawn[0] != drawn[1]

    async def refused(network: Network) -> None:
        for name in ("a/b", "random", "urandom"):
            with pytest.raises(ValueError, match="reserved for the network"):
                network.random(name)
        with pytest.raises(TypeError, match="name must be text"):
            network.random(7)  # type: ignore[arg-type]
        assert network.random("x").random() != drawn[0]

    run(refused, seed=9)


def test_another_link_does_not_change_other_draws() -> None:
    """Neither loss and delay of other links, nor the frames that hosts send over them."""

    async def scenario(network: Network, more: bool) -> list[tuple[float, bytes, str]]:
        a, b, c, d = (network.host(name) for name in "abcd")
        settings: dict[str, Any] = {"delay": 0.01, "jitter": 0.005, "loss": 0.1, "duplicate": 0.02, "bandwidth": 1e6}
        network.link(a, b, **settings)
        if more:
            link = network.link(c, d, **settings)
            d.start(serve_upper)
            network.at(2.0, lambda: link.change(loss=0.2))
        b.start(serve_upper)

        async def client(to: str) -> None:
            for number in range(20):
                await ask(to, question=b"%d" % number * 300 + b"\n")

        tasks = [a.run(client("b"))]
        if more:
            tasks.append(c.run(client("d")))
        await tasks[0]
        seen = network.trace().at("a-b").observations
        await asyncio.gather(*tasks)
        # Sorted, because what both ends send at the same nanosecond has no order of its own.
        return sorted((one.time, one.frame, one.comment or "") for one in seen)

    alone, beside = run(lambda network: scenario(network, False), seed=6), run(lambda n: scenario(n, True), seed=6)
    assert alone.value == beside.value
    assert len(alone.value) > 100
    assert alone.digest != beside.digest
    assert len(beside.network.trace().at("c-d").dropped("loss")) > 10


# --- Leaks -----------------------------------------------------------------------------------------------------------


def test_leaks_are_listed_host_by_host() -> None:
    async def scenario(network: Network) -> None:
        hosts = star(network, 3)

        async def keep(to: str) -> None:
            kept = await asyncio.open_connection(to, 7)
            await asyncio.sleep(1e6)
            del kept

        hosts[0].start(serve_upper)
        network.kept = [hosts[2].run(keep("h0")), hosts[1].run(keep("h0"))]  # type: ignore[attr-defined]
        network.kept.append(network.loop.create_task(asyncio.sleep(1e6)))  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    left = run(scenario).leaked
    assert [text.split(" on ")[1][:2] for text in left[1:]] == sorted(text.split(" on ")[1][:2] for text in left[1:])
    assert " on " not in left[0]
    (server,) = [text for text in left if "h0/serve_upper" in text]
    assert "wait_closed() of <TcpServer" in server
    assert "waits until its open connections are closed: see close_clients() and abort_clients()" in server


def test_a_service_that_does_not_end_is_reported() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        b.start(serve_upper)

        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(0.1)
                    await ask("b")
                except (asyncio.CancelledError, OSError):
                    pass

        a.start(stubborn)
        await asyncio.sleep(1)

    result = run(scenario)
    assert any("a/stubborn" in text for text in result.leaked)
    assert result.network.loop.time() < 32
