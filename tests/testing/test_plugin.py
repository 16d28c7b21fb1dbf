"""The pytest plugin, in test runs of their own: what it prints, what it refuses, and what it stands beside."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.capture import Trace
from tcpip_wasm.simulation import Network, run
from tcpip_wasm.testing.captures import prune

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = "-ppytest_tcpip_wasm"

HEAD = """
import asyncio
import os
import random
import time

import pytest

import tcpip_wasm
from tcpip_wasm import create_stack


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def serve():
    async with await asyncio.start_server(echo, port=7) as server:
        await server.serve_forever()


async def ask(text=b"hello"):
    reader, writer = await asyncio.open_connection("b", 7)
    writer.write(text + b"\\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.strip()


def build(network):
    a, b = network.host("a"), network.host("b")
    network.link(a, b, bandwidth=1e7, delay=0.01, loss=0.1)
    b.start(serve)
    return a


async def on_loopback(stack):
    async with await stack.start_server(echo, "127.0.0.1", 7):
        reader, writer = await stack.open_connection("127.0.0.1", 7)
        writer.write(b"hello\\n")
        assert await reader.readline() == b"hello\\n"
        writer.close()
        await writer.wait_closed()
"""


Runs = Callable[..., pytest.RunResult]


@pytest.fixture
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs a test file in a process of its own, where warnings are errors."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run_file(source: str, *options: str, alone: bool = True) -> pytest.RunResult:
        pytester.makepyfile(HEAD + textwrap.dedent(source))
        plugins = ["-pno:asyncio", "-pno:anyio"] if alone else []
        return pytester.runpytest_subprocess(PLUGIN, "-Werror", "--strict-markers", *plugins, *options, timeout=250)

    return run_file


def said(result: pytest.RunResult, what: str) -> str:
    """Return what a failure says, such as its trace."""
    found = re.search(rf"^{what} +(.*)$", result.stdout.str(), re.MULTILINE)
    assert found, result.stdout.str()
    return found[1]


async def same(network: Network) -> bytes:
    """What tests in test files do, for `run`."""
    names: dict[str, Any] = {}
    exec(HEAD, names)
    answer: bytes = await names["build"](network).run(names["ask"]())
    assert answer == b"hello"
    return answer


# --- In virtual time --------------------------------------------------------------------------------------------------


def test_a_test_is_what_a_run_is(runs: Runs) -> None:
    """A failure says the digest that `run` gives for that seed, and repeats it by the command it prints."""
    result = runs(
        """
        async def test_fails(network):
            assert await build(network).run(ask()) == b"hello"
            raise ValueError("no")
        """
    )
    result.assert_outcomes(failed=1)
    assert said(result, "seed") == "0"
    digest = run(same, seed=0).digest
    assert said(result, "trace").startswith(f"{digest}, ")
    command = said(result, "repeat")
    assert command == "pytest test_a_test_is_what_a_run_is.py::test_fails --tcpip-seed 0"
    assert "pytest_tcpip_wasm.py" not in result.stdout.str(), "no lines of ours in the traceback"
    capture = result.outlines and said(result, "capture")
    assert capture == str(Path(".pytest_cache", "d", "tcpip_wasm", Path(str(capture)).name))
    assert Trace.load(Path.cwd() / capture).tcp(port=7)
    again = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), PLUGIN], capture_output=True, text=True, timeout=250
    )
    assert f"{digest}, " in again.stdout


def test_time_and_random_numbers(runs: Runs) -> None:
    """An hour takes no time, and what a test draws comes from the seed, but not what fixtures draw elsewhere."""
    result = runs(
        """
        class TestHours:
            @pytest.mark.parametrize("hours", [1, 2])
            async def test_hours(self, network, hours, tmp_path):
                before = time.time()
                await asyncio.sleep(3600 * hours)
                assert time.time() - before == network.loop.time() == 3600 * hours
                assert 946_684_800 <= before < 946_684_801
                (tmp_path / "file").write_text("x")

        async def test_numbers(network):
            assert (random.random(), os.urandom(4)) == (random.Random("0/random").random(),
                                                        random.Random("0/urandom").randbytes(4))

        def test_real():
            assert time.time() > 1.5e9
        """
    )
    result.assert_outcomes(passed=4)


def test_seeds(runs: Runs) -> None:
    source = """
        @pytest.mark.seeds(5)
        @pytest.mark.parametrize("letter", "ab")
        async def test_count(network, letter):
            await build(network).run(ask())
            assert network.seed != 3 or letter == "a"

        @pytest.mark.seeds([7, "text"])
        async def test_list(network):
            assert network.seed in (7, "text", 3)

        @pytest.mark.seeds(range(10, 12))
        def test_sync(tcpip_seed):
            assert tcpip_seed != 11

        async def test_none(network, tcpip_seed):
            assert network.seed == tcpip_seed == 0
        """
    result = runs(source, "-v")
    result.assert_outcomes(passed=10 + 2 + 2 + 1 - 2, failed=2)
    result.stdout.fnmatch_lines(["*::test_count[[]seed3-b[]] FAILED*"])
    for name in ("test_count[seed4-a]", "test_list[seedtext]", "test_sync[seed10]", "test_none"):
        assert re.search(rf"::{re.escape(name)} PASSED", result.stdout.str())
    commands = re.findall(r"^repeat +(.*)$", result.stdout.str(), re.MULTILINE)
    assert commands == [
        "pytest 'test_seeds.py::test_count[seed3-b]' --tcpip-seed 3",
        "pytest 'test_seeds.py::test_sync[seed11]' --tcpip-seed 11",
    ]
    one = runs(source, *shlex.split(commands[0])[1:])
    one.assert_outcomes(failed=1)
    assert said(one, "trace") == said(result, "trace")
    given = runs(source, "--tcpip-seed", "3", "-k", "count or list")
    given.assert_outcomes(passed=2, failed=1)


MISTAKES = {
    "@pytest.mark.seeds(3)\ndef test_it(): pass": "uses the fixture network, stack or tcpip_seed",
    "@pytest.mark.seeds()\ndef test_it(tcpip_seed): pass": "seeds takes one argument",
    "@pytest.mark.seeds(0)\ndef test_it(tcpip_seed): pass": "there must be 1 to 100,000, not 0",
    "@pytest.mark.seeds('abc')\ndef test_it(tcpip_seed): pass": "a number or a list of seeds is wanted, not 'abc'",
    "@pytest.mark.seeds([1.5])\ndef test_it(tcpip_seed): pass": "1.5 is neither int nor text",
    "def test_it(network): pass": "`network` needs a coroutine test",
    "def test_it(stack): pass": "`stack` needs a coroutine test",
}


def test_mistakes_are_reported(pytester: pytest.Pytester, runs: Runs) -> None:
    for number, source in enumerate(MISTAKES):
        pytester.makepyfile(**{f"test_mistake_{number}": f"import pytest\n{source}"})
    result = runs("\ndef test_none(): pass", "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=len(MISTAKES))
    for number, message in enumerate(MISTAKES.values()):
        assert re.search(rf"test_mistake_{number}.py::test_it: .*{re.escape(message)}", result.stdout.str()), message
    for word in ("Traceback", "During handling", "Warning"):
        assert word not in result.stdout.str()


def test_captures_of_all(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    source = """
        @pytest.mark.seeds(3)
        async def test_good(network):
            await build(network).run(ask())

        async def test_bad(network):
            await build(network).run(ask())
            assert False
        """
    result = runs(source, "--tcpip-pcap", str(folder))
    result.assert_outcomes(passed=3, failed=1)
    files = sorted(folder.iterdir())
    assert [path.name.rpartition("-")[0] for path in files] == [
        "test_bad", "test_good-seed0", "test_good-seed1", "test_good-seed2",
    ]  # fmt: skip
    assert all(Trace.load(path).tcp(port=7) for path in files)
    assert said(result, "capture") == str(files[0])
    without_cache = runs(source, "-pno:cacheprovider", "-k", "bad")
    assert Path(said(without_cache, "capture")).exists()


def test_the_folder_stays_small(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.pcapng"
        path.write_bytes(bytes(100))
        os.utime(path, ns=(number, number))
    other = tmp_path / "notes.txt"
    other.write_text("not ours")
    prune(tmp_path, tmp_path / "0.pcapng", files=10, size=10**6)
    assert {path.name for path in tmp_path.glob("*.pcapng")} == {"0.pcapng", *(f"{n}.pcapng" for n in range(11, 20))}
    prune(tmp_path, tmp_path / "0.pcapng", files=10, size=350)
    assert {path.name for path in tmp_path.glob("*.pcapng")} == {"0.pcapng", "18.pcapng", "19.pcapng"}
    assert other.exists()


# --- Leaks ------------------------------------------------------------------------------------------------------------


def test_leaks_are_named(runs: Runs) -> None:
    result = runs(
        """
        kept = []

        async def test_task(network):
            kept.append(asyncio.create_task(asyncio.sleep(1000), name="forgotten"))

        async def test_server(network):
            async def open_one():
                kept.append(await asyncio.start_server(echo, port=8))
            await network.host("a").run(open_one())

        async def test_connection(network):
            async def connect():
                kept.append(await asyncio.open_connection("b", 7))
            await build(network).run(connect())

        async def test_stack(network):
            kept.append(await create_stack())

        async def test_on_the_stack(stack):
            kept.append(await stack.start_server(echo, "127.0.0.1", 7))

        async def test_failure_beside(network):
            async def fail():
                raise OSError("not retrieved")
            task = network.host("a").run(fail())
            await asyncio.sleep(1)

        async def test_deadlock(network):
            await asyncio.get_running_loop().create_future()

        async def test_own_failure_is_not_hidden(network):
            kept.append(asyncio.create_task(asyncio.sleep(1000), name="no news"))
            raise ValueError("this is the news")
        """
    )
    result.assert_outcomes(failed=8)
    output = result.stdout.str()
    output = output.partition(" short test summary ")[0]
    parts = re.split(r"^_+ (test_\w+) _+$", output, flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "task forgotten" in texts["test_task"]
    assert "<TcpServer on *:8> on a" in texts["test_server"]
    assert "on a" in texts["test_connection"]
    assert "leaked" in texts["test_connection"]
    assert "stack with" in texts["test_stack"]
    assert "<TcpServer on 127.0.0.1:7> on the stack" in texts["test_on_the_stack"]
    assert "not retrieved" in texts["test_failure_beside"]
    assert "\nDeadlockError: no task can run again at 0.000000000 s" in texts["test_deadlock"]
    assert "in _idle" not in texts["test_deadlock"]
    assert "this is the news" in texts["test_own_failure_is_not_hidden"]
    assert "leaked" not in texts["test_own_failure_is_not_hidden"]
    for text in texts.values():
        assert "--tcpip-seed 0" in text


SERVICES = """
import logging
kept = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            await receive()
            await send({"type": "lifespan.startup.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})

async def get(port):
    reader, writer = await asyncio.open_connection("b", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n")
    while await reader.readline() != b"\\r\\n":
        pass
    body = await reader.readexactly(5)
    writer.close()
    await writer.wait_closed()
    return body

def serve_uvicorn(lifespan):
    async def serve():
        import uvicorn
        config = uvicorn.Config(application, "0.0.0.0", 80, lifespan=lifespan, log_config=None)
        await uvicorn.Server(config).serve()
    return serve

async def hold(reader, writer):
    kept.append(writer)  # and never closes it
    await reader.read(1)
    writer.write(b"x")
    await asyncio.get_running_loop().create_future()

async def daemonize():
    kept.append(await asyncio.start_server(hold, port=81))
    loop = asyncio.get_running_loop()
    kept.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("0.0.0.0", 9)))
    kept.append(asyncio.create_task(asyncio.sleep(1e9), name="of the service"))
    kept.append(await create_stack())
    kept.append(await asyncio.open_connection("a", 7))

async def touch():
    reader, writer = await asyncio.open_connection("b", 81)
    writer.write(b"?")
    assert await reader.read(1) == b"x"
    writer.close()
"""


def test_what_services_open_ends_with_them(runs: Runs) -> None:
    """As long as a service lives, so does what it has opened; what the test itself has opened still counts."""
    result = runs(
        SERVICES
        + textwrap.dedent(
            """
        @pytest.mark.parametrize("lifespan", ["off", "on", "auto"])
        async def test_uvicorn(network, lifespan):
            a = build(network)
            network.hosts["b"].start(serve_uvicorn(lifespan))
            await asyncio.sleep(1)
            assert await a.run(get(80)) == b"hello"

        async def test_services_that_return(network):
            a = build(network)
            a.start(serve)
            network.hosts["b"].start(daemonize)
            await asyncio.sleep(5)
            await a.run(touch())
            network.hosts["b"].restart()
            await asyncio.sleep(5)
            await a.run(touch())

        async def test_own(network):
            a = build(network)
            network.hosts["b"].start(daemonize)
            a.start(serve)
            await asyncio.sleep(5)
            async def open_more():
                kept.append(await asyncio.start_server(hold, port=82))
                kept.append(asyncio.create_task(asyncio.sleep(1e9), name="of the test"))
            await network.hosts["b"].run(open_more())
            async def connect():
                kept.append(await asyncio.open_connection("b", 82))
                kept.append(await asyncio.open_connection("b", 81))
            await a.run(connect())
        """
        )
    )
    result.assert_outcomes(passed=4, failed=1)
    output = result.stdout.str().partition(" short test summary ")[0]
    left = output.partition("the test leaked:\n")[2].partition("\nA test closes what it opens")[0].splitlines()
    assert "host.start(serve)" in output
    assert 'tcpip_leaks("ignore")' in output
    assert any("<TcpServer on *:82> on b" in text for text in left)
    assert any("task of the test on b" in text for text in left)
    assert not any("of the service" in text or ":81> on b" in text or "Udp" in text or "stack" in text for text in left)
    assert sum("<TcpTransport" in text and text.endswith("on a") for text in left) == 2, left
    assert sum("<TcpTransport" in text and text.endswith("on b") for text in left) == 1, "that of the test's own server"


POLICIES = """
async def test_FIRST(network):
    asyncio.create_task(asyncio.sleep(1000), name="forgotten")

@pytest.mark.tcpip_leaks("ignore")
async def test_ignored(network):
    asyncio.create_task(asyncio.sleep(1000), name="no news")

@pytest.mark.tcpip_leaks("warn")
async def test_warned(network, stack):
    asyncio.create_task(asyncio.sleep(1000), name="a warning")

@pytest.mark.tcpip_leaks("fail")
async def test_failing(stack):
    await stack.start_server(echo, "127.0.0.1", 7)
"""


@pytest.mark.parametrize("policy", ["fail", "warn", "ignore"])
def test_the_check_can_be_relaxed(runs: Runs, policy: str) -> None:
    options = ["-Wdefault", f"-otcpip_leaks={policy}"]
    result = runs(POLICIES.replace("FIRST", policy), *options)
    failed = 2 if policy == "fail" else 1
    result.assert_outcomes(passed=4 - failed, failed=failed, warnings=2 if policy == "warn" else 1)
    output = result.stdout.str()
    assert ("task forgotten" in output) == (policy != "ignore")
    assert "task a warning" in output
    assert "no news" not in output
    assert "<TcpServer on 127.0.0.1:7> on the stack" in output


def test_wrong_policies_are_refused(runs: Runs) -> None:
    result = runs("@pytest.mark.tcpip_leaks('never')\nasync def test_it(network): pass")
    result.assert_outcomes(errors=1)
    assert "tcpip_leaks takes one of fail, warn, ignore" in result.stdout.str()
    result = runs("def test_it(): pass", "-otcpip_leaks=never")
    assert "tcpip_leaks: 'never' is not one of fail, warn, ignore" in result.stderr.str()


def test_the_check_beside_pytest_asyncio(runs: Runs) -> None:
    pytest.importorskip("pytest_asyncio")
    source = """
        @pytest.mark.asyncio
        @pytest.mark.tcpip_leaks("ignore")
        async def test_it(stack):
            await stack.start_server(echo, "127.0.0.1", 7)
        """
    options = ["--asyncio-mode=strict", "-oasyncio_default_fixture_loop_scope=function", "-ppytest_asyncio"]
    runs(source, "-pno:anyio", *options, alone=False).assert_outcomes(passed=1)


def test_fixtures_share_the_loop(runs: Runs) -> None:
    """Coroutine fixtures, and others that use the network, run where the test does, and end after it."""
    result = runs(
        """
        events = []

        @pytest.fixture
        async def client(network):
            client = build(network)
            await asyncio.sleep(1)
            yield client
            assert await client.run(ask(b"still there")) == b"still there"
            events.append(network.loop.time())

        @pytest.fixture
        def third(network):
            host = network.host("c")
            yield host
            asyncio.get_running_loop()
            events.append("c")

        @pytest.fixture
        async def number():
            await asyncio.sleep(10)
            return 5

        @pytest.fixture
        def plain():
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return time.time()

        class TestIt:
            @pytest.fixture
            async def own(self, client):
                return self, client

            async def test_it(self, own, client, third, number, plain, network):
                assert own == (self, client)
                assert (third.name, number) == ("c", 5)
                assert network.loop.time() == 11
                assert plain > 1.5e9
                assert await client.run(ask()) == b"hello"

        def test_after():
            assert events[0] == "c" and events[1] > 11

        @pytest.fixture
        async def careless(network):
            yield asyncio.create_task(asyncio.sleep(1000), name="forgotten")

        async def test_left(careless):
            pass

        @pytest.fixture
        async def broken(network):
            asyncio.create_task(asyncio.sleep(1000))
            raise ValueError("a broken fixture")

        async def test_broken(network, broken):
            pass
        """
    )
    result.assert_outcomes(passed=3, errors=2)
    assert "the test or its fixtures leaked:\n  task forgotten" in result.stdout.str()
    assert "a broken fixture" in result.stdout.str()


# --- Beside other plugins ---------------------------------------------------------------------------------------------

BESIDE = """
async def test_network(network):
    assert type(asyncio.get_running_loop()).__name__ == "VirtualLoop"
    assert await build(network).run(ask()) == b"hello"

@pytest.mark.MARKER
async def test_marked_network(network):
    assert type(asyncio.get_running_loop()).__name__ == "VirtualLoop"
    assert await build(network).run(ask()) == b"hello"

@pytest.mark.MARKER
async def test_marked_stack(stack):
    assert type(asyncio.get_running_loop()).__name__ != "VirtualLoop"
    await on_loopback(stack)

async def test_stack(stack, request):
    virtual = type(asyncio.get_running_loop()).__name__ == "VirtualLoop"
    assert virtual == VIRTUAL
    await on_loopback(stack)

@pytest.mark.MARKER
async def test_left(stack):
    asyncio.create_task(asyncio.sleep(1000), name="forgotten")
    await stack.start_server(echo, "127.0.0.1", 7)

@pytest.mark.MARKER
async def test_stack_fixture(stack, served):
    reader, writer = await stack.open_connection("127.0.0.1", served)
    writer.write(b"hello\\n")
    assert await reader.readline() == b"hello\\n"
    writer.close()

@pytest.mark.MARKER
async def test_theirs():
    await asyncio.sleep(0)
"""

SERVED = """
@FIXTURE
async def served(stack):
    async with await stack.start_server(echo, "127.0.0.1", 7):
        yield 7

@FIXTURE
async def careless(stack):
    return await stack.start_server(echo, "127.0.0.1", 8)

@pytest.mark.MARKER
async def test_careless(careless):
    pass
"""

ASYNCIO_MODULE = """
@pytest.mark.asyncio(loop_scope="module")
async def test_loop_of_the_module(stack):
    await on_loopback(stack)
"""


def beside(marker: str, fixture: str, *, virtual: bool) -> str:
    source = BESIDE + SERVED
    return source.replace("MARKER", marker).replace("@FIXTURE", f"@{fixture}").replace("VIRTUAL", str(virtual))


def check_beside(result: pytest.RunResult, passed: int) -> None:
    result.assert_outcomes(passed=passed, failed=1, errors=1)
    output = result.stdout.str()
    assert "task forgotten" in output
    assert "<TcpServer on 127.0.0.1:7> on the stack" in output
    assert "the test or its fixtures leaked:\n  <TcpServer on 127.0.0.1:8> on the stack" in output


@pytest.mark.skipif(importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_pytest_asyncio(runs: Runs, mode: str) -> None:
    source = "\nimport pytest_asyncio\n" + beside("asyncio", "pytest_asyncio.fixture", virtual=mode == "strict")
    options = [f"--asyncio-mode={mode}", "-oasyncio_default_fixture_loop_scope=function", "-ppytest_asyncio"]
    check_beside(runs(source + ASYNCIO_MODULE, "-pno:anyio", *options, alone=False), 8)


ANYIO_BACKEND = """
@pytest.fixture(params=["asyncio"])  # and not trio, where it is installed
def anyio_backend(request):
    return request.param
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_anyio(runs: Runs, mode: str) -> None:
    source = ANYIO_BACKEND + beside("anyio", "pytest.fixture", virtual=mode == "strict")
    result = runs(source, f"--anyio-mode={mode}", "-pno:asyncio", alone=False)
    check_beside(result, 7)
    assert "[asyncio]' --tcpip-seed 0" in result.stdout.str()


def test_other_backends_of_anyio(runs: Runs) -> None:
    """Virtual time is asyncio's: of a network's test only that is left, and a stack's is skipped."""
    source = """
        @pytest.fixture(params=["asyncio", ("trio", {})], ids=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.mark.anyio
        async def test_network(network):
            assert await build(network).run(ask()) == b"hello"

        @pytest.mark.anyio
        async def test_stack(stack):
            await on_loopback(stack)
        """
    result = runs(source, "-pno:asyncio", "-rs", alone=False)
    result.assert_outcomes(passed=2, skipped=1)
    assert "a stack needs asyncio" in result.stdout.str()


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_in_many_processes(runs: Runs) -> None:
    result = runs(
        """
        @pytest.mark.seeds(8)
        async def test_it(network):
            await build(network).run(ask())
            assert network.seed != 5
        """,
        "-n2",
    )
    result.assert_outcomes(passed=7, failed=1)
    assert said(result, "repeat").endswith("::test_it[seed5]' --tcpip-seed 5")
    assert said(result, "trace").startswith(str(run(same, seed=5).digest))


# --- What it costs those who do not use it ----------------------------------------------------------------------------


def test_suites_that_do_not_use_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixtures and markers of these names stay theirs, and neither the package nor wasmtime is imported."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nmarkers =\n    seeds: of plants\n")
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.fixture
        def network():
            return "theirs"

        @pytest.fixture
        def stack():
            return []

        @pytest.mark.seeds("poppy", depth=2)
        def test_it(network, stack, request):
            assert (network, stack) == ("theirs", [])
            assert request.node.get_closest_marker("seeds").kwargs == {"depth": 2}

        def test_imports():
            assert "pytest_tcpip_wasm" in sys.modules
            heavy = [name for name in sys.modules if name.split(".")[0] in ("tcpip_wasm", "wasmtime")]
            assert heavy == []
        """
    )
    options = [PLUGIN, "-Werror", "--strict-markers", "-pno:asyncio"]
    result = pytester.runpytest_subprocess(*options, "--fixtures", timeout=250)
    assert "an empty network in virtual time" in result.stdout.str().lower()
    result = pytester.runpytest_subprocess(*options, timeout=250)
    result.assert_outcomes(passed=2)


def test_it_is_announced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"pytest_tcpip_wasm": "pytest_tcpip_wasm"}
