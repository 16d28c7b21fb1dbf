"""CPython's own tests of sockets pass over a stack, but for those that `sockets.toml` leaves out with a reason."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

AT_LEAST = {
    "test_socket.[A-L]*": 130,
    "test_socket.[M-Z]*": 190,
    "test_selectors.*": 35,
    "test_socketserver.*": 20,
    "test_ssl.*": 70,
}
"""Number of tests of each part that run, so that a list which matches no test is detected."""


@pytest.mark.skipif(importlib.util.find_spec("test.test_socket") is None, reason="the tests are not installed")
@pytest.mark.timeout(900)
def test_the_socket_modules_own_tests(tmp_path: Path) -> None:
    with ExitStack() as exits:
        runs = {}
        for number, pattern in enumerate(AT_LEAST):
            log = exits.enter_context((tmp_path / f"{number}.log").open("w+"))
            runs[pattern] = run = (
                subprocess.Popen(  # at once, since they mostly wait for time-outs
                    [sys.executable, "-m", "tests.cpython.sockets", pattern],
                    cwd=tmp_path,  # some leave files where they run
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                ),
                log,
            )
            exits.callback(run[0].communicate)
            exits.callback(run[0].kill)
        for pattern, (process, log) in runs.items():
            output = process.communicate(timeout=800)[0]
            log.seek(0)
            told = log.read()[-5000:]
            assert output, told
            summary = json.loads(output.splitlines()[-1])
            assert summary["failed"] == [], told
            assert summary["run"] - len(summary["skipped"]) >= AT_LEAST[pattern]
            assert summary["frames"] > 100
            assert summary["excluded"] * 5 < summary["run"], "exclusions are the exception"
