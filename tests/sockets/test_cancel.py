"""Cancellation at every await: nothing leaks, and no data is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, TcpConnection
from tests.kit.core_network import payload
from tests.kit.stacks import Recorder, iterations, pair, read_all, recorders, run, send_all, until


async def cancelled_after(coroutine: Coroutine[Any, Any, Any], count: int) -> bool:
    """Run a coroutine for some loop iterations, then cancel it; return whether it was still running."""
    task = asyncio.create_task(coroutine)
    await iterations(count)
    working = not task.done()
    task.cancel()
    results = await asyncio.gather(task, return_exceptions=True)
    if working:
        assert isinstance(results[0], asyncio.CancelledError)
    elif isinstance(results[0], TcpConnection):
        results[0].abort()
    elif isinstance(results[0], tuple):
        results[0][1].close()
    return working


def held(stack: NetworkStack) -> tuple[int, int]:
    figures = stack.stats().core
    return figures.handles, figures.connections - figures.time_wait


@pytest.mark.parametrize("answer", ["accepts", "refuses", "is silent"])
def test_connecting(answer: str) -> None:
    async def main() -> None:
        async with pair(cable=answer != "is silent") as two:
            server = await two.b.create_server(Recorder, two.host, 80) if answer == "accepts" else None
            before = held(two.a)
            outcomes = []
            for count in range(1, 25):
                outcomes.append(await cancelled_after(two.a.connect_tcp(two.host, 80), count))
                await iterations(20)
                assert held(two.a) == before
            assert outcomes[0]
            if answer != "is silent":
                assert not outcomes[-1]
            if server is not None:
                server.close()
                await server.wait_closed()

    run(main())


def test_connection_lost_follows_connection_made() -> None:
    """Also when `create_connection` is cancelled in the loop iteration in which the connection opens."""

    async def main() -> None:
        async with pair() as two:
            await two.b.create_server(Recorder, two.host, 80)
            for count in range(1, 25):
                made: list[Recorder] = []

                def factory(made: list[Recorder] = made) -> Recorder:
                    made.append(Recorder())
                    return made[0]

                task = asyncio.create_task(two.a.create_connection(factory, two.host, 80))
                await iterations(count)
                task.cancel()
                results = await asyncio.gather(task, return_exceptions=True)
                if not isinstance(results[0], BaseException):
                    results[0][0].abort()
                await iterations(20)
                assert made[0].calls in ([], ["made", "lost"]), count

    run(main())


def test_cancelled_from_within_connection_made() -> None:
    async def main() -> None:
        async with pair() as two:
            await two.b.create_server(Recorder, two.host, 80)

            class Cancelling(Recorder):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    super().connection_made(transport)
                    task.cancel()

            made: list[Cancelling] = []

            def factory() -> Cancelling:
                made.append(Cancelling())
                return made[0]

            task = asyncio.create_task(two.a.create_connection(factory, two.host, 80))
            with pytest.raises(asyncio.CancelledError):
                await task
            await iterations(20)
            assert made[0].calls == ["made", "lost"]
            assert held(two.a)[1] == 0

    run(main())


def test_accepting() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80) as listener:
            for count in range(1, 25):
                accepting = asyncio.create_task(listener.accept())
                connecting = asyncio.create_task(two.a.connect_tcp(two.host, 80))
                await iterations(count)
                accepting.cancel()
                results = await asyncio.gather(accepting, return_exceptions=True)
                client = await connecting
                if isinstance(results[0], BaseException):
                    server = await asyncio.wait_for(listener.accept(), 5)
                else:
                    server = results[0]
                assert server.remote_address == client.local_address
                await send_all(client, b"hello")
                assert await read_all(server) == b"hello"
                await server.close()
                await client.close()

    run(main())


def test_accepting_by_several() -> None:
    """The connection that woke a cancelled call goes to the next one."""

    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80) as listener:
            first, second = [asyncio.create_task(listener.accept()) for _ in range(2)]
            await iterations(2)
            client = await two.a.connect_tcp(two.host, 80)
            await until(lambda: bool(listener._waiting))
            first.cancel()
            server = await asyncio.wait_for(second, 5)
            assert server.remote_address == client.local_address
            assert first.cancelled()

    run(main())


def test_reading_and_writing() -> None:
    """A cancelled read removes no chunk, a cancelled write has accepted all of its chunk or nothing."""

    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            sent = bytearray()
            finished = asyncio.Event()

            async def write() -> None:
                with client.writable.get_writer() as writer:
                    for number in range(120):
                        chunk = payload(40_000, number)
                        task = asyncio.create_task(writer.write(chunk))
                        await iterations(number % 4)
                        task.cancel()
                        results = await asyncio.gather(task, return_exceptions=True)
                        if results[0] is None:
                            sent.extend(chunk)
                    await writer.close()
                finished.set()

            writing = asyncio.create_task(write())
            received = bytearray()
            with server.readable.get_reader() as reader:
                for number in range(10**6):
                    task = asyncio.create_task(reader.read())
                    await iterations(number % 5)
                    task.cancel()
                    results = await asyncio.gather(task, return_exceptions=True)
                    if isinstance(results[0], bytes):
                        received += results[0]
                    elif results[0] is None:
                        break
                    else:
                        assert isinstance(results[0], asyncio.CancelledError)
            await finished.wait()
            await writing
            assert received == sent
            assert len(sent) > 40_000

    run(main())


@pytest.mark.parametrize("count", range(1, 7))
def test_closing(count: int) -> None:
    """Closing goes on after a cancellation."""

    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            with client.writable.get_writer() as writer:
                await writer.write(payload(500_000))
                await cancelled_after(writer.close(), count)
            assert await read_all(server) == payload(500_000)
            await cancelled_after(client.close(), count)
            await server.close()
            await iterations(20)
            assert held(two.a)[1] == held(two.b)[1] == 0

    run(main())


def test_asyncios_streams() -> None:
    async def main() -> None:
        async with pair() as two:
            await two.b.create_server(Recorder, two.host, 80)
            for count in range(1, 15):
                await cancelled_after(two.a.open_connection(two.host, 80), count)
            client, server = await recorders(two, port=81)
            client.transport.write(b"unharmed")
            await until(lambda: server.data == b"unharmed")

    run(main())


def test_closing_the_stack() -> None:
    async def main() -> None:
        async with pair() as two:
            client, _ = await two.connections()
            reading = asyncio.create_task(client.readable.get_reader().read())
            await iterations(2)
            task = asyncio.create_task(two.a.aclose())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await two.a.aclose()
            with pytest.raises(ConnectionAbortedError):
                await reading

    run(main())
