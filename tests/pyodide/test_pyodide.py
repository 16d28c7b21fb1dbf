"""The wheel in Pyodide under Node: the programs of `programs/`, and the first program of README.md.

`make test-conformance` installs Pyodide by `npm ci` in js/conformance, and runs these tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.node import require_pyodide
from tests.pyodide.conftest import libraries

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
SECONDS = 240

pytestmark = pytest.mark.hosts


def run(wheel: Path, program: Path, *folders: str, switching: bool = False) -> str:
    """Run a program in Pyodide, and return what it prints."""
    command = [*require_pyodide(switching=switching), str(wheel), "--", str(program), *folders]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("switching", [False, True])
def test_first_program_of_the_readme(switching: bool, wheel: Path, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert program
    (tmp_path / "greet.py").write_text(program[1], encoding="utf-8")
    assert run(wheel, tmp_path / "greet.py", switching=switching) == "good day, Alice\n"


def test_engine_port(wheel: Path) -> None:
    assert run(wheel, PROGRAMS / "engine_port.py") == "the engine port works\n"


def test_bulk(wheel: Path) -> None:
    assert re.fullmatch(r"\d+ Mbit/s, equal\n", run(wheel, PROGRAMS / "bulk.py"))


def test_echo(wheel: Path) -> None:
    assert re.fullmatch(r"\d+ microseconds\n", run(wheel, PROGRAMS / "echo.py"))


def test_asyncio_under_the_polyfill_and_an_asgi_application(wheel: Path, tmp_path: Path) -> None:
    for library in libraries():
        if library.is_dir():
            shutil.copytree(library, tmp_path / library.name)
        else:
            shutil.copy(library, tmp_path)
    lines = run(wheel, PROGRAMS / "existing_programs.py", f"{tmp_path}=/packages").splitlines()
    assert lines == ["without a polyfill: NotImplementedError", "refused", "HELLO", "201 /some/path"]


def test_simulation_repeats_that_of_cpython(wheel: Path) -> None:
    program = PROGRAMS / "simulated.py"
    command = [sys.executable, str(program)]
    here = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert re.fullmatch(r"1 [0-9a-f]{64} .*\nTimeLimitError\n2 [0-9a-f]{64} .*\nthe outer loop goes on\n", here)
    assert run(wheel, program) == here


def test_tls_is_refused_by_pyodide(wheel: Path) -> None:
    # When this fails because Pyodide has TLS again, docs/how-to/pyodide.md has to say so.
    assert run(wheel, PROGRAMS / "tls.py") == "SSL is not supported in Pyodide\nin the clear\n"


def test_missing_pyodide_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TCPIP_WASM_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="node"):
        require_pyodide()
    monkeypatch.setitem(os.environ, "TCPIP_WASM_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="node"):
        require_pyodide()
