"""Sockets of the caller under a polyfill: `sock_connect` and `sock_sendall`, and connections that they represent."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from tcpip_wasm.sockets.tcp.stream_reader import PieceReader
from tests.kit.core_network import payload
from tests.kit.polyfill_servers import held, upper
from tests.kit.stacks import Recorder, iterations, pair, run, until
from tests.kit.tls import client_context, server_context


def placeholder() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def test_sock_methods(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            await two.b.start_server(upper, two.host, 80, limit=2**20)
            with two.a.polyfill():
                with placeholder() as sock:
                    await loop.sock_connect(sock, (two.host, 80))
                    with pytest.raises(OSError, match="represents a connection already"):
                        await loop.sock_connect(sock, (two.host, 80))
                    await loop.sock_sendall(sock, b"first\n")
                    assert await loop.sock_recv(sock, 3) == b"FIR"
                    buffer = bytearray(10)
                    assert await loop.sock_recv_into(sock, buffer) == 3
                    assert buffer[:3] == b"ST\n"
                    large = payload(300_000).hex().encode()
                    path = tmp_path / "file"
                    path.write_bytes(b"skipped" + large + b"\n")
                    with path.open("rb") as file:
                        sending = asyncio.create_task(loop.sock_sendfile(sock, file, 7))
                        received = b""
                        while not received.endswith(b"\n"):
                            received += await loop.sock_recv(sock, 100_000)
                        assert await sending == len(large) + 1
                    assert received == large.upper() + b"\n"
                    waiting = asyncio.create_task(loop.sock_recv(sock, 1))
                    await iterations(3)
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                    await loop.sock_sendall(sock, b"x\n")
                    assert await loop.sock_recv(sock, 100) == b"X\n"
                with placeholder() as refused, pytest.raises(ConnectionRefusedError):
                    await loop.sock_connect(refused, (two.host, 81))
                with socket.socket() as blocking, pytest.raises(ValueError, match="non-blocking"):
                    await loop.sock_connect(blocking, (two.host, 80))
            await until(lambda: held(two.a) == 0)

    run(main())


@pytest.mark.parametrize("how", ["closed", "forgotten", "left"])
def test_abandoned_sockets_leak_nothing(how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            await two.b.create_server(Recorder, two.host, 80)
            with two.a.polyfill():
                sock = placeholder()
                await loop.sock_connect(sock, (two.host, 80))
                assert two.a.stats().core.connections == 1
                assert sock.getpeername() == (two.host, 80)
                assert sock.getsockname()[0] == two.own
                if how == "closed":
                    sock.close()
                    await until(lambda: held(two.a) == 0)
                elif how == "forgotten":
                    sock.detach()
                    del sock
                    gc.collect()
                    await until(lambda: held(two.a) == 0)
            await until(lambda: held(two.a) == 0)
            if how == "left":
                assert type(sock) is socket.socket
                sock.close()

    run(main())


def test_a_connection_taken_over_by_a_protocol() -> None:
    """As connectors do that race addresses themselves: data that arrived before the protocol is delivered to it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:

            async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"220 welcome\n")
                await upper(reader, writer)

            await two.b.start_server(greet, two.host, 80)
            await two.b.start_server(upper, two.host, 443, ssl=server_context())
            with two.a.polyfill():
                sock = placeholder()
                await loop.sock_connect(sock, (two.host, 80))
                await iterations(20)
                reader, writer = await asyncio.open_connection(sock=sock)
                assert sock.fileno() == -1
                assert await reader.readline() == b"220 welcome\n"
                writer.write(b"hello\n")
                assert await reader.readline() == b"HELLO\n"
                writer.close()
                await writer.wait_closed()

                sock = placeholder()
                await loop.sock_connect(sock, (two.host, 443))
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=client_context(), server_hostname="server.test"
                )
                writer.write(b"hello\n")
                assert await reader.readline() == b"HELLO\n"
                writer.close()
                await writer.wait_closed()

                sock = placeholder()
                await loop.sock_connect(sock, (two.host, 443))
                with pytest.raises(ValueError, match="You must set server_hostname"):
                    await asyncio.open_connection(sock=sock, ssl=client_context())
            await until(lambda: held(two.a) == 0)

    run(main())


def test_streams_of_the_stack_keep_chunks() -> None:
    async def main() -> None:
        servers: list[asyncio.StreamReader] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            servers.append(reader)
            writer.write(await reader.readexactly(300_000))
            writer.close()

        async def client(host: str, port: int) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(data)
            assert await reader.read() == data
            writer.close()
            return reader

        data = payload(300_000)
        async with pair() as two:
            real = await asyncio.start_server(serve, "127.0.0.1", 0)
            with two.b.polyfill():
                await asyncio.start_server(serve, two.host, 80)
            with two.a.polyfill(route=["10.0.0.0/8"]):
                ours = [await client(two.host, 80), servers.pop()]
                machines = [await client("127.0.0.1", real.sockets[0].getsockname()[1]), servers.pop()]
            real.close()
        assert [type(reader) for reader in ours] == [PieceReader, PieceReader]
        assert [type(reader) for reader in machines] == [asyncio.StreamReader, asyncio.StreamReader]

    run(main())
