"""TLS on `connect_tcp` and `listen_tcp`: data, flow control, both sides' ends, and clients who never shake hands."""

from __future__ import annotations

import asyncio
import errno
import ssl
from contextlib import suppress
from typing import Any

import pytest

from tcpip_wasm import StackClosedError, StreamClosedError, TcpConnection, TcpListener
from tcpip_wasm.simulation import run_virtually
from tcpip_wasm.sockets.tls.tls_connection import HIGH_WATER
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, Pair, Recorder, iterations, pair, run, until
from tests.kit.tls import client_context, server_context

ways = pytest.mark.parametrize("way", WAYS)
SIZE = 3_000_000


def connections(two: Pair) -> int:
    return sum(s.core.connections - s.core.time_wait for s in (two.a.stats(), two.b.stats()))


async def both(two: Pair, **options: Any) -> tuple[TcpConnection, TcpConnection, TcpListener]:
    listener = await two.b.listen_tcp(443, two.host, ssl=server_context(), **options)
    client, server = await asyncio.gather(two.a.connect_tcp(two.host, 443, ssl=client_context()), listener.accept())
    return client, server, listener


async def send(connection: TcpConnection, data: bytes, chunk: int = 50_000) -> None:
    with connection.writable.get_writer() as writer:
        for at in range(0, len(data), chunk):
            await writer.write(data[at : at + chunk])


async def receive(connection: TcpConnection, size: int) -> bytes:
    got = bytearray()
    with connection.readable.get_reader() as reader:
        while len(got) < size and (chunk := await reader.read()) is not None:
            got += chunk
    return bytes(got)


@ways
def test_both_ways_at_once(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server, listener = await both(two)
            there, back = payload(SIZE), payload(SIZE, 2)
            _, _, at_server, at_client = await asyncio.gather(
                send(client, there), send(server, back), receive(server, SIZE), receive(client, SIZE)
            )
            assert at_server == there
            assert at_client == back
            assert client.ssl_object is not None
            assert client.ssl_object.version() == "TLSv1.3"
            assert client.ssl_object.getpeercert()
            assert server.ssl_object is not None
            assert client.remote_address == server.local_address == (two.host, 443)
            await asyncio.gather(client.close(), server.close())
            await listener.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_without_a_reader() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, listener = await both(two)
            data = payload(20_000_000)
            sending = asyncio.create_task(send(client, data))
            await until(lambda: server._ends._choked)  # type: ignore[attr-defined]
            await iterations(2000)
            held = sum(map(len, server._ends._chunks))
            assert HIGH_WATER < held <= 3 * HIGH_WATER
            assert not sending.done()
            assert await receive(server, len(data)) == data
            await sending
            # What waits while the connection is held back is read in spite of the end that is behind it.
            await send(client, data[:600_000])
            await until(lambda: server._ends._choked)  # type: ignore[attr-defined]
            closing = asyncio.create_task(client.close())
            await iterations(100)
            assert await receive(server, len(data)) == data[:600_000]
            await closing
            await server.close()
            await listener.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_what_was_written_before_close_arrives() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, _ = await both(two)
            data = payload(SIZE)
            reading = asyncio.create_task(receive(server, SIZE + 1))
            await send(client, data)
            await client.close()
            assert await reading == data  # and the end
            writer = server.writable.get_writer()
            with pytest.raises(StreamClosedError):
                await writer.write(b"after the end of TLS")
            with suppress(OSError):
                await server.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_closing_the_writable_closes_both_directions() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, _ = await both(two)
            writer = client.writable.get_writer()
            await writer.write(b"the last words")
            await writer.close()
            assert await receive(server, 100) == b"the last words"
            assert await receive(client, 1) == b""
            await server.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_a_pipe_ends_the_connection_it_leads_to() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, listener = await both(two)
            data = payload(SIZE)
            accepted = asyncio.create_task(listener.accept())
            other = await two.a.connect_tcp(two.host, 443, ssl=client_context())
            through = await accepted
            piping = asyncio.create_task(server.readable.pipe_to(through.writable))
            reading = asyncio.create_task(receive(other, SIZE + 1))
            await send(client, data)
            await client.close()
            assert await reading == data
            await piping
            await asyncio.gather(other.close(), server.close(), through.close())
            await until(lambda: connections(two) == 0)

    run(main())


def test_abort_resets() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, _ = await both(two)
            client.abort()
            with pytest.raises(ConnectionResetError):
                await receive(server, 1)
            await until(lambda: connections(two) == 0)

    run(main())


def test_a_wrong_name_and_an_unknown_authority() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            listener = await two.b.listen_tcp(443, two.host, ssl=server_context("other.test"))
            with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
                await two.a.connect_tcp(two.host, 443, ssl=client_context())
            with pytest.raises(ssl.SSLCertVerificationError):
                await two.a.connect_tcp(two.host, 443, ssl=True)
            accepted = asyncio.create_task(listener.accept())
            client = await two.a.connect_tcp(two.host, 443, ssl=client_context(), server_hostname="other.test")
            server = await accepted
            client.abort()
            await listener.close()
            with suppress(OSError):
                await server.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_arguments() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            with pytest.raises(ValueError, match="server_hostname"):
                await two.a.connect_tcp(two.host, 443, server_hostname="x")
            with pytest.raises(TypeError, match="ssl"):
                await two.a.connect_tcp(two.host, 443, ssl="yes")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="ssl"):
                await two.a.listen_tcp(443, ssl=True)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="ssl_handshake_timeout"):
                await two.a.listen_tcp(443, ssl_handshake_timeout=1)
            for backlog, error in ((0, ValueError), ("1", TypeError)):
                with pytest.raises(error, match="backlog"):
                    await two.a.listen_tcp(443, ssl=server_context(), backlog=backlog)  # type: ignore[arg-type]

    run(main())


