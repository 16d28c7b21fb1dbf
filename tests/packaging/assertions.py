"""Lists the assertions of the compiled sources, after preprocessing.

An assertion that fails ends the stack. The preprocessor of a C compiler expands the sources, so that neither comments,
strings, conditions nor macros of headers are read wrongly; only `LWIP_ASSERT` itself becomes a mark that is
looked for afterwards.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LWIP = ROOT / "third_party" / "lwip"
WASM = ROOT / "wasm"
LIST = LWIP / "assertions.toml"

MARK = "assertion_to_be_listed"
_DEFINITION = re.compile(r"(#define LWIP_ASSERT\(message, assertion\)) do .*?while\(0\)", re.DOTALL)
_MARKED = re.compile(rf'{MARK}\([\s(]*((?:"(?:[^"\\]|\\.)*"\s*)+)\)?\s*,')
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ENDS = re.compile(r"(?<!void )\b(?:__builtin_trap|__builtin_unreachable|abort|exit|_Exit|__assert_fail)\s*\(")

Assertions = Counter[tuple[str, str]]
"""How often each message is asserted in each file."""


def compiler() -> list[str] | None:
    """Return the command of the C compiler that builds the module, or of another one; None where there is none."""
    ziglang = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi"]
    if subprocess.run([*ziglang, "--version"], capture_output=True, check=False).returncode == 0:
        return ziglang
    other = shutil.which("gcc") or shutil.which("clang")
    return None if other is None else [other, "-D__wasm__"]


def sources() -> list[Path]:
    """Return the C files that the module is built from."""
    files = tomllib.loads((LWIP / "manifest.toml").read_text(encoding="utf-8"))["files"]
    lwip = [LWIP / "build" / name for name in files if name.endswith(".c")]
    return lwip + sorted((WASM / "src").glob("*/*.c"))


def marked_headers(folder: Path) -> Path:
    """Copy lwIP's headers to a new folder, with assertions replaced by a mark."""
    include = folder / "include"
    shutil.copytree(LWIP / "build" / "src" / "include", include)
    header = include / "lwip" / "debug.h"
    text, count = _DEFINITION.subn(rf"\1 {MARK}(message, assertion)", header.read_text(encoding="utf-8"))
    assert count == 1, "lwIP defines LWIP_ASSERT otherwise than it did"
    header.write_text(text, encoding="utf-8")
    return include


def expand(command: list[str], source: Path, headers: Path) -> str:
    """Return a preprocessed source."""
    options = ["-std=gnu11", "-DNDEBUG", "-E", "-P", f"-I{WASM / 'include'}", f"-I{WASM / 'src'}", f"-isystem{headers}"]
    done = subprocess.run([*command, *options, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asserted(text: str) -> list[str]:
    """Return the messages of the assertions in an expanded source."""
    messages = ["".join(_LITERAL.findall(literals)) for literals in _MARKED.findall(text)]
    marks = text.count(f"{MARK}(")
    assert marks == len(messages), f"{marks} assertions, {len(messages)} of which have a literal for a message"
    return messages


def other_ends(text: str) -> list[str]:
    """Return other statements that would end the stack in an expanded source, each with its context."""
    return [text[max(0, match.start() - 60) : match.end() + 20] for match in _ENDS.finditer(text)]


def listed(groups: Iterable[dict[str, object]]) -> Assertions:
    """Return the content of the list."""
    found: Assertions = Counter()
    for group in groups:
        files = group["assertions"]
        assert isinstance(files, dict)
        for file, messages in files.items():
            found.update((file, message) for message in messages)
    return found
