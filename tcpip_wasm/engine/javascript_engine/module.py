"""``lwip.wasm`` as a compiled module of the JavaScript host.

Owns the compiled modules; knows nothing of what the module does. JavaScript has no call that limits a memory which a
module defines, so a limit is written into the binary: as the maximum in its memory section (WebAssembly Core
Specification 2.0, section 5.5.8).
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

from pyodide.ffi import JsException

from tcpip_wasm.engine.binary import read_binary
from tcpip_wasm.errors import ModuleMismatchError

js: Any = importlib.import_module("js")  # type checkers would take the repository's folder of this name for it

PAGE: Final = 65536
_HEADER: Final = 8  # magic number and version
_MEMORY_SECTION: Final = 5
_HAS_MAXIMUM: Final = 1


@functools.lru_cache(maxsize=8)
def load(memory_limit: int | None = None) -> Any:
    """Return the compiled module of this package.

    Args:
        memory_limit: bytes that linear memory may grow to; None leaves the module's own maximum.

    Raises:
        ModuleMismatchError: it has not been built, or does not compile; the limit is below the initial size.
    """
    binary = read_binary()
    if memory_limit is not None:
        binary = limit_memory(binary, memory_limit // PAGE)
    source = js.Uint8Array.new(len(binary))
    source.assign(binary)
    try:
        return js.WebAssembly.Module.new(source)
    except JsException as error:
        raise ModuleMismatchError(f"lwip.wasm cannot be compiled: {error}") from error


def limit_memory(binary: bytes, pages: int) -> bytes:
    """Return the binary with a lower maximum of its first memory.

    Args:
        binary: a module.
        pages: the largest size of memory in pages of 64 KiB. A larger one than the module's own has no effect.
    """
    at = _HEADER
    while at < len(binary):
        kind = binary[at]
        length, start = _unsigned(binary, at + 1)
        if kind != _MEMORY_SECTION:
            at = start + length
            continue
        count, flags_at = _unsigned(binary, start)
        if not count:
            break
        least, end = _unsigned(binary, flags_at + 1)
        if binary[flags_at] & _HAS_MAXIMUM:
            most, end = _unsigned(binary, end)
            pages = min(pages, most)
        flags = bytes([binary[flags_at] | _HAS_MAXIMUM])
        section = binary[start:flags_at] + flags + _encoded(least) + _encoded(pages) + binary[end : start + length]
        return binary[: at + 1] + _encoded(len(section)) + section + binary[start + length :]
    raise ModuleMismatchError("lwip.wasm has no memory section")


def _unsigned(binary: bytes, at: int) -> tuple[int, int]:
    """Return a number in LEB128 and the offset behind it."""
    value = shift = 0
    while True:
        byte = binary[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _encoded(value: int) -> bytes:
    """Return a number in LEB128."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
