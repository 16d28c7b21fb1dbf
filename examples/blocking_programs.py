"""Unmodified blocking programs on stacks: http.server serves and urllib fetches, in threads.

The stacks run in a thread with an event loop. Inside `with polyfill_socket(…):` the `socket` module uses a stack's
network. A socket stays with the host that was current when it was created, so the server still runs on bob while the
client runs on alice.
"""

import hashlib
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tcpip_wasm import NetworkStack, connect, create_stack
from tcpip_wasm.compat import StackThread, polyfill_socket

FILE = bytes(range(256)) * 40_000
hosts: dict[str, NetworkStack] = {}


@asynccontextmanager
async def two_hosts() -> AsyncIterator[NetworkStack]:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(
            await alice.create_tap_interface(ip="10.0.0.1/24"),
            await bob.create_tap_interface(ip="10.0.0.2/24"),
        )
        alice.hosts["bob.test"] = "10.0.0.2"
        hosts["bob"] = bob
        yield alice


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(FILE)))
        self.end_headers()
        self.wfile.write(FILE)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the base class calls it
        print(f"bob serves {self.client_address[0]}")


def main() -> int:
    with StackThread(two_hosts) as thread:
        with polyfill_socket(hosts["bob"]):
            server = ThreadingHTTPServer(("0.0.0.0", 80), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            with polyfill_socket(thread):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open("http://bob.test/", timeout=10) as response:
                    received = response.read()
        finally:
            server.shutdown()
            server.server_close()
    same = hashlib.sha256(received).digest() == hashlib.sha256(FILE).digest()
    print(f"alice has {len(received):,} bytes, {'the same' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
