"""Wisp: client and server of ours over a stack, and what the machine's network refuses."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tcpip_wasm.engine.abi import TCP_WINDOW
from tcpip_wasm.links import MachineNetwork, WispClient, WispServer
from tcpip_wasm.links.wisp_wire import (
    CloseReason,
    Extension,
    pack_info,
    pack_password,
    unpack,
    unpack_info,
)
from tests.kit.core_network import payload
from tests.kit.stacks import until
from tests.kit.wisp import BOUND, closing, received, served

MOST_WAITING = 2 * TCP_WINDOW + sum(
    int(Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2]) for name in ("rmem", "wmem")
)
"""Bytes that a sender can write at most while a reader pauses: what both ends of the stack's connection hold, and the
kernel's buffers for the WebSocket."""


@pytest.mark.parametrize("version", [1, 2])
def test_streams_in_parallel_carry_data_both_ways(version: int) -> None:
    async def main() -> None:
        async with served() as (_, server), WispClient(server.url, version=version) as client:

            async def exchange(number: int) -> None:
                data = payload(400_000 + number, number)
                reader, writer = await client.open_connection("127.0.0.1", 7)
                arrived = hashlib.sha256()

                async def send() -> None:
                    for first in range(0, len(data), 50_000):
                        writer.write(data[first : first + 50_000])
                        await writer.drain()

                sending = asyncio.create_task(send())
                left = len(data)
                while left:
                    chunk = await reader.read(65536)
                    assert chunk
                    arrived.update(chunk)
                    left -= len(chunk)
                await sending
                writer.close()
                await writer.wait_closed()
                assert arrived.digest() == hashlib.sha256(data).digest()

            async with asyncio.timeout(BOUND):
                await asyncio.gather(*(exchange(number) for number in range(8)))
            await until(lambda: not any(session._streams for session in server.sessions))

    asyncio.run(main())


def test_datagrams_pass() -> None:
    async def main() -> None:
        class Received(asyncio.DatagramProtocol):
            def __init__(self) -> None:
                self.datagrams: list[tuple[bytes, object]] = []

            def datagram_received(self, data: bytes, addr: object) -> None:
                self.datagrams.append((data, addr))

        async with served() as (_, server), WispClient(server.url) as client:
            transport, received = await client.create_datagram_endpoint(Received, remote_addr=("127.0.0.1", 7))
            for number in range(5):
                transport.sendto(b"datagram %d" % number)
            await until(lambda: len(received.datagrams) == 5)
            assert received.datagrams[3] == (b"3 margatad", ("127.0.0.1", 7))
            transport.close()

    asyncio.run(main())


def test_refusals_have_their_reason() -> None:
    async def main() -> None:
        async with served() as (_, server), WispClient(server.url) as client:
            with pytest.raises(ConnectionRefusedError, match="0x44"):
                await client.open_connection("127.0.0.1", 8)
            with pytest.raises(OSError, match="0x42"):
                await client.open_connection("203.0.113.1", 80)
            with pytest.raises(ValueError, match="port"):
                await client.open_connection("127.0.0.1", 0)
            reader, writer = await client.open_connection("127.0.0.1", 7)
            writer.write(b"still works")
            assert await asyncio.wait_for(reader.readexactly(11), BOUND) == b"still works"
            writer.close()

    asyncio.run(main())


def test_a_reader_that_pauses_bounds_what_waits() -> None:
    """The client stops reading its WebSocket, the server its connection, and the stack's sender its program."""

    async def main() -> None:
        sent = 0

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            try:
                while True:
                    writer.write(bytes(65536))
                    await writer.drain()
                    sent += 65536
            except ConnectionError:
                pass
            finally:
                writer.close()

        async with (
            served() as (stack, server),
            await stack.start_server(flood, "127.0.0.1", 9),
            WispClient(server.url) as client,
        ):
            reader, writer = await client.open_connection("127.0.0.1", 9)
            before = -1
            while before != sent:
                before = sent
                for _ in range(500):
                    await asyncio.sleep(0)
            assert 0 < sent < MOST_WAITING
            count, wanted = 0, sent + 5_000_000
            while count < wanted:
                count += len(await asyncio.wait_for(reader.read(1 << 20), BOUND))
            writer.transport.abort()

    asyncio.run(main())


def test_a_password_is_needed_where_the_server_has_some() -> None:
    async def main() -> None:
        async with served(passwords={"ann": "secret"}) as (_, server):
            async with WispClient(server.url, user="ann", password="secret") as client:
                _, writer = await client.open_connection("127.0.0.1", 7)
                writer.close()
            for wrong in ({"user": "ann", "password": "guess"}, {"user": "bob"}, {}, {"version": 1}):
                with pytest.raises(OSError):  # noqa: PT011 - refused, or closed before it said why
                    async with WispClient(server.url, **wrong):
                        pass

    asyncio.run(main())


