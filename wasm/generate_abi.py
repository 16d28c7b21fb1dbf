"""Write the C header, the Python module and the TypeScript module that mirror ``abi.toml``.

Owns the form of the generated files, the offsets of layouts and the fingerprint; must not know the meaning of the
numbers. ``--check`` compares instead of writing and exits with 1 when a generated file is out of date.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "abi.toml"
HEADER = HERE / "include" / "abi.h"
MODULE = HERE.parent / "tcpip_wasm" / "engine" / "abi.py"
TYPESCRIPT = HERE.parent / "js" / "src" / "abi.ts"

# name -> (bytes, C, Python's struct, what DataView calls it)
INTEGERS = {
    "u8": (1, "uint8_t", "B", "Uint8"),
    "u16": (2, "uint16_t", "H", "Uint16"),
    "u32": (4, "uint32_t", "I", "Uint32"),
    "u64": (8, "uint64_t", "Q", "BigUint64"),
    "i32": (4, "int32_t", "i", "Int32"),
    "i64": (8, "int64_t", "q", "BigInt64"),
}
# name -> (C, letter of EXPORTS in the Python module, TypeScript)
PARAMETERS = {"i32": ("int32_t", "i", "number"), "i64": ("int64_t", "I", "bigint"), "f64": ("double", "d", "number")}
# Tables of numbers with the prefix of their names, and tables of u32 words that are counted.
NUMBERS = {
    "errors": "ERROR",
    "interface_kind": "KIND",
    "address_state": "ADDRESS",
    "family": "FAMILY",
    "share": "SHARE",
    "connect": "CONNECT",
    "option": "OPTION",
    "more": "MORE",
}
WORDS = {"control": "CONTROL", "interface_block": "BLOCK", "statistics": "STATISTIC"}


class AbiError(ValueError):
    """``abi.toml`` says something that cannot be generated; the message names the table and the value."""


@dataclass(frozen=True)
class Field:
    """A field of a layout, with offset and size in bytes; `inner` is the layout that it nests."""

    name: str
    type: str
    says: str
    offset: int
    size: int
    alignment: int
    inner: Layout | None = None


@dataclass(frozen=True)
class Layout:
    """A table ``[layout.NAME]`` with offsets and sizes in bytes."""

    name: str
    says: str
    fields: tuple[Field, ...]
    alignment: int | None
    named_tuple: bool

    @property
    def size(self) -> int:
        last = self.fields[-1]
        return last.offset + last.size

    @property
    def constant(self) -> str:
        return self.name.upper()

    @property
    def title(self) -> str:
        return self.name.title().replace("_", "")

    @property
    def format(self) -> str:
        """The format string of Python's `struct`, without the byte order."""
        parts = [
            field.inner.format
            if field.inner
            else f"{field.size}s"
            if field.type.startswith("bytes")
            else INTEGERS[field.type][2]
            for field in self.fields
        ]
        return re.sub(r"([A-Za-z])\1{3,}", lambda run: f"{len(run[0])}{run[1]}", "".join(parts))


def read_layouts(tables: dict[str, Any]) -> dict[str, Layout]:
    """Return the layouts by name, in the order of the file; a layout nests only earlier ones.

    Raises:
        AbiError: a field's type is unknown, or a C compiler would put padding into the layout.
    """
    layouts: dict[str, Layout] = {}
    for name, table in tables.items():
        known_keys(f"layout.{name}", table, {"says", "fields", "alignment", "named_tuple"})
        fields: list[Field] = []
        offset = 0
        for field_name, field_type, *says in table["fields"]:
            inner = layouts.get(field_type)
            if inner:
                size, alignment = inner.size, max(field.alignment for field in inner.fields)
            elif match := re.fullmatch(r"bytes\[(\d+)]", field_type):
                size, alignment = int(match[1]), 1
            elif field_type in INTEGERS:
                size = alignment = INTEGERS[field_type][0]
            else:
                raise AbiError(f"layout.{name}.{field_name} has the unknown type {field_type!r}")
            if offset % alignment:
                raise AbiError(f"layout.{name}.{field_name} lies at {offset}, no multiple of {alignment}")
            fields.append(Field(field_name, field_type, "".join(says), offset, size, alignment, inner))
            offset += size
        if not fields or offset % max(field.alignment for field in fields):
            raise AbiError(f"layout.{name} has {offset} bytes, no multiple of its alignment")
        layouts[name] = Layout(
            name, table["says"], tuple(fields), table.get("alignment"), table.get("named_tuple", False)
        )
    return layouts


def known_keys(name: str, table: dict[str, Any], known: set[str]) -> None:
    """Refuse unknown keys: they would have no effect.

    Raises:
        AbiError: there is one.
    """
    if unknown := table.keys() - known:
        raise AbiError(f"{name} has unknown keys: {', '.join(sorted(unknown))}")


