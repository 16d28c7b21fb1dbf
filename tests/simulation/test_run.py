"""`run`: its result and exceptions, what it restores, leaks of a scenario, existing programs."""

from __future__ import annotations

import asyncio
import datetime
import gc
import logging
import os
import random
import secrets
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.simulation import (
    LOG_FORMAT,
    DeadlockError,
    Network,
    ScenarioError,
    SimulationError,
    TimeLimitError,
    run,
)
from tests.kit.simulation_hosts import ask, serve_upper, two, upper

# --- Results and errors ---------------------------------------------------------------------------------------------


def test_the_result_of_a_run() -> None:
    async def scenario(network: Network) -> str:
        assert not network.hosts
        await asyncio.sleep(90)
        return "value"

    result = run(scenario, seed="x")
    assert (result.value, result.seed, result.duration) == ("value", "x", 90.0)
    assert (result.leaked, result.failures) == ((), ())
    assert result.digest == run(scenario).digest, "nothing was sent"
    assert run(scenario, trace=False).digest is None


def test_exceptions_of_the_scenario() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        b.start(serve_upper)
        await a.run(ask("b"))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(scenario)
    assert run(_nothing).value is None, "and everything was put back"


async def _nothing(network: Network) -> None:
    return None


def test_a_service_that_fails_ends_the_run() -> None:
    async def service() -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError("service")

    async def scenario(network: Network) -> None:
        network.host("a").start(service)
        await asyncio.sleep(3600)

    with pytest.raises(ZeroDivisionError, match="service"):
        run(scenario)


def test_a_scheduled_call_that_fails_ends_the_run() -> None:
    async def later() -> None:
        raise ZeroDivisionError("later")

    for call in (lambda: 1 // 0, later):

        async def scenario(network: Network, call: object = call) -> None:
            network.at(5, call)  # type: ignore[arg-type]
            await asyncio.sleep(3600)

        with pytest.raises(ZeroDivisionError):
            run(scenario)


def test_failures_of_callbacks_and_tasks() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError("not retrieved")

    async def scenario(network: Network) -> None:
        host = network.host("a")
        network.loop.call_later(1, lambda: [][0])
        task = host.run(fail())
        heard = host.run(fail())
        with pytest.raises(ZeroDivisionError):
            await heard
        assert task.done()

    with pytest.raises(ScenarioError, match=r"IndexError.*ZeroDivisionError: not retrieved") as caught:
        run(scenario)
    assert [type(one) for one in caught.value.failures] == [IndexError, ZeroDivisionError]
    assert isinstance(caught.value.__cause__, IndexError)
    assert [type(one) for one in run(scenario, strict=False).failures] == [IndexError, ZeroDivisionError]


def test_limits_and_deadlocks() -> None:
    async def for_ever(network: Network) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(100)

    with pytest.raises(TimeLimitError, match="limit of 86400 s"):
        run(for_ever)

    async def reading(network: Network) -> None:
        a, b = two(network)

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async def serve() -> None:
            await asyncio.start_server(silent, port=7)
            await asyncio.Event().wait()

        b.start(serve)
        await a.run(ask("b"), name="asks")

    with pytest.raises(DeadlockError) as caught:
        run(reading)
    texts = {text.strip().partition(",")[0]: text for text in caught.value.waiting}
    assert list(texts)[:3] == ["scenario", "b/serve on b", "asks on a"]
    assert "reading from [fd00::2]:7 (local address [fd00::1]:" in texts["asks on a"]
    assert "simulation_hosts.py" in texts["asks on a"]
    assert "the task asks" in texts["scenario"]
    assert any("in silent: wait() of <asyncio.locks.Event" in text for text in texts.values())


def test_inside_another_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="one runs in this thread already"):
            run(_nothing)

    asyncio.run(main())
    with pytest.raises(TypeError, match="a network needs a VirtualLoop"):
        asyncio.run(_make_network())


async def _make_network() -> None:
    Network(1)


def test_garbage_collection_is_restored() -> None:
    async def scenario(network: Network) -> bool:
        return gc.isenabled()

    assert gc.isenabled()
    assert run(scenario).value is False
    assert gc.isenabled()


