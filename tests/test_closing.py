"""A stack that closes ends every pending call, of every kind, by its own error; later calls raise the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tcpip_wasm import (
    NetworkStack,
    StackClosedError,
    TapInterface,
    UdpDatagram,
    create_stack,
)
from tests.kit.stacks import Pair, iterations, pair, run

NOBODY = "10.0.0.99"
Call = Callable[[Pair], Awaitable[Any]]


async def all_of(iterable: AsyncIterable[Any]) -> None:
    async for _ in iterable:
        pass


async def read(two: Pair) -> None:
    client, _server = await two.connections()
    await client.readable.get_reader().read()


async def iterate(two: Pair) -> None:
    client, _server = await two.connections()
    await all_of(client)


async def write(two: Pair) -> None:
    client, _server = await two.connections()
    with client.writable.get_writer() as writer:
        while True:
            await writer.write(bytes(65536))


async def read_stream(two: Pair) -> None:
    async with await two.b.listen_tcp(80):
        reader, _ = await two.a.open_connection(two.host, 80)
        await reader.read()


async def drain(two: Pair) -> None:
    async with await two.b.listen_tcp(80):
        _, writer = await two.a.open_connection(two.host, 80)
        while True:
            writer.write(bytes(65536))
            await writer.drain()


async def send(two: Pair) -> None:
    tap = await two.a.create_tap_interface(ip="10.1.0.1/24")
    frames = tap.readable  # listens, and reads nothing
    async with await two.a.open_udp(allow_broadcast=True) as udp:
        while not frames.locked:
            await udp.send(UdpDatagram("10.1.0.255", 9, bytes(1400)))


async def ping(two: Pair) -> None:
    await (await two.a.create_ping_session(NOBODY)).ping(timeout=None)


async def serve(two: Pair) -> None:
    server = await two.a.start_server(lambda reader, writer: None, None, 80)
    await server.serve_forever()


async def polyfilled(two: Pair) -> None:
    with two.a.polyfill():
        await asyncio.open_connection(NOBODY, 80)


async def lease(two: Pair) -> None:
    await (await two.a.create_tap_interface()).configure(dhcp=True)


async def change(two: Pair) -> None:
    tap = two.interfaces[0]
    assert isinstance(tap, TapInterface)
    await tap.wait_address_change()


async def pipe(two: Pair) -> None:
    client, _server = await two.connections()
    await client.readable.pipe_to(client.writable)


async def accept(two: Pair) -> None:
    await (await two.a.listen_tcp(80)).accept()


async def receive(two: Pair) -> None:
    await (await two.a.open_udp()).receive()


PENDING: dict[str, Call] = {
    "accept": accept,
    "serve_forever": serve,
    "connect": lambda two: two.a.connect_tcp(NOBODY, 80),
    "connect with a timeout": lambda two: two.a.connect_tcp(NOBODY, 80, timeout=60),
    "open_connection": lambda two: two.a.open_connection(NOBODY, 80),
    "read": read,
    "iterate a connection": iterate,
    "write": write,
    "read a StreamReader": read_stream,
    "drain": drain,
    "pipe": pipe,
    "receive": receive,
    "send": send,
    "ping": ping,
    "dhcp": lease,
    "address change": change,
    "getaddrinfo": lambda two: two.a.getaddrinfo("host.example", 80),
    "getnameinfo": lambda two: two.a.getnameinfo((NOBODY, 80)),
    "connect to a name": lambda two: two.a.connect_tcp("host.example", 80),
    "polyfill": polyfilled,
}


@asynccontextmanager
async def waiting(two: Pair, call: Call) -> AsyncIterator[asyncio.Task[Any]]:
    two.a.name_servers = [(NOBODY, 53)]
    task = asyncio.ensure_future(call(two))
    assert isinstance(task, asyncio.Task)
    await iterations(200)
    assert not task.done(), task
    yield task


@pytest.mark.parametrize("name", PENDING)
def test_pending_calls_end(name: str) -> None:
    async def main() -> None:
        async with pair() as two, waiting(two, PENDING[name]) as task:
            await two.a.aclose()
            await two.a.aclose()
            with pytest.raises(StackClosedError):
                await asyncio.wait_for(task, 5)

    run(main())


@pytest.mark.parametrize("kind", ["tap", "udp", "listener"])
def test_iterations_end(kind: str) -> None:
    """Iterations over frames, datagrams and connections end."""

    async def main() -> None:
        async with await create_stack() as stack:
            made: Callable[[NetworkStack], Awaitable[Any]] = {
                "tap": lambda stack: stack.create_tap_interface(),
                "udp": lambda stack: stack.open_udp(),
                "listener": lambda stack: stack.listen_tcp(80),
            }[kind]
            task = asyncio.create_task(all_of(await made(stack)))
            await iterations(5)
            assert not task.done()
            await stack.aclose()
            await asyncio.wait_for(task, 5)

    run(main())


def test_later_calls() -> None:
    async def main() -> None:
        async with pair() as two:
            stack, tap = two.a, two.interfaces[0]
            udp, session = await stack.open_udp(), await stack.create_ping_session(two.host)
            server = await stack.start_server(lambda reader, writer: None, None, 80)
            await stack.aclose()
            calls: list[Callable[[], Awaitable[Any]]] = [
                stack.create_tap_interface,
                stack.create_tun_interface,
                stack.create_loopback_interface,
                stack.create_bridge_interface,
                stack.open_udp,
                lambda: stack.create_ping_session(two.host),
                lambda: stack.connect_tcp(two.host, 80),
                lambda: stack.listen_tcp(80),
                lambda: stack.getaddrinfo(two.host, 80),
                lambda: stack.getnameinfo((two.host, 80)),
                lambda: udp.send(UdpDatagram(two.host, 1, b"")),
                lambda: tap.writable.get_writer().write(bytes(60)),
                udp.receive,
                session.ping,
                server.serve_forever,
            ]
            for call in calls:
                with pytest.raises(StackClosedError):
                    await call()
            for at_once in (stack.stats, stack.add_route, stack.remove_route):
                with pytest.raises(StackClosedError):
                    at_once(*(() if at_once == stack.stats else ("10.9.0.0/16",)))
            await udp.close()
            await session.close()
            server.close()
            await server.wait_closed()

    run(main())
