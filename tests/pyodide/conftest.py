"""The wheel, and the pure Python packages that programs in Pyodide import."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.node import require_pyodide

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240
LIBRARIES = ("anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "typing_extensions", "uvicorn")
"""Pure Python packages of the test environment."""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_pyodide()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert made.returncode == 0, made.stdout + made.stderr
    (path,) = folder.iterdir()
    return path


def libraries() -> list[Path]:
    """Return the folders and files of `LIBRARIES`."""
    specs = [importlib.util.find_spec(name) for name in LIBRARIES]
    origins = [(spec, Path(spec.origin)) for spec in specs if spec is not None and spec.origin is not None]
    assert len(origins) == len(LIBRARIES)
    return [origin.parent if spec.submodule_search_locations else origin for spec, origin in origins]
