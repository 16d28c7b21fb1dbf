"""Runs the suite inside Pyodide; `hosts.run_pyodide` starts it, with these folders in Pyodide's file system."""

import json
import sys
from pathlib import Path

sys.path.insert(0, "/repository")

from conformance.runner import run_suite
from tcpip_wasm.engine import binary

EXCHANGE = Path("/exchange")
binary.MODULE_PATH = EXCHANGE / "lwip.wasm"  # type: ignore[misc]
suite = json.loads((EXCHANGE / "suite.json").read_text(encoding="utf-8"))
(EXCHANGE / "seen.json").write_text(json.dumps(run_suite(suite)), encoding="utf-8")
