"""Data that a closing stack still delivers, and what its peers receive: over links with a delay, in virtual time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tcpip_wasm import ConnectionReset, NetworkStack, StackClosedError, StackTrappedError, create_stack
from tcpip_wasm.simulation import Link, LinkSettings, Network, run, run_virtually
from tests.kit.core_network import payload
from tests.kit.tls import client_context, server_context

CONTENT = payload(100_000)
DELAY = 0.05


class Peer:
    """A server that records the received data, and how the connection ended."""

    def __init__(self, stack: NetworkStack, *, reads: bool = True, **options: Any) -> None:
        self.stack = stack
        self.reads = reads
        self.options = options
        self.data = b""
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.error: BaseException | None = None

    async def serve(self) -> None:
        self.server = await self.stack.start_server(self._connected, "10.0.0.2", 80, **self.options)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.reads:
                await asyncio.sleep(100)
            while chunk := await reader.read(2**16):
                self.data += chunk
        except OSError as error:
            self.error = error
        writer.close()
        if not self.done.done():
            self.done.set_result(asyncio.get_running_loop().time())


async def serve_without_reading(stack: NetworkStack) -> asyncio.Future[BaseException | None]:
    """Serve, and return a future that is done once a connection is lost."""
    lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    class Reluctant(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.pause_reading()

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(exc)

    await stack.create_server(Reluctant, "10.0.0.2", 80)
    return lost


@asynccontextmanager
async def linked(delay: float = DELAY) -> AsyncIterator[tuple[NetworkStack, NetworkStack, Link]]:
    async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
        first = await a.create_tap_interface(ip="10.0.0.1/24", mac="02:00:00:00:00:01")
        second = await b.create_tap_interface(ip="10.0.0.2/24", mac="02:00:00:00:00:02")
        yield a, b, Link(first, second, LinkSettings(delay=delay))


async def closed_at_once(stack: NetworkStack, **options: Any) -> None:
    _, writer = await stack.open_connection("10.0.0.2", 80, **options)
    writer.write(CONTENT)
    await writer.drain()
    writer.close()
    if not options:
        await writer.wait_closed()


async def closed_with_much_waiting(stack: NetworkStack, **options: Any) -> None:
    transport, _ = await stack.create_connection(asyncio.Protocol, "10.0.0.2", 80, **options)
    for _ in range(10):
        transport.write(CONTENT)
    transport.close()


async def half_closed(stack: NetworkStack, **options: Any) -> None:
    kept.append(await stack.connect_tcp("10.0.0.2", 80))
    writer = kept[-1].writable.get_writer()
    await writer.write(CONTENT)
    await writer.close()


kept: list[Any] = []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("write", "copies"), [(closed_at_once, 1), (closed_with_much_waiting, 10), (half_closed, 1)])
def test_data_of_closed_connections_is_delivered(write: Callable[..., Awaitable[None]], copies: int, tls: bool) -> None:
    if tls and write is half_closed:
        pytest.skip("TLS has no half-close")

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        async with linked() as (a, b, _):
            peer = Peer(b, ssl=server_context()) if tls else Peer(b)
            await peer.serve()
            async with a:
                options: dict[str, Any] = {"ssl": client_context(), "server_hostname": "10.0.0.2"} if tls else {}
                await write(a, **options)
                left = loop.time()
            took = loop.time() - left
            await peer.done
            assert peer.error is None
            assert peer.data == CONTENT * copies
            kept.clear()
            return took, loop.time()

    took, end = run_virtually(main())
    assert DELAY < took < 1
    if not tls:  # whose keys, and so whose lengths, are random
        assert run_virtually(main()) == (took, end), "it is the same in each run"


def test_the_time_is_bounded_and_the_peer_notices() -> None:
    """The peer does not read: when the second is over, it receives a reset."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked() as (a, b, _):
            lost = await serve_without_reading(b)
            async with a:
                await closed_with_much_waiting(a)
                left = loop.time()
            assert loop.time() - left == pytest.approx(1.0)
            assert isinstance(await asyncio.wait_for(lost, 5), ConnectionReset)
            assert loop.time() - left == pytest.approx(1.0 + DELAY, abs=0.01)

    run_virtually(main())


