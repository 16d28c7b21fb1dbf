"""The check of built modules, on modules written byte by byte, and its golden files."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "wasm" / "check_module.py"
TOOLCHAIN = "zig-9"

HEADER = b"\0asm\1\0\0\0"


def section(identifier: int, *entries: bytes) -> bytes:
    body = bytes([len(entries)]) + b"".join(entries)
    return bytes([identifier, len(body)]) + body


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


TYPES = section(1, b"\x60\x02\x7f\x7e\x01\x7f", b"\x60\x00\x00")  # (i32 i64) -> (i32); () -> ()
FUNCTIONS = section(3, b"\x00")
MEMORY = section(5, b"\x01\x11\x80\x80\x01")  # 17 to 16,384 pages
EXPORTS = section(7, text("poll") + b"\x00\x00", text("memory") + b"\x02\x00")
MODULE = HEADER + TYPES + FUNCTIONS + MEMORY + EXPORTS
IMPORTS = section(2, text("host") + text("clock") + b"\x00\x01")


def check(folder: Path, module: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / "lwip.wasm"
    path.write_bytes(module)
    command = [
        sys.executable,
        PROGRAM,
        path,
        "--golden",
        folder / "golden",
        "--toolchain",
        TOOLCHAIN,
        *options,
    ]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A folder whose golden files are MODULE's."""
    assert check(tmp_path, MODULE, "--write").returncode == 0
    return tmp_path


def test_interface_is_written_sorted(golden: Path) -> None:
    lines = (golden / "golden" / "exports.txt").read_text().splitlines()
    assert lines == ["function poll (i32 i64) -> (i32)", "memory memory at most 16384 pages"]
    assert (golden / "golden" / "imports.txt").read_text() == ""


def test_the_same_module_passes(golden: Path) -> None:
    result = check(golden, MODULE, "--enforce-sha256")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{len(MODULE)} bytes, 2 exports, 0 imports" in result.stdout


def test_an_import_is_refused_and_never_becomes_golden(tmp_path: Path) -> None:
    module = HEADER + TYPES + IMPORTS + FUNCTIONS + MEMORY + section(7, text("poll") + b"\x00\x01")
    result = check(tmp_path, module, "--write")
    assert result.returncode == 1
    assert "imports function host.clock () -> ()" in result.stderr
    assert not (tmp_path / "golden").exists()


def test_another_signature_is_refused(golden: Path) -> None:
    result = check(golden, MODULE.replace(b"\x60\x02\x7f\x7e", b"\x60\x02\x7f\x7f"))
    assert result.returncode == 1
    assert "+function poll (i32 i32) -> (i32)" in result.stderr


def test_a_lost_export_is_refused(golden: Path) -> None:
    result = check(golden, HEADER + TYPES + FUNCTIONS + MEMORY + section(7, text("poll") + b"\x00\x00"))
    assert result.returncode == 1
    assert "-memory memory" in result.stderr


def test_size_is_bounded(golden: Path) -> None:
    assert check(golden, MODULE, "--max-size", str(len(MODULE))).returncode == 0
    result = check(golden, MODULE, "--max-size", str(len(MODULE) - 1))
    assert result.returncode == 1
    assert f"{len(MODULE)} bytes" in result.stderr


def test_other_bytes_are_reported_and_refused_on_demand(golden: Path) -> None:
    other = MODULE + b"\x00\x02\x01x"  # a custom section
    assert "NOT the golden one" in check(golden, other).stdout
    assert check(golden, other).returncode == 0
    assert check(golden, other, "--enforce-sha256").returncode == 1


def test_bytes_of_another_toolchain_are_not_compared(golden: Path) -> None:
    result = check(golden, MODULE + b"\x00\x02\x01x", "--enforce-sha256", "--toolchain", "clang")
    assert result.returncode == 0
    assert "not compared" in result.stdout


def test_a_module_made_of_it_has_a_hash_of_its_own_and_the_same_interface(golden: Path) -> None:
    other = MODULE + b"\x00\x02\x01x"
    options = ("--sha256", "release.txt", "--toolchain", f"{TOOLCHAIN}+opt")
    assert check(golden, other, "--write", *options).returncode == 0
    assert check(golden, other, "--enforce-sha256", *options).returncode == 0
    assert check(golden, MODULE, "--enforce-sha256", *options).returncode == 1
    assert check(golden, MODULE, "--enforce-sha256").returncode == 0, "that of the plain build is still there"
    fewer = HEADER + TYPES + FUNCTIONS + MEMORY + section(7, text("poll") + b"\x00\x00")
    result = check(golden, fewer, "--write", *options)
    assert result.returncode == 1
    assert "-memory memory" in result.stderr
    assert check(golden, other, "--enforce-sha256", *options).returncode == 0, "nothing was written"


@pytest.mark.parametrize("module", [b"", b"\x7fELF", MODULE[:-1]], ids=["empty", "another format", "cut short"])
def test_files_that_are_not_modules_are_refused(golden: Path, module: bytes) -> None:
    result = check(golden, module)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_golden_hash_is_of_the_pinned_toolchain() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    (pin,) = (requirement for requirement in requirements if requirement.startswith("ziglang"))
    toolchain = (ROOT / "wasm" / "golden" / "sha256.txt").read_text().split()[-1]
    assert toolchain == pin.replace("==", "-")


def leb(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F])


STACK = section(6, b"\x7f\x01\x41" + leb(1024) + b"\x0b")  # a mutable i32 of 1,024


@pytest.mark.parametrize(
    ("reserve", "bytes_used"),
    [(leb(1008) + b"\x6b", 1024), (leb(-1008) + b"\x6a", 1024), (leb(1024) + b"\x6b", 1040)],
    ids=["subtracted", "negative added", "one too large"],
)
def test_the_stack_holds_the_frames_of_all_functions(golden: Path, reserve: bytes, bytes_used: int) -> None:
    bodies = [b"\x00\x23\x00\x41" + size + b"\x24\x00\x0b" for size in (b"\x10\x6b", reserve)]
    code = section(10, *(bytes([len(body)]) + body for body in bodies))
    result = check(golden, HEADER + TYPES + FUNCTIONS + MEMORY + STACK + EXPORTS + code)
    if bytes_used > 1024:
        assert result.returncode == 1
        assert "the stack has 1024 bytes, and the frames of all functions 1040" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
        assert "1024 of 1024 bytes of stack" in result.stdout