def test_a_task_that_ignores_cancellation() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def scenario(network: Network) -> None:
        network.host("a").run(stubborn(), name="stubborn")
        await asyncio.sleep(1)

    result = run(scenario)
    assert len(result.leaked) == 1
    assert "task stubborn on a" in result.leaked[0]


# --- Clocks, random numbers, logging --------------------------------------------------------------------------------


def test_clocks_follow() -> None:
    real = time.time(), time.monotonic(), time.perf_counter()
    functions = time.time, time.monotonic_ns, os.urandom

    async def scenario(network: Network) -> list[object]:
        await asyncio.sleep(3661.25)
        in_thread = await asyncio.to_thread(time.time)
        return [
            time.time(),
            time.time_ns(),
            time.monotonic(),
            time.monotonic_ns(),
            time.perf_counter(),
            time.perf_counter_ns(),
            in_thread,
            datetime.datetime.fromtimestamp(time.time(), datetime.UTC).isoformat(),
            time.strftime("%H:%M:%S", time.gmtime(time.time())),
        ]

    assert run(scenario).value == [
        946688461.25,
        946688461250000000,
        3661.25,
        3661250000000,
        3661.25,
        3661250000000,
        946688461.25,
        "2000-01-01T01:01:01.250000+00:00",
        "01:01:01",
    ]
    assert run(scenario, epoch=1e9).value[0] == 1_000_003_661.25
    with pytest.raises(ZeroDivisionError):
        run(_fail)
    assert (time.time, time.monotonic_ns, os.urandom) == functions
    for before, now in zip(real, (time.time(), time.monotonic(), time.perf_counter()), strict=True):
        assert before <= now < before + 100
    assert run(_real_time, follow_time=False).value


async def _fail(network: Network) -> None:
    raise ZeroDivisionError


async def _real_time(network: Network) -> bool:
    return time.time() > 1e9 + 1 and os.urandom(16) != os.urandom(16)


def test_random_numbers_follow() -> None:
    async def scenario(network: Network) -> list[object]:
        return [random.random(), secrets.token_hex(8), str(uuid.uuid4()), os.urandom(8), random.SystemRandom().random()]

    random.seed(5)
    expected = random.random()
    random.seed(5)
    assert run(scenario, seed=1).value == run(scenario, seed=1).value
    assert all(a != b for a, b in zip(run(scenario, seed=1).value, run(scenario, seed=2).value, strict=True))
    assert random.random() == expected, "the generator is where it was"
    assert len({secrets.token_hex(8) for _ in range(10)}) == 10

    async def in_a_thread(network: Network) -> bytes:
        return await asyncio.to_thread(os.urandom, 16)

    assert run(in_a_thread).value != run(in_a_thread).value, "other threads are none of the simulation's"


def test_only_one_run_at_a_time_has_the_clocks() -> None:
    async def scenario(network: Network) -> None:
        def nested(follow_time: bool) -> None:
            run(_nothing, follow_time=follow_time)

        with pytest.raises(SimulationError, match="another simulation"):
            await asyncio.to_thread(nested, True)
        await asyncio.to_thread(nested, False)

    run(scenario)


