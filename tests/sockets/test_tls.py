"""TLS on every call on which asyncio has it: handshakes, data, closing, upgrades, and errors."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, Pair, Recorder, iterations, pair, run, until
from tests.kit.tls import client_context, server_context

ways = pytest.mark.parametrize("way", WAYS)
SIZE = 2_000_000


def connections(two: Pair) -> int:
    return sum(s.core.connections - s.core.time_wait for s in (two.a.stats(), two.b.stats()))


class TlsRecorder(Recorder):
    """A recorder that accepts any transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = transport  # type: ignore[assignment]
        self.made.set_result(None)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@ways
def test_streams(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            server = await two.b.start_server(echo, two.host, 443, ssl=server_context())
            reader, writer = await two.a.open_connection(two.host, 443, ssl=client_context())
            data = payload(SIZE)
            writing = asyncio.create_task(_write(writer, data))
            assert await reader.readexactly(SIZE) == data
            await writing
            info = writer.get_extra_info
            assert info("ssl_object").version() == "TLSv1.3"
            assert info("sslcontext") is client_context()
            assert info("cipher")[1] == "TLSv1.3"
            assert info("compression") is None
            assert ("IP Address" in str(info("peercert")["subjectAltName"])) is True
            assert info("peername")[:2] == (two.host, 443)
            assert info("socket").getpeername() == info("peername")
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            await until(lambda: connections(two) == 0)

    run(main())


async def _write(writer: asyncio.StreamWriter, data: bytes, chunk: int = 50_000) -> None:
    for at in range(0, len(data), chunk):
        writer.write(data[at : at + chunk])
        await writer.drain()


def test_plain_text_is_not_sent() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            seen = bytearray()
            first, second = two.interfaces

            async def carry(near: Any, far: Any) -> None:
                with far.writable.get_writer() as writer:
                    async for frame in near.readable:
                        seen.extend(frame)
                        await writer.write(frame)

            tasks = [asyncio.create_task(carry(first, second)), asyncio.create_task(carry(second, first))]
            await iterations(1)
            server = await two.b.start_server(echo, two.host, 443, ssl=server_context())
            reader, writer = await two.a.open_connection(two.host, 443, ssl=client_context())
            secret = payload(1000, 99)
            writer.write(secret)
            assert await reader.readexactly(1000) == secret
            assert len(seen) > 2000
            assert secret[:16] not in seen
            writer.close()
            await writer.wait_closed()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_names_are_checked() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.start_server(echo, two.host, 443, ssl=server_context("server.test"))
            with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
                await two.a.open_connection(two.host, 443, ssl=client_context())
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await two.a.open_connection(two.host, 443, ssl=client_context(), server_hostname="other.test")
            with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self.signed"):
                await two.a.open_connection(two.host, 443, ssl=True, server_hostname="server.test")
            _, writer = await two.a.open_connection(two.host, 443, ssl=client_context(), server_hostname="server.test")
            writer.close()
            await writer.wait_closed()
            server.close()
            await until(lambda: connections(two) == 0)

    run(main())


def test_arguments() -> None:
    async def main() -> None:
        async with pair() as two:
            a, host = two.a, two.host
            for name, value in (("server_hostname", "x"), ("ssl_handshake_timeout", 1), ("ssl_shutdown_timeout", 1)):
                with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                    await a.create_connection(Recorder, host, 443, **{name: value})  # type: ignore[arg-type]
            for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                    await a.create_server(Recorder, None, 443, **{name: 1})  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
                await a.create_server(Recorder, None, 443, ssl=True)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number"):
                await a.create_connection(Recorder, host, 443, ssl=client_context(), ssl_handshake_timeout=0)
            with pytest.raises(ConnectionRefusedError):
                await a.open_connection(host, 443, ssl=client_context())
            assert connections(two) == 0

    run(main())


def test_a_silent_peer() -> None:
    async def main() -> None:
        async with pair() as two:
            accepted: list[Recorder] = []

            def factory() -> Recorder:
                accepted.append(Recorder())
                return accepted[-1]

            server = await two.b.create_server(factory, two.host, 443)
            with pytest.raises(ConnectionAbortedError, match=r"longer than 0\.05 seconds"):
                await two.a.open_connection(two.host, 443, ssl=client_context(), ssl_handshake_timeout=0.05)
            await until(lambda: connections(two) == 0)
            assert accepted[0].data[:1] == b"\x16"  # a handshake record: ClientHello
            server.close()

            tls_server = await two.b.create_server(
                TlsRecorder, two.host, 444, ssl=server_context(), ssl_handshake_timeout=0.05
            )
            _, client = await two.a.create_connection(Recorder, two.host, 444)
            assert isinstance(await client.lost, ConnectionResetError)
            tls_server.close()
            await tls_server.wait_closed()
            assert connections(two) == 0

    run(main())


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x00" * 1000])
def test_data_that_is_not_tls(junk: bytes) -> None:
    """The server resets it, and serves the next one."""

    async def main() -> None:
        async with pair() as two:
            server = await two.b.start_server(echo, two.host, 443, ssl=server_context())
            _, client = await two.a.create_connection(Recorder, two.host, 443)
            client.transport.write(junk)
            await client.lost
            reader, writer = await two.a.open_connection(two.host, 443, ssl=client_context())
            writer.write(b"still there?")
            assert await reader.readexactly(12) == b"still there?"
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    run(main())


async def tls_recorders(two: Pair, **options: Any) -> tuple[TlsRecorder, TlsRecorder]:
    accepted: list[TlsRecorder] = []

    def accept() -> TlsRecorder:
        accepted.append(TlsRecorder())
        return accepted[0]

    server = await two.b.create_server(accept, two.host, 443, ssl=server_context(), **options)
    _, client = await two.a.create_connection(TlsRecorder, two.host, 443, ssl=client_context(), **options)
    await until(lambda: bool(accepted) and accepted[0].made.done())
    server.close()
    return client, accepted[0]


def test_closing_both_sides() -> None:
    """A close gives the peer end of file and both sides a loss without error; TLS has no half-close."""

    async def main() -> None:
        async with pair() as two:
            client, server = await tls_recorders(two)
            assert not client.transport.can_write_eof()
            with pytest.raises(NotImplementedError):
                client.transport.write_eof()
            data = payload(300_000)
            client.transport.write(data)
            client.transport.close()
            assert await client.lost is None
            assert await server.lost is None
            assert server.data == data
            assert server.calls[-2:] == ["eof", "lost"]

            client, server = await tls_recorders(two)
            client.transport.abort()
            assert await client.lost is None
            assert isinstance(await server.lost, ConnectionResetError)
            await until(lambda: connections(two) == 0)

    run(main())


def test_fin_or_reset_without_close_notify() -> None:
    """A FIN without close_notify is an end of file, as in asyncio; a reset is a reset."""

    async def main() -> None:
        async with pair() as two:
            client, server = await tls_recorders(two)
            raw = server.transport._ssl_protocol._transport  # type: ignore[attr-defined]
            raw.close()
            assert await client.lost is None
            assert "eof" in client.calls
            await until(lambda: connections(two) == 0)

    run(main())


def test_a_peer_that_sends_no_close_notify() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await tls_recorders(two, ssl_shutdown_timeout=0.05)
            raw = server.transport._ssl_protocol._transport  # type: ignore[attr-defined]
            raw.pause_reading()
            client.transport.close()
            lost = await client.lost
            assert lost is None or isinstance(lost, TimeoutError)
            raw.abort()
            await server.lost
            await until(lambda: connections(two) == 0)

    run(main())


def test_flow_control() -> None:
    """A reader that pauses pauses the writer; no data is lost."""

    async def main() -> None:
        async with pair() as two:
            client, server = await tls_recorders(two)
            server.transport.pause_reading()
            data = payload(8_000_000)
            sent = 0
            while "pause" not in client.calls:
                client.transport.write(data[sent : sent + 100_000])
                sent += 100_000
                assert sent < 8_000_000, "the writer was not paused"
                await iterations(3)
            assert len(server.data) < sent
            server.transport.resume_reading()
            await until(lambda: "resume" in client.calls)
            await until(lambda: len(server.data) == sent)
            assert server.data == data[:sent]
            client.transport.close()
            await client.lost
            await server.lost

    run(main())


@pytest.mark.parametrize("how", ["stack", "streams"])
def test_start_tls(how: str) -> None:
    """As in SMTP: plain text first, then TLS over the same connection, and TLS over TLS."""

    async def main() -> None:
        async with pair() as two:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert await reader.readline() == b"STARTTLS\n"
                writer.write(b"220 go ahead\n")
                await writer.start_tls(server_context())
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.close()

            server = await two.b.start_server(serve, two.host, 25)
            if how == "streams":
                reader, writer = await two.a.open_connection(two.host, 25)
                writer.write(b"STARTTLS\n")
                assert await reader.readline() == b"220 go ahead\n"
                await writer.start_tls(client_context(), server_hostname="server.test")
                assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
                writer.write(b"hello\n")
                assert await reader.readline() == b"HELLO\n"
                writer.close()
                await writer.wait_closed()
            else:
                transport, client = await two.a.create_connection(TlsRecorder, two.host, 25)
                transport.write(b"STARTTLS\n")
                await until(lambda: client.data == b"220 go ahead\n")
                secure = await two.a.start_tls(transport, client, client_context(), server_hostname="server.test")
                secure.write(b"hello\n")
                await until(lambda: client.data.endswith(b"HELLO\n"))
                secure.close()
                await client.lost
            server.close()
            await server.wait_closed()
            await until(lambda: connections(two) == 0)

    run(main())


def test_start_tls_refuses() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, two.host, 80)
            transport, client = await two.a.create_connection(Recorder, two.host, 80)
            with pytest.raises(TypeError, match="sslcontext"):
                await two.a.start_tls(transport, client, None)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="not supported by start_tls"):
                await two.a.start_tls(asyncio.Transport(), client, client_context())
            transport.write(b"unharmed")
            with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
                await two.a.start_tls(
                    transport, client, client_context(), server_hostname="server.test", ssl_handshake_timeout=0.02
                )
            server.close()
            server.abort_clients()
            await until(lambda: connections(two) == 0)

    run(main())


def test_cancelled() -> None:
    """At every loop iteration within a TLS connect: no connection leaks, the server goes on."""

    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(TlsRecorder, two.host, 443, ssl=server_context())
            finished = 0
            for count in range(60):
                task = asyncio.create_task(two.a.create_connection(TlsRecorder, two.host, 443, ssl=client_context()))
                await iterations(count)
                task.cancel()
                results = await asyncio.gather(task, return_exceptions=True)
                if isinstance(results[0], BaseException):
                    assert isinstance(results[0], asyncio.CancelledError)
                else:
                    finished += 1
                    results[0][0].abort()
                await until(lambda: connections(two) == 0)
            assert 0 < finished < 60
            server.close()
            await server.wait_closed()

    run(main())
