"""Layouts as data: the files that are generated from wasm/abi.toml, the fingerprint, and that no file has a layout
written by hand."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tcpip_wasm.engine import Statistics, abi

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "wasm" / "abi.toml").read_text()

# Formats and field names written out, independent of abi.toml: what an embedder of ABI version 1 reads and writes.
FORMATS = {
    "record_header": ("<I", "length"),
    "event_header": ("<IIII", "size kind handle value"),
    "endpoint": ("<III16s", "family port scope address"),
    "connection_endpoints": ("<28s28s", "local remote"),
    "datagram": ("<28s28s", "source destination"),
    "echo": ("<28s", "source"),
    "address_report": ("<III16sII", "family given scope address valid preferred"),
    "router_advertisement": ("<16s", "router"),
    "lease": ("<4s4s4s4sIII", "address mask router server seconds renewal rebinding"),
    "seed": ("<qq", "low high"),
    "ip_address": ("<16s", "address"),
    "mac_address": ("<6s", "address"),
    "connect_addresses": ("<16s16s", "remote local"),
    "route_addresses": ("<16s16s", "network gateway"),
    "information": (
        "<18I",
        "state segment_size rto round_trip round_trip_variation congestion_window slow_start_threshold "
        "retransmissions unacknowledged unsent send_window receive_window features scales recovery undone "
        "total_retransmissions needless_retransmissions",
    ),
}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate_abi", ROOT / "wasm" / "generate_abi.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["generate_abi"] = module  # dataclasses look their module up there
    specification.loader.exec_module(module)
    return module


def expected_offsets() -> dict[str, int]:
    """Name of each constant of a size or an offset, by the formats above."""
    found = {}
    for layout, (form, names) in FORMATS.items():
        found[f"{layout.upper()}_SIZE"] = struct.calcsize(form)
        parts = re.findall(r"\d+s|[a-zA-Z]", form.replace("18I", "I" * 18))
        for index, name in enumerate(names.split()):
            found[f"{layout.upper()}_{name.upper()}_OFFSET"] = struct.calcsize("<" + "".join(parts[:index]))
    return found


def constants_of_layouts(numbers: dict[str, int]) -> dict[str, int]:
    expected = expected_offsets()
    return {name: value for name, value in numbers.items() if name in expected or name.endswith("_OFFSET")}


# --- Three languages -------------------------------------------------------------------------------------------------


def test_python_has_the_sizes_and_offsets() -> None:
    numbers = {name: value for name, value in vars(abi).items() if isinstance(value, int)}
    assert constants_of_layouts(numbers) == expected_offsets()
    for layout, (form, _) in FORMATS.items():
        made = getattr(abi, layout.upper())
        assert made.size == struct.calcsize(form), layout
        data = bytes(range(made.size))
        assert made.pack(*made.unpack(data)) == data
    for layout in ("endpoint", "address_report", "lease", "information", "event_header", "record_header", "seed"):
        data = bytes(range(1, 1 + struct.calcsize(FORMATS[layout][0])))
        assert getattr(abi, layout.upper()).unpack(data) == struct.unpack(FORMATS[layout][0], data), layout


def test_named_tuples_have_the_fields() -> None:
    for made, layout in ((abi.AddressReport, "address_report"), (abi.Lease, "lease"), (abi.Information, "information")):
        assert made._fields == tuple(FORMATS[layout][1].split())


def test_c_has_the_sizes_and_offsets(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    wanted = expected_offsets()
    lines = ["#include <stdio.h>", '#include "abi.h"', "int main(void) {"]
    for layout, (_, names) in FORMATS.items():
        lines.append(f'  printf("{layout.upper()}_SIZE %zu\\n", sizeof(struct abi_{layout}));')
        for name in names.split():
            text = f"{layout.upper()}_{name.upper()}_OFFSET"
            lines.append(f'  printf("{text} %zu\\n", offsetof(struct abi_{layout}, {name}));')
    program = tmp_path / "offsets.c"
    program.write_text("\n".join([*lines, "  return 0;", "}", ""]))
    built = tmp_path / "offsets"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "wasm" / "include")]
    subprocess.run([compiler, *flags, "-o", str(built), str(program)], check=True, timeout=120)
    output = subprocess.run([str(built)], check=True, capture_output=True, text=True, timeout=60).stdout
    assert {name: int(value) for name, value in (line.split() for line in output.splitlines())} == wanted


def test_c_header_is_for_this_abi(generator: ModuleType) -> None:
    defined = dict(re.findall(r"^#define ABI_(\w+) \(?(-?\d+)\)?", generator.HEADER.read_text(), re.MULTILINE))
    numbers = {name: value for name, value in vars(abi).items() if isinstance(value, int)}
    assert {name: int(value) for name, value in defined.items()} == numbers


def test_typescript_has_the_same_numbers_and_calls(generator: ModuleType) -> None:
    text = generator.TYPESCRIPT.read_text()
    defined = dict(re.findall(r"^export const (\w+) = (-?\d+);", text, re.MULTILINE))
    numbers = {name: value for name, value in vars(abi).items() if isinstance(value, int)}
    assert {name: int(value) for name, value in defined.items()} == numbers
    interface = text.partition("export interface Exports {")[2].partition("\n}")[0]
    calls = re.findall(r"^  (\w+)\((.*)\): (\w+);", interface, re.MULTILINE)
    kinds = {"i": "number", "d": "number", "I": "bigint"}
    found = {
        name: ([part.partition(": ")[2] for part in parameters.split(", ") if part], result)
        for name, parameters, result in calls
        if name != "_initialize"
    }
    assert found == {
        name: ([kinds[kind] for kind in parameters], kinds[result])
        for name, (parameters, result) in abi.EXPORTS.items()
    }
    reserved = {"interface", "package", "private", "protected", "public", "static", "let", "yield", "implements"}
    assert not {part.partition(":")[0] for _, parameters, _ in calls for part in parameters.split(", ")} & reserved


def javascript(text: str) -> str:
    """Return generated TypeScript without its types."""
    text = re.sub(r"^export interface \w+ \{.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(export function .*\)): \w+ \{", r"\1 {", text, flags=re.MULTILINE)
    text = re.sub(r"^export function .*", lambda line: re.sub(r": \w+", "", line[0]), text, flags=re.MULTILINE)
    return re.sub(r"^(export const \w+): .*? = (?=new|\[)", r"\1 = ", text, flags=re.MULTILINE)


def test_javascript_reads_and_writes_what_python_does(generator: ModuleType, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    (tmp_path / "abi.mjs").write_text(javascript(generator.TYPESCRIPT.read_text()))
    program = """
        import * as abi from "./abi.mjs";
        const plain = (key, value) =>
          typeof value === "bigint" ? String(value) : value instanceof Uint8Array ? Array.from(value) : value;
        const found = {};
        for (const [title, size] of JSON.parse(process.argv[2])) {
          const bytes = new Uint8Array(size + 3).map((_, i) => 255 - i);
          const value = abi["read" + title](new DataView(bytes.buffer), 3);
          const copy = new Uint8Array(size);
          abi["write" + title](new DataView(copy.buffer), 0, value);
          found[title] = [Object.values(value), Array.from(copy)];
        }
        found.payloads = Array.from(abi.EVENT_PAYLOADS, ([kind, { size, bytes }]) => [kind, size, bytes]);
        console.log(JSON.stringify(found, plain));
    """
    (tmp_path / "read.mjs").write_text(program)
    flat = [name for name, (form, _) in FORMATS.items() if "28s" not in form]
    nested = [name for name in FORMATS if name not in flat]
    titles = {name: name.title().replace("_", "") for name in FORMATS}
    argument = json.dumps([(titles[name], getattr(abi, name.upper()).size) for name in FORMATS])
    ran = subprocess.run([node, "read.mjs", argument], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for name in flat:
        data = bytes(255 - 3 - i for i in range(getattr(abi, name.upper()).size))
        values = [
            list(value) if isinstance(value, bytes) else str(value) if name == "seed" else value
            for value in getattr(abi, name.upper()).unpack(data)
        ]
        assert found[titles[name]] == [values, list(data)], name
    for name in nested:
        data = bytes(255 - 3 - i for i in range(getattr(abi, name.upper()).size))
        assert found[titles[name]][1] == list(data), name
    assert {kind: (size, more) for kind, size, more in found["payloads"]} == abi.EVENT_PAYLOADS


def test_statistics_have_the_order_of_the_words(generator: ModuleType) -> None:
    words = generator.Abi(SOURCE).tables["statistics"]["words"]
    assert [field.name.upper() for field in fields(Statistics)] == [*words, "MEMORY"]


def test_words_that_are_read_together_are_adjacent() -> None:
    # Core.poll reads the first two words of the control block as one, FrameBuffers.counters six of an interface's.
    assert (abi.CONTROL_EVENT_LENGTH, abi.CONTROL_MORE) == (0, 1)
    names = "RECEIVED_FRAMES TRANSMITTED_FRAMES DROPPED_MALFORMED DROPPED_TRANSMIT_FULL DROPPED_FOREIGN"
    words = [getattr(abi, f"BLOCK_{name}") for name in [*names.split(), "DROPPED_TOO_LONG"]]
    assert words == list(range(words[0], words[0] + 6))


# --- The fingerprint -------------------------------------------------------------------------------------------------


def changed(old: str, new: str) -> str:
    assert SOURCE.count(old) >= 1, old
    return SOURCE.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('reason = "bounded table: a bridge', 'reason = "another reason; a bridge'),
        ('says = "an address with a port"', 'says = "anything else"'),
        ('"bytes of the frame, which follows"', '"length"'),
        ('["port", "u32"]', '["port", "u32", "0 to 65,535"]'),
        ('says = "the handshake is complete"', 'says = "connected"'),
        ('handle = "listener"', 'handle = "TCP listener"'),
        ("# Result: the next deadline, or infinity.\n", ""),
        ("named_tuple = true\n", ""),
        ("[exports]\n", "[exports]\n# A comment.\n\n"),
    ],
)
def test_wording_does_not_change_the_fingerprint(generator: ModuleType, old: str, new: str) -> None:
    assert generator.Abi(changed(old, new)).fingerprint == abi.VERSION


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1\n", "version = 2\n"),
        ("MAX_ROUTES = { value = 256", "MAX_ROUTES = { value = 257"),
        ("MAX_ROUTES =", "MOST_ROUTES ="),
        ("BAD_HANDLE = -1", "BAD_HANDLE = -18"),
        ("NODELAY = 1", "NODELAY = 9"),
        ('"SEND_FULL", "EVENT_BUFFER"', '"EVENT_BUFFER", "SEND_FULL"'),
        ('"UDP_IN", "UDP_OUT"', '"UDP_OUT", "UDP_IN"'),
        ('["port", "u32"]', '["port", "i32"]'),
        ('["port", "u32"]', '["port_number", "u32"]'),
        ('["mask", "bytes[4]"]', '["mask", "bytes[8]"]'),
        ('[["low", "i64"], ["high", "i64"]]', '[["high", "i64"], ["low", "i64"]]'),
        ("alignment = 4", "alignment = 8"),
        ("EOF = { value = 5", "EOF = { value = 8"),
        ('LEASE = { value = 29, handle = "interface", payload = "lease"', 'LEASE = { value = 29, handle = "interface"'),
        ('"datagram", bytes = true', '"datagram"'),
        ('parameters = { family = "i32", remote_port', 'parameters = { version = "i32", remote_port'),
        ('option = "i32", value = "i32"', 'option = "i32", value = "i64"'),
        ('join = "i32", interface_handle = "i32"', 'interface_handle = "i32", join = "i32"'),
        ('{ now = "f64" }, result = "f64"', '{ now = "f64" }, result = "i32"'),
        ('scratch = "mac_address"', 'scratch = "ip_address"'),
        ('scratch_result = "endpoint"', 'scratch = "endpoint"'),
        ('staging = "length", ', ""),
    ],
)
def test_names_numbers_and_layouts_change_the_fingerprint(generator: ModuleType, old: str, new: str) -> None:
    assert generator.Abi(changed(old, new)).fingerprint != abi.VERSION


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["port", "u32"]', '["port", "u24"]', "layout.endpoint.port has the unknown type 'u24'"),
        ('["family", "u32", "4 or 6"]', '["family", "u16"]', "layout.endpoint.port lies at 2, no multiple of 4"),
        ('["preferred", "u32", "seconds"]', '["preferred", "u8"]', "layout.address_report has 33 bytes"),
        ('payload = "datagram"', 'payload = "packet"', "events.DATAGRAM names the layout 'packet', which does"),
        ('scratch = "mac_address"', 'scratch = "mac"', "exports.interface_add names the layout 'mac'"),
        ('staging = "length"', 'staging = "size"', "exports.tcp_send.staging names no parameter: size"),
        ("SCRATCH_CAPACITY = { value = 72", "SCRATCH_CAPACITY = { value = 48", "has 72 bytes, more than scratch"),
        ("bytes = true", "byte = true", "events.DATA has unknown keys: byte"),
        ("MAX_ROUTES =", "ENDPOINT_SIZE =", "these names are given twice: ENDPOINT_SIZE"),
    ],
)
def test_invalid_definitions_are_refused(generator: ModuleType, old: str, new: str, message: str) -> None:
    with pytest.raises(generator.AbiError, match=re.escape(message)):
        generator.Abi(changed(old, new))


def test_check_names_an_outdated_file(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generator.main(["--check"]) == 0
    stale = {}
    for path, write in generator.WRITERS.items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
        stale[copy] = write
    monkeypatch.setattr(generator, "HERE", tmp_path / "wasm")
    monkeypatch.setattr(generator, "WRITERS", stale)
    assert generator.main(["--check"]) == 0
    script = tmp_path / "js" / "src" / "abi.ts"
    script.write_text(script.read_text().replace("ENDPOINT_SIZE = 28", "ENDPOINT_SIZE = 32"))
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith(f"{Path('js/src/abi.ts')} is out of step")
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


# --- No layout by hand -----------------------------------------------------------------------------------------------

# Little-endian formats of files and messages, each with a specification of its own.
OTHER_FORMATS = {
    "capture/pcapng.py",
    "capture/trace.py",
    "links/encrypted_datagrams.py",
    "links/wireguard/messages.py",
    "links/wisp_wire.py",
}
PACKERS = {"Struct", "pack", "pack_into", "unpack", "unpack_from", "iter_unpack", "calcsize"}


def little_endian_calls(source: str) -> list[int]:
    """Lines that pack or unpack little-endian numbers, as the ABI has them, with a format written there."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        arguments: list[Any] = [*node.args, *(keyword.value for keyword in node.keywords)]
        if name in PACKERS and arguments:
            form = arguments[0].values[0] if isinstance(arguments[0], ast.JoinedStr) else arguments[0]
            if isinstance(form, ast.Constant) and str(form.value).startswith("<"):
                lines.append(node.lineno)
    return lines


def test_little_endian_calls_are_found() -> None:
    found = 'a = Struct("<I")\nb = struct.unpack("<II", x)\nc = Struct(f"<{n}I")\nd = Struct("!I")\ne = f(1)\n'
    assert little_endian_calls(found) == [1, 2, 3]


def test_python_writes_no_layout_by_hand() -> None:
    package = ROOT / "tcpip_wasm"
    found = {
        path.relative_to(package).as_posix(): lines
        for path in sorted(package.rglob("*.py"))
        if path != package / "engine" / "abi.py" and (lines := little_endian_calls(path.read_text()))
    }
    assert found.keys() <= OTHER_FORMATS, found


def test_c_writes_no_layout_by_hand() -> None:
    # What is in scratch, a record, an event or an endpoint is reached by the generated structs: no offset is a number.
    by_hand = re.compile(r"\bscratch\.bytes\b|\b(record|event|endpoints?|last_data)\s*(\+\s*[2-9]|\[[2-9])")
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted((ROOT / "wasm" / "src").rglob("*.[ch]"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if by_hand.search(line)
    ]
    assert found == []
