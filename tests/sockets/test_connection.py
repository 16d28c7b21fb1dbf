"""TCP in the stream-style interface: readable, writable, iteration, pipes."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from tcpip_wasm import (
    ConnectionReset,
    StreamClosedError,
    StreamLockedError,
    TcpipError,
    TransformStream,
    create_stack,
)
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, iterations, pair, read_all, run, send_all

ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_both_ways_at_once(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(client, payload(700_000, 1)))
                group.create_task(send_all(server, payload(600_000, 2)))
                up, down = group.create_task(read_all(server)), group.create_task(read_all(client))
            assert up.result() == payload(700_000, 1)
            assert down.result() == payload(600_000, 2)
            await client.close()
            await server.close()

    run(main())


@ways
def test_addresses(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections(port=4711)
            assert client.remote_address == server.local_address == (two.host, 4711)
            assert client.local_address == server.remote_address
            assert client.local_address[0] == two.own
            assert "4711" in repr(client)
            await client.close()
            await server.close()
            assert client.remote_address == (two.host, 4711)

    run(main())


@pytest.mark.parametrize("host", ["10.0.0.2", ip_address("10.0.0.2")])
def test_hosts(host) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with (
            pair() as two,
            await two.b.listen_tcp(80, host) as listener,
            await two.a.connect_tcp(host=host, port=80) as client,
            await listener.accept() as server,
        ):
            await send_all(client, b"hello")
            assert await read_all(server) == b"hello"

    run(main())


def test_localhost() -> None:
    async def main() -> None:
        async with await create_stack() as stack, await stack.listen_tcp(80) as listener:
            for host in ("localhost", "LOCALHOST", "127.0.0.1", "::1", "[::1]"):
                async with await stack.connect_tcp(host, 80) as client, await listener.accept() as server:
                    await send_all(client, host.encode())
                    assert await read_all(server) == host.encode()

    run(main())


def test_half_close_of_either_side() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            await send_all(client, b"question")
            assert await read_all(server) == b"question"
            assert await read_all(server) == b""
            with server.writable.get_writer() as writer:
                await writer.write(b"answer, ")
                await iterations(20)
                await writer.write(b"in two parts")
                await writer.close()
            assert await read_all(client) == b"answer, in two parts"
            await client.close()
            await server.close()
            await client.close()

    run(main())


def test_chunks_are_at_most_64_kib() -> None:
    async def main() -> None:
        async with pair("loopback4") as two:
            client, server = await two.connections()
            sending = asyncio.create_task(send_all(client, payload(2_000_000), chunk=2_000_000))
            sizes = [len(chunk) async for chunk in server]
            assert sum(sizes) == 2_000_000
            assert 0 < min(sizes) <= max(sizes) <= 122880
            await sending

    run(main())


def test_writer_waits_for_a_reader() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            written = 0

            async def write() -> None:
                nonlocal written
                with client.writable.get_writer() as writer:
                    for number in range(200):
                        await writer.write(payload(50_000, number))
                        written += 50_000
                    await writer.close()

            writing = asyncio.create_task(write())
            await iterations(500)
            assert not writing.done()
            assert 500_000 < written < 3_000_000
            stuck = written
            await iterations(500)
            assert written == stuck
            assert two.b.stats().core.heap_used < 8 << 20
            assert await read_all(server) == b"".join(payload(50_000, number) for number in range(200))
            await writing

    run(main())


def test_close_of_the_writable_waits_for_its_buffer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            sending = asyncio.create_task(send_all(client, payload(5_000_000), chunk=5_000_000))
            await iterations(200)
            assert not sending.done()
            assert await read_all(server) == payload(5_000_000)
            await sending

    run(main())


def test_write_after_close() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            with client.writable.get_writer() as writer:
                await writer.write(b"all")
                await writer.close()
                with pytest.raises(StreamClosedError) as caught:
                    await writer.write(b"more")
                assert isinstance(caught.value, ConnectionAbortedError)
                assert isinstance(caught.value, TcpipError)
            await server.close()
            with pytest.raises(ConnectionAbortedError):
                await server.writable.get_writer().write(b"x")
            await client.close()
            with pytest.raises(ConnectionAbortedError):
                await client.writable.get_writer().write(b"x")

    run(main())


def test_reset_reaches_reader_and_writer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            reader, writer = client.readable.get_reader(), client.writable.get_writer()
            reading = asyncio.create_task(reader.read())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    while True:
                        await writer.write(payload(65536))
            server.abort()
            server.abort()
            with pytest.raises(ConnectionReset):
                await reading
            with pytest.raises(ConnectionReset):
                await writer.write(b"x")
            with pytest.raises(ConnectionReset):
                await writer.wait_closed()
            with pytest.raises(ConnectionReset):
                await reader.read()
            await client.close()

    run(main())


def test_what_arrived_before_the_reset_can_be_read() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            with server.writable.get_writer() as writer:
                await writer.write(b"last words")
            await iterations(20)
            server.abort()
            await iterations(20)
            reader = client.readable.get_reader()
            assert await reader.read() == b"last words"
            with pytest.raises(ConnectionReset):
                await reader.read()

    run(main())


def test_abort_of_a_writer_resets() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            reading = asyncio.create_task(read_all(server))
            await client.writable.get_writer().abort()
            with pytest.raises(ConnectionReset):
                await reading

    run(main())


def test_cancelled_readable_lets_the_peer_finish() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            await server.readable.cancel()
            await send_all(client, payload(5_000_000))
            assert await read_all(server) == b""
            with server.writable.get_writer() as writer:
                await writer.write(b"heard nothing")
                await writer.close()
            assert await read_all(client) == b"heard nothing"

    run(main())


def test_pipes() -> None:
    """An echo by `pipe_to`, and a transform on the way."""

    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            flipped: TransformStream[bytes, bytes] = TransformStream(lambda chunk: bytes(byte ^ 0xFF for byte in chunk))
            async with asyncio.TaskGroup() as group:
                group.create_task(server.readable.pipe_through(flipped).pipe_to(server.writable))
                group.create_task(send_all(client, payload(300_000)))
                received = group.create_task(read_all(client))
            assert received.result() == bytes(byte ^ 0xFF for byte in payload(300_000))

    run(main())


def test_tee() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            one, other = server.readable.tee()

            async def drain(branch) -> bytes:  # type: ignore[no-untyped-def]
                return b"".join([chunk async for chunk in branch])

            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(client, payload(1_000_000)))
                branches = [group.create_task(drain(branch)) for branch in (one, other)]
            assert [branch.result() for branch in branches] == [payload(1_000_000)] * 2

    run(main())


def test_locked() -> None:
    async def main() -> None:
        async with pair() as two:
            client, _ = await two.connections()
            assert not client.readable.locked
            reader = client.readable.get_reader()
            assert client.readable.locked
            with pytest.raises(StreamLockedError):
                client.__aiter__()
            reader.release_lock()
            assert not client.readable.locked

    run(main())
