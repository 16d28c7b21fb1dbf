"""TLS that starts on an open connection, with its first bytes in the segment of the plain text: PROXY, STARTTLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

import pytest

from tcpip_wasm import NetworkStack
from tests.kit.core_network import payload
from tests.kit.stacks import Pair, iterations, pair, run, until
from tests.kit.tls import client_context, server_context

LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
CONTENT = payload(200_000)

ways = pytest.mark.parametrize("way", ["stack", "polyfill"])
hows = pytest.mark.parametrize("how", ["writer", "loop"])


class Hello:
    """A client's TLS object without a transport: its first flight can be sent in one segment with plain text."""

    def __init__(self, host: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def flight(self) -> bytes:
        """Continue the handshake, and return the bytes to send."""
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def read(self) -> bytes | None:
        """Return plain text, or None if more bytes are needed."""
        try:
            return self.tls.read(2**16)
        except ssl.SSLWantReadError:
            return None


@asynccontextmanager
async def serving(two: Pair, stack: NetworkStack, way: str, connected: Callable[..., Any]) -> AsyncIterator[None]:
    """Serve by the stack's own functions or by asyncio's under a polyfill."""
    if way == "stack":
        server: Any = await stack.start_server(connected, two.host, 80)
        yield
    else:
        with stack.polyfill():
            server = await asyncio.start_server(connected, two.host, 80)
            yield
    server.close()
    await server.wait_closed()


async def upgrade(how: str, stack: NetworkStack, reader: Any, writer: Any, context: Any, **options: Any) -> Any:
    """Start TLS by `StreamWriter.start_tls` or by the loop's and the stack's method; return its writer."""
    if how == "writer":
        await writer.start_tls(context, **options)
        return writer
    loop, protocol = asyncio.get_running_loop(), writer.transport.get_protocol()
    begin: Any = getattr(loop, "start_tls", None) if "start_tls" in vars(loop) else stack.start_tls
    server_side = "server_hostname" not in options
    transport = await begin(writer.transport, protocol, context, server_side=server_side, **options)
    protocol.plain = writer  # from CPython 3.13 on a writer that is collected closes its transport
    return asyncio.StreamWriter(transport, protocol, reader, loop)


@ways
@hows
def test_a_line_and_a_hello_in_one_segment(way: str, how: str) -> None:
    async def main() -> None:
        async with pair() as two:
            heard: list[bytes] = []

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heard.append(await reader.readline())
                writer = await upgrade(how, two.b, reader, writer, server_context())
                heard.append(await reader.readexactly(5))
                writer.write(CONTENT)
                await writer.drain()
                writer.close()

            async with serving(two, two.b, way, connected):
                hello = Hello(two.host)
                reader, writer = await two.a.open_connection(two.host, 80)
                writer.write(LINE + hello.flight())
                data = b""
                while len(data) < len(CONTENT):
                    received = await asyncio.wait_for(reader.read(2**16), 10)
                    assert received, "the server has closed"
                    hello.incoming.write(received)
                    if hello.tls.version() is None or not heard[1:]:
                        writer.write(hello.flight())
                        if hello.tls.version() is not None and not data:
                            hello.tls.write(b"hello")
                            writer.write(hello.outgoing.read())
                    while chunk := hello.read() if hello.tls.version() else None:
                        data += chunk
                assert heard == [LINE, b"hello"]
                assert data == CONTENT
                writer.close()

    run(main())


@ways
def test_many_segments_wait_in_a_paused_reader(way: str) -> None:
    """A reader that buffers more than its limit has paused the transport; all data is read, in order."""

    async def main() -> None:
        async with pair() as two:
            answered = asyncio.Event()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                transport: Any = writer.transport
                await reader.readline()
                await answered.wait()
                await writer.start_tls(server_context())
                assert await reader.readexactly(len(CONTENT)) == CONTENT
                assert not transport._arrived
                writer.write(b"done")
                writer.close()

            async with serving(two, two.b, way, connected):
                reader, writer = await two.a.open_connection(two.host, 80)
                writer.write(LINE)
                starting = asyncio.create_task(writer.start_tls(client_context(), server_hostname=two.host))
                await iterations(20)
                answered.set()
                await starting
                writer.write(CONTENT)
                assert await reader.read() == b"done"
                writer.close()

    run(main())


@ways
@hows
def test_plain_text_after_the_answer_is_not_read_as_tls_data(way: str, how: str) -> None:
    """Data that an attacker inserts after the answer fails the client's handshake, and is not read afterwards."""

    async def main() -> None:
        async with pair() as two:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readline()
                writer.write(b"220 go ahead\r\n250 injected\r\n")
                with suppress(ConnectionError):
                    await reader.read()
                writer.close()
                with suppress(ConnectionError):  # the client's reset
                    await writer.wait_closed()

            async with serving(two, two.b, "stack", connected):
                with two.a.polyfill() if way == "polyfill" else nullcontext():
                    connect: Any = asyncio.open_connection if way == "polyfill" else two.a.open_connection
                    reader, writer = await connect(two.host, 80)
                    writer.write(b"STARTTLS\r\n")
                    assert await reader.readline() == b"220 go ahead\r\n"
                    await until(lambda: bool(reader._buffer))
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        await asyncio.wait_for(
                            upgrade(how, two.a, reader, writer, client_context(), server_hostname=two.host), 10
                        )
                writer.close()
                with suppress(ssl.SSLError, ConnectionError):
                    await writer.wait_closed()

    run(main())


@ways
def test_a_fin_directly_after_the_line(way: str) -> None:
    """The FIN that the stream has received ends the handshake, too, which would wait a minute otherwise."""

    async def main() -> None:
        async with pair() as two:
            failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readline()
                await until(lambda: reader.at_eof())
                try:
                    await writer.start_tls(server_context())
                except BaseException as error:
                    failed.set_result(error)

            async with serving(two, two.b, way, connected):
                _, writer = await two.a.open_connection(two.host, 80)
                writer.write(LINE)
                writer.write_eof()
                assert isinstance(await asyncio.wait_for(failed, 10), ConnectionError)
                writer.close()

    run(main())


def test_tls_within_tls() -> None:
    async def main() -> None:
        async with pair() as two:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert await reader.readline() == LINE
                await until(lambda: bool(reader._buffer))  # type: ignore[attr-defined]
                await writer.start_tls(server_context())
                writer.write(await reader.readline())
                await writer.drain()
                writer.close()

            server = await two.b.start_server(connected, two.host, 80, ssl=server_context())
            reader, writer = await two.a.open_connection(two.host, 80, ssl=client_context(), server_hostname=two.host)
            hello = Hello(two.host)
            writer.write(LINE + hello.flight())
            answer = None
            while not answer:
                hello.incoming.write(await asyncio.wait_for(reader.read(2**16), 10))
                before = hello.tls.version()
                if not before:
                    writer.write(hello.flight())
                    if hello.tls.version():
                        hello.tls.write(b"within\n")
                        writer.write(hello.outgoing.read())
                answer = hello.read() if hello.tls.version() else None
            assert answer == b"within\n"
            writer.transport.abort()
            server.close()

    run(main())