class Abi:
    """The content of ``abi.toml``, checked.

    Raises:
        AbiError: a table has an unknown key, names a layout that does not exist, or two constants have one name.
    """

    def __init__(self, text: str) -> None:
        self.tables = tables = tomllib.loads(text)
        known_keys("abi.toml", tables, {"version", "limits", "layout", "events", "exports", *NUMBERS, *WORDS})
        self.layouts = read_layouts(tables["layout"])
        self.events: dict[str, dict[str, Any]] = tables["events"]
        self.exports: dict[str, dict[str, Any]] = tables["exports"]
        for name, entry in tables["limits"].items():
            known_keys(f"limits.{name}", entry, {"value", "reason"})
        for name, entry in self.events.items():
            known_keys(f"events.{name}", entry, {"value", "handle", "payload", "bytes", "says"})
            self.layout_of(f"events.{name}", entry.get("payload"))
        for name, entry in self.exports.items():
            known_keys(f"exports.{name}", entry, {"parameters", "result", "scratch", "scratch_result", "staging"})
            for key in ("scratch", "scratch_result"):
                layout = self.layout_of(f"exports.{name}", entry.get(key))
                if layout and layout.size > tables["limits"]["SCRATCH_CAPACITY"]["value"]:
                    raise AbiError(f"exports.{name}: {layout.name} has {layout.size} bytes, more than scratch")
            if "staging" in entry and entry["staging"] not in entry["parameters"]:
                raise AbiError(f"exports.{name}.staging names no parameter: {entry['staging']}")
        names = [name for name, _, _ in self.constants]
        if twice := {name for name in names if names.count(name) > 1}:
            raise AbiError(f"these names are given twice: {', '.join(sorted(twice))}")

    def layout_of(self, where: str, name: str | None) -> Layout | None:
        if name is not None and name not in self.layouts:
            raise AbiError(f"{where} names the layout {name!r}, which does not exist")
        return None if name is None else self.layouts[name]

    @cached_property
    def numbers(self) -> list[tuple[str, int, str]]:
        """Every constant but the fingerprint, as (name, value, comment)."""
        tables = self.tables
        found = [(name, entry["value"], entry["reason"]) for name, entry in tables["limits"].items()]
        for table, prefix in NUMBERS.items():
            found += [(f"{prefix}_{name}", value, "") for name, value in tables[table].items()]
        found += [
            (f"EVENT_{name}", entry["value"], f"{entry['handle']}: {entry['says']}{self.payload_text(entry)}")
            for name, entry in self.events.items()
        ]
        for table, prefix in WORDS.items():
            found += [(f"{prefix}_{name}", index, "") for index, name in enumerate(tables[table]["words"])]
            found.append((f"{prefix}_WORDS", len(tables[table]["words"]), ""))
        for layout in self.layouts.values():
            found.append((f"{layout.constant}_SIZE", layout.size, layout.says))
            if layout.alignment:
                found.append((f"{layout.constant}_ALIGNMENT", layout.alignment, ""))
            found += [
                (f"{layout.constant}_{field.name.upper()}_OFFSET", field.offset, field.says) for field in layout.fields
            ]
        return found

    @staticmethod
    def payload_text(entry: dict[str, Any]) -> str:
        parts = [entry["payload"]] if "payload" in entry else []
        parts += ["value bytes"] if entry.get("bytes") else []
        return f"; payload: {' and '.join(parts)}" if parts else ""

    @cached_property
    def fingerprint(self) -> int:
        """31 bits of a checksum over names, numbers, layouts and signatures, without reasons and comments."""
        content = {
            "version": self.tables["version"],
            "numbers": {name: value for name, value, _ in self.numbers},
            "layouts": {
                layout.name: [[field.name, field.type, field.offset] for field in layout.fields]
                for layout in self.layouts.values()
            },
            "events": {
                name: [entry["value"], entry.get("payload"), entry.get("bytes", False)]
                for name, entry in self.events.items()
            },
            "exports": {
                name: [
                    list(entry["parameters"].items()),
                    entry["result"],
                    *(entry.get(key) for key in ("scratch", "scratch_result", "staging")),
                ]
                for name, entry in self.exports.items()
            },
        }
        return zlib.crc32(json.dumps(content, sort_keys=True).encode()) & 0x7FFFFFFF

    @property
    def constants(self) -> Iterator[tuple[str, int, str]]:
        """Every constant as (name, value, comment)."""
        version = self.tables["version"]
        yield "VERSION", self.fingerprint, f"version {version}, as a checksum over names, numbers, layouts, signatures"
        yield from self.numbers


def export_note(entry: dict[str, Any]) -> str:
    """Return the layouts in scratch and staging during a call, as a comment, or an empty string."""
    parts = [f"scratch: {entry['scratch']}"] if "scratch" in entry else []
    parts += [f"staging: {entry['staging']} bytes"] if "staging" in entry else []
    parts += [f"result in scratch: {entry['scratch_result']}"] if "scratch_result" in entry else []
    return "; ".join(parts)


