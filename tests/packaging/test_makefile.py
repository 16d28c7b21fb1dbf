"""The Makefile at the root: what its targets install, according to ``make -n``. Nothing is installed or built here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def commands(target: str, environment: Path) -> list[str]:
    """Return what would be run."""
    calling_make = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    done = subprocess.run(
        ["make", "-n", f"VENV={environment}", target],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in calling_make},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.splitlines()


def installs(target: str, environment: Path) -> list[str]:
    """Return the arguments of ``pip install``."""
    lines = commands(target, environment)
    return [line.split()[-1].strip("'") for line in lines if " -m pip " in line and "install" in line]


def test_the_demonstration_needs_less_than_the_tests(tmp_path: Path) -> None:
    build = str(tmp_path / "build-requirements.txt")
    assert installs("demo", tmp_path) == [build, "."]
    assert installs("test", tmp_path) == [build, ".", ".[test,dev]"]
    (tmp_path / "package").touch()
    assert installs("demo", tmp_path) == []
    for target in ("test", "bench", "lint", "wheel", "setup"):
        assert installs(target, tmp_path) == [".[test,dev]"]
    assert installs("docs", tmp_path) == [".[docs]"]
    (tmp_path / "everything").touch()
    assert installs("demo", tmp_path) == installs("test", tmp_path) == []


def test_only_a_release_needs_node(tmp_path: Path) -> None:
    for target in ("demo", "wheel", "lint", "reproducible"):
        assert not [line for line in commands(target, tmp_path) if re.search(r"\b(npm|node|release)\b", line)]
    needing = [line for line in commands("test", tmp_path) if re.search(r"\b(npm|node|release)\b", line)]
    assert len(needing) == 1
    assert needing[0].startswith("if command -v node npm >/dev/null; then "), (
        "the host in JavaScript where node is found"
    )
    assert [line for line in commands("release", tmp_path) if "release" in line]
