"""Wisp by hand-made packets: credit, reasons, limits, and packets that are malformed or make no sense."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tcpip_wasm import NetworkStack
from tcpip_wasm.links import WispClient, WispServer
from tcpip_wasm.links.message_socket import WRITE_BYTES
from tcpip_wasm.links.wisp_server import CREDIT
from tcpip_wasm.links.wisp_wire import (
    CloseReason,
    Extension,
    PacketType,
    StreamType,
    pack,
    pack_close,
    pack_connect,
    pack_continue,
    pack_info,
    pack_password,
    unpack,
    unpack_close,
    unpack_connect,
    unpack_continue,
    unpack_info,
    unpack_password,
)
from tests.kit.core_network import payload
from tests.kit.stacks import until
from tests.kit.wisp import BOUND, closing, received, served


@asynccontextmanager
async def spoken(
    version: int = 1, *, confirms: bool = False, **options: object
) -> AsyncIterator[tuple[ClientConnection, WispServer]]:
    """A connection to a server that is past the handshake. `confirms`: whether the client wants confirmations."""
    async with served(**options) as (_, server):
        protocols = [Subprotocol("any")] if version == 2 else None
        async with connect(server.url, subprotocols=protocols) as client:
            if version == 2:
                kind, number, body = unpack(await received(client))
                assert (kind, number) == (PacketType.INFO, 0)
                assert Extension.UDP in unpack_info(body)
                mine = [Extension.UDP] + confirms * [Extension.STREAM_CONFIRMATION]
                await client.send(pack_info(dict.fromkeys(mine, b"")))
            kind, number, body = unpack(await received(client))
            assert (kind, number, unpack_continue(body)) == (PacketType.CONTINUE, 0, CREDIT)
            yield client, server


def test_data_before_the_connection_is_kept_and_credit_is_granted() -> None:
    async def main() -> None:
        async with spoken() as (client, _):
            await client.send(pack_connect(5, StreamType.TCP, "127.0.0.1", 7))
            for number in range(CREDIT):
                await client.send(pack(PacketType.DATA, 5, bytes([number]) * 100))
            data, granted = b"", 0
            while len(data) < 100 * CREDIT:
                kind, stream, body = unpack(await received(client))
                assert stream == 5
                if kind is PacketType.DATA:
                    data += body
                else:
                    assert kind is PacketType.CONTINUE
                    granted = unpack_continue(body)
            assert data == b"".join(bytes([number]) * 100 for number in range(CREDIT))
            assert granted == CREDIT
            await client.send(pack_close(5, CloseReason.VOLUNTARY))

    asyncio.run(main())


def test_a_client_without_credit_loses_its_stream() -> None:
    """The server of the connection does not read, so that nothing comes back and no credit is granted for long."""

    async def main() -> None:
        ended = asyncio.Event()

        async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await ended.wait()
            writer.close()

        async with (
            served() as (stack, server),
            await stack.start_server(hold, "127.0.0.1", 9),
            connect(server.url) as client,
        ):
            assert unpack(await received(client))[0] is PacketType.CONTINUE
            await client.send(pack_connect(5, StreamType.TCP, "127.0.0.1", 9))
            reading = asyncio.create_task(closing(client, 5))  # a client that does not read could wait forever
            for _ in range(40 * CREDIT):
                if reading.done():
                    break
                await asyncio.wait_for(client.send(pack(PacketType.DATA, 5, bytes(60_000))), BOUND)
            assert await asyncio.wait_for(reading, BOUND) is CloseReason.THROTTLED
            assert not any(session._streams for session in server.sessions)
            ended.set()

    asyncio.run(main())


@pytest.mark.parametrize("size", [100, 65_000])
@pytest.mark.parametrize("version", [1, 2])
def test_a_client_that_uses_all_of_its_credit_keeps_its_stream(version: int, size: int) -> None:
    """It sends what the last CONTINUE allows, and a new one sets the number, whatever is still on its way."""
    total = 12 * CREDIT
    held, beside = 5, 7

    async def main() -> None:
        may_read, arrived = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            arrived.set_result(hashlib.sha256(await reader.readexactly(total * size)).digest())
            writer.close()

        async with spoken(version, confirms=True) as (client, server):
            stack = server.network
            assert isinstance(stack, NetworkStack)
            async with await stack.start_server(hold, "127.0.0.1", 9):
                sent, credit, hashed = 0, CREDIT, hashlib.sha256()
                stopped = 0

                async def next_packet() -> PacketType:
                    nonlocal credit
                    kind, number, body = unpack(await received(client))
                    if number == held:
                        assert kind is PacketType.CONTINUE, unpack_close(body)
                        credit = unpack_continue(body)
                    return kind

                await client.send(pack_connect(held, StreamType.TCP, "127.0.0.1", 9))
                await client.send(pack_connect(beside, StreamType.TCP, "127.0.0.1", 7))
                try:
                    while sent < total:
                        if credit:
                            data = payload(size, sent)
                            hashed.update(data)
                            await client.send(pack(PacketType.DATA, held, data))
                            sent, credit = sent + 1, credit - 1
                        elif may_read.is_set():
                            await next_packet()
                        else:
                            await client.send(pack(PacketType.DATA, beside, b"x"))
                            while await next_packet() is not PacketType.DATA:
                                pass
                            if not credit:  # and none came before the other stream's answer
                                stopped = sent
                                may_read.set()
                    may_read.set()
                    assert await asyncio.wait_for(arrived, BOUND) == hashed.digest()
                    assert stopped < 8 * CREDIT if size > 1000 else stopped == 0
                finally:
                    may_read.set()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (pack(PacketType.CONNECT, 5, b""), CloseReason.INVALID),
        (pack(PacketType.CONNECT, 5, b"\x03\x50\x00host"), CloseReason.INVALID),
        (pack(PacketType.CONNECT, 5, b"\x01\x50\x00"), CloseReason.INVALID),
        (pack(PacketType.CONNECT, 5, b"\x01\x50\x00\xff\xfe"), CloseReason.INVALID),
        (pack_connect(5, StreamType.TCP, "127.0.0.1", 0), CloseReason.INVALID),
        (pack_connect(5, StreamType.TCP, "127.0.0.1", 8), CloseReason.REFUSED),
        (pack_connect(5, StreamType.TCP, "x" * 300, 80), CloseReason.INVALID),
        (pack_connect(5, StreamType.UDP, "203.0.113.1", 80), CloseReason.UNREACHABLE),
    ],
    ids=["empty", "type", "no host", "no text", "port", "refused", "long name", "unreachable"],
)
def test_connects_that_fail_have_a_reason(packet: bytes, reason: CloseReason) -> None:
    async def main() -> None:
        async with spoken() as (client, _):
            await client.send(packet)
            assert await closing(client, 5) is reason
            await client.send(pack_connect(6, StreamType.TCP, "127.0.0.1", 7))
            await client.send(pack(PacketType.DATA, 6, b"on"))
            kind, stream, body = unpack(await received(client))
            assert (kind, stream, bytes(body)) == (PacketType.DATA, 6, b"on")

    asyncio.run(main())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x01\x00",
        b"\x77\x01\x00\x00\x00",
        pack_info({}),
        pack(PacketType.INFO, 0, b"\x02\x00\x01\xff\xff\xff\xff"),
        pack(PacketType.CONNECT, 0, b"\x01\x50\x00host"),
    ],
    ids=["empty", "short", "type", "info again", "long extension", "stream 0"],
)
def test_malformed_packets_end_the_session(packet: bytes, version: int) -> None:
    async def main() -> None:
        async with spoken(version) as (client, server):
            await client.send(packet)
            with pytest.raises(ConnectionClosed):
                while True:
                    await received(client)
            await until(lambda: not server.sessions)

    asyncio.run(main())


def test_a_client_that_reads_no_answer_is_not_read_either() -> None:
    """Each CONNECT above the limit has an answer, and what waits for a client that reads none is bounded."""
    count, limit = 45_000, 16

    async def main() -> None:
        async with served(max_streams=limit) as (_, server):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2].strip("/"))))
                sock.setblocking(False)
                async with connect(server.url, sock=sock, max_queue=4) as client:
                    [session] = server.sessions
                    transport = session.messages._transport
                    assert transport is not None
                    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    assert unpack(await received(client))[0] is PacketType.CONTINUE

                    async def flood() -> None:
                        for number in range(1, count + 1):
                            await client.send(pack_connect(number, StreamType.TCP, "127.0.0.1", 7))

                    flooding = asyncio.create_task(flood())
                    await until(lambda: not transport.is_reading())
                    assert len(session._streams) <= limit
                    assert transport.get_write_buffer_size() < 2 * WRITE_BYTES
                    for _ in range(count - limit):
                        kind, _, body = unpack(await received(client))
                        assert (kind, unpack_close(body)) == (PacketType.CLOSE, CloseReason.THROTTLED)
                    await flooding
                    await client.send(pack(PacketType.DATA, 1, b"on"))
                    kind, number, data = unpack(await received(client))
                    assert (kind, number, bytes(data)) == (PacketType.DATA, 1, b"on")

    asyncio.run(main())


def test_packets_that_make_no_sense_change_nothing() -> None:
    async def main() -> None:
        async with spoken() as (client, server):
            [session] = server.sessions
            for number in range(2000):
                await client.send(pack(PacketType.DATA, number, bytes(100)))  # of no stream, and of 0
                await client.send(pack_close(number, CloseReason.VOLUNTARY))
                await client.send(pack_continue(number, 0xFFFFFFFF))
                await client.send(pack(PacketType.CONTINUE, number))
            await client.send(pack_connect(0xFFFFFFFF, StreamType.TCP, "127.0.0.1", 7))
            await client.send(pack(PacketType.DATA, 0xFFFFFFFF, b"on"))
            kind, number, data = unpack(await received(client))
            assert (kind, number, bytes(data)) == (PacketType.DATA, 0xFFFFFFFF, b"on")
            assert list(session._streams) == [0xFFFFFFFF]

    asyncio.run(main())


def test_a_server_that_introduces_itself_twice_is_left() -> None:
    """Each INFO would have an answer, and a server that reads none could make them wait without end."""

    async def main() -> None:
        async def serve(server: ServerConnection) -> None:
            await server.send(pack_info({}))
            await server.send(pack_continue(0, 1))
            await server.send(pack_info({}))
            await server.wait_closed()

        async with serve_websockets(serve, "127.0.0.1", 0, subprotocols=[Subprotocol("wisp-v2")]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with WispClient(f"ws://127.0.0.1:{port}/") as client:
                await until(lambda: client._problem is not None)
                with pytest.raises(ValueError, match="INFO"):
                    await client.open_connection("127.0.0.1", 7)

    asyncio.run(main())


def test_streams_above_the_limit_are_refused() -> None:
    async def main() -> None:
        async with spoken(max_streams=2) as (client, _):
            for number in (1, 2, 3):
                await client.send(pack_connect(number, StreamType.TCP, "127.0.0.1", 7))
            assert await closing(client, 3) is CloseReason.THROTTLED

    asyncio.run(main())


def test_the_path_ends_in_a_slash_and_the_origin_is_checked() -> None:
    async def main() -> None:
        async with served() as (_, server):
            with pytest.raises(InvalidStatus, match="404"):
                await connect(server.url + "host:80")
            with pytest.raises(InvalidStatus, match="403"):
                await connect(server.url, additional_headers={"Origin": "http://evil.example"})

    asyncio.run(main())


@given(st.binary(max_size=64))
def test_packets_are_parsed_or_refused(data: bytes) -> None:
    for parse in (unpack, unpack_password):
        with suppress(ValueError):
            parse(data)
    for parse_payload in (unpack_connect, unpack_continue, unpack_info):
        with suppress(ValueError):
            parse_payload(memoryview(data))
    unpack_close(memoryview(data))


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=40)), st.text(max_size=50), st.text(max_size=50))
def test_packets_are_what_was_packed(extensions: dict[int, bytes], user: str, password: str) -> None:
    assert unpack_info(unpack(pack_info(extensions))[2]) == extensions
    if len(user.encode()) < 256:
        assert unpack_password(pack_password(user, password)) == (user, password)
