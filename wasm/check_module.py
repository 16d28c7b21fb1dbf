"""Compares a built module with the golden files: imports, exports with their types, size, SHA-256.

Owns the parsing of the few sections of a WebAssembly binary that are compared, so that a build needs no
WebAssembly runtime. Must not know what the functions do.

Program: ``python check_module.py MODULE --golden FOLDER --toolchain NAME``. Imports, exports and size are
always errors. The SHA-256 is valid for one toolchain, the one that golden/sha256.txt names (another file for the
module that ships: ``--sha256 NAME``): with that one, another SHA-256 is an error if ``--enforce-sha256`` is given and
reported otherwise; with others it is only reported.

The stack has to have room for the frames of all functions at once: no call of a function leads to another call of the
same one, so that more than this cannot be in use. A frame is found by the instructions that reserve it.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHA256 = "sha256.txt"
"""The golden file with the hash of a plain build."""

MAGIC = b"\0asm\1\0\0\0"
TYPE_SECTION, IMPORT_SECTION, FUNCTION_SECTION, TABLE_SECTION = 1, 2, 3, 4
MEMORY_SECTION, GLOBAL_SECTION, EXPORT_SECTION, CODE_SECTION = 5, 6, 7, 10
KINDS = ("function", "table", "memory", "global")
VALUE_TYPES = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}


FRAME = re.compile(rb"\x23\x00\x41([\x80-\xff]{0,4}[\x00-\x7f])([\x6a\x6b])", re.DOTALL)
"""The stack pointer, which is global 0, and the size of a frame: subtracted, or its negative added."""


class Reader:
    """A cursor over bytes in the binary format's own encodings."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, length: int) -> bytes:
        self.position += length
        if self.position > len(self.data):
            raise ValueError("the module is truncated")
        return self.data[self.position - length : self.position]

    def number(self) -> int:
        """An unsigned LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self) -> int:
        """A signed LEB128."""
        start = self.position
        value = self.number()
        width = 7 * (self.position - start)
        return value - (value >> (width - 1) << width)

    def text(self) -> str:
        return self.take(self.number()).decode()

    def types(self) -> str:
        return " ".join(VALUE_TYPES[self.byte()] for _ in range(self.number()))

    def limits(self) -> str:
        # The least size follows from the amount of static data, which may change; the limit may not.
        bounded = self.byte() & 1
        self.number()
        return f"at most {self.number()} pages" if bounded else "without limit"


@dataclass
class Interface:
    """The imports and exports of a module, one line each."""

    imports: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)


def sections(data: bytes) -> Iterator[tuple[int, Reader]]:
    if not data.startswith(MAGIC):
        raise ValueError("not a WebAssembly module of version 1")
    reader = Reader(data)
    reader.take(len(MAGIC))
    while reader.position < len(data):
        identifier = reader.byte()
        yield identifier, Reader(reader.take(reader.number()))


def read_interface(data: bytes) -> Interface:
    """Read the import and export lists of a binary module; raises ValueError if it is none."""
    signatures: list[str] = []
    # One index space a kind, in KINDS' order; imported entries come first in each.
    spaces: tuple[list[str], ...] = ([], [], [], [])
    interface = Interface()
    for identifier, reader in sections(data):
        if identifier == TYPE_SECTION:
            for _ in range(reader.number()):
                if reader.byte() != 0x60:
                    raise ValueError("a type that is no function type")
                signatures.append(f"({reader.types()}) -> ({reader.types()})")
        elif identifier == IMPORT_SECTION:
            for _ in range(reader.number()):
                name = f"{reader.text()}.{reader.text()}"
                kind = reader.byte()
                description = _described(kind, reader, signatures)
                spaces[kind].append(description)
                interface.imports.append(f"{KINDS[kind]} {name} {description}")
        elif identifier == FUNCTION_SECTION:
            spaces[0].extend(signatures[reader.number()] for _ in range(reader.number()))
        elif identifier == TABLE_SECTION:
            spaces[1].extend(_described(1, reader, signatures) for _ in range(reader.number()))
        elif identifier == MEMORY_SECTION:
            spaces[2].extend(_described(2, reader, signatures) for _ in range(reader.number()))
        elif identifier == EXPORT_SECTION:
            for _ in range(reader.number()):
                name, kind, index = reader.text(), reader.byte(), reader.number()
                # A global's type stands before its initial value, which is not parsed: its name is compared.
                description = spaces[kind][index] if spaces[kind] else ""
                interface.exports.append(f"{KINDS[kind]} {name} {description}".rstrip())
    interface.imports.sort()
    interface.exports.sort()
    return interface


def _described(kind: int, reader: Reader, signatures: list[str]) -> str:
    if kind == 0:
        return signatures[reader.number()]
    if kind == 1:
        return f"{VALUE_TYPES[reader.byte()]} {reader.limits()}"
    if kind == 2:
        return reader.limits()
    return f"{VALUE_TYPES[reader.byte()]} {'mutable' if reader.byte() else 'constant'}"


def stack_use(data: bytes) -> tuple[int, int]:
    """Return the size of the stack, and that of the frames of all functions: bytes, 0 and 0 without a stack."""
    size = frames = 0
    for identifier, reader in sections(data):
        if identifier == GLOBAL_SECTION and reader.number():
            # The stack pointer's initial value, since the stack begins at address 0.
            if reader.take(3) == b"\x7f\x01\x41":
                size = reader.signed()
        elif identifier == CODE_SECTION:
            for number, operation in FRAME.findall(reader.data):
                frames += Reader(number).signed() * (1 if operation == b"\x6b" else -1)
    return size, frames


def difference(name: str, golden: str, actual: str) -> list[str]:
    lines = difflib.unified_diff(
        golden.splitlines(), actual.splitlines(), f"golden/{name}", "the module", "", "", 0, ""
    )
    return list(lines)


def check(
    module: Path,
    golden: Path,
    *,
    toolchain: str,
    max_size: int,
    enforce_sha256: bool,
    write: bool,
    sha256_name: str = SHA256,
) -> list[str]:
    """Return the differences as messages; print the figures of the module."""
    data = module.read_bytes()
    interface = read_interface(data)
    sha256 = hashlib.sha256(data).hexdigest()
    actual = {
        "imports.txt": "".join(f"{line}\n" for line in interface.imports),
        "exports.txt": "".join(f"{line}\n" for line in interface.exports),
        sha256_name: f"{sha256}  lwip.wasm  {toolchain}\n",
    }
    faults = [f"the module imports {line}; it must import nothing" for line in interface.imports]
    if len(data) > max_size:
        faults.append(f"the module has {len(data)} bytes; at most {max_size} are allowed")
    size, frames = stack_use(data)
    if frames > size:
        faults.append(f"the stack has {size} bytes, and the frames of all functions {frames}")
    # The interface is written by a plain build alone: what is made of it must have the same.
    written = [] if not write else list(actual) if sha256_name == SHA256 else [sha256_name]
    expected = {
        name: (golden / name).read_text(encoding="utf-8") if (golden / name).is_file() else "" for name in actual
    }
    for name in ("imports.txt", "exports.txt"):
        if name not in written:
            faults += difference(name, expected[name], actual[name])
    if write:
        if not faults:
            golden.mkdir(parents=True, exist_ok=True)
            for name in written:
                (golden / name).write_text(actual[name], encoding="utf-8")
        return faults
    golden_toolchain = expected[sha256_name].split()[-1:]
    if actual[sha256_name] == expected[sha256_name]:
        verdict = "the golden one"
    elif golden_toolchain != [toolchain]:
        verdict = f"not compared: the golden one is of {' '.join(golden_toolchain) or 'no toolchain'}"
    else:
        verdict = f"NOT the golden one, {expected[sha256_name].split()[0]}"
        if enforce_sha256:
            faults.append(f"the module's SHA-256 is {sha256}, {verdict}")
    print(f"{module.name}: {len(data)} bytes, {len(interface.exports)} exports, {len(interface.imports)} imports, "
          f"{frames} of {size} bytes of stack")  # fmt: skip
    print(f"SHA-256 {sha256} ({toolchain}): {verdict}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a module with the golden files.")
    parser.add_argument("module", type=Path)
    parser.add_argument("--golden", type=Path, required=True, help="folder of the golden files")
    parser.add_argument("--sha256", default=SHA256, help="name of the golden file that has the SHA-256")
    parser.add_argument("--toolchain", required=True, help="name and version of what built the module")
    parser.add_argument("--max-size", type=int, default=100_000, help="bytes")
    parser.add_argument("--enforce-sha256", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the golden files instead of comparing")
    arguments = parser.parse_args()
    try:
        faults = check(
            arguments.module,
            arguments.golden,
            toolchain=arguments.toolchain,
            max_size=arguments.max_size,
            enforce_sha256=arguments.enforce_sha256,
            write=arguments.write,
            sha256_name=arguments.sha256,
        )
    except ValueError as error:
        print(f"{arguments.module}: {error}", file=sys.stderr)
        return 1
    if faults:
        print("\n".join(faults), file=sys.stderr)
        print("if that is meant: make -C wasm golden", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
