"""The store of the tutorial: a seed finds its bug and repeats it, the repaired store passes, and the checker works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from itertools import permutations
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.replicated_store.__main__ import decisive
from examples.replicated_store.checker import check
from examples.replicated_store.client import Operation
from examples.replicated_store.scenario import repaired_scenario, scenario
from examples.replicated_store.store import LEASE
from tcpip_wasm.simulation import run

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial" / "replicated-store.md").read_text(encoding="utf-8")

SEED = 15
"""The first seed with which the store fails, as in the tutorial."""

DIGEST = "28cdc6cfbf05e917f622b55702814569b0da2cbd5e20b38d065518b42840e754"
"""It depends on the frames that stacks send; ``python -m examples.replicated_store`` prints it."""


def test_the_known_seed_is_the_first_that_fails() -> None:
    wrong = [seed for seed in range(SEED - 8, SEED + 1) if check(run(scenario, seed=seed, trace=False).value.history)]
    assert wrong == [SEED]


def test_the_seed_repeats_and_the_trace_shows_why() -> None:
    result = run(scenario, seed=SEED)
    assert result.digest == DIGEST
    assert result.leaked == ()
    (first, *_) = check(result.value.history)
    assert first.newer.end < first.stale.begin
    assert first.newer.replica != first.stale.replica
    slowed, down, *_ = (event.time for event in result.network.events)
    # Promises made before the link went down count from their late arrival, while others have been elected.
    *late, newer, stale = decisive(result.network, first)
    assert b'"do": "done"' in newer.payload
    assert b'"c3-1"' in stale.payload
    assert {result.network.name_of(str(one.source)) for one in late} == {"r1", "r3", "r5"}
    for one in late:
        message = json.loads(one.payload)
        assert (message["do"], message["term"]) == ("ack", 1)
        assert slowed < message["sent"] < down < one.time < newer.time
        assert one.time - message["sent"] > LEASE
        assert one.time < stale.time < one.time + LEASE + 0.05
    # Each acknowledgement was on the slow link when the other direction went down.
    crossing = result.network.trace().at("west-east").tcp(source_port=7000)
    for one in late:
        assert any(down - 0.1 < other.time < down for other in crossing if other.payload == one.payload)


@pytest.mark.parametrize("seed", [*range(SEED - 3, SEED + 1), 73, 96])
def test_the_repaired_store_passes(seed: int) -> None:
    outcome = run(repaired_scenario, seed=seed, trace=False).value
    assert check(outcome.history) == []
    assert len([one for one in outcome.history if one.kind == "get"]) > 10


# --- The checker ------------------------------------------------------------------------------------------------------

Interval = tuple[int, int]
operation = partial(Operation, "c", "r")


def by_search(history: list[Operation]) -> bool:
    """Whether any order of the operations is valid: all are tried."""
    certain = [one for one in history if one.end < inf]
    unsure = [one for one in history if one.end == inf]
    return any(
        fits(order)
        for chosen in range(2 ** len(unsure))
        for order in permutations(certain + [one for at, one in enumerate(unsure) if chosen >> at & 1])
    )


def fits(order: tuple[Operation, ...]) -> bool:
    value = None
    for at, one in enumerate(order):
        if any(later.end < one.begin for later in order[at:]):
            return False
        if one.kind == "put":
            value = one.value
        elif one.value != value:
            return False
    return True


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.booleans()), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(0, 3)), max_size=4),
)
@settings(max_examples=300)
def test_the_checker_agrees_with_a_search(
    writes: list[tuple[int, int, bool]], reads: list[tuple[int, int, int]]
) -> None:
    history = [
        operation("put", "k", str(number), begin, inf if unsure else begin + length)
        for number, (begin, length, unsure) in enumerate(writes)
    ]
    for begin, length, number in reads:
        value = str(number) if number < len(writes) else None
        history.append(operation("get", "k", value, begin, begin + length))
    assert (check(history) == []) is by_search(history)


def test_the_checker_rejects_invalid_histories() -> None:
    with pytest.raises(ValueError, match="'1' was written 2 times"):
        check([operation("put", "k", "1", 0, 1), operation("put", "k", "1", 2, 3)])
    with pytest.raises(ValueError, match="'1' was written 0 times"):
        check([operation("get", "k", "1", 0, 1)])


def test_keys_are_checked_independently() -> None:
    history = [operation("put", "a", "1", 0, 1), operation("get", "b", None, 2, 3)]
    assert check(history) == []
    assert len(check([*history, operation("get", "a", None, 2, 3)])) == 1


# --- The tutorial -----------------------------------------------------------------------------------------------------


def python_of(tutorial: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", tutorial, re.MULTILINE | re.DOTALL)


def shown_after(text: str) -> list[str]:
    """Return the lines of the first block without a language after a text of the tutorial."""
    block = re.search(r"^```\n(.*?)^```$", TUTORIAL[TUTORIAL.index(text) :], re.MULTILINE | re.DOTALL)
    assert block
    return block[1].splitlines()


def said_by(folder: Path, *arguments: str, status: int = 1) -> str:
    """Return the output of a module, which must end with a status."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_the_plugin_prints_what_the_tutorial_shows(tmp_path: Path) -> None:
    test = python_of(TUTORIAL)[-1]
    few = test.replace("range(11, 17)", f"range({SEED - 1}, {SEED + 1})")
    assert few != test
    (tmp_path / "test_store.py").write_text(few, encoding="utf-8")
    said = said_by(tmp_path, "pytest", "-p", "pytest_tcpip_wasm", "-p", "no:asyncio", "test_store.py")
    assert "\n".join(shown_after("Below the assertion")) in said
    assert "1 failed, 1 passed" in said


def test_the_sweep_prints_what_the_tutorial_shows(tmp_path: Path) -> None:
    command, *shown = shown_after("A sweep runs more seeds")
    program, *arguments = command.removeprefix("$ ").split()
    assert program.endswith("/tcpip-wasm")
    few = [*arguments[: arguments.index("-n")], "--first", str(SEED - 1), "-n", "2", "-j", "1"]
    said = said_by(tmp_path, "tcpip_wasm", *few).splitlines()
    assert [line for line in said if line in shown] == shown
    # The capture is of the same run as the one which the page prints.
    (command,), lines = shown_after("or print them"), shown_after("The following lines of the output")
    _, show, _, *filters = command.split()
    printed = said_by(tmp_path, "tcpip_wasm", show, shown[2].split()[1], *filters, status=0).splitlines()
    assert [line for line in printed if line in lines] == lines


def test_the_tutorial_shows_the_programs_of_the_example() -> None:
    programs = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples/replicated_store").glob("*.py"))
    blocks = python_of(TUTORIAL)
    assert len(blocks) == 10
    kept, by_pytest = [block for block in blocks if block not in programs]
    assert by_pytest == blocks[-1]
    namespace = {"check": check, "run": run, "repaired_scenario": repaired_scenario}
    exec(kept, namespace)
    namespace["test_a_lease_counts_from_the_beat"]()  # type: ignore[operator]
    assert f"seed={SEED})" in kept
    assert f"trace {DIGEST}, twice" in TUTORIAL
