"""The wheel in Pyodide under Node: the programs of `programs/`, and the first program of README.md.

`make test-conformance` installs Pyodide by `npm ci` in js/conformance, and runs these tests.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.node import require_pyodide

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
SECONDS = 240
LIBRARIES = ("anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "typing_extensions", "uvicorn")
"""Pure Python packages of the test environment."""

LEAST_RATE = 20
"""Mbit/s, on any machine, however busy; docs/how-to/pyodide.md has what a quiet one reaches."""


pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_pyodide()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert made.returncode == 0, made.stdout + made.stderr
    (path,) = folder.iterdir()
    return path


def run(wheel: Path, program: Path, *folders: str) -> str:
    """Run a program in Pyodide, and return what it prints."""
    command = [*require_pyodide(), str(wheel), "--", str(program), *folders]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_first_program_of_the_readme(wheel: Path, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert program
    (tmp_path / "greet.py").write_text(program[1], encoding="utf-8")
    assert run(wheel, tmp_path / "greet.py") == "good day, Alice\n"


def test_engine_port(wheel: Path) -> None:
    assert run(wheel, PROGRAMS / "engine_port.py") == "the engine port works\n"


def test_bulk(wheel: Path) -> None:
    found = re.fullmatch(r"(\d+) Mbit/s, equal\n", run(wheel, PROGRAMS / "bulk.py"))
    assert found
    assert int(found[1]) >= LEAST_RATE


def test_echo(wheel: Path) -> None:
    assert re.fullmatch(r"\d+ microseconds\n", run(wheel, PROGRAMS / "echo.py"))


def test_asyncio_under_the_polyfill_and_an_asgi_application(wheel: Path, tmp_path: Path) -> None:
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        if spec.submodule_search_locations:
            shutil.copytree(Path(spec.origin).parent, tmp_path / name)
        else:
            shutil.copy(spec.origin, tmp_path)
    lines = run(wheel, PROGRAMS / "existing_programs.py", f"{tmp_path}=/packages").splitlines()
    assert lines == ["without a polyfill: NotImplementedError", "refused", "HELLO", "201 /some/path"]


def test_missing_pyodide_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TCPIP_WASM_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="node"):
        require_pyodide()
    monkeypatch.setitem(os.environ, "TCPIP_WASM_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="node"):
        require_pyodide()
