"""Finds other CPythons: `python -m tests.other_pythons` prints those that the package could run on, one a line, and
with `--requirements` what `make test-other` installs for its tests.

`TCPIP_WASM_PYTHONS` names some, as `PATH` names folders, and then only those are taken. Else it is the newest of each
version that is called `python3.N` in `PATH`, that pyenv has or that lies beside this one, but for the version of the
one that asks.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]

VERSIONS: Final = (11, 12, 13, 14)
"""Minor versions, of Python 3, that are looked for."""

_NEEDED: Final = (
    "aiohttp",
    "amqp",
    "httptools",
    "hypothesis",
    "pytest",
    "pytest-timeout",
    "trustme",
    "uvicorn",
    "uvloop",
    "zeroconf",
)

_ASK: Final = "import sys; print(sys.implementation.name, *sys.version_info[:2])"


@cache
def interpreters() -> list[str]:
    """Return the interpreters of other versions, whether or not they have what the package needs."""
    named = [path for path in os.environ.get("TCPIP_WASM_PYTHONS", "").split(os.pathsep) if path]
    if named:
        return named
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    beside = Path(sys.base_prefix).parent  # pyenv's folder of versions, of any user
    found = []
    for minor in VERSIONS:
        if minor == sys.version_info.minor:
            continue
        made = {folder for place in (pyenv, beside) for folder in place.glob(f"3.{minor}.*")}
        folders = sorted(made, key=_numbers, reverse=True)
        candidates = [*(str(folder / "bin" / "python") for folder in folders), shutil.which(f"python3.{minor}")]
        found += [path for path in candidates if path is not None and _said(path, _ASK) == f"cpython 3 {minor}"][:1]
    return found


@cache
def other_pythons() -> list[str]:
    """Return those that have wasmtime, of which the tests can run what needs nothing else."""
    ours = [str(ROOT / name / "bin" / "python") for name in (".venv", ".venv-other")]  # of the Makefile
    others = [f"cpython 3 {minor}" for minor in VERSIONS if minor != sys.version_info.minor]
    first = [path for path in ours if _said(path, _ASK) in others]
    return [path for path in first + interpreters() if _said(path, "import wasmtime") is not None]


def requirements() -> list[str]:
    """Return the requirements of the tests that run there, with the bounds of pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    test: list[str] = project["optional-dependencies"]["test"]
    return [*project["dependencies"], *(one for one in test if re.split("[<>=]", one)[0] in _NEEDED)]


def _numbers(folder: Path) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", folder.name)]


def _said(python: str, code: str) -> str | None:
    """What an interpreter prints for a line of code; None if it fails, or is none."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    if sys.argv[1:] == ["--requirements"]:
        print(*(shlex.quote(one.replace("'", '"')) for one in requirements()))
    else:
        print(*interpreters(), sep="\n")
