"""``lwip.wasm`` as a compiled module: found, compiled once a process, kept precompiled between processes.

Owns the wasmtime engine and the cache folder; knows nothing of what the module does. A precompiled module is machine
code, and a user who can write it can run code as this one, so an entry counts only if it and its folder belong to this
user and no other user may write there. A damaged entry is rebuilt, and so is what is no regular file or too large to be
an entry: a FIFO or a device in its place must not block a program that creates a stack.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import wasmtime

from tcpip_wasm.engine.binary import read_binary

CACHE_VARIABLE: Final = "TCPIP_WASM_CACHE_DIR"
"""Environment variable: another folder for precompiled modules, or empty for none."""

OPTIMIZE_VARIABLE: Final = "TCPIP_WASM_OPTIMIZE"
"""Environment variable: how far the module is optimized, one of `OPTIMIZATIONS`. What a stack sends is the same."""

LARGEST_ENTRY: Final = 64 << 20
"""Bytes of a cache entry; machine code is some ten times as large as the binary."""

OPTIMIZATIONS: Final = ("speed", "speed_and_size", "none")
"""What wasmtime calls them; the first is what is done without the variable."""


def optimization() -> str:
    """Return how far the module is to be optimized.

    Raises:
        ValueError: the variable is none of `OPTIMIZATIONS`.
    """
    chosen = os.environ.get(OPTIMIZE_VARIABLE) or OPTIMIZATIONS[0]
    if chosen not in OPTIMIZATIONS:
        raise ValueError(f"{OPTIMIZE_VARIABLE}: {chosen!r} is none of {', '.join(OPTIMIZATIONS)}")
    return chosen


@functools.cache
def engine() -> wasmtime.Engine:
    """Return the process's engine. Its memories never move, so a view over one stays valid while it grows."""
    config = wasmtime.Config()
    config.cranelift_opt_level = optimization()
    config.memory_may_move = False
    return wasmtime.Engine(config)


@functools.cache
def load() -> wasmtime.Module:
    """Return the compiled module of this package.

    Raises:
        ModuleMismatchError: it has not been built.
    """
    return compile_cached(read_binary(), cache_folder())


def cache_folder() -> Path | None:
    """Return the folder for precompiled modules, or None where there is to be none."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "tcpip_wasm" if base and os.path.isabs(base) else None


def compile_cached(binary: bytes, folder: Path | None) -> wasmtime.Module:
    """Return the module for a binary, from the cache where it holds a sound entry.

    Args:
        binary: the WebAssembly binary.
        folder: where precompiled modules are kept; None compiles without a cache.
    """
    if folder is None:
        return wasmtime.Module(engine(), binary)
    name = hashlib.sha256(binary).hexdigest()[:32]
    level = optimization()
    kind = "" if level == OPTIMIZATIONS[0] else f"-{level}"
    path = folder / f"{name}-wasmtime-{version('wasmtime')}{kind}"
    precompiled = _read(path)
    if precompiled is not None:
        try:
            return wasmtime.Module.deserialize(engine(), precompiled)
        except wasmtime.WasmtimeError:
            pass  # of another machine or another wasmtime: rebuilt below
    module = wasmtime.Module(engine(), binary)
    _write(path, bytes(module.serialize()))
    return module


def _is_ours(status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return True  # the profile's access list decides there
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _may_be_entry(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_ENTRY


# Without O_NONBLOCK the open itself would wait for a writer of a FIFO that has taken the entry's place in between.
_OPEN_ENTRY: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def _read(path: Path) -> bytes | None:
    """Return the payload of an entry, or None if it is absent, not ours, no sound file, or damaged."""
    try:
        # Opening a device may do something to it, so the entry is looked at before as well as after.
        if not _is_ours(os.stat(path.parent)) or not _may_be_entry(os.stat(path, follow_symlinks=False)):
            return None
        descriptor = os.open(path, _OPEN_ENTRY)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not _is_ours(status) or not _may_be_entry(status):
                return None
            digest, payload = file.read(32), file.read(LARGEST_ENTRY)
    except OSError:
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path: Path, payload: bytes) -> None:
    """Put an entry in place whole, or not at all: a cache that cannot be written is no error."""
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(os.stat(path.parent)):
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with open(descriptor, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
