"""Many connections: at once, and one after the other."""

from __future__ import annotations

import asyncio

import pytest

from tcpip_wasm import create_stack
from tests.kit.core_network import payload, two_hosts
from tests.kit.stacks import iterations, pair, read_all, run, send_all


@pytest.mark.parametrize("way", ["tap4", "loopback6"])
def test_five_hundred_connections_at_once(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two, await two.b.listen_tcp(80, backlog=255) as listener:
            received: dict[int, bytes] = {}

            async def serve() -> None:
                connection = await listener.accept()
                data = await read_all(connection)
                received[connection.remote_address[1]] = data
                await connection.close()

            async def send(number: int) -> None:
                client = await two.a.connect_tcp(two.host, 80)
                sent[client.local_address[1]] = number
                await send_all(client, payload(65536, number))
                assert await read_all(client) == b""
                await client.close()

            sent: dict[int, int] = {}
            async with asyncio.TaskGroup() as group:
                for number in range(500):
                    group.create_task(serve())
                    group.create_task(send(number))
            assert len(received) == len(sent) == 500
            assert all(received[port] == payload(65536, number) for port, number in sent.items())

    run(main(), seconds=60)


def test_ten_thousand_connections_in_turn() -> None:
    """The side that closes first keeps some in TIME-WAIT; two minutes later the memory is free again."""
    network = two_hosts()
    network.open()
    network.settle()
    before = [host.core.statistics() for host in network.hosts]
    for number in range(10_000):
        client, server = network.open(address=number % 2)
        client.write(b"%d" % number)
        client.finish()
        network.run(lambda: server.eof)  # noqa: B023
        assert server.received == b"%d" % number
        server.close()
        network.run(lambda: client.eof)  # noqa: B023
        client.close()
        network.hosts[1].accepted.clear()
        for host in network.hosts:
            host.sent.clear()
    network.settle()
    full = [host.core.statistics() for host in network.hosts]
    assert 0 < full[0].time_wait <= 1024
    network.now += 130
    for host in network.hosts:
        host.poll(network.now)
        host.poll(network.now)
    after = [host.core.statistics() for host in network.hosts]
    for earlier, later in zip(before, after, strict=True):
        assert later.connections == earlier.connections
        assert later.handles == earlier.handles
        assert later.time_wait == 0
        assert later.heap_used <= earlier.heap_used + 4096
        assert later.memory <= earlier.memory + (2 << 20)


def test_reset_connections_leak_nothing() -> None:
    network = two_hosts()
    network.open()
    network.settle()
    before = [host.core.statistics() for host in network.hosts]
    for number in range(1000):
        client, server = network.open()
        server.reading = False
        client.write(payload(3000))
        network.step()
        if number % 2:
            client.abort()
            network.run(lambda: server.ended is not None)  # noqa: B023
            server.close()
        else:
            server.abort()
            network.run(lambda: client.ended is not None)  # noqa: B023
            client.close()
    network.settle()
    for earlier, host in zip(before, network.hosts, strict=True):
        later = host.core.statistics()
        assert (later.connections, later.handles, later.time_wait) == (earlier.connections, earlier.handles, 0)
        assert later.heap_used <= earlier.heap_used + 4096


def test_connections_are_garbage_collected() -> None:
    async def main() -> None:
        async with pair() as two:
            for _ in range(20):
                client, server = await two.connections()
                await client.close()
                await server.close()
            await iterations(20)
            # What answers for handles: the loopback interface and one more, nothing of any connection.
            assert [len(stack._driver.handlers) for stack in (two.a, two.b)] == [2, 2]

    run(main())


def test_a_hundred_stacks() -> None:
    async def main() -> None:
        stacks = [await create_stack(seed=number) for number in range(100)]
        try:
            for stack in stacks:
                async with await stack.listen_tcp(80) as listener:
                    client = await stack.connect_tcp("127.0.0.1", 80)
                    await send_all(client, b"alone in here")
                    assert await read_all(await listener.accept()) == b"alone in here"
            sizes = [stack.stats().core.memory for stack in stacks]
            assert max(sizes) < 3 << 20
        finally:
            for stack in stacks:
                await stack.aclose()

    run(main())
