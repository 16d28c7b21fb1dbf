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


PROGRAM = """
import hashlib, sys
from pathlib import Path
from tcpip_wasm.engine import Core, binary
from tests.simulation import repeated

binary.MODULE_PATH = Path(sys.argv[1])
seen, events = hashlib.sha256(), Core.events

def hashed(core):
    result = events(core)
    for kind, handle, value, payload in result:
        seen.update(repr((kind, handle, value, bytes(payload))).encode())
    return result

Core.events = hashed
print(repeated.once(1).digest, repeated.once(2).digest, seen.hexdigest())
"""


def outcome(path: Path) -> list[str]:
    """Return the digests of two scenarios' frames under a module, and of all events, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path],
        cwd=ROOT,
        env={**os.environ, "TCPIP_WASM_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return done.stdout.split()


def test_both_send_the_same_frames_and_events() -> None:
    plain = outcome(module(PLAIN, "sha256.txt", 112_000))
    assert plain[:2] == [repeated.DIGEST, repeated.OTHER_DIGEST]
    assert outcome(module(RELEASE, "release-sha256.txt", 102_400)) == plain
