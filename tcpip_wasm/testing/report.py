"""The section of a failure's report: its seed, its trace, a capture of it, and how to repeat it."""

from __future__ import annotations

import os
import shlex
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.simulation.runs.sweep import file_name
from tcpip_wasm.simulation.runs.trial import capture_of
from tcpip_wasm.testing.captures import prune
from tcpip_wasm.testing.virtual_test import VirtualTest

FOLDER = "tcpip_wasm"
"""Within pytest's cache."""


def describe(
    item: pytest.Item,
    report: pytest.TestReport,
    seed: int | str,
    virtual_test: VirtualTest | None,
    directory: str | None,
) -> str:
    """Save a test's capture, and return the section.

    Args:
        item: the test.
        report: pytest's report of one of its phases.
        seed: its seed.
        virtual_test: its network, if it ran in virtual time.
        directory: folder for captures; None is the one for failures, in pytest's cache.
    """
    lines = [f"seed     {seed}"]
    if virtual_test is not None:
        trace = virtual_test.network.trace()
        digest = virtual_test.digest or trace.digest()
        duration = virtual_test.network.loop.time()
        lines.append(f"trace    {digest}, {len(trace):,} frames, {duration:.6f} s of virtual time")
        if len(trace):
            outcome = "failed" if report.failed else report.outcome
            content = capture_of(trace, f"{item.nodeid}, {outcome}, seed {seed}, trace {digest}")
            lines.append(f"capture  {_save(item, seed, content, directory)}")
    lines.append(f"repeat   {_command(item, seed)}")
    return "\n".join(lines)


def _save(item: pytest.Item, seed: int | str, content: bytes, directory: str | None) -> str:
    name = f"{_short_name(item.nodeid)}-{zlib.crc32(f'{item.nodeid} {seed}'.encode()):08x}.pcapng"
    try:
        folder = Path(item.config.invocation_params.dir, directory) if directory else _default_folder(item.config)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(content)
        if not directory:
            prune(folder, path)
    except OSError as error:  # a full disk must not hide why the test failed
        return f"none: {error}"
    shown = os.path.relpath(path, item.config.invocation_params.dir)
    return str(path) if shown.startswith("..") else shown


def _short_name(nodeid: str) -> str:
    return file_name(nodeid.rpartition("::")[2].replace("[", "-").rstrip("]"))[:80]


def _default_folder(config: pytest.Config) -> Path:
    cache: Any = getattr(config, "cache", None)
    if cache is not None:
        return Path(cache.mkdir(FOLDER))
    return Path(tempfile.gettempdir(), FOLDER)  # the cache is switched off


def _command(item: pytest.Item, seed: int | str) -> str:
    path, colons, rest = item.nodeid.partition("::")
    path = os.path.relpath(item.config.rootpath / path, item.config.invocation_params.dir)
    return f"pytest {shlex.quote(path + colons + rest)} --tcpip-seed {shlex.quote(str(seed))}"
