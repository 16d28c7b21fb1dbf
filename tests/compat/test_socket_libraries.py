"""Libraries that block, as they are, through the socket stand-in: both ends on virtual hosts, over a cable."""

from __future__ import annotations

import asyncio
import ftplib
import hashlib
import http.server
import io
import json
import smtplib
import socket
import socketserver
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tcpip_wasm import NetworkStack
from tcpip_wasm.compat import StackThread, polyfill_socket
from tests import support_stacks
from tests.compat.support import BLOCK, DIGEST, MEGABYTES, served
from tests.compat.support_socket import BOUND, Background
from tests.support import payload
from tests.support_stacks import Pair, pair
from tests.support_tls import client_context, server_context


@dataclass
class Hosts:
    """Two hosts on a cable in a thread."""

    thread: StackThread
    two: Pair
    url: str = ""


@contextmanager
def hosts(*, with_uvicorn: bool = False, folder: Any = None) -> Iterator[Hosts]:
    """Make the hosts; if wanted, uvicorn runs on the second one."""
    made: list[tuple[Pair, str]] = []

    @asynccontextmanager
    async def setup() -> AsyncIterator[NetworkStack]:
        async with pair("tap4") as two:
            if with_uvicorn:
                # requests keeps a connection of TLS open as long as somebody holds an answer, over any network.
                async with served(two, folder, timeout_graceful_shutdown=1) as url:
                    made.append((two, url))
                    yield two.a
            else:
                made.append((two, ""))
                yield two.a

    with StackThread(setup, loop_factory=support_stacks.loop_factory) as thread:
        two, url = made[0]
        yield Hosts(thread, two, url)


class Blocks(io.RawIOBase):
    """The large body as a file."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MEGABYTES * len(BLOCK)

    def __len__(self) -> int:
        return MEGABYTES * len(BLOCK)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        at = (MEGABYTES * len(BLOCK) - self._left) % len(BLOCK)
        piece = BLOCK[at : at + min(size if size > 0 else len(BLOCK), self._left)]
        self._left -= len(piece)
        return piece


@pytest.mark.parametrize("tls", [False, True])
def test_urllib_with_uvicorn(tls: bool, tmp_path: Any) -> None:
    with hosts(with_uvicorn=True, folder=tmp_path if tls else None) as here, polyfill_socket(here.thread):
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=client_context())
        )
        with opener.open(f"{here.url}/", timeout=BOUND) as response:
            assert response.read() == b"hello " + here.two.own.encode()
        digest = hashlib.sha256()
        with opener.open(f"{here.url}/down", timeout=BOUND) as response:
            while piece := response.read(1 << 20):
                digest.update(piece)
        assert digest.hexdigest() == DIGEST
        request = urllib.request.Request(
            f"{here.url}/up", data=Blocks(), headers={"Content-Length": str(len(Blocks()))}, method="POST"
        )
        with opener.open(request, timeout=60) as response:
            assert json.load(response) == {"sha256": DIGEST, "size": MEGABYTES * len(BLOCK)}


@pytest.mark.parametrize("tls", [False, True])
def test_requests_with_uvicorn(tls: bool, tmp_path: Any) -> None:
    with (
        hosts(with_uvicorn=True, folder=tmp_path if tls else None) as here,
        polyfill_socket(here.thread),
        requests.Session() as session,
    ):
        session.trust_env = False
        session.mount("https://", _Adapter())
        for _ in range(50):  # one connection, kept alive
            answer = session.get(f"{here.url}/", timeout=BOUND)
            assert answer.text == f"hello {here.two.own}"
        down = session.get(f"{here.url}/down", timeout=BOUND)
        assert hashlib.sha256(down.content).hexdigest() == DIGEST
        up = session.post(f"{here.url}/up", data=Blocks(), timeout=60)
        assert up.json() == {"sha256": DIGEST, "size": MEGABYTES * len(BLOCK)}


class _Adapter(requests.adapters.HTTPAdapter):
    """Trusts the test's authority."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> Any:
        return super().init_poolmanager(*arguments, ssl_context=client_context(), **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context says it."""


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


def test_smtplib_with_aiosmtpd() -> None:
    from aiosmtpd.smtp import SMTP

    letters: list[tuple[str, list[str], bytes]] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            letters.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
            return "250 OK"

    with hosts() as here:

        async def serve() -> Any:
            handler = Handler()
            make = lambda: SMTP(handler, hostname="b.test", tls_context=server_context())  # noqa: E731
            return await here.two.b.create_server(make, here.two.host, 25)

        server = here.thread.call(serve())
        text = "\r\n".join(f"line {number}" for number in range(20_000)) + "\r\n"
        with polyfill_socket(here.thread), smtplib.SMTP(here.two.host, 25, "a.test", timeout=BOUND) as client:
            client.starttls(context=client_context())
            client.sendmail("me@a.test", ["you@b.test"], text)
        assert letters == [("me@a.test", ["you@b.test"], text.encode())]
        here.thread.call(asyncio.wait_for(_close(server), BOUND))


async def _close(server: Any) -> None:
    server.close()


class _Ftp(socketserver.StreamRequestHandler):
    """Enough of RFC 959 to store and fetch a file in passive mode."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def handle(self) -> None:
        self._say("220 ready")
        data: socket.socket | None = None
        while line := self.rfile.readline():
            verb, _, argument = line.decode().strip().partition(" ")
            if verb == "PASV":
                data = socket.create_server((self.connection.getsockname()[0], 0))
                host, port = data.getsockname()
                self._say(f"227 go to ({host.replace('.', ',')},{port >> 8},{port & 255})")
            elif verb in ("STOR", "RETR"):
                assert data is not None
                self._say("150 here it comes")
                with data, data.accept()[0] as connection:
                    if verb == "RETR":
                        connection.sendall(self.files[argument])
                    else:
                        self.files[argument] = b"".join(iter(lambda: connection.recv(65536), b""))
                self._say("226 done")
            else:
                self._say("221 bye" if verb == "QUIT" else "230 fine")
                if verb == "QUIT":
                    return

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


def test_ftplib_with_a_socketserver() -> None:
    data = payload(2_000_000)
    with (
        hosts() as here,
        polyfill_socket(here.two.b),
        socketserver.ThreadingTCPServer((here.two.host, 21), _Ftp) as server,
    ):
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            with ftplib.FTP(timeout=BOUND) as client:
                client.connect(here.two.host, 21)
                client.login()
                client.storbinary("STOR file", io.BytesIO(data))
                got = bytearray()
                client.retrbinary("RETR file", got.extend)
                assert got == data
        finally:
            server.shutdown()
            serving.join(BOUND)