def test_log_records_have_the_time_and_the_host(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("program")
    factory, level, handlers = logging.getLogRecordFactory(), logging.root.level, list(logging.root.handlers)

    async def program() -> None:
        await asyncio.sleep(1.5)
        log.warning("from %s", "a host")
        log.debug("too low")

    async def scenario(network: Network) -> None:
        await network.host("web").run(program())
        log.error("from the scenario")

    run(scenario, log="INFO")
    found = [(record.virtual_time, record.host, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    assert found == [(1.5, "web", "from a host"), (1.5, "-", "from the scenario")]
    assert caplog.records[0].created == 946684801.5
    line = "     1.500000 web          WARNING program: from a host"
    assert logging.Formatter(LOG_FORMAT).format(caplog.records[0]) == line
    assert capsys.readouterr().err.splitlines() == [
        line,
        "     1.500000 -            ERROR   program: from the scenario",
    ]
    assert (logging.getLogRecordFactory(), logging.root.level, logging.root.handlers) == (factory, level, handlers)


def test_real_files_and_threads_on_a_host(tmp_path: Path) -> None:
    """A service that writes received data to a file, in a thread."""

    async def scenario(network: Network) -> float:
        a, b = two(network)
        lock = threading.Lock()

        def keep(line: bytes) -> None:
            with lock, (tmp_path / "log").open("ab") as file:
                time.sleep(0.001)
                file.write(line)

        async def serve() -> None:
            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    await asyncio.to_thread(keep, line)
                    writer.write(b"kept\n")
                writer.close()

            async with await asyncio.start_server(take, port=7) as server:
                await server.serve_forever()

        b.start(serve)
        for number in range(10):
            assert await a.run(ask("b", 7, b"%d\n" % number)) == b"kept\n"
        return network.loop.time()

    first = run(scenario)
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % number for number in range(10))
    assert run(scenario).digest == first.digest, "the speed of threads changes nothing"


# --- Leaks ----------------------------------------------------------------------------------------------------------


def test_leaks_are_named() -> None:
    kept: list[object] = []

    async def sleeper() -> None:
        await asyncio.sleep(10_000)

    async def scenario(network: Network) -> None:
        a, b = two(network)

        async def serve() -> None:
            kept.append(await asyncio.start_server(upper, "b", 7))

        async def client() -> None:
            kept.append(await asyncio.open_connection("b", 7))
            kept.append(
                await asyncio.get_running_loop().create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=("10.0.0.1", 99)
                )
            )

        await b.run(serve())
        await a.run(client())
        kept.append(await a.stack.open_udp(port=98))
        a.run(sleeper(), name="sleeper")
        kept.append(await create_stack())
        await asyncio.sleep(1)

    result = run(scenario)
    left = "\n".join(result.leaked)
    assert "task sleeper on a, " in left
    assert "test_run.py" in left
    for text in (
        "<TcpTransport open ('fd00::1'",
        "<TcpTransport open ('fd00::2', 7",
        "<TcpServer on fd00::2:7, 10.0.0.2:7> on b",
        "<UdpTransport",
        "<UdpSocket",
        "stack with <loopback lo0 127.0.0.1/8, ::1/128>",
    ):
        assert text in left, text
    assert "task Task" in left, "that of the connection's handler"
    assert len(result.leaked) == 8, result.leaked
    kept.clear()


def test_services_are_ended_first() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        b.start(serve_upper)
        await a.run(ask("b"))

    assert run(scenario).leaked == ()


def test_sockets_of_services_do_not_count_as_leaked() -> None:
    """Also those of services that have returned, and after a restart; those of the scenario itself count."""

    async def daemon(port: int) -> None:
        network_objects.append(await asyncio.start_server(upper, port=port))
        network_objects.append(asyncio.create_task(asyncio.sleep(1e9)))

    async def scenario(network: Network, own: bool = False) -> None:
        a, b = two(network)
        for port in (7, 8):
            b.start(daemon, port)
        await a.run(ask("b"))
        b.restart()
        await asyncio.sleep(3)
        await a.run(ask("b"))
        if own:
            await b.run(daemon(9))

    async def careless(network: Network) -> None:
        await scenario(network, own=True)

    network_objects: list[object] = []
    assert run(scenario).leaked == ()
    left = run(careless).leaked
    assert len(left) == 2, left
    assert "<TcpServer on *:9> on b" in left[1]
    network_objects.clear()


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_services_that_drop_and_keep_connections() -> None:
    """Connections of a service that waits for their end are reset, even if it dropped one, or reads from none."""

    async def holder(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()

    async def serve() -> None:
        kept.append(await asyncio.start_server(holder, port=7))

    async def stubborn() -> None:
        lost = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc: BaseException | None) -> None:
                if keep:
                    lost.set_result(None)

        for keep in (False, True):
            transport, _ = await asyncio.get_running_loop().create_connection(Protocol, "a", 7)
            transport.pause_reading()
            if keep:
                kept.append(transport)
            del transport
            gc.collect()
            await asyncio.sleep(1)
        try:
            await asyncio.shield(lost)
        except asyncio.CancelledError:
            await lost

    async def scenario(network: Network) -> None:
        a, b = two(network)
        a.start(serve)
        b.start(stubborn)
        await asyncio.sleep(10)

    kept: list[object] = []
    assert run(scenario).leaked == ()


# --- Programs -------------------------------------------------------------------------------------------------------


def test_uvicorn_and_httpx() -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

    async def application(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(10)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"x" * 100_000})  # type: ignore[operator]

    async def scenario(network: Network) -> list[tuple[str, int]]:
        a, b = two(network, bandwidth=1e6, loss=0.01)

        async def serve() -> None:
            server = uvicorn.Server(uvicorn.Config(application, host="b", port=80, lifespan="off", log_config=None))
            server.install_signal_handlers = lambda: None
            await server.serve()

        async def client() -> list[tuple[str, int]]:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as session:
                answers = [await session.get("http://b/") for _ in range(3)]
                return [(answer.headers["date"], len(answer.content)) for answer in answers]

        b.start(serve)
        await asyncio.sleep(1)
        return await a.run(client())

    result = run(scenario)
    assert result.network.loop.time() > 30, "of an application that thinks"
    assert [size for _, size in result.value] == [100_000] * 3
    assert result.value[0][0] == "Sat, 01 Jan 2000 00:00:01 GMT", "it keeps the date of when the request began"
    assert run(scenario).digest == result.digest
    assert run(scenario).value == result.value


