"""TCP in the stream-style interface: readable, writable, iteration, listeners."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import ip_address

import pytest

from tcpip_wasm import (
    ConnectionReset,
    NetworkError,
    StreamClosedError,
    StreamLockedError,
    TcpipError,
    TransformStream,
    create_stack,
)
from tests.support import payload
from tests.support_stacks import WAYS, Recorder, pair, read_all, run, send_all, turns, until

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
                await turns(20)
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
            sending = asyncio.create_task(send_all(client, payload(2_000_000), piece=2_000_000))
            sizes = [len(chunk) async for chunk in server]
            assert sum(sizes) == 2_000_000
            assert 0 < min(sizes) <= max(sizes) <= 65536
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
            await turns(500)
            assert not writing.done()
            assert 500_000 < written < 3_000_000
            stuck = written
            await turns(500)
            assert written == stuck
            assert two.b.stats().core.heap_used < 8 << 20
            assert await read_all(server) == b"".join(payload(50_000, number) for number in range(200))
            await writing

    run(main())


def test_close_of_the_writable_waits_for_its_buffer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            sending = asyncio.create_task(send_all(client, payload(5_000_000), piece=5_000_000))
            await turns(200)
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
            await turns(20)
            server.abort()
            await turns(20)
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


# --- Listeners ----------------------------------------------------------------------------------------------------


@ways
def test_iteration_over_a_listener(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            listener = await two.b.listen_tcp(80)

            async def serve() -> list[bytes]:
                return [await read_all(connection) async for connection in listener]

            serving = asyncio.create_task(serve())
            for number in range(5):
                client = await two.a.connect_tcp(two.host, 80)
                await send_all(client, payload(1000, number))
                await client.close()
                await turns(20)
            await listener.close()
            await listener.close()
            assert await serving == [payload(1000, number) for number in range(5)]

    run(main())


def test_port_zero() -> None:
    async def main() -> None:
        async with pair() as two:
            listeners = [await two.b.listen_tcp(0) for _ in range(20)]
            ports = [listener.port for listener in listeners]
            assert len(set(ports)) == 20
            assert all(49152 <= port <= 65535 for port in ports)
            for listener in listeners:
                async with await two.a.connect_tcp(two.host, listener.port) as client:
                    assert client.remote_address == (two.host, listener.port)
                await listener.close()

    run(main())


def test_bound_to_one_address() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            await stack.create_tun_interface(ip=["10.0.0.1/24", "fd00::1/64"])
            async with await stack.listen_tcp(80, "10.0.0.1") as listener:
                async with await stack.connect_tcp("10.0.0.1", 80) as client, await listener.accept() as server:
                    assert server.local_address == client.remote_address == ("10.0.0.1", 80)
                for other in ("127.0.0.1", "fd00::1", "::1"):
                    with pytest.raises(ConnectionRefusedError):
                        await stack.connect_tcp(other, 80)
                async with (
                    await stack.listen_tcp(80, "fd00::1") as second,
                    await stack.connect_tcp("fd00::1", 80) as client,
                ):
                    assert (await second.accept()).local_address == client.remote_address == ("fd00::1", 80)

    run(main())


def test_address_in_use() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            await stack.create_tun_interface(ip=["10.0.0.1/24", "fd00::1/64"])
            every = await stack.listen_tcp(80)
            for host in (None, "10.0.0.1", "127.0.0.1", "::1", "0.0.0.0", "::"):
                with pytest.raises(NetworkError) as caught:
                    await stack.listen_tcp(80, host)
                assert caught.value.errno == errno.EADDRINUSE
                assert "80" in str(caught.value)
            await every.close()
            one = await stack.listen_tcp(80, "10.0.0.1")
            other = await stack.listen_tcp(80, "127.0.0.1")
            for host in (None, "10.0.0.1", "0.0.0.0"):
                with pytest.raises(NetworkError) as caught:
                    await stack.listen_tcp(80, host)
                assert caught.value.errno == errno.EADDRINUSE
            await one.close()
            await other.close()
            await (await stack.listen_tcp(80)).close()

    run(main())


def test_port_is_free_again_at_once() -> None:
    """Also while connections of the earlier listener are in TIME-WAIT or still open."""

    async def main() -> None:
        async with pair() as two:
            for _ in range(3):
                client, server = await two.connections()
                await server.close()
                await client.close()
            client, server = await two.connections()
            async with await two.b.listen_tcp(80):
                await send_all(client, b"still open")
                assert await read_all(server) == b"still open"

    run(main())


def test_address_of_no_interface() -> None:
    async def main() -> None:
        async with pair() as two:
            for host in ("10.0.0.99", "192.168.7.7", "fd99::1"):
                with pytest.raises(NetworkError) as caught:
                    await two.b.listen_tcp(80, host)
                assert caught.value.errno == errno.EADDRNOTAVAIL
                assert host in str(caught.value)
            with pytest.raises(NetworkError) as caught:
                await two.a.create_connection(Recorder, two.host, 80, local_addr=("10.0.0.99", 0))
            assert caught.value.errno == errno.EADDRNOTAVAIL

    run(main())


def test_backlog() -> None:
    """What does not fit waits at the client's, and comes in as places become free."""

    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=3) as listener:
            attempts = [asyncio.create_task(two.a.connect_tcp(two.host, 80)) for _ in range(6)]
            await until(lambda: sum(attempt.done() for attempt in attempts) == 3)
            await turns(200)
            assert sum(attempt.done() for attempt in attempts) == 3
            servers = [await listener.accept() for _ in range(6)]
            clients = await asyncio.gather(*attempts)
            assert len({server.remote_address for server in servers}) == 6
            assert {server.remote_address for server in servers} == {client.local_address for client in clients}

    run(main())


