"""Node.js and Pyodide; a test skips where they are missing, and says why.

With `TCPIP_WASM_REQUIRE_PEERS=1` a missing one fails the test instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from conformance.hosts import HostMissingError, current_node

FOLDER = Path(__file__).resolve().parents[2] / "js" / "conformance"


def require_node() -> str:
    """Skip unless Node.js 20 or later is installed; return its path."""
    node = shutil.which("node")
    if node is None:
        _missing("node is not installed")
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if int(shown.removeprefix("v").split(".")[0]) < 20:
        _missing(f"node {shown.strip()} is older than 20")
    return node


def require_pyodide(*, switching: bool = False) -> list[str]:
    """Skip unless Pyodide can run under Node; return the command that takes wheels, ``--`` and a program.

    Args:
        switching: whether Node must have stack switching, by which Pyodide can wait in a call. A current Node has it.
    """
    node = require_node()
    if not (FOLDER / "node_modules" / "pyodide").is_dir():
        _missing("npm's pyodide is not installed: `npm ci` in js/conformance, or `make test-conformance`")
    if not switching:
        return [node, str(FOLDER / "pyodide.mjs")]
    try:
        node = current_node()
    except HostMissingError as error:
        _missing(str(error))
    has_it = subprocess.run([node, "-p", '"Suspending" in WebAssembly'], capture_output=True, timeout=60, check=True)
    flags = [] if has_it.stdout.strip() == b"true" else ["--experimental-wasm-jspi"]
    return [node, *flags, str(FOLDER / "pyodide.mjs")]


def require_package(name: str) -> str:
    """Skip unless one of npm's packages is installed in ``js/``; return the path of Node.js."""
    node = require_node()
    if not (FOLDER.parent / "node_modules" / name).is_dir():
        _missing(f"npm's {name} is not installed: `npm ci` in js/, or `make js`")
    return node


def _missing(reason: str) -> NoReturn:
    if os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1":
        pytest.fail(f"a real peer is required: {reason}", pytrace=False)
    pytest.skip(reason)
