"""Protocols: buffered ones, ones that raise, ones that are replaced by another."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from tcpip_wasm import ConnectionReset, connect, create_stack
from tests.kit.core_network import payload
from tests.kit.stacks import (
    Recorder,
    pair,
    recorders,
    run,
    run_with_reports,
    until,
)


class Buffered(asyncio.BufferedProtocol):
    """Receives data in its own buffer."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.eof = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        assert sizehint == -1 or sizehint > 0
        return memoryview(self.buffer)

    def buffer_updated(self, count: int) -> None:
        assert 0 < count <= len(self.buffer)
        self.data += self.buffer[:count]

    def eof_received(self) -> bool:
        self.eof.set_result(None)
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set_result(error)


@pytest.mark.parametrize("size", [1000, 65536, 1_000_000])
def test_buffered_protocol(size: int) -> None:
    async def main() -> None:
        async with pair() as two:
            made: list[Buffered] = []

            def accept() -> Buffered:
                made.append(Buffered(size))
                return made[0]

            server = await two.b.create_server(accept, two.host, 80)
            transport, _ = await two.a.create_connection(Recorder, two.host, 80)
            transport.write(payload(300_000))
            transport.close()
            await until(lambda: bool(made))
            await made[0].eof
            assert made[0].data == payload(300_000)
            assert await made[0].lost is None
            server.close()
            await server.wait_closed()

    run(main())


def test_empty_buffer_is_an_error() -> None:
    async def main() -> None:
        async with pair() as two:
            made: list[Buffered] = []

            def accept() -> Buffered:
                made.append(Buffered(0))
                return made[0]

            server = await two.b.create_server(accept, two.host, 80)
            _, client = await two.a.create_connection(Recorder, two.host, 80)
            client.transport.write(b"x")
            assert isinstance(await client.lost, ConnectionReset)
            assert isinstance(await made[0].lost, RuntimeError)
            server.close()
            await server.wait_closed()

    _, reports = run_with_reports(main())
    assert len(reports) == 1
    assert "empty buffer" in str(reports[0]["exception"])


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
def test_protocol_that_raises(callback: str) -> None:
    """It loses its connection with its own error, the peer is reset, other connections go on."""

    class Failing(Recorder):
        pass

    def fail(*_: object) -> None:
        raise ZeroDivisionError(callback)

    setattr(Failing, callback, fail)

    async def main() -> None:
        async with pair() as two:
            made: list[Failing] = []

            def accept() -> Failing:
                made.append(Failing())
                return made[-1]

            server = await two.b.create_server(accept, two.host, 80)
            _, client = await two.a.create_connection(lambda: Recorder(keep_open=True), two.host, 80)
            client.transport.write(b"x")
            client.transport.write_eof()
            assert isinstance(await client.lost, ConnectionReset)
            assert isinstance(await made[0].lost, ZeroDivisionError)
            server.close()
            await server.wait_closed()
            one, other = await recorders(two)
            one.transport.write(b"unharmed")
            await until(lambda: other.data == b"unharmed")

    _, reports = run_with_reports(main())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    assert callback in reports[0]["message"]


def test_connection_made_that_raises() -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Failing, two.host, 80)
            _, client = await two.a.create_connection(Recorder, two.host, 80)
            assert isinstance(await client.lost, ConnectionReset)
            server.close()
            await server.wait_closed()

    _, reports = run_with_reports(main())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


def test_factory_that_raises() -> None:
    def fail() -> asyncio.Protocol:
        raise ZeroDivisionError

    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(fail, two.host, 80)
            _, client = await two.a.create_connection(Recorder, two.host, 80)
            assert isinstance(await client.lost, ConnectionReset)
            handles = two.a.stats().core.handles
            with pytest.raises(ZeroDivisionError):
                await two.a.create_connection(fail, two.host, 80)
            assert two.a.stats().core.handles == handles
            server.close()
            await server.wait_closed()

    _, reports = run_with_reports(main())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


def test_another_protocol_takes_over() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            client.transport.write(b"for the first")
            await until(lambda: server.data == b"for the first")
            second = Buffered(100)
            server.transport.set_protocol(second)
            assert server.transport.get_protocol() is second
            client.transport.write(b"for the second")
            await until(lambda: second.data == b"for the second")
            assert server.data == b"for the first"
            client.transport.close()
            assert await second.lost is None
            await client.lost

    run(main())


def test_callbacks_run_in_the_context_of_their_own_stack() -> None:
    where: ContextVar[str] = ContextVar("where", default="nowhere")
    seen: list[tuple[str, bytes, str]] = []

    class Telling(asyncio.Protocol):
        def __init__(self, name: str) -> None:
            self.name = name

        def data_received(self, data: bytes) -> None:
            seen.append((self.name, data, where.get()))

    async def main() -> None:
        where.set("a")
        a = await create_stack(seed=1)
        where.set("b")
        b = await create_stack(seed=2)
        where.set("the test")
        async with a, b:
            connect(await a.create_tap_interface(ip="10.0.0.1/24"), await b.create_tap_interface(ip="10.0.0.2/24"))
            accepted: list[asyncio.BaseTransport] = []

            class Server(Telling):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    accepted.append(transport)

            await b.create_server(lambda: Server("server"), "10.0.0.2", 80)
            transport, _ = await a.create_connection(lambda: Telling("client"), "10.0.0.2", 80)
            await until(lambda: bool(accepted))
            transport.write(b"question")
            await until(lambda: len(seen) == 1)
            answering = accepted[0]
            assert isinstance(answering, asyncio.Transport)
            answering.write(b"answer")
            await until(lambda: len(seen) == 2)

    run(main())
    assert seen == [("server", b"question", "b"), ("client", b"answer", "a")]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exceptions_that_end_the_loop_lose_no_data_of_other_connections(kind: type[BaseException]) -> None:
    """A program that catches it and runs the loop again finds every other connection intact."""

    class Ending(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise kind

    loop = asyncio.new_event_loop()
    others: list[Recorder] = []
    transports: list[asyncio.Transport] = []
    way = pair()

    def other() -> Recorder:
        others.append(Recorder())
        return others[-1]

    async def begin() -> None:
        two = await way.__aenter__()
        await two.b.create_server(Ending, two.host, 80)
        await two.b.create_server(other, two.host, 81)
        for port in (81, 80, 81, 81):
            transports.append((await two.a.create_connection(asyncio.Protocol, two.host, port))[0])
        await until(lambda: len(others) == 3)

    async def talk(words: bytes) -> None:
        for transport in transports:
            transport.write(words)
        await until(lambda: all(len(each.data) >= len(words) for each in others))

    async def end() -> None:
        await until(lambda: all(each.data == b"one, two" for each in others), limit=1000)
        for transport in transports:
            transport.abort()
        await way.__aexit__(None, None, None)

    try:
        loop.run_until_complete(begin())
        with pytest.raises(kind):
            loop.run_until_complete(talk(b"one,"))
        transports.pop(1).abort()
        for transport in transports:
            transport.write(b" two")
        loop.run_until_complete(end())
    finally:
        loop.close()
