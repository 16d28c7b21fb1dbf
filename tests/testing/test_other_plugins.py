"""The pytest plugin together with pytest-asyncio, anyio and xdist, and in test suites that do not use it."""

from __future__ import annotations

import importlib.util
import tomllib

import pytest

from tcpip_wasm.simulation import run
from tests.kit.plugin_runs import PLUGIN, ROOT, Runs, said, same

pytest_plugins = ["pytester"]

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


def test_the_markers_are_registered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"pytest_tcpip_wasm": "pytest_tcpip_wasm"}
