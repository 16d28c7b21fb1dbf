"""Unmodified blocking libraries over `compat.socket`: both ends on stacks, over a cable."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tcpip_wasm import NetworkStack
from tcpip_wasm.compat import StackThread, polyfill_socket
from tests.kit import stacks as stack_kit
from tests.kit.blocking_sockets import BOUND, Background
from tests.kit.core_network import payload
from tests.kit.http import served
from tests.kit.stacks import Pair, pair
from tests.kit.tls import client_context, server_context
from tests.programs.blocking_clients import ftplib_client, requests_client, smtplib_client, urllib_client
from tests.programs.ports import FTP, HTTP, SMTP
from tests.programs.servers import serve_files, serve_mail


@asynccontextmanager
async def uvicorn(two: Pair, folder: Any) -> AsyncIterator[None]:
    """Serve HTTP on the second host."""
    # requests keeps a TLS connection open as long as a response object is referenced, over any network.
    async with served(two, folder, timeout_graceful_shutdown=1):
        yield


@asynccontextmanager
async def mail(two: Pair) -> AsyncIterator[None]:
    """Serve mail on the second host."""
    with two.b.polyfill():
        server = await serve_mail(two.host, SMTP, server_context())
    yield
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def files(two: Pair, folder: Any) -> AsyncIterator[None]:
    """Serve files on the second host."""
    with two.b.polyfill():  # all the time: it makes a server for each transfer
        server = await serve_files(two.host, FTP, folder)
        yield
        await server.close()


@dataclass
class Hosts:
    """Two hosts on a cable in a thread."""

    thread: StackThread
    two: Pair


@contextmanager
def hosts(server: Callable[[Pair], AbstractAsyncContextManager[None]] | None = None) -> Iterator[Hosts]:
    """Create the hosts, and start the servers on their loop."""
    made: list[Pair] = []

    @asynccontextmanager
    async def setup() -> AsyncIterator[NetworkStack]:
        async with pair("tap4") as two, server(two) if server else nullcontext():
            made.append(two)
            yield two.a

    with StackThread(setup, loop_factory=stack_kit.loop_factory) as thread:
        yield Hosts(thread, made[0])


@pytest.mark.parametrize("client", [urllib_client, requests_client])
@pytest.mark.parametrize("tls", [False, True])
def test_http_with_uvicorn(client: Callable[[str, str, int], None], tls: bool, tmp_path: Any) -> None:
    with hosts(partial(uvicorn, folder=tmp_path if tls else None)) as here, polyfill_socket(here.thread):
        client(f"{'https' if tls else 'http'}://{here.two.host}:{HTTP}", here.two.own, 100)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.mark.parametrize("tls", [False, True])
def test_http_server_on_a_stack(tls: bool) -> None:
    body = payload(3_000_000)
    with hosts() as here:
        with polyfill_socket(here.two.b):
            server = http.server.ThreadingHTTPServer((here.two.host, 0), _Handler)
            if tls:
                server.socket = server_context().wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            with polyfill_socket(here.thread):
                tasks = [Background(_post, here.two.host, server.server_port, tls, body) for _ in range(4)]
                for task in tasks:
                    assert task.result() == body[::-1]
        finally:
            server.shutdown()
            server.server_close()
            serving.join(BOUND)
        assert not serving.is_alive()


def _post(host: str, port: int, tls: bool, body: bytes) -> bytes:
    connection: http.client.HTTPConnection
    if tls:
        connection = http.client.HTTPSConnection(host, port, context=client_context(), timeout=BOUND)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=BOUND)
    try:
        connection.request("POST", "/", body)
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("tls", [False, True])
def test_smtplib_with_aiosmtpd(tls: bool) -> None:
    with hosts(mail) as here, polyfill_socket(here.thread):
        smtplib_client(here.two.host, SMTP, tls)


def test_ftplib_with_aioftp(tmp_path: Any) -> None:
    with hosts(partial(files, folder=tmp_path)) as here, polyfill_socket(here.thread):
        ftplib_client(here.two.host, FTP, 20)