@pytest.mark.parametrize("seconds", [0.0, 0.2, 3.0, float("inf")])
def test_aclose_waits_for_at_most_the_given_time(seconds: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked(delay=0.3) as (a, b, _):
            peer = Peer(b)
            await peer.serve()
            _, writer = await a.open_connection("10.0.0.2", 80)
            writer.write(b"word")
            writer.close()
            left = loop.time()
            await a.aclose(drain=seconds)
            assert loop.time() - left == pytest.approx(min(seconds, 0.6), abs=0.03)
            await peer.done
            assert peer.data == b"word"  # which was under way already

    run_virtually(main())


@pytest.mark.parametrize("idle", [True, False])
def test_connections_with_references_are_not_waited_for(idle: bool) -> None:
    """The stack does not wait for them. The idle one sends FIN, the other is reset; a pending call raises."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked() as (a, b, _):
            peer = Peer(b)
            await peer.serve()
            reader, writer = await a.open_connection("10.0.0.2", 80)
            writer.write(b"word")
            reading = asyncio.create_task(reader.read())
            await asyncio.sleep(1)
            if not idle:
                writer.write(CONTENT)
            left = loop.time()
            await a.aclose(drain=1.0)
            assert loop.time() == left
            with pytest.raises(StackClosedError):
                await reading
            assert await peer.done == pytest.approx(left + DELAY, abs=0.01)
            assert (peer.error is None) == idle
            assert not idle or peer.data == b"word"

    run_virtually(main())


def test_a_held_connection_works_while_draining() -> None:
    async def main() -> None:
        async with linked() as (a, b, _):
            peers = Peer(b)
            await peers.serve()
            other, transport = await a.connect_tcp("10.0.0.2", 80), None
            echo = await b.start_server(lambda r, w: _echo(r, w), "10.0.0.2", 7)
            reader, writer = await a.open_connection("10.0.0.2", 7)
            del transport
            async with a:
                with other.writable.get_writer() as out:
                    await out.write(CONTENT)
                await other.close()
                writer.write(b"question\n")
                asking = asyncio.create_task(reader.readline())
            assert await asking == b"QUESTION\n"
            echo.close()

    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    run_virtually(main())


@pytest.mark.parametrize("how", ["abort", "aclose", "cancel", "trap"])
def test_what_ends_the_wait(how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked() as (a, b, _):
            lost = await serve_without_reading(b)
            await closed_with_much_waiting(a)
            left = loop.time()
            closing = [asyncio.create_task(a.aclose(drain=50)) for _ in range(2)]
            await asyncio.sleep(0.5)
            assert not any(task.done() for task in closing)
            if how == "abort":
                a.abort()
            elif how == "aclose":
                await a.aclose()
            elif how == "cancel":
                closing[0].cancel()
            else:
                a._driver.end(StackTrappedError("for the test"))
            results = await asyncio.gather(*closing, return_exceptions=True)
            assert [type(result) for result in results] == [
                asyncio.CancelledError if how == "cancel" else type(None),
                type(None),
            ]
            assert loop.time() - left == pytest.approx(0.5)
            assert a.closed
            await asyncio.sleep(5)
            assert lost.done() == (how in ("aclose", "cancel"))
            if not lost.done():
                b.abort()

    run_virtually(main())
    gc.collect()


@pytest.mark.parametrize("held", [0, 20])
def test_without_pending_data_it_closes_at_once(held: int) -> None:
    """In the next loop iteration."""

    async def main() -> None:
        async with linked() as (a, b, _):
            peer = Peer(b)
            await peer.serve()
            connections = [await a.connect_tcp("10.0.0.2", 80) for _ in range(held)]
            await closed_at_once(a)
            await asyncio.sleep(1)
            iterations = 0

            async def count() -> None:
                nonlocal iterations
                while True:
                    iterations += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            await asyncio.sleep(0)
            before = iterations
            await a.aclose(drain=1.0)
            assert iterations - before <= 1
            counting.cancel()
            assert len(connections) == held
            peer.server.abort_clients()

    run_virtually(main())


def test_unreachable_peers_are_not_waited_for() -> None:
    """The stack does not wait for a closed cable, a peer's stack that has ended, or itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked() as (a, b, link):
            peer = Peer(b)
            await peer.serve()
            await closed_with_much_waiting(a)
            own = Peer(a, reads=False)
            own.server = await a.start_server(own._connected, "127.0.0.1", 80)
            transport, _ = await a.create_connection(asyncio.Protocol, "127.0.0.1", 80)
            transport.write(bytes(5_000_000))
            transport.close()
            link.close()
            left = loop.time()
            await a.aclose(drain=5)
            assert loop.time() == left
            peer.server.abort_clients()

    run_virtually(main())


@pytest.mark.parametrize("drain", [-1, float("nan"), "1", None])
def test_malformed(drain: Any) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises((ValueError, TypeError), match="drain"):
                await stack.aclose(drain=drain)
            assert not stack.closed

    run_virtually(main())


def test_a_crash_is_silent() -> None:
    async def scenario(network: Network) -> None:
        a, b = network.host("a"), network.host("b")
        network.link(a, b, delay=DELAY)
        peer = Peer(b.stack)
        peer.server = await b.stack.start_server(peer._connected, b.address, 80)
        transport, _ = await a.stack.create_connection(asyncio.Protocol, b.address, 80)
        transport.write(CONTENT)
        transport.close()
        a.crash()
        await asyncio.sleep(5)
        assert not peer.done.done()
        peer.server.abort_clients()
        peer.server.close()

    run(scenario)
