"""Ethernet over WebSockets: stacks at both ends, the library's own client and server, hostile peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tcpip_wasm import create_stack
from tcpip_wasm.links import WebSocketRelay, bridge_port, connect_websocket
from tcpip_wasm.testing import MemoryInterface
from tests.kit.core_network import payload
from tests.kit.stacks import until
from tests.links.test_stream import BOUND, transfer, two_stacks


@asynccontextmanager
async def relayed(**options: object) -> AsyncIterator[tuple[MemoryInterface, WebSocketRelay]]:
    """A relay whose only guest is attached to an interface of this test."""
    interface = MemoryInterface()
    async with WebSocketRelay(lambda: interface, **options) as relay:  # type: ignore[arg-type]
        yield interface, relay


def test_two_stacks_over_a_websocket() -> None:
    async def main() -> None:
        async with two_stacks() as (a, near, b, far):
            async with WebSocketRelay(lambda: far) as relay:
                link = await connect_websocket(near, relay.url)
                await transfer(a, b, 3_000_000)
                await transfer(b, a, 3_000_000, "fd00::1")
                assert relay.links[0].counters.frames_received == link.counters.frames_sent
                assert link.counters.send_dropped == link.counters.receive_dropped == 0
            await asyncio.wait_for(link.wait_closed(), BOUND)
            assert link.error is None

    asyncio.run(main())


def test_guests_share_a_network_by_a_bridge() -> None:
    """Two guests reach the stack and each other; when one leaves, its port is removed."""

    async def main() -> None:
        async with await create_stack(seed=3) as hub, two_stacks() as (a, near, b, far):
            bridge = await hub.create_bridge_interface(ip="10.0.0.9/24")
            async with WebSocketRelay(bridge_port(hub, bridge)) as relay:
                links = [await connect_websocket(tap, relay.url) for tap in (near, far)]
                await transfer(a, b, 500_000)
                await transfer(a, hub, 500_000, "10.0.0.9")
                before = len(hub.interfaces)
                links[0].close()
                await until(lambda: len(hub.interfaces) == before - 1)
                await transfer(b, hub, 500_000, "10.0.0.9")

    asyncio.run(main())


def test_the_librarys_client_exchanges_frames() -> None:
    async def main() -> None:
        async with relayed() as (interface, relay), connect(relay.url) as client:
            frames = [payload(size, size) for size in (14, 60, 1514)]
            await until(lambda: interface.port is not None)
            for frame in frames:
                await client.send(frame)
            # A message in fragments is one frame; so is one between fragments without data.
            await client.send([frames[2][:100], b"", frames[2][100:700], b"", frames[2][700:]])
            await until(lambda: len(interface.received) == 4)
            assert list(interface.received) == [*frames, frames[2]]
            interface.send(*frames)
            assert [await client.recv() for _ in frames] == frames

    asyncio.run(main())


def test_the_librarys_server_exchanges_frames() -> None:
    async def main() -> None:
        async def echo(connection: ServerConnection) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            interface = MemoryInterface()
            link = await connect_websocket(interface, f"ws://127.0.0.1:{port}/")
            frames = [payload(14 + number, number) for number in range(1000)]
            interface.send(*frames)
            await until(lambda: len(interface.received) == len(frames))
            assert list(interface.received) == frames
            server.close()
            await asyncio.wait_for(link.wait_closed(), BOUND)
            assert link.error is None

    asyncio.run(main())


def test_a_slow_client_delays_frames_and_loses_none() -> None:
    async def main() -> None:
        async with relayed() as (interface, relay), connect(relay.url, max_queue=1) as client:
            frames = [payload(1514, number) for number in range(12_000)]
            await until(lambda: interface.port is not None)
            interface.send(*frames)
            link = relay.links[0]
            await until(lambda: link.counters.send_waits > 0)
            assert interface.unsent > 0, "18 MB do not fit into sockets"
            arrived = [await client.recv() for _ in frames]
            assert arrived == frames
            assert link.counters.send_dropped == 0

    asyncio.run(main())


def test_a_full_stack_stops_the_reading() -> None:
    async def main() -> None:
        async with relayed() as (interface, relay), connect(relay.url, write_limit=65536) as client:
            await until(lambda: interface.port is not None)
            interface.full = True
            frames = [payload(1514, number) for number in range(12_000)]

            async def send() -> None:
                for frame in frames:
                    await client.send(frame)

            sending = asyncio.create_task(send())
            await until(lambda: relay.links[0].counters.receive_full > 0)
            for _ in range(200):
                await asyncio.sleep(0)
            assert not sending.done()
            interface.make_room()
            await asyncio.wait_for(sending, BOUND)
            await until(lambda: len(interface.received) == len(frames))
            assert list(interface.received) == frames

    asyncio.run(main())


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [(None, True), ("http://localhost:8000", True), ("http://evil.example", False), ("null", False)],
)
def test_pages_of_other_origins_are_refused(origin: str | None, accepted: bool) -> None:
    async def main() -> None:
        async with relayed(origins=["http://localhost:8000"]) as (interface, relay):
            if accepted:
                async with connect(relay.url, origin=Origin(origin) if origin else None):
                    await until(lambda: interface.port is not None)
            else:
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(relay.url, origin=Origin(origin or ""))
                with pytest.raises(ConnectionRefusedError, match="403"):
                    await connect_websocket(MemoryInterface(), relay.url, origin=origin)
                assert interface.port is None

    asyncio.run(main())


def test_guests_above_the_limit_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with relayed(max_guests=1) as (interface, relay), connect(relay.url):
            await until(lambda: interface.port is not None)
            with pytest.raises(InvalidStatus, match="503"):
                await connect(relay.url)
        assert "1 guests are connected" in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize(
    "hostile",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1000,
        b"x" * 100_000,
        b"",
    ],
    ids=["no upgrade", "TLS", "many headers", "no line", "nothing"],
)
def test_a_connection_that_is_no_websocket_ends(hostile: bytes) -> None:
    async def main() -> None:
        async with relayed() as (interface, relay):
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(hostile)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), BOUND)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
            writer.close()
            await until(lambda: not relay._guests)
            assert interface.port is None

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["text", "long", "garbage"])
def test_wrong_messages_end_the_connection(kind: str) -> None:
    async def main() -> None:
        async with relayed() as (interface, relay), connect(relay.url) as client:
            await until(lambda: interface.port is not None)
            await client.send(b"f" * 60)
            if kind == "text":
                await client.send("words")
            elif kind == "long":
                await client.send(b"x" * 70_000)
            else:
                client.transport.write(b"\xff" * 100)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await until(lambda: not relay.links)
            assert list(interface.received) == [b"f" * 60]
            assert interface.port is None

    asyncio.run(main())


def test_errors_name_what_is_wrong() -> None:
    async def main() -> None:
        tap = MemoryInterface()
        with pytest.raises(ValueError, match="url: ws://HOST:PORT/PATH is needed, not 'http://x/'"):
            await connect_websocket(tap, "http://x/")
        with pytest.raises(ValueError, match="port"):
            WebSocketRelay(lambda: tap, port=-1)
        with pytest.raises(ValueError, match="max_guests"):
            WebSocketRelay(lambda: tap, max_guests=0)
        async with WebSocketRelay(lambda: tap) as relay:
            url = relay.url
        with pytest.raises(ConnectionRefusedError):
            await connect_websocket(tap, url)
        assert tap.port is None

    asyncio.run(main())
