"""A network that a page and this program share: Ethernet frames over a WebSocket at a port of the machine's loopback.

It prints the address of the page. The page gets its own address by DHCP, finds this host by name, fetches from its
uvicorn and sends to it, and answers its requests. Ctrl-C ends it. After `make js`:

    python js/examples/tunnel.py

With ``--forward 5432=127.0.0.1:5432`` this host passes on what connects to its port 5432 to a server of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import threading
from contextlib import AsyncExitStack, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import WebSocketRelay, bridge_port
from tcpip_wasm.services import DhcpServer, DnsServer, HttpServer, http_client

OWN = "10.0.0.1"
NAME = "python.lab"
LARGEST = 64 * 1024 * 1024
"""Bytes of a file at most."""


def file(length: int) -> bytes:
    """Return a file in which byte i is the low byte of i * 167 + i // 251, as the page computes it."""
    return bytes((i * 167 + i // 251) & 255 for i in range(length))


class Application:
    """The ASGI application of this host.

    ``GET /file?bytes=N`` answers with `file`, ``POST /digest`` with the SHA-256 of what it got, and ``GET /visit`` with
    what the page's own server answers.
    """

    def __init__(self, stack: NetworkStack) -> None:
        self._stack = stack

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, body = await self._answer(scope, receive)
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]}
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, bytes]:
        path = scope["path"]
        if path == "/file":
            [length] = parse_qs(scope["query_string"].decode()).get("bytes", ["0"])
            if not length.isdecimal() or int(length) > LARGEST:
                return 400, f"bytes: {length}".encode()
            return 200, file(int(length))
        if path == "/digest":
            digest = hashlib.sha256()
            while True:
                message = await receive()
                digest.update(message.get("body", b""))
                if not message.get("more_body"):
                    return 200, digest.hexdigest().encode()
        if path == "/visit":
            async with http_client(self._stack) as client:
                answer = await client.get(f"http://{scope['client'][0]}/")
                return answer.status_code, answer.content
        return 404, path.encode()


class Pages(SimpleHTTPRequestHandler):
    """Serves the files of `js/` without a log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        pass


class Forward:
    """Passes on connections to a server of the machine.

    Args:
        text: ``PORT=HOST:PORT``, the port of this host and the server.

    Raises:
        ValueError: it is not of that form.
    """

    def __init__(self, text: str) -> None:
        port, _, server = text.partition("=")
        self.host, _, target = server.rpartition(":")
        self.port, self.target = int(port), int(target)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(reader, other_writer))
            both.create_task(copy(other_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, to the end; reset where that fails."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def main(forwards: list[Forward]) -> None:
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(Path(__file__).parents[1])))
    origin = f"http://127.0.0.1:{pages.server_port}"
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    try:
        async with await create_stack() as stack:
            bridge = await stack.create_bridge_interface(ip=f"{OWN}/24")
            async with (
                AsyncExitStack() as exits,
                DhcpServer(bridge, pool=("10.0.0.100", "10.0.0.199"), name_servers=[OWN]),
                DnsServer(stack, records={NAME: OWN}),
                HttpServer(stack, Application(stack)),
                WebSocketRelay(bridge_port(stack, bridge), origins=[origin]) as relay,
            ):
                for forward in forwards:
                    await exits.enter_async_context(await stack.start_server(forward, OWN, forward.port))
                print(f"{origin}/examples/tunnel.html?relay={relay.url}", flush=True)
                await asyncio.Event().wait()
    finally:
        pages.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A network that a page and this program share.")
    parser.add_argument("--forward", type=Forward, action="append", default=[], metavar="PORT=HOST:PORT")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args().forward))
