"""The same seed gives the same frames: in one process, in another, with other hashes, with other machine code.

The digests are constants. They change with what stacks and links send, and only with that: where a change of that kind
was meant, ``python -m tests.simulation.repeated 1`` and ``2`` say the new ones.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcpip_wasm.simulation import Network, run
from tests.kit.simulation_hosts import echoed
from tests.other_pythons import other_pythons
from tests.simulation import repeated

ROOT = Path(__file__).resolve().parents[2]

SMALL_DIGEST = "9b48ee5b029aca4fa5e7ea4fdfa0ce8e57351b92abee2da044e21095a6e2d82f"


CONTENT = bytes(range(256)) * 40


async def small(network: Network) -> bytes:
    return await echoed(network, CONTENT, loss=0.2)


def test_a_hundred_runs() -> None:
    """With garbage of different sizes, and in any state of the process after a hundred runs."""
    rubbish: list[object] = []
    for number in range(100):
        result = run(small, seed=7)
        assert result.value == CONTENT
        assert result.digest == SMALL_DIGEST, number
        rubbish.append([[] for _ in range(number * 7 % 100)])
        if number % 10 == 0:
            gc.collect()
            rubbish.clear()
    assert any("loss" in (one.comment or "") for one in result.network.trace().observations)


def test_another_seed_is_another_run() -> None:
    assert len({run(small, seed=seed).digest for seed in range(10)} - {SMALL_DIGEST}) >= 9
    assert run(small, seed="7").digest == SMALL_DIGEST, "a seed is its text"
    assert run(small, seed="seven").digest != SMALL_DIGEST


def test_all_protocols_in_one_scenario() -> None:
    first, second = repeated.once(1), repeated.once(1)
    assert first.value == second.value
    assert first.value[0] == 120
    assert 0 < first.value[1] < 50, "some datagrams were lost in the crash"
    assert first.duration == second.duration
    assert first.digest == second.digest == repeated.DIGEST
    assert not first.leaked
    assert repeated.once(2).digest == repeated.OTHER_DIGEST


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "12345", "PYTHONMALLOC": "malloc"},
        {"PYTHONASYNCIODEBUG": "1"},
        {"TCPIP_WASM_OPTIMIZE": "none"},
        {"TCPIP_WASM_OPTIMIZE": "speed_and_size"},
    ],
    ids=lambda environment: ",".join(f"{name}={value}" for name, value in environment.items()),
)
def test_in_another_process(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.repeated", "1"],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert done.stdout.split() == [repeated.DIGEST]


@pytest.mark.skipif(not other_pythons(), reason="no other Python from 3.11 on that has wasmtime is found")
def test_on_other_pythons() -> None:
    for python in other_pythons():
        command = [python, "-m", "tests.simulation.repeated", "1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=True)
        assert done.stdout.split() == [repeated.DIGEST], python