def test_more_than_the_limit_of_a_reader_is_read_exactly() -> None:
    """The reader resumes the stream and waits then: what was kept for it must come after that."""

    async def main() -> None:
        data = payload(1_000_000, 9)

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await reader.readexactly(1)  # an end would deliver what is kept
            writer.close()

        async with (
            served() as (stack, server),
            await stack.start_server(send, "127.0.0.1", 9),
            WispClient(server.url) as client,
        ):
            for _ in range(3):
                reader, writer = await client.open_connection("127.0.0.1", 9)
                await until(lambda reader=reader: reader._transport.unread > 0)  # type: ignore[misc]
                async with asyncio.timeout(BOUND):
                    arrived = await reader.readexactly(len(data))
                assert hashlib.sha256(arrived).digest() == hashlib.sha256(data).digest()
                writer.write(b"x")
                assert await reader.read() == b""
                writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        ({}, CloseReason.NO_CREDENTIALS),
        ({Extension.PASSWORD: pack_password("ann", "guess")}, CloseReason.WRONG_PASSWORD),
        ({Extension.PASSWORD: pack_password("bob", "")}, CloseReason.WRONG_PASSWORD),
    ],
    ids=["none", "wrong", "user"],
)
def test_a_client_without_the_password_is_given_the_reason(extensions: dict[int, bytes], reason: CloseReason) -> None:
    async def main() -> None:
        async with (
            served(passwords={"ann": "secret"}) as (_, server),
            connect(server.url, subprotocols=[Subprotocol("wisp-v2")]) as client,
        ):
            assert Extension.PASSWORD in unpack_info(unpack(await received(client))[2])
            await client.send(pack_info(extensions))
            assert await closing(client, 0) is reason
            with pytest.raises(ConnectionClosed):
                await received(client)

    asyncio.run(main())


def test_the_client_has_the_message_of_the_day() -> None:
    async def main() -> None:
        async with served(message_of_the_day="Grüße") as (_, server):
            for version, message in ((2, "Grüße"), (1, "")):
                async with WispClient(server.url, version=version) as client:
                    assert client.message_of_the_day == message

    asyncio.run(main())


def test_both_ends_are_closed_when_the_contexts_are_left() -> None:
    """Nothing is left to the loop, which may end next: `-W error` reports sockets that are not closed."""

    async def main() -> None:
        async with served() as (_, server):
            async with WispClient(server.url) as client:
                transport = client._messages._transport
                assert transport is not None
            assert transport.get_extra_info("socket").fileno() == -1
            async with connect(server.url):
                [session] = server.sessions
                accepted = session.messages._transport
                assert accepted is not None
                await server.aclose()
                assert accepted.get_extra_info("socket").fileno() == -1

    asyncio.run(main())


def test_a_server_that_ends_ends_the_streams() -> None:
    async def main() -> None:
        async with served() as (_, server), WispClient(server.url) as client:
            reader, _ = await client.open_connection("127.0.0.1", 7)
            await server.aclose()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), BOUND)
            with pytest.raises(OSError, match="gone"):
                await client.open_connection("127.0.0.1", 7)

    asyncio.run(main())


# --- The machine's network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "fd00:ec2::254",
    ],
)  # fmt: skip
def test_addresses_that_are_not_global_are_blocked(address: str) -> None:
    assert not MachineNetwork().is_allowed(address)


def test_global_addresses_and_those_allowed_are_reached() -> None:
    assert MachineNetwork().is_allowed("1.1.1.1")
    assert MachineNetwork().is_allowed("2606:4700::1111")
    network = MachineNetwork(allow=["10.1.0.0/16", "::1/128"])
    assert network.is_allowed("10.1.2.3")
    assert network.is_allowed("::1")
    assert network.is_allowed("::ffff:10.1.2.3")
    assert not network.is_allowed("10.2.0.1")
    assert not network.is_allowed("127.0.0.1")
    with pytest.raises(ValueError, match="host bits"):
        MachineNetwork(allow=["10.1.2.3/16"])


def test_a_wisp_server_on_the_machine_reaches_no_loopback_unless_allowed() -> None:
    async def main() -> None:
        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        async with await asyncio.start_server(hello, "127.0.0.1", 0) as machine:
            port = machine.sockets[0].getsockname()[1]
            async with WispServer(MachineNetwork()) as server, WispClient(server.url) as client:
                for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1", "2130706433", "0x7f.1"):
                    with pytest.raises(PermissionError, match="0x48"):
                        await client.open_connection(host, port)
            async with WispServer(MachineNetwork(allow=["127.0.0.0/8"])) as server, WispClient(server.url) as client:
                reader, writer = await client.open_connection("127.0.0.1", port)
                assert await asyncio.wait_for(reader.read(), BOUND) == b"hello"
                writer.close()

    asyncio.run(main())