# --- C -----------------------------------------------------------------------------------------------------------


def c_struct(layout: Layout) -> Iterator[str]:
    """Yield a layout as a struct and the proof that the compiler lays it out as computed here."""
    yield f"/* {layout.says} */"
    yield f"struct abi_{layout.name} {{"
    for field in layout.fields:
        note = f" /* {field.says} */" if field.says else ""
        if field.inner:
            yield f"  struct abi_{field.inner.name} {field.name};{note}"
        elif field.type.startswith("bytes"):
            yield f"  uint8_t {field.name}[{field.size}];{note}"
        else:
            yield f"  {INTEGERS[field.type][1]} {field.name};{note}"
    yield "};"
    yield f'_Static_assert(sizeof(struct abi_{layout.name}) == ABI_{layout.constant}_SIZE, "size");'
    for field in layout.fields:
        macro = f"ABI_{layout.constant}_{field.name.upper()}_OFFSET"
        yield f'_Static_assert(offsetof(struct abi_{layout.name}, {field.name}) == {macro}, "offset");'
    yield ""


def c_header(abi: Abi) -> str:
    """Return the text of ``include/abi.h``."""
    lines = [
        "/* Generated by generate_abi.py from abi.toml; do not edit. */",
        "#ifndef ABI_H",
        "#define ABI_H",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        "#ifdef __wasm__",
        "#define ABI_EXPORT(name) __attribute__((export_name(name)))",
        "#else",
        "#define ABI_EXPORT(name)",
        "#endif",
        "",
    ]
    for name, value, comment in abi.constants:
        note = f" /* {comment} */" if comment else ""
        lines.append(f"#define ABI_{name} {value}{note}" if value >= 0 else f"#define ABI_{name} ({value}){note}")
    lines.append("")
    for layout in abi.layouts.values():
        lines += c_struct(layout)
    for name, entry in abi.exports.items():
        parameters = ", ".join(f"{PARAMETERS[kind][0]} {word}" for word, kind in entry["parameters"].items())
        note = f" /* {export_note(entry)} */" if export_note(entry) else ""
        result = PARAMETERS[entry["result"]][0]
        lines.append(f'ABI_EXPORT("{name}") {result} abi_{name}({parameters or "void"});{note}')
    lines += ['ABI_EXPORT("abi_version") int32_t abi_version(void);', "", "#endif", ""]
    return "\n".join(lines)


# --- Python ------------------------------------------------------------------------------------------------------


def python_comment(text: str) -> list[str]:
    """Return a comment that documents the constant below it, in lines of 120 characters at most."""
    return textwrap.wrap(text, 120, initial_indent="#: ", subsequent_indent="#: ", break_long_words=False)


def python_layout(layout: Layout) -> Iterator[str]:
    """Yield a layout as a `Struct`, and as a named tuple where one is asked for."""
    names = ", ".join(f"{field.name} ({field.type})" if field.inner else field.name for field in layout.fields)
    yield from python_comment(layout.says if layout.named_tuple else f"{layout.says}: {names}")
    yield f'{layout.constant}: Final = Struct("<{layout.format}")'
    if layout.named_tuple:
        yield "\n"
        yield f"class {layout.title}(NamedTuple):"
        yield f'    """The fields of `{layout.constant}`."""'
        yield ""
        for field in layout.fields:
            kind = "bytes" if field.type.startswith("bytes") else "int"
            yield f"    {field.name}: {kind}" + (f"  # {field.says}" if field.says else "")
        yield "\n"


def python_module(abi: Abi) -> str:
    """Return the text of ``tcpip_wasm/engine/abi.py``."""
    lines = [
        '"""The interface of ``lwip.wasm``: limits, layouts, error codes, events, exported calls.',
        "",
        "Generated by ``wasm/generate_abi.py`` from ``wasm/abi.toml``; do not edit.",
        '"""',
        "",
        "from struct import Struct",
        "from typing import Final, NamedTuple",
        "",
    ]
    for name, value, comment in abi.constants:
        lines += python_comment(comment)
        lines.append(f"{name}: Final = {value}")
    lines.append("")
    for layout in abi.layouts.values():
        lines += python_layout(layout)
    lines += ["", "#: kind of event -> (size of the layout its payload begins with, whether `value` bytes follow)"]
    lines.append("EVENT_PAYLOADS: Final[dict[int, tuple[int, bool]]] = {")
    for name, entry in abi.events.items():
        size = f"{entry['payload'].upper()}_SIZE" if "payload" in entry else 0
        lines.append(f"    EVENT_{name}: ({size}, {entry.get('bytes', False)}),")
    lines += ["}", "", "#: name -> (parameter types, result type); ``i`` is i32, ``I`` is i64, ``d`` is f64"]
    lines.append("EXPORTS: Final[dict[str, tuple[str, str]]] = {")
    lines.append('    "abi_version": ("", "i"),')
    for name, entry in abi.exports.items():
        types = "".join(PARAMETERS[kind][1] for kind in entry["parameters"].values())
        note = "; ".join(filter(None, (", ".join(entry["parameters"]), export_note(entry))))
        line = f'    "{name}": ("{types}", "{PARAMETERS[entry["result"]][1]}"),'
        lines.append(f"{line}  # {note}" if note else line)
    lines += ["}", ""]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines))