@pytest.mark.parametrize("backlog", [1, 255, 10_000])
def test_backlogs(backlog: int) -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=backlog) as listener:
            client = await two.a.connect_tcp(two.host, 80)
            await send_all(client, b"in")
            assert await read_all(await listener.accept()) == b"in"

    run(main())


@pytest.mark.parametrize("backlog", [0, -1])
def test_malformed_backlogs(backlog: int) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(ValueError, match=f"backlog: {backlog} "):
                await stack.listen_tcp(80, backlog=backlog)
            with pytest.raises(TypeError, match="backlog"):
                await stack.listen_tcp(80, backlog="5")  # type: ignore[arg-type]

    run(main())


def test_unaccepted_connections_are_reset_with_their_listener() -> None:
    async def main() -> None:
        async with pair() as two:
            listener = await two.b.listen_tcp(80)
            clients = [await two.a.connect_tcp(two.host, 80) for _ in range(3)]
            accepted = await listener.accept()
            await listener.close()
            outcomes = await asyncio.gather(
                *[asyncio.wait_for(read_all(client), 1) for client in clients], return_exceptions=True
            )
            assert [isinstance(outcome, ConnectionReset) for outcome in outcomes].count(True) == 2
            with accepted.writable.get_writer() as writer:
                await writer.write(b"accepted ones go on")
            assert accepted.remote_address in [client.local_address for client in clients]
            with pytest.raises(ConnectionRefusedError):
                await two.a.connect_tcp(two.host, 80)

    run(main())


def test_connection_that_is_gone_before_it_is_accepted() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=1) as listener:
            for _ in range(5):
                (await two.a.connect_tcp(two.host, 80)).abort()
                await turns(20)
            client = await two.a.connect_tcp(two.host, 80)
            await send_all(client, b"the sixth")
            server = await listener.accept()
            assert server.remote_address == client.local_address
            assert await read_all(server) == b"the sixth"

    run(main())


def test_acceptors_are_served_in_order() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80) as listener:
            acceptors = [asyncio.create_task(listener.accept()) for _ in range(4)]
            await turns(2)
            acceptors[1].cancel()
            clients = []
            for number in (0, 2, 3):
                clients.append(await two.a.connect_tcp(two.host, 80))
                server = await acceptors[number]
                assert server.remote_address == clients[-1].local_address
            assert acceptors[1].cancelled()

    run(main())


def test_accept_after_close() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            listener = await stack.listen_tcp(80)
            waiting = [asyncio.create_task(listener.accept()) for _ in range(3)]
            await turns(2)
            await listener.close()
            for task in waiting:
                with pytest.raises(ConnectionAbortedError):
                    await task
            with pytest.raises(ConnectionAbortedError):
                await listener.accept()

    run(main())


def test_servers_like_asyncios() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, ["10.0.0.2", "127.0.0.1"], 0, backlog=5)
            assert server.is_serving()
            assert server.addresses == [("10.0.0.2", server.port), ("127.0.0.1", server.port)]
            assert [socket.getsockname() for socket in server.sockets] == server.addresses
            assert server.get_loop() is asyncio.get_running_loop()
            await server.start_serving()
            forever = asyncio.create_task(server.serve_forever())
            await turns(2)
            _, client = await two.a.create_connection(lambda: Recorder(keep_open=True), "10.0.0.2", server.port)
            with pytest.raises(RuntimeError, match="serve_forever"):
                await server.serve_forever()
            waiting = asyncio.create_task(server.wait_closed())
            forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forever
            assert not server.is_serving()
            assert server.sockets == ()
            await turns(5)
            assert not waiting.done(), "a connection is open"
            server.close_clients()
            await waiting
            await client.eof
            client.transport.close()
            await client.lost
            with pytest.raises(RuntimeError, match="closed"):
                await server.serve_forever()

    run(main())


def test_abort_clients() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, two.host, 80)
            clients = [(await two.a.create_connection(Recorder, two.host, 80))[1] for _ in range(3)]
            await turns(20)
            server.close()
            server.abort_clients()
            await server.wait_closed()
            for client in clients:
                assert isinstance(await client.lost, ConnectionReset)

    run(main())
