"""CPython's own tests of asyncio pass over a stack, but for those that `judge.toml` leaves out with a reason."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AT_LEAST = 120
"""Number of tests that run, so that a list which matches no test is detected."""


NEWEST = (3, 13)
"""The newest Python whose tests the list was compared with."""


@pytest.mark.skipif(sys.version_info[:2] > NEWEST, reason="the list was not compared with this Python's tests")
@pytest.mark.skipif(importlib.util.find_spec("test.test_asyncio") is None, reason="the tests are not installed")
@pytest.mark.timeout(900)
def test_asyncios_own_tests(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cpython"],
        cwd=tmp_path,  # some leave files where they run
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.stdout, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["failed"] == [], done.stderr[-5000:]
    assert summary["run"] - summary["skipped"] >= AT_LEAST
    assert summary["relayed"] > 50
    assert summary["given sockets"] >= 30  # those of test_sendfile, which makes its own
    assert summary["excluded"] * 5 < summary["run"], "exclusions are the exception"
