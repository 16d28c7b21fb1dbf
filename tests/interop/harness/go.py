"""Programs that the Go tools build for the tests: each once, into `build/peers`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["FOLDER", "go_install"]

FOLDER = Path(__file__).resolve().parents[3] / "build" / "peers"

_BUILD_SECONDS = 900.0


def go_install(name: str, package: str) -> Path | None:
    """Return the path of a program, built where it is not there, or None where Go is not installed.

    Args:
        name: of the program's file.
        package: its path, and the version of its module: ``MODULE/PATH@VERSION``.
    """
    built = FOLDER / name
    if built.exists():
        return built
    go = shutil.which("go")
    if go is None:
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOBIN": str(FOLDER)}
    command = [go, "install", package]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    if done.returncode != 0:
        pytest.fail(f"{package} could not be built: {done.stderr[-1000:]}")
    return built
