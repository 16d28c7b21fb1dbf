"""Closing with unread data resets the connection after what was written (RFC 1122, section 4.2.2.13; RFC 2525, 2.17).

Data that was read, even if the receive window was not opened for it yet, does not: the peer receives FIN.
"""

from __future__ import annotations

import asyncio
import socket as real
from typing import Any

import pytest

from tcpip_wasm import TcpConnection, create_stack
from tcpip_wasm.compat import StackThread
from tcpip_wasm.compat import socket as stack_socket
from tests.kit.blocking_sockets import network
from tests.kit.blocking_sockets import pair as sockets
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, iterations, pair, read_all, recorders, run, send_all, until

ways = pytest.mark.parametrize("way", WAYS)
REQUEST = payload(1000, 1)
ANSWER = payload(50_000, 2)


async def read_until_the_end(connection: TcpConnection) -> tuple[bytes, BaseException | None]:
    """Return what arrives, and how it ended."""
    received = b""
    try:
        async for chunk in connection:
            received += chunk
    except OSError as error:
        return received, error
    return received, None


@ways
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_connection_closed_after_an_answer(way: str, reads: bool) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections()
            with client.writable.get_writer() as writer:
                await writer.write(REQUEST)
            await iterations(20)  # it arrives
            if reads:
                with server.readable.get_reader() as reader:
                    assert await reader.read() == REQUEST
            with server.writable.get_writer() as writer:
                await writer.write(ANSWER)
            await server.close()
            received, error = await read_until_the_end(client)
            assert received == ANSWER
            assert isinstance(error, ConnectionResetError) != reads
            client.abort()

    run(main())


@ways
def test_large_transfer_that_was_read_ends_in_order(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections()
            data = payload(1_000_001)
            sending = asyncio.create_task(send_all(client, data))
            assert await read_all(server) == data
            await sending
            await server.close()
            await client.close()
            assert two.a.stats().core.time_wait == 1  # nothing was reset

    run(main())


@ways
@pytest.mark.parametrize("reads", [True, False], ids=["read", "paused"])
def test_transport_closed(way: str, reads: bool) -> None:
    """What a paused transport holds back was not read; what its protocol has received was."""

    async def main() -> None:
        async with pair(way) as two:
            client, server = await recorders(two)
            if not reads:
                server.transport.pause_reading()
            client.transport.write(REQUEST)
            await until(lambda: server.data == REQUEST if reads else server.transport.would_read)
            server.transport.write(ANSWER)
            server.transport.close()
            error = await client.lost
            assert client.data == ANSWER
            assert isinstance(error, ConnectionResetError) != reads

    run(main())


@ways
def test_streams_have_read_what_their_reader_holds(way: str) -> None:
    """As over the kernel, where asyncio reads into the `StreamReader` before the program asks for it."""

    async def main() -> None:
        async with pair(way) as two:
            held: list[Any] = []

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert await reader.readexactly(1) == REQUEST[:1]
                held.append(reader)
                writer.write(ANSWER)
                writer.close()

            server = await two.b.start_server(answer, two.host, 7)
            reader, writer = await two.a.open_connection(two.host, 7)
            writer.write(REQUEST)
            assert await reader.read(-1) == ANSWER
            assert held
            writer.close()
            server.close()

    run(main())


@pytest.mark.parametrize("kind", ["kernel", "stack"])
@pytest.mark.parametrize("half_closes", [False, True], ids=["close", "half-close"])
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_blocking_socket_closed(kind: str, half_closes: bool, reads: bool) -> None:
    with network(kind) as net:
        client, server = sockets(net)
        with client, server:
            client.sendall(REQUEST)
            assert server.recv(1) == REQUEST[:1]
            rest = 0
            while reads and rest < len(REQUEST) - 1:
                rest += len(server.recv(2000))
            if half_closes:
                server.shutdown(real.SHUT_WR)
                assert client.recv(1) == b""
            server.close()
            if reads:
                assert client.recv(1) == b""
            elif half_closes:
                with pytest.raises(OSError):  # noqa: PT011  ECONNRESET, or EPIPE if the reset was noticed
                    while True:
                        client.sendall(REQUEST)
            else:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


def test_relay_runs_before_the_descriptor_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing ends blocked calls first; the relay may act on that before the kernel reports unread data."""
    with StackThread() as thread:
        host = stack_socket.use(thread)
        try:
            client, server = sockets(stack_socket)
            with client, server:
                client.sendall(REQUEST)
                assert server.recv(1) == REQUEST[:1]
                closes = real.socket._real_close  # type: ignore[attr-defined]

                def close_late(sock: real.socket) -> None:
                    thread.call(iterations(5))
                    closes(sock)

                with monkeypatch.context() as patch:
                    patch.setattr(real.socket, "_real_close", close_late)
                    server.close()
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        finally:
            stack_socket.leave(host)


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_socket_of_the_loop_closed(reads: bool) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            loop = asyncio.get_running_loop()
            with stack.polyfill():
                listener = real.socket()
                listener.setblocking(False)
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                reader_task = asyncio.create_task(asyncio.open_connection(*listener.getsockname()))
                server, _ = await loop.sock_accept(listener)
                reader, writer = await reader_task
                writer.write(REQUEST)
                assert (
                    await loop.sock_recv(server, len(REQUEST) if reads else 1)
                    == REQUEST[: len(REQUEST) if reads else 1]
                )
                await loop.sock_sendall(server, ANSWER)
                server.close()
                if reads:
                    assert await reader.read(-1) == ANSWER
                else:
                    assert await reader.readexactly(len(ANSWER)) == ANSWER
                    with pytest.raises(ConnectionResetError):
                        await reader.read(1)
                writer.close()
                listener.close()

    run(main())
