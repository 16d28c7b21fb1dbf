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


def require_pyodide() -> list[str]:
    """Skip unless Pyodide can run under Node; return the command that takes wheels, ``--`` and a program."""
    node = require_node()
    if not (FOLDER / "node_modules" / "pyodide").is_dir():
        _missing("npm's pyodide is not installed: `npm ci` in js/conformance, or `make test-conformance`")
    return [node, str(FOLDER / "pyodide.mjs")]


def _missing(reason: str) -> NoReturn:
    if os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1":
        pytest.fail(f"a real peer is required: {reason}", pytrace=False)
    pytest.skip(reason)
