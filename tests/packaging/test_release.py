"""The module that ships: what optimises it is pinned, and it does what the plain build does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import repeated

ROOT = Path(__file__).resolve().parents[2]
WASM = ROOT / "wasm"
OPTIMIZER = WASM / "optimizer"
PLAIN, RELEASE = WASM / "build" / "lwip.wasm", WASM / "build" / "release" / "lwip.wasm"


def golden(name: str) -> tuple[str, str]:
    """Return the SHA-256 and the toolchain that a golden file has."""
    sha256, module, toolchain = (WASM / "golden" / name).read_text(encoding="utf-8").split()
    assert module == "lwip.wasm"
    return sha256, toolchain


def description(name: str) -> dict[str, Any]:
    text = (OPTIMIZER / name).read_text(encoding="utf-8")
    assert "://" not in text, "it names no registry"
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_the_optimiser_is_pinned() -> None:
    wanted = description("package.json")["devDependencies"]
    assert list(wanted) == ["binaryen"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", wanted["binaryen"]), "one version and no range"
    packages = description("package-lock.json")["packages"]
    assert packages[""]["devDependencies"] == wanted
    (name,) = packages.keys() - {""}
    assert packages[name]["version"] == wanted["binaryen"]
    assert packages[name]["integrity"].startswith("sha512-")


def test_both_golden_hashes_are_of_the_toolchain_of_this_tree() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    (zig,) = (name.replace("==", "-") for name in requires if name.startswith("ziglang=="))
    binaryen = description("package.json")["devDependencies"]["binaryen"]
    assert golden("sha256.txt")[1] == zig
    assert golden("release-sha256.txt")[1] == f"{zig}+binaryen-{binaryen}"


def module(path: Path, name: str, most: int) -> Path:
    """Return a built module; skip the test where it is not what the golden file says."""
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != golden(name)[0]:
        pytest.skip(f"{path.relative_to(ROOT)} is not the golden one; `make release` makes it")
    assert path.stat().st_size <= most
    return path


def digest(path: Path, seed: int) -> str:
    """Return the digest of a scenario's frames under a module, from a process of its own."""
    program = (
        "import runpy, sys\n"
        "from pathlib import Path\n"
        "from tcpip_wasm.engine.wasmtime_engine import module\n"
        "module.MODULE_PATH = Path(sys.argv.pop(1))\n"
        "runpy.run_module('tests.simulation.repeated', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program, str(path), str(seed)]
    environment = {**os.environ, "TCPIP_WASM_CACHE_DIR": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("path", "name", "most"), [(PLAIN, "sha256.txt", 112_000), (RELEASE, "release-sha256.txt", 102_400)]
)
def test_both_send_the_same_frames(path: Path, name: str, most: int) -> None:
    built = module(path, name, most)
    assert digest(built, 1) == repeated.DIGEST
    assert digest(built, 2) == repeated.OTHER_DIGEST
