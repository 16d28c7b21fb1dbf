"""Closing a stack reports no errors of handlers that it ends; a trap is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, StackClosedError, StackTrappedError, create_stack
from tcpip_wasm.compat import StackThread, VirtualHost
from tests.kit.stacks import Pair, iterations, pair, run, run_with_reports, until
from tests.kit.tls import client_context, server_context

COUNT = 20
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()  # CPython warns of writers that are collected open


async def read_exactly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readexactly(100)
    finally:
        writer.close()


async def drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def group(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.read())
        tasks.create_task(drain(reader, writer))


class Begun:
    """Records the handlers that have started, and how they ended."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.count = 0
        self.ended: list[BaseException] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        try:
            await self.handler(reader, writer)
        except BaseException as error:
            self.ended.append(error)
            raise


async def clients(two: Pair, tls: bool, begun: Begun) -> list[Any]:
    options: dict[str, Any] = {"ssl": client_context(), "server_hostname": two.host} if tls else {}
    made = [await two.a.open_connection(two.host, 80, **options) for _ in range(COUNT)]
    await until(lambda: begun.count == COUNT)
    await iterations(50)
    return made


@secure
@pytest.mark.parametrize("handler", [read, read_exactly, drain, close, group])
@pytest.mark.parametrize("polyfilled", [False, True], ids=["stack", "polyfill"])
def test_handlers(tls: bool, handler: Handler, polyfilled: bool) -> None:
    async def main() -> None:
        begun = Begun(handler)
        async with pair() as two:
            context = server_context() if tls else None
            async with two.b:
                if polyfilled:
                    with two.b.polyfill():
                        await asyncio.start_server(begun, two.host, 80, ssl=context)
                else:
                    await two.b.start_server(begun, two.host, 80, ssl=context)
                made = await clients(two, tls, begun)
            await until(lambda: len(begun.ended) == COUNT)
            for error in begun.ended:  # not an end of the data, which might be taken for all of it
                causes = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
                assert all(isinstance(cause, StackClosedError) for cause in causes)
            for _, writer in made:
                writer.transport.abort()

    run(main())


def test_a_fault_of_the_handler_is_reported() -> None:
    async def faulty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except StackClosedError:
            raise ZeroDivisionError from None

    async def main() -> None:
        begun = Begun(faulty)
        async with pair() as two:
            await two.b.start_server(begun, two.host, 80)
            made = await clients(two, False, begun)
            await two.b.aclose()
            for _, writer in made:
                writer.transport.abort()

    _, reports = run_with_reports(main())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * COUNT


def test_a_trap_is_reported() -> None:
    async def main() -> None:
        begun = Begun(read)
        async with pair() as two:
            await two.b.start_server(begun, two.host, 80)
            made = await clients(two, False, begun)
            two.b._driver.end(StackTrappedError("for the test"))
            for _, writer in made:
                writer.transport.abort()

    _, reports = run_with_reports(main())
    assert [type(report["exception"]) for report in reports] == [StackTrappedError] * COUNT


def test_pending_calls_of_other_tasks_raise() -> None:
    async def main() -> None:
        begun = Begun(read)
        async with pair() as two:
            await two.b.start_server(begun, two.host, 80)
            made = await clients(two, False, begun)
            reading = [asyncio.create_task(reader.read()) for reader, _ in made]
            await iterations(5)
            await two.a.aclose()
            for task in reading:
                with pytest.raises(StackClosedError):
                    await task
            two.b.abort()

    run(main())


def test_protocols_handshakes_listeners_and_datagrams() -> None:
    """Other users of a connection: each raises, and none is reported."""

    async def main() -> None:
        lost: list[BaseException | None] = []

        class Telling(asyncio.DatagramProtocol, asyncio.Protocol):
            def connection_lost(self, exc: BaseException | None) -> None:
                lost.append(exc)

        async with pair() as two:
            server = await two.b.create_server(Telling, two.host, 81)
            await two.b.create_datagram_endpoint(Telling, (two.host, 82))
            secure = await two.b.start_server(read, two.host, 83, ssl=server_context())
            listener = await two.b.listen_tcp(84, ssl=server_context())
            accepting = asyncio.create_task(anext(aiter(listener), None))
            serving = asyncio.create_task(server.serve_forever())
            # These send nothing, so that the handshakes on the other side wait.
            made = [await two.a.connect_tcp(two.host, port) for port in (81, 83, 84)]
            await iterations(50)
            await two.b.aclose()
            assert await accepting is None
            with pytest.raises(StackClosedError):
                await serving
            await until(lambda: len(lost) == 2)
            assert all(isinstance(error, StackClosedError) for error in lost)
            assert not secure.is_serving()
            for connection in made:
                connection.abort()

    run(main())


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
def test_servers_of_http(server: str) -> None:
    """Connections that are kept alive, and requests that are being answered."""

    async def main() -> None:
        started = 0

        async def wait() -> None:
            nonlocal started
            started += 1
            await asyncio.sleep(3600)

        if server == "aiohttp":
            web = pytest.importorskip("aiohttp.web")

            async def handler(request: Any) -> Any:
                await wait()

            runner = web.ServerRunner(web.Server(handler, handler_cancellation=True))
            await runner.setup()
            factory = runner.server
        else:
            uvicorn = pytest.importorskip("uvicorn")

            async def application(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                nonlocal started
                started += 1
                await receive()  # its disconnection

            config = uvicorn.Config(application, lifespan="off", log_level="error")
            config.load()
            state = uvicorn.Server(config).server_state
            factory = lambda: config.http_protocol_class(config=config, server_state=state, app_state={})  # noqa: E731
        async with pair() as two:
            await two.b.create_server(factory, two.host, 80)
            made = [await two.a.open_connection(two.host, 80) for _ in range(COUNT)]
            for _, writer in made[: COUNT // 2]:
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: started == COUNT // 2)
            await two.b.aclose()
            await iterations(20)
            for _, writer in made:
                writer.transport.abort()
        if server == "aiohttp":
            await runner.cleanup()

    run(main())


def test_a_thread(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, loop_kind: str) -> None:
    begun = Begun(read)

    async def setup() -> NetworkStack:
        stack = await create_stack()
        await stack.start_server(begun, "127.0.0.1", 80)
        return stack

    if loop_kind == "uvloop":
        import uvloop

        thread = StackThread(setup, loop_factory=uvloop.new_event_loop)
    else:
        thread = StackThread(setup)

    async def connect(host: VirtualHost) -> None:
        for _ in range(COUNT):
            _, writer = await host.stack.open_connection("127.0.0.1", 80)
            kept.append(writer)
        await until(lambda: begun.count == COUNT)

    kept: list[Any] = []
    thread.call(connect(thread))
    thread.close()
    assert len(begun.ended) == COUNT
    assert "client_connected_cb" not in capfd.readouterr().err + caplog.text
