"""Listeners and servers: ports, addresses, backlog, accepting, closing."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from tcpip_wasm import (
    ConnectionReset,
    NetworkError,
    create_stack,
)
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, Recorder, iterations, pair, read_all, run, send_all, until

ways = pytest.mark.parametrize("way", WAYS)


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
                await iterations(20)
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


@ways
def test_backlog(way: str) -> None:
    """Connections beyond the backlog wait at the client, and are established as others are accepted."""

    async def main() -> None:
        async with pair(way) as two, await two.b.listen_tcp(80, backlog=3) as listener:
            clients = [await two.a.connect_tcp(two.host, 80) for _ in range(3)]
            attempts = [asyncio.create_task(two.a.connect_tcp(two.host, 80)) for _ in range(3)]
            await asyncio.sleep(10)
            assert not any(attempt.done() for attempt in attempts)
            assert two.b.stats().core.backlog_drops >= 3
            servers = [await listener.accept() for _ in range(6)]
            clients += await asyncio.gather(*attempts)
            assert len({server.remote_address for server in servers}) == 6
            assert {server.remote_address for server in servers} == {client.local_address for client in clients}

    run_virtually(main())


@ways
@pytest.mark.parametrize("count", [6, 500])
def test_handshakes_that_end_while_the_backlog_is_full(way: str, count: int) -> None:
    """Their SYNs were answered before its: they are accepted in order, and no data that they sent is lost."""

    async def main() -> None:
        async with pair(way) as two, await two.b.listen_tcp(80, backlog=3) as listener:

            async def client(number: int) -> None:
                connection = await two.a.connect_tcp(two.host, 80)
                await send_all(connection, payload(1000, number))

            loop = asyncio.get_running_loop()
            begun = loop.time()
            clients = [asyncio.create_task(client(number)) for number in range(count)]
            reading = [asyncio.create_task(read_all(await listener.accept())) for _ in range(count)]
            received = await asyncio.gather(*reading)
            assert set(received) == {payload(1000, number) for number in range(count)}
            await asyncio.gather(*clients)
            assert loop.time() - begun < 10

    run_virtually(main())


@pytest.mark.parametrize("way", ["tap4", "tun6", "loopback4"])
@pytest.mark.parametrize("count", [1000, 3000])
def test_many_connect_at_once(way: str, count: int) -> None:
    """asyncio's default backlog is 100. No connection is refused, and each gets its answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        writer.close()

    async def main() -> None:
        async with pair(way) as two:
            server = await two.b.start_server(serve, two.host, 80)
            loop = asyncio.get_running_loop()
            begun = loop.time()

            async def client(number: int) -> None:
                reader, writer = await two.a.open_connection(two.host, 80)
                assert loop.time() - begun < 10
                writer.write(payload(100, number))
                writer.write_eof()
                assert await reader.read() == payload(100, number)[::-1]
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*[client(number) for number in range(count)])
            assert loop.time() - begun < 20
            server.close()

    run_virtually(main())


@pytest.mark.parametrize("backlog", [1, 255, 4096, 10_000])
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


def test_connection_lost_before_it_is_accepted() -> None:
    async def main() -> None:
        async with pair() as two, await two.b.listen_tcp(80, backlog=1) as listener:
            for _ in range(5):
                (await two.a.connect_tcp(two.host, 80)).abort()
                await iterations(20)
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
            await iterations(2)
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
            await iterations(2)
            await listener.close()
            for task in waiting:
                with pytest.raises(ConnectionAbortedError):
                    await task
            with pytest.raises(ConnectionAbortedError):
                await listener.accept()

    run(main())


