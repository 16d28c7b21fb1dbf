"""Builds lwIP's own unit tests over the patched sources, with lwIP's own options, and runs them.

Owns: how they are compiled, and the comparison with `unit_tests.toml`, which names each test that a patch makes fail on
purpose. Must not know our options or sources: a patch that cannot be compiled without them lacks its #ifdef.

Program: ``python unit_tests.py [--folder FOLDER]``. Needs gcc and the library check (Debian: check). Exit status 77:
one of them is missing. The program is compiled in FOLDER, by default `build-unit/` beside this program.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import fetch  # noqa: E402 - a program beside this one, found by the line above

MISSING = 77
RUN_TIMEOUT_S = 120
SOURCES = (
    "src/core/**/*.c",
    "src/api/*.c",
    "src/netif/ethernet.c",
    "src/netif/ppp/**/*.c",
    "src/apps/mdns/*.c",
    "src/apps/mqtt/*.c",
)
TESTS = ("test/unit/**/*.c",)
INCLUDES = ("test/unit", "contrib/ports/unix/check", "src/include", "contrib/ports/unix/port/include")
# lwIP's tests use a sys_arch.c of their own; warnings are upstream's concern.
FLAGS = ("-g", "-O1", "-w", "-Werror=implicit-function-declaration", "-DLWIP_DEBUG", "-DLWIP_NOASSERT_ON_ERROR")
LIBRARIES = ("-lcheck", "-lm", "-lrt", "-lsubunit", "-pthread")
RESULT = re.compile(r"^(ok|not ok) \d+ - [^:]*:[^:]*:(\w+): (.*)$", re.MULTILINE)


class UnitTestError(Exception):
    """The tests cannot be built, or their results are not those that `unit_tests.toml` names."""


def prepare(folder: Path) -> None:
    """Put the release with our patches into the folder, unless it is there.

    Raises:
        FetchError: see `fetch.obtain`; or a patch does not apply.
    """
    stamp = folder / fetch.STAMP
    wanted = fetch.fingerprint(HERE)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return
    files = fetch.obtain(fetch.Manifest.load(HERE / "manifest.toml"), folders=True)
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for patch in fetch.patches(HERE):
        fetch.apply_patch(patch, folder)
    stamp.write_text(wanted, encoding="ascii")


def build(folder: Path, compiler: str) -> Path:
    """Compile and link, and return the program.

    Raises:
        UnitTestError: it does not compile; the message is the compiler's.
    """
    includes = [f"-I{folder / name}" for name in INCLUDES]
    sources = sorted(path for pattern in SOURCES + TESTS for path in folder.glob(pattern))

    def run(command: list[str]) -> None:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise UnitTestError("\n".join(result.stderr.splitlines()[:20]))

    def compile_one(source: Path) -> str:
        target = source.with_suffix(".o")
        run([compiler, *FLAGS, *includes, "-c", str(source), "-o", str(target)])
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = folder / "lwip_unittests"
    run([compiler, "-o", str(program), *objects, *LIBRARIES])
    return program


def results(program: Path) -> dict[str, str]:
    """Run the tests, and return the message of each, which is empty where it passed.

    Raises:
        UnitTestError: the program ended before the last test.
    """
    log = program.with_suffix(".tap")
    log.unlink(missing_ok=True)
    run = subprocess.run(
        [str(program)],
        cwd=program.parent,
        env={**os.environ, "CK_TAP_LOG_FILE_NAME": str(log)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found: dict[str, str] = {}
    count = 0
    for verdict, name, message in RESULT.findall(text):
        count += 1
        found.setdefault(name, "")
        if verdict != "ok":
            found[name] = message
    if run.returncode not in (0, 1) or f"1..{count}" not in text:
        raise UnitTestError(f"the tests ended with status {run.returncode} after {count} checks\n{run.stderr[-2000:]}")
    found[""] = str(count)
    return found


def compare(found: dict[str, str], expected: dict[str, Any]) -> list[str]:
    """Return what differs from `unit_tests.toml`, a line each."""
    count = found.pop("")
    differs = {entry["test"]: entry for entry in expected["differs"]}
    failed = {name: message for name, message in found.items() if message}
    faults = [f"{name} failed: {message}" for name, message in failed.items() if name not in differs]
    faults += [f"{name} passes, but should fail by {differs[name]['patch']}" for name in differs.keys() - failed]
    if count != str(expected["checks"]):
        faults.append(f"{count} checks ran, not {expected['checks']}")
    names = {path.name for path in fetch.patches(HERE)}
    faults += [f"{name}: no patch {entry['patch']}" for name, entry in differs.items() if entry["patch"] not in names]
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and run lwIP's own unit tests over the patched sources.")
    parser.add_argument("--folder", type=Path, default=HERE / "build-unit")
    arguments = parser.parse_args()
    compiler = shutil.which("gcc")
    if compiler is None or not Path("/usr/include/check.h").is_file():
        print("lwIP's unit tests need gcc and the library check (Debian: check)", file=sys.stderr)
        return MISSING
    expected = tomllib.loads((HERE / "unit_tests.toml").read_text(encoding="utf-8"))
    try:
        prepare(arguments.folder)
        found = results(build(arguments.folder.resolve(), compiler))
        faults = compare(found, expected)
    except (UnitTestError, fetch.FetchError) as error:
        print(f"lwIP's unit tests: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(fault, file=sys.stderr)
    differing = len(expected["differs"])
    print(f"lwIP's unit tests: {expected['checks'] - differing} passed, {differing} differ on purpose")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
