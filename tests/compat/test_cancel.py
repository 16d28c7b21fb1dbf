"""Cancellation at every loop iteration of whole conversations: nothing leaks, nothing hangs, no error is reported.

Each conversation is run repeatedly, cancelled one loop iteration later each time, until it finishes before; so
every await point in it is hit, those inside of asyncio and of TLS as well. `run` fails where a task is left or where an
exception was never retrieved.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest

from tcpip_wasm import NetworkStack
from tests.kit.core_network import payload
from tests.kit.http import served
from tests.kit.stacks import Pair, iterations, pair, run, until
from tests.kit.tls import client_context, server_context

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
SIZE = 150_000
MOST = 1500


def held(stack: NetworkStack) -> int:
    figures = stack.stats().core
    return figures.connections - figures.time_wait


async def at_every_turn(
    make: Callable[[], Coroutine[Any, Any, Any]], settled: Callable[[], Awaitable[None]], *, step: int = 1
) -> int:
    """Cancel a coroutine after 0, 1, 2, … loop iterations, until it finishes before; return how often it was cancelled.

    Args:
        make: makes the coroutine anew.
        settled: waits until nothing of it is left, after each.
        step: loop iterations by which the next run is cancelled later.
    """
    for count in range(0, MOST, step):
        task = asyncio.create_task(make())
        for _ in range(count):
            if task.done():
                break
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        results = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
        if finished:
            assert not isinstance(results[0], BaseException), results[0]
        else:
            assert isinstance(results[0], asyncio.CancelledError), results[0]
        del task, results  # their traceback holds what the frames held
        await settled()
        if finished:
            return count // step
    raise AssertionError(f"not finished after {MOST} loop iterations")


def nothing_left(two: Pair, handles: tuple[int, int] | None = None) -> Callable[[], Awaitable[None]]:
    """Return a function that waits until neither stack has a connection, nor more handles than now."""
    before = handles or (two.a.stats().core.handles, two.b.stats().core.handles)

    def so() -> bool:
        figures = two.a.stats().core, two.b.stats().core
        return held(two.a) == held(two.b) == 0 and tuple(f.handles for f in figures) == before

    return lambda: until(so)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@secure
def test_client(tls: bool) -> None:
    """Connect, write, drain, read, close, wait for the end."""
    data = payload(SIZE)

    async def main() -> None:
        async with pair() as two:
            await two.b.start_server(echo, two.host, 80, ssl=server_context() if tls else None)
            settled = nothing_left(two)

            async def talk() -> None:
                reader, writer = await asyncio.open_connection(two.host, 80, ssl=client_context() if tls else None)
                try:
                    for at in range(0, SIZE, 50_000):
                        writer.write(data[at : at + 50_000])
                        await writer.drain()
                    assert await reader.readexactly(SIZE) == data
                finally:
                    writer.close()
                await writer.wait_closed()

            with two.a.polyfill():
                assert await at_every_turn(talk, settled) > 10

    run(main(), seconds=60)


@secure
def test_server(tls: bool) -> None:
    """The task that serves a connection, with its reads, writes, drains and close; the client receives an end."""
    data = payload(SIZE)

    async def main() -> None:
        serving: list[asyncio.Task[None]] = []
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                assert await reader.readexactly(SIZE) == data
                writer.write(data)
                await writer.drain()
            finally:
                writer.close()
            await writer.wait_closed()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.append(asyncio.create_task(serve(reader, writer)))
            accepted.set_result(None)

        async def client(host: str) -> None:
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection(host, 80, ssl=client_context() if tls else None)
                try:
                    writer.write(data)
                    await writer.drain()
                    await reader.read(-1)
                finally:
                    writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        async with pair() as two:
            with two.b.polyfill():
                await asyncio.start_server(begin, two.host, 80, ssl=server_context() if tls else None)
            settled = nothing_left(two)
            finished = False
            with two.a.polyfill():
                for count in range(MOST):
                    accepted = asyncio.get_running_loop().create_future()
                    other = asyncio.create_task(client(two.host))
                    await accepted
                    task = serving.pop()
                    await iterations(count)
                    finished = task.done()
                    task.cancel()
                    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
                    await asyncio.wait_for(other, 10)
                    await settled()
                    if finished:
                        break
            assert finished

    run(main(), seconds=60)


def test_start_tls() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readline()
                writer.write(b"go ahead\n")
                await writer.start_tls(server_context())
                writer.write(await reader.readline())
                await writer.drain()
            writer.close()

        async with pair() as two:
            await two.b.start_server(serve, two.host, 25)
            settled = nothing_left(two)

            async def talk() -> None:
                reader, writer = await asyncio.open_connection(two.host, 25)
                try:
                    writer.write(b"STARTTLS\n")
                    await reader.readline()
                    await writer.start_tls(client_context(), server_hostname="server.test")
                    writer.write(b"hello\n")
                    assert await reader.readline() == b"hello\n"
                finally:
                    writer.close()
                await writer.wait_closed()

            with two.a.polyfill():
                assert await at_every_turn(talk, settled) > 10

    run(main(), seconds=60)


def test_the_callers_sockets() -> None:
    data = payload(SIZE)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            await two.b.start_server(echo, two.host, 80)
            settled = nothing_left(two)

            async def talk() -> None:
                with socket.socket() as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (two.host, 80))
                    sending = asyncio.create_task(loop.sock_sendall(sock, data))
                    try:
                        received = bytearray()
                        while len(received) < SIZE:
                            received += await loop.sock_recv(sock, 65536)
                        assert received == data
                    finally:
                        sending.cancel()
                        await asyncio.gather(sending, return_exceptions=True)

            with two.a.polyfill() as polyfill:

                async def swept() -> None:
                    polyfill._caller_sockets.sweep()  # otherwise done by the next connect
                    await settled()

                assert await at_every_turn(talk, swept) > 5

    run(main(), seconds=60)


def test_servers() -> None:
    async def main() -> None:
        async with pair() as two:
            settled = nothing_left(two)

            async def serve() -> None:
                server = await asyncio.start_server(echo, two.host, 80, start_serving=False)
                async with server:
                    await server.start_serving()
                    _, writer = await two.a.open_connection(two.host, 80)
                    writer.close()
                    await writer.wait_closed()

            with two.b.polyfill():
                assert await at_every_turn(serve, settled) > 3

    run(main(), seconds=60)


@secure
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_requests(tls: bool, tmp_path: Any) -> None:
    """A request of httpx to uvicorn; cancelled at every second loop iteration, since there are many.

    Cancelled within a TLS handshake, httpcore forgets the connection: it ends as garbage, as one of asyncio's own does.
    """

    async def main() -> None:
        async with pair() as two, served(two, tmp_path if tls else None) as url:
            nothing = nothing_left(two)

            async def settled() -> None:
                gc.collect()
                await nothing()

            async def fetch() -> None:
                async with httpx.AsyncClient(verify=client_context(), trust_env=False) as client:
                    response = await client.post(f"{url}/up", content=payload(SIZE))
                    assert response.json()["size"] == SIZE

            with two.a.polyfill():
                assert await at_every_turn(fetch, settled, step=2) > 3

    run(main(), seconds=60)