def test_servers_behave_as_asyncios() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, ["10.0.0.2", "127.0.0.1"], 0, backlog=5)
            assert server.is_serving()
            assert server.addresses == [("10.0.0.2", server.port), ("127.0.0.1", server.port)]
            assert [socket.getsockname() for socket in server.sockets] == server.addresses
            assert server.get_loop() is asyncio.get_running_loop()
            await server.start_serving()
            forever = asyncio.create_task(server.serve_forever())
            await iterations(2)
            _, client = await two.a.create_connection(lambda: Recorder(keep_open=True), "10.0.0.2", server.port)
            with pytest.raises(RuntimeError, match="serve_forever"):
                await server.serve_forever()
            waiting = asyncio.create_task(server.wait_closed())
            forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forever
            assert not server.is_serving()
            assert server.sockets == ()
            await iterations(5)
            assert not waiting.done(), "a connection is open"
            server.close_clients()
            await waiting
            await client.eof
            client.transport.close()
            await client.lost
            with pytest.raises(RuntimeError, match="closed"):
                await server.serve_forever()

    run(main())


def test_serving_again() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, ["10.0.0.2", "127.0.0.1"], 80)
            server.stop_serving()
            taker = await two.b.listen_tcp(80, "127.0.0.1")
            for _ in range(2):
                with pytest.raises(OSError, match=r"listen on 127\.0\.0\.1:80") as caught:
                    await server.start_serving()
                assert caught.value.errno == errno.EADDRINUSE
                assert not server.is_serving(), "on half of its addresses"
                with pytest.raises(ConnectionRefusedError):
                    await two.a.connect_tcp("10.0.0.2", 80)
            await taker.close()
            await server.start_serving()
            assert server.addresses == [("10.0.0.2", 80), ("127.0.0.1", 80)]
            await (await two.a.connect_tcp("10.0.0.2", 80)).close()
            server.close()
            await server.wait_closed()

    run(main())


def test_keep_alive_of_a_server() -> None:
    """As the argument of `loop.create_server` of Python 3.13."""

    async def main() -> None:
        async with pair() as two:
            for port, wanted in ((80, None), (81, False), (82, True)):
                accepted: list[asyncio.BaseTransport] = []

                class Accepting(asyncio.Protocol):
                    def connection_made(self, transport: asyncio.BaseTransport, to: Any = accepted) -> None:
                        to.append(transport)

                server = await two.b.create_server(Accepting, two.host, port, keep_alive=wanted)
                transport, _ = await two.a.create_connection(asyncio.Protocol, two.host, port)
                await until(lambda accepted=accepted: bool(accepted))  # type: ignore[misc]
                sock = accepted[0].get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == bool(wanted)
                assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
                server.close()
                server.close_clients()
                await server.wait_closed()
                transport.close()

    run(main())


def test_close_clients_takes_a_number_of_iterations() -> None:
    """CPython's own tests expect two loop iterations until tasks that wait for a server know that it is closed."""

    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(asyncio.Protocol, two.host, 80)
            transport, _ = await two.a.create_connection(asyncio.Protocol, two.host, 80)
            await until(lambda: bool(server._connections))
            waiting = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
            await iterations(3)
            waiting[0].cancel()
            server.close()
            await iterations(3)
            assert [task.done() for task in waiting] == [True, False, False]
            server.close_clients()
            await iterations(2)
            assert [task.done() for task in waiting] == [True, True, True]
            await server.wait_closed()
            transport.close()

    run(main())


def test_abort_clients() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, two.host, 80)
            clients = [(await two.a.create_connection(Recorder, two.host, 80))[1] for _ in range(3)]
            await iterations(20)
            server.close()
            server.abort_clients()
            await server.wait_closed()
            for client in clients:
                assert isinstance(await client.lost, ConnectionReset)

    run(main())


def test_accept_cancelled_in_the_iteration_of_the_close() -> None:
    async def main() -> None:
        async with pair() as two:
            listener = await two.b.listen_tcp(80)
            accepting = asyncio.create_task(listener.accept())
            await iterations(3)
            accepting.cancel()
            await listener.close()
            with pytest.raises(asyncio.CancelledError):
                await accepting

    run(main())
