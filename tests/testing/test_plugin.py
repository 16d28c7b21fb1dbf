"""The pytest plugin, in test runs of their own: what it prints, what it refuses, and what it stands beside."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tcpip_wasm.capture import Trace
from tcpip_wasm.simulation import run
from tcpip_wasm.testing.captures import prune
from tests.kit.plugin_runs import PLUGIN, Runs, said, same

pytest_plugins = ["pytester"]


# --- In virtual time --------------------------------------------------------------------------------------------------


def test_a_test_has_the_trace_of_run(runs: Runs) -> None:
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
    assert command == "pytest test_a_test_has_the_trace_of_run.py::test_fails --tcpip-seed 0"
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
    "@pytest.mark.seeds('abc')\ndef test_it(tcpip_seed): pass": "expected a number or a list of seeds, not 'abc'",
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


def test_captures_of_all_tests(runs: Runs, tmp_path: Path) -> None:
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
