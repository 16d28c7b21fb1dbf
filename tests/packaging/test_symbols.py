"""External names of the C sources: those of the ABI begin with `abi_`, all others with `tw_`.

lwIP has a flat name space of its own, in which a later release may define what we have defined before. The rule covers
functions and data, those that lwIP calls included. Only what compilers call by fixed names has others: `memcpy` and its
kin, and `_initialize`, in port/memory.c, which defines them for WebAssembly alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.assertions import LWIP, WASM

COMPILER = shutil.which("gcc") or shutil.which("clang")
NM = shutil.which("nm")

pytestmark = [
    pytest.mark.skipif(COMPILER is None or NM is None, reason="no C compiler, or no nm, is installed"),
    pytest.mark.skipif(not (LWIP / "build" / "stamp").exists(), reason="`make wasm` fetches lwIP's sources"),
]

ALLOWED = re.compile(r"(abi|tw)_\w+")


def external_symbols(sources: list[Path], folder: Path) -> set[str]:
    """Return the names that the objects of these sources define for other objects."""
    options = ["-std=gnu11", "-O0", "-w", f"-I{WASM / 'include'}", f"-I{WASM / 'src'}"]
    options += ["-isystem", str(LWIP / "build" / "src" / "include")]
    subprocess.run([str(COMPILER), *options, "-c", *map(str, sources)], cwd=folder, check=True)
    objects = sorted(map(str, folder.glob("*.o")))
    assert len(objects) == len(sources), "two folders of wasm/src have a file of the same name"
    done = subprocess.run([str(NM), "-g", "--defined-only", "-P", *objects], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines() if len(line.split()) >= 3}


def test_every_external_symbol_has_a_prefix(tmp_path: Path) -> None:
    sources = sorted((WASM / "src").glob("*/*.c"))
    symbols = external_symbols(sources, tmp_path)
    assert sorted(name for name in symbols if not ALLOWED.fullmatch(name)) == []
    # The objects were read: calls of the ABI, functions, and data.
    assert {"abi_poll", "tw_tcp_emit", "tw_control", "tw_sys_now"} <= symbols
    assert len(sources) > 40


def test_functions_and_data_without_a_prefix_are_found(tmp_path: Path) -> None:
    source = tmp_path / "example.c"
    source.write_text(
        "int late;\nint early = 1;\nstatic int own;\nint tw_good(void) { return own; }\nvoid bad(void) {}\n"
    )
    symbols = external_symbols([source], tmp_path)
    assert symbols == {"late", "early", "tw_good", "bad"}
    assert {name for name in symbols if not ALLOWED.fullmatch(name)} == {"late", "early", "bad"}
