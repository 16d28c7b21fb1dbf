"""The adapters of httpcore, aiohttp and anyio: both ends outside of any polyfill, or only the server inside."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.abc
import anyio.lowlevel
import httpcore
import pytest

from tcpip_wasm.compat.aiohttp import StackConnector
from tcpip_wasm.compat.anyio import StackListener, StackStream
from tcpip_wasm.compat.httpcore import StackBackend
from tests.kit.core_network import payload
from tests.kit.http import served
from tests.kit.stacks import Pair, iterations, pair, run, until
from tests.kit.tls import client_context
from tests.programs.bodies import BLOCK, blocks, digest, received

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
MEGABYTES = 10
SIZE = MEGABYTES * len(BLOCK)


def held(two: Pair) -> int:
    return sum(s.core.connections - s.core.time_wait for s in (two.a.stats(), two.b.stats()))


@secure
@pytest.mark.parametrize("way", ["tap4", "tun6"])
def test_httpcore(tls: bool, way: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None) as url:
            backend = StackBackend(two.a)
            async with httpcore.AsyncConnectionPool(ssl_context=client_context(), network_backend=backend) as pool:
                for _ in range(10):
                    response = await pool.request("GET", url)
                    assert response.content == f"hello {two.own}".encode()
                assert two.a.stats().core.connections == 1
                arrived = hashlib.sha256()
                async with pool.stream("GET", f"{url}/down?megabytes={MEGABYTES}") as streamed:
                    async for chunk in streamed.aiter_stream():
                        arrived.update(chunk)
                assert arrived.hexdigest() == digest(MEGABYTES)
                response = await pool.request(
                    "POST", f"{url}/up", content=blocks(MEGABYTES), headers={"Content-Length": str(SIZE)}
                )
                assert json.loads(response.content) == received(MEGABYTES)
                extensions = {"timeout": {"connect": 0.05, "read": 0.05, "write": 0.05}}
                with pytest.raises(httpcore.ReadTimeout):
                    await pool.request("GET", f"{url}/wait?count=2&number=0", extensions=extensions)
                response = await pool.request("GET", f"{url}/wait?count=2&number=1")  # lets both go
                assert response.content == b"1"
                with pytest.raises(httpcore.ConnectError):
                    await pool.request("GET", url.replace(":8000", ":81"))
                if way == "tap4":
                    with pytest.raises(httpcore.ConnectTimeout):
                        await pool.request("GET", "http://10.0.0.77", extensions=extensions)
                with pytest.raises(httpcore.ConnectError):
                    await backend.connect_unix_socket("/nowhere")
                if tls:
                    distrustful = httpcore.AsyncConnectionPool(network_backend=backend)
                    with pytest.raises(httpcore.ConnectError, match="certificate verify failed"):
                        await distrustful.request("GET", url)
            await until(lambda: held(two) == 0)

    run(main())


def test_httpcore_notices_a_dead_connection() -> None:
    """A pool checks whether an idle connection is readable; one that the peer has closed is not reused."""

    async def main() -> None:
        async with pair() as two:
            served = 0

            async def serve(reader: Any, writer: Any) -> None:
                nonlocal served
                await reader.readuntil(b"\r\n\r\n")
                served += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                writer.close()

            await two.b.start_server(serve, two.host, 80)
            async with httpcore.AsyncConnectionPool(network_backend=StackBackend(two.a)) as pool:
                for number in range(5):
                    assert (await pool.request("GET", f"http://{two.host}")).content == b"ok"
                    await iterations(20)
                    assert served == number + 1

    run(main())


@secure
@pytest.mark.parametrize("way", ["tap4", "tun6"])
def test_aiohttp(tls: bool, way: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None) as url:
            async with aiohttp.ClientSession(connector=StackConnector(two.a, ssl=client_context())) as session:
                for _ in range(10):
                    async with session.get(url) as response:
                        assert await response.text() == f"hello {two.own}"
                assert two.a.stats().core.connections == 1
                arrived = hashlib.sha256()
                async with session.get(f"{url}/down?megabytes={MEGABYTES}") as response:
                    async for chunk in response.content.iter_any():
                        arrived.update(chunk)
                assert arrived.hexdigest() == digest(MEGABYTES)
                async with session.post(f"{url}/up", data=blocks(MEGABYTES)) as response:
                    assert await response.json() == received(MEGABYTES)
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get(url.replace(":8000", ":81"))
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get("http://nobody.test")
                if way == "tap4":
                    with pytest.raises(aiohttp.ConnectionTimeoutError):
                        await session.get("http://10.0.0.77", timeout=aiohttp.ClientTimeout(sock_connect=0.05))
                if tls:
                    async with aiohttp.ClientSession(connector=StackConnector(two.a)) as distrustful:
                        with pytest.raises(aiohttp.ClientConnectorCertificateError):
                            await distrustful.get(url)
            await until(lambda: held(two) == 0)

    run(main())


async def streams(two: Pair) -> tuple[StackStream, StackStream]:
    client, server = await two.connections()
    return StackStream(client), StackStream(server)


def test_anyio_stream() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await streams(two)
            data = payload(1_000_000)
            received = bytearray()

            async def send() -> None:
                for at in range(0, len(data), 50_000):
                    await client.send(data[at : at + 50_000])
                await client.send_eof()
                await client.send_eof()

            async with anyio.create_task_group() as group:
                group.start_soon(send)
                with pytest.raises(anyio.EndOfStream):
                    while True:
                        chunk = await server.receive(10_000)
                        assert 0 < len(chunk) <= 10_000
                        received += chunk
            assert received == data
            await server.send(b"the other way is open")
            assert await client.receive() == b"the other way is open"
            assert client.extra(anyio.abc.SocketAttribute.remote_address) == (two.host, 80)
            assert server.extra(anyio.abc.SocketAttribute.remote_port) == client.extra(
                anyio.abc.SocketAttribute.local_port
            )
            await client.aclose()
            await client.aclose()
            await server.aclose()
            for use in (client.receive(), client.send(b"x"), client.send_eof()):
                with pytest.raises(anyio.ClosedResourceError):
                    await use
            await until(lambda: held(two) == 0)

    run(main())


def test_anyio_errors() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await streams(two)
            with pytest.raises(ValueError, match="max_bytes"):
                await client.receive(0)
            async with anyio.create_task_group() as group:
                group.start_soon(client.receive)
                await iterations(5)
                with pytest.raises(anyio.BusyResourceError):
                    await client.receive()
                group.cancel_scope.cancel()
            with anyio.move_on_after(0.01):
                await client.receive()
            await server.send(b"still here")
            assert await client.receive() == b"still here"
            await anyio.aclose_forcefully(server)
            with pytest.raises(anyio.BrokenResourceError):
                await client.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await client.send(b"x")
            await client.aclose()
            await until(lambda: held(two) == 0)

    run(main())


def test_anyio_listener_and_tls() -> None:
    """anyio's own TLS stream over ours, as anyio programs use it."""
    from anyio.streams.tls import TLSListener, TLSStream

    from tests.kit.tls import server_context

    async def main() -> None:
        async with pair() as two:
            listener = TLSListener(StackListener(await two.b.listen_tcp(443)), server_context())

            async def handle(stream: TLSStream) -> None:
                async with stream:
                    while (data := await stream.receive()) != b"end":
                        await stream.send(data.upper())

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, handle)
                raw = StackStream(await two.a.connect_tcp(two.host, 443))
                stream = await TLSStream.wrap(raw, hostname=two.host, ssl_context=client_context())
                for word in (b"one", b"two"):
                    await stream.send(word)
                    assert await stream.receive() == word.upper()
                await stream.send(b"end")
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                await stream.aclose()
                group.cancel_scope.cancel()
            await listener.aclose()
            await until(lambda: held(two) == 0)

    run(main())


MISSING = """
import importlib, sys

sys.modules[sys.argv[2]] = None  # as if it were not installed
try:
    importlib.import_module("tcpip_wasm.compat." + sys.argv[1])
except ModuleNotFoundError as error:
    print(error.name, error, sep=": ")
"""


@pytest.mark.parametrize("library", ["aiohttp", "anyio", "httpcore"])
def test_a_missing_library_names_its_extra(library: str) -> None:
    def said(missing: str) -> str:
        command = [sys.executable, "-c", MISSING, library, missing]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.strip()

    assert said(library) == (
        f"{library}: tcpip_wasm.compat.{library} needs {library}: pip install 'tcpip_wasm[{library}]'"
    )
    if within := {"aiohttp": "yarl", "httpcore": "h11"}.get(library):
        assert said(within).startswith(f"{within}: import of {within} halted"), "another one is no matter of the extra"