# --- TypeScript --------------------------------------------------------------------------------------------------


def camel(name: str) -> str:
    """Return a name as JavaScript writes it."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def typescript_layout(layout: Layout) -> Iterator[str]:
    """Yield a layout as an interface with a function that reads it and one that writes it."""
    reads, writes = [], []
    yield f"/** {layout.says} */"
    yield f"export interface {layout.title} {{"
    for field in layout.fields:
        name = camel(field.name)
        place = f"at + {layout.constant}_{field.name.upper()}_OFFSET"
        if field.inner:
            kind = field.inner.title
            reads.append(f"    {name}: read{kind}(view, {place}),")
            writes.append(f"  write{kind}(view, {place}, value.{name});")
        elif field.type.startswith("bytes"):
            kind = "Uint8Array"
            reads.append(f"    {name}: new Uint8Array(view.buffer, view.byteOffset + {place}, {field.size}).slice(),")
            writes.append(f"  new Uint8Array(view.buffer, view.byteOffset + {place}, {field.size}).set(value.{name});")
        else:
            method = INTEGERS[field.type][3]
            kind = "bigint" if method.startswith("Big") else "number"
            reads.append(f"    {name}: view.get{method}({place}, true),")
            writes.append(f"  view.set{method}({place}, value.{name}, true);")
        yield f"  {name}: {kind};" + (f" // {field.says}" if field.says else "")
    yield "}"
    yield ""
    yield f"export function read{layout.title}(view: DataView, at: number): {layout.title} {{"
    yield from ["  return {", *reads, "  };", "}", ""]
    yield f"export function write{layout.title}(view: DataView, at: number, value: {layout.title}): void {{"
    yield from [*writes, "}", ""]


def typescript_module(abi: Abi) -> str:
    """Return the text of ``js/src/abi.ts``."""
    lines = [
        "/**",
        " * The interface of lwip.wasm: limits, layouts, error codes, events, exported calls.",
        " *",
        " * Generated by wasm/generate_abi.py from wasm/abi.toml; do not edit.",
        " */",
        "",
    ]
    for name, value, comment in abi.constants:
        if comment:
            lines.append(f"/** {comment} */")
        lines.append(f"export const {name} = {value};")
    lines.append("")
    for layout in abi.layouts.values():
        lines += typescript_layout(layout)
    lines.append("/** kind of event -> size of the layout its payload begins with, and whether `value` bytes follow */")
    lines.append("export const EVENT_PAYLOADS: ReadonlyMap<number, { size: number; bytes: boolean }> = new Map([")
    for name, entry in abi.events.items():
        size = f"{entry['payload'].upper()}_SIZE" if "payload" in entry else 0
        lines.append(f"  [EVENT_{name}, {{ size: {size}, bytes: {str(entry.get('bytes', False)).lower()} }}],")
    lines += ["]);", "", "/** what an instance of the module exports */", "export interface Exports {"]
    lines += ["  readonly memory: WebAssembly.Memory;", "  _initialize(): void;", "  abi_version(): number;"]
    for name, entry in abi.exports.items():
        parameters = ", ".join(f"{camel(word)}: {PARAMETERS[kind][2]}" for word, kind in entry["parameters"].items())
        if note := export_note(entry):
            lines.append(f"  /** {note} */")
        lines.append(f"  {name}({parameters}): {PARAMETERS[entry['result']][2]};")
    lines += ["}", "", "/** the names of `Exports`, to be looked for before the first call */"]
    lines.append("export const EXPORTS: readonly (keyof Exports)[] = [")
    lines += [f'  "{name}",' for name in ("memory", "_initialize", "abi_version", *abi.exports)]
    lines += ["];", ""]
    return "\n".join(lines)


WRITERS: dict[Path, Callable[[Abi], str]] = {
    HEADER: c_header,
    MODULE: python_module,
    TYPESCRIPT: typescript_module,
}


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` compare them; return the exit code."""
    abi = Abi(SOURCE.read_text())
    status = 0
    for path, write in WRITERS.items():
        text = write(abi)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.relative_to(HERE.parent)} is out of step with wasm/abi.toml: run `make -C wasm abi`")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