def test_websockets() -> None:
    """Its keys and masks come from `os.urandom`, so that they repeat, too."""
    client_of = pytest.importorskip("websockets.asyncio.client", reason="websockets is not installed")
    server_of = pytest.importorskip("websockets.asyncio.server", reason="websockets is not installed")

    async def scenario(network: Network) -> float:
        a, b = two(network, loss=0.05)

        async def serve() -> None:
            async def echo(connection) -> None:  # type: ignore[no-untyped-def]
                async for message in connection:
                    await connection.send(message.upper())

            async with server_of.serve(echo, "b", 80) as server:
                await server.serve_forever()

        async def client() -> None:
            async with client_of.connect("ws://b/", proxy=None) as connection:
                for number in range(10):
                    await connection.send(f"message {number}")
                    assert await connection.recv() == f"MESSAGE {number}"
                    await asyncio.sleep(30)  # keep-alive messages are exchanged in the meantime

        b.start(serve)
        await asyncio.sleep(1)
        await a.run(client())
        return network.loop.time()

    result = run(scenario)
    assert result.value > 300
    assert not result.leaked
    assert run(scenario).digest == result.digest


def test_importing_the_simulation_needs_wasmtime_only() -> None:
    program = (
        "import sys; import wasmtime; needed = set(sys.modules); import tcpip_wasm.simulation;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - needed}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=250)
    assert {name for name in done.stdout.split() if name not in sys.stdlib_module_names} == {"tcpip_wasm"}


# --- Cost of a run --------------------------------------------------------------------------------------------------


def test_a_silent_peer_costs_a_poll_for_each_retransmission() -> None:
    """And their times are those of TCP: after a probe (RFC 8985, section 7.3) the timeout doubles, within a tick."""

    async def scenario(network: Network) -> list[float]:
        a, b = two(network)
        b.start(serve_upper)

        async def client() -> None:
            _, writer = await asyncio.open_connection("b", 7)
            writer.write(b"first\n")
            await asyncio.sleep(1)
            iterations = a.stack.stats().turns
            b.crash()
            writer.write(b"second\n")
            await asyncio.sleep(60)
            assert a.stack.stats().core.tcp_retransmissions >= 5
            assert a.stack.stats().turns - iterations < 40, "at 40 ticks a second it would be 2,400"
            writer.transport.abort()

        await a.run(client())
        lost = [packet for packet in network.trace().tcp(port=7) if packet.observation.frame.endswith(b"second\n")]
        return [packet.observation.time for packet in lost]

    times = run(scenario).value
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) >= 6
    assert gaps[0] < 1.2
    assert 0.2 <= gaps[1] < 1.2
    for shorter, longer in pairwise(gaps[1:6]):
        assert longer == pytest.approx(2 * shorter, abs=0.11)
