"""Clients that send a request and FIN together are answered as over the kernel, by uvicorn and by aiohttp."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.stacks import connect_batched, pair, run
from tests.kit.tls import client_context, server_context

REQUEST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
Factory = Callable[[], asyncio.Protocol]


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer at once: uvicorn closes a connection after the peer's FIN, and data that is written later is lost."""
    length = (b"content-length", b"5")
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body.upper()})


def uvicorn_protocol(http: str) -> Factory:
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip(http)
    config = uvicorn.Config(application, lifespan="off", log_level="error", http=http)
    config.load()
    state = uvicorn.Server(config).server_state
    return lambda: config.http_protocol_class(config=config, server_state=state, app_state={})


async def ask(host: str, port: int, **options: Any) -> bytes:
    """Send a request and FIN, and return all data until the server's FIN."""
    reader, writer = await asyncio.open_connection(host, port, **options)
    writer.write(REQUEST)
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()
    answer = await reader.read()
    writer.close()
    return re.sub(rb"(?i)date: [^\r]*", b"", answer)


async def over_both(factory: Factory) -> tuple[bytes, bytes]:
    """Return the answers over the kernel and over two stacks."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0)
    kernel = await ask(*server.sockets[0].getsockname())
    server.close()
    async with pair(cable=False) as two:
        connect_batched(two)
        with two.b.polyfill():
            server = await loop.create_server(factory, two.host, 80)
        with two.a.polyfill():
            answer = await ask(two.host, 80)
        server.close()
        await server.wait_closed()
    return kernel, answer


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_uvicorn(http: str) -> None:
    kernel, answer = run(over_both(uvicorn_protocol(http)))
    assert kernel.startswith(b"HTTP/1.1 200 OK\r\n")
    assert kernel.endswith(b"\r\n\r\nHELLO")
    assert answer == kernel


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "reads first"])
def test_aiohttp(waits: bool) -> None:
    """Whether it answers depends on the versions of Python and aiohttp, but is the same over both."""
    web = pytest.importorskip("aiohttp.web")

    async def handler(request: Any) -> Any:
        return web.Response(text=(await request.text()).upper() if waits else "HELLO")

    async def main() -> tuple[bytes, bytes]:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        try:
            return await over_both(runner.server)
        finally:
            await runner.cleanup()

    kernel, answer = run(main())
    assert answer == kernel


class Answering(asyncio.Protocol):
    """Answers in a task that starts with the data, and closes at the FIN, which is asyncio's default."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self.answer(data))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, data: bytes) -> None:
        self.transport.write(data.upper())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_protocol_that_answers_in_a_task(tls: bool) -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            connect_batched(two)
            server = await two.b.create_server(Answering, two.host, 80, ssl=server_context() if tls else None)
            if not tls:
                with two.a.polyfill():
                    assert await ask(two.host, 80) == REQUEST.upper()
            else:  # FIN without TLS's goodbye, which asyncio hands up as an EOF
                reader, writer = await two.a.open_connection(
                    two.host, 80, ssl=client_context(), server_hostname=two.host
                )
                writer.write(REQUEST)
                carrier: Any = writer.transport
                carrier._ssl_protocol._transport.write_eof()
                assert await reader.read() == REQUEST.upper()
                writer.close()
            server.close()
            await server.wait_closed()

    run(main())