def test_a_server_that_does_not_shake_hands() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            await two.b.listen_tcp(443, two.host)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            with pytest.raises(ConnectionAbortedError, match="handshake"):
                await two.a.connect_tcp(two.host, 443, ssl=client_context(), ssl_handshake_timeout=2)
            assert loop.time() - begun == pytest.approx(2, abs=0.1)
            with pytest.raises(TimeoutError) as caught:
                await two.a.connect_tcp(two.host, 443, ssl=client_context(), timeout=1)
            assert caught.value.errno == errno.ETIMEDOUT
            attempt = asyncio.create_task(two.a.connect_tcp(two.host, 443, ssl=client_context()))
            await asyncio.sleep(0.1)
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            await until(lambda: two.a.stats().core.connections == 0)

    run_virtually(main())


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", payload(5000)])
def test_a_hostile_client_does_not_hold_up_others(first: bytes) -> None:
    """Each sends something and stays; the listener's backlog is smaller than their number."""

    async def main() -> None:
        async with pair("tap4") as two:
            listener = await two.b.listen_tcp(443, two.host, ssl=server_context(), backlog=4)
            hostile = []
            for _ in range(20):
                transport, protocol = await two.a.create_connection(Recorder, two.host, 443)
                transport.write(first)
                hostile.append((transport, protocol))
                await asyncio.sleep(0.05)
            assert len(listener._handshakes) <= 4
            loop = asyncio.get_running_loop()
            begun = loop.time()
            for _ in range(3):
                accepted = asyncio.create_task(listener.accept())
                client = await two.a.connect_tcp(two.host, 443, ssl=client_context())
                server = await accepted
                await send(client, b"hello")
                assert await receive(server, 5) == b"hello"
                await asyncio.gather(client.close(), server.close())
            assert loop.time() - begun < 1
            assert listener._handshakes.given_up + sum(protocol.lost.done() for _, protocol in hostile) >= 16
            await listener.close()
            assert not listener._handshakes
            await asyncio.sleep(1)
            for transport, _ in hostile:
                transport.abort()
            await until(lambda: connections(two) == 0)

    run_virtually(main())


def test_the_handshake_timeout_of_a_client() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            listener = await two.b.listen_tcp(443, two.host, ssl=server_context(), ssl_handshake_timeout=3)
            loop = asyncio.get_running_loop()
            transport, protocol = await two.a.create_connection(Recorder, two.host, 443)
            begun = loop.time()
            await asyncio.wait([protocol.lost])
            assert loop.time() - begun == pytest.approx(3, abs=0.1)
            assert not listener._handshakes
            await listener.close()
            transport.abort()

    run_virtually(main())


def test_a_backlog_without_accept_is_full() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            listener = await two.b.listen_tcp(443, two.host, ssl=server_context(), backlog=2)
            waiting = [await two.a.connect_tcp(two.host, 443, ssl=client_context()) for _ in range(2)]
            await until(lambda: len(listener._waiting) == 2)
            with pytest.raises(ConnectionResetError):
                await two.a.connect_tcp(two.host, 443, ssl=client_context())
            servers = [await listener.accept() for _ in waiting]
            for client, server in zip(waiting, servers, strict=True):
                await send(server, b"late")
                assert await receive(client, 4) == b"late"
                client.abort()
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(1):
                    await listener.accept()
            await listener.close()
            await until(lambda: connections(two) == 0)

    run_virtually(main())


def test_closing_the_stack_ends_tls() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            client, server, listener = await both(two)
            reading = asyncio.create_task(receive(server, 1))
            accepting = asyncio.create_task(listener.accept())
            await iterations(3)
            await two.b.aclose()
            for task in (reading, accepting):
                with pytest.raises(StackClosedError):
                    await task
            client.abort()

    run(main())
