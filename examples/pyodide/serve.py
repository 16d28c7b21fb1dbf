"""Serves a page in which Python programs run with a network of their own, by Pyodide.

    npm ci --prefix js/conformance --ignore-scripts     # once, for Pyodide
    make wheel                                          # once: dist/tcpip_wasm-*.whl
    python -m pip download --no-deps --dest dist anyio certifi click h11 httpcore httpx idna typing_extensions uvicorn
    python examples/pyodide/serve.py                    # then open the address that it prints

The server offers the page, Pyodide's files and all pure Python wheels of a folder, on the loopback interface.
"""

from __future__ import annotations

import argparse
import json
import mimetypes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".whl": "application/zip", ".json": "application/json"}


def create_server(wheels: Path, pyodide: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return the server, not yet serving.

    Args:
        wheels: folder of wheels.
        pyodide: folder of Pyodide, such as ``node_modules/pyodide``.
        port: TCP port; 0 takes a free one.
    """

    folders = {"wheels": wheels, "pyodide": pyodide}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            folder, _, name = path.lstrip("/").rpartition("/")
            if path == "/":
                self._send("text/html", Path(__file__).with_name("page.html").read_bytes())
            elif path == "/wheels.json":
                found = sorted(wheel.name for wheel in wheels.glob("*-none-any.whl"))
                self._send(TYPES[".json"], json.dumps([f"./wheels/{wheel}" for wheel in found]).encode())
            elif folder in folders and (file := folders[folder] / name).is_file():
                kind = TYPES.get(file.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
                self._send(kind, file.read_bytes())
            else:
                self.send_error(404)

        def _send(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base class names it so
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the page.")
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist", help="folder of wheels")
    parser.add_argument("--pyodide", type=Path, default=ROOT / "js" / "conformance" / "node_modules" / "pyodide")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with create_server(options.wheels, options.pyodide, options.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
