"""Our Wisp server with wisp-js as its client; `test_v86` has another client.

The client is a process that connects over loopback; its streams lead into a stack.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.engine.abi import TCP_WINDOW
from tcpip_wasm.links import MachineNetwork, WispServer, wisp_server
from tests.kit.core_network import payload
from tests.kit.node import require_package
from tests.kit.stacks import iterations, run

from .harness.called import CalledProgram, called_program
from .harness.reverser import Reverser
from .wisp_peers import (
    ACKNOWLEDGED,
    BLOCK,
    KERNEL_BUFFERS,
    MIB,
    PEERS,
    SECONDS,
    SIZE,
    STREAMS,
    Exchange,
    echo,
    read_digest,
    write_blocks,
)

pytestmark = pytest.mark.guest

PACKET = 16 * 1024
HOST = "10.0.0.1"
EXCHANGE, ECHO, CLOSING, RESETTING, HOLDING, FLOODING = 7, 8, 9, 10, 11, 12


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[NetworkStack, WispServer]]:
    """Yield a stack with an address, and a Wisp server whose streams lead into it."""
    async with await create_stack(seed=1) as stack:
        await stack.create_tun_interface(ip=f"{HOST}/24")  # nothing is at its other end
        async with WispServer(stack, **options) as server:
            yield stack, server


@asynccontextmanager
async def wisp_js_client() -> AsyncIterator[CalledProgram]:
    node = require_package("@mercuryworkshop/wisp-js")
    async with called_program([node, str(PEERS / "wisp_client.mjs")]) as client:
        yield client


both_versions = pytest.mark.parametrize("version", [1, 2])


@both_versions
def test_streams_of_wisp_js_carry_data_both_ways(version: int) -> None:
    async def main() -> None:
        exchange = Exchange()
        async with (
            served() as (stack, server),
            await stack.start_server(exchange, HOST, EXCHANGE),
            wisp_js_client() as client,
        ):
            shaken = await client.call("connect", url=server.url, version=version)
            assert shaken["version"] == version
            assert shaken["udp"]
            assert shaken["credit"] == wisp_server.CREDIT
            numbers = [await client.call("open", host=HOST, port=EXCHANGE) for _ in range(STREAMS)]
            sent = [await client.call("send", stream=number, size=SIZE, packet=PACKET) for number in numbers]
            received = [
                await client.call("received", stream=number, size=SIZE + len(ACKNOWLEDGED)) for number in numbers
            ]
            for number in numbers:
                await client.call("close", stream=number)
            await exchange.wait()
            assert {each["reason"] for each in received} == {None}
            assert sorted(each["sha256"] for each in received) == sorted(exchange.sent)
            assert sorted(sent) == sorted(exchange.received)
            assert len(set(exchange.sent + sent)) == 2 * STREAMS

    run(main(), seconds=SECONDS)


@both_versions
def test_wisp_js_is_given_the_reason_of_an_end(version: int) -> None:
    data = payload(300_000, 3)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async def main() -> None:
        async with (
            served(max_streams=2) as (stack, server),
            await stack.start_server(close, HOST, CLOSING),
            await stack.start_server(reset, HOST, RESETTING),
            await stack.start_server(echo, HOST, ECHO),
            wisp_js_client() as client,
        ):
            await client.call("connect", url=server.url, version=version)

            async def end(host: str, port: int) -> dict[str, Any]:
                number = await client.call("open", host=host, port=port)
                if port == RESETTING:
                    await client.call("sendText", stream=number, text="x")
                ended: dict[str, Any] = await client.call("ended", stream=number)
                return ended

            closed = await end(HOST, CLOSING)
            assert closed == {"size": len(data), "reason": 0x02, "sha256": hashlib.sha256(data).hexdigest()}
            for host, port, reason in [
                (HOST, RESETTING, 0x03),
                (HOST, 0, 0x41),
                ("x" * 300, 80, 0x41),
                ("203.0.113.1", 80, 0x42),
                ("no.such.name.invalid", 80, 0x42),
                ("10.0.0.77", 80, 0x43),
                (HOST, 99, 0x44),
            ]:
                with pytest.MonkeyPatch.context() as patch:
                    if reason == 0x43:
                        patch.setattr(wisp_server, "_CONNECT_SECONDS", 0.1)
                    ended = await end(host, port)
                assert (ended["reason"], ended["size"]) == (reason, 0), (host, port)
            for _ in range(2):
                await client.call("open", host=HOST, port=ECHO)
            assert (await end(HOST, ECHO))["reason"] == 0x49

    run(main(), seconds=SECONDS)


def test_blocked_destinations_have_their_reason_in_wisp_js() -> None:
    async def main() -> None:
        async with WispServer(MachineNetwork()) as server, wisp_js_client() as client:
            await client.call("connect", url=server.url, version=2)
            for kind in ("tcp", "udp"):
                number = await client.call("open", host="127.0.0.1", port=80, type=kind)
                assert (await client.call("ended", stream=number))["reason"] == 0x48

    run(main(), seconds=SECONDS)


@both_versions
def test_datagrams_of_wisp_js_pass(version: int) -> None:
    async def main() -> None:
        async with served() as (stack, server), wisp_js_client() as client:
            transport, _ = await stack.create_datagram_endpoint(Reverser, local_addr=(HOST, ECHO))
            await client.call("connect", url=server.url, version=version)
            number = await client.call("open", host=HOST, port=ECHO, type="udp")
            texts = [f"datagram {each} " + "x" * 1400 for each in range(5)]
            for text in texts:
                await client.call("sendText", stream=number, text=text)
            arrived = await client.call("datagrams", stream=number, count=len(texts))
            assert [bytes.fromhex(each) for each in arrived] == [text[::-1].encode() for text in texts]
            await client.call("close", stream=number)
            transport.close()

    run(main(), seconds=SECONDS)


def test_passwords_and_the_message_of_the_day_with_wisp_js() -> None:
    async def main() -> None:
        async with served(passwords={"ann": "secret"}, message_of_the_day="Grüße") as (stack, server):
            async with await stack.start_server(echo, HOST, ECHO), wisp_js_client() as client:
                shaken = await client.call("connect", url=server.url, version=2, password=["ann", "secret"])
                assert (shaken["version"], shaken["motd"], shaken["extensions"]) == (2, "Grüße", [1, 2, 4])
                number = await client.call("open", host=HOST, port=ECHO)
                await client.call("sendText", stream=number, text="in")
                assert (await client.call("received", stream=number, size=2))["size"] == 2
            refused: list[dict[str, Any]] = [
                {"password": ["ann", "guess"]},
                {"password": ["bob", "secret"]},
                {},
                {"version": 1},
            ]
            for wrong in refused:
                async with wisp_js_client() as client:
                    assert await client.call("connect", **{"url": server.url, "version": 2, **wrong}) == {
                        "closed": True
                    }

    run(main(), seconds=SECONDS)


@both_versions
def test_a_server_that_does_not_read_holds_wisp_js_back(version: int) -> None:
    """What the server takes is bounded by credit, and a stream beside it goes on."""
    size, may_read, hashes = 64 * MIB, asyncio.Event(), []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        hashes.append(await read_digest(reader, size))
        writer.write(b"all")
        writer.close()

    async def main() -> None:
        async with (
            served() as (stack, server),
            await stack.start_server(hold, HOST, HOLDING),
            await stack.start_server(echo, HOST, ECHO),
            wisp_js_client() as client,
        ):
            await client.call("connect", url=server.url, version=version)
            held = await client.call("open", host=HOST, port=HOLDING)
            beside = await client.call("open", host=HOST, port=ECHO)
            sent = await client.call("send", stream=held, size=size, packet=PACKET)
            before, waiting = -1, await client.call("waiting", stream=held)
            echoed = 0
            while waiting != before:
                for _ in range(4):  # each brings what the server has granted by then
                    await client.call("sendText", stream=beside, text="beside")
                    echoed += 6
                    assert (await client.call("received", stream=beside, size=echoed))["size"] == echoed
                before, waiting = waiting, await client.call("waiting", stream=held)
            # Twice the credit, and what a stack's connection holds at both ends and buffers before it.
            bound = 2 * wisp_server.CREDIT * PACKET + 3 * TCP_WINDOW
            assert 0 < size - waiting * PACKET <= bound
            may_read.set()
            ended = await client.call("ended", stream=held)
            assert ended == {"size": 3, "reason": 0x02, "sha256": hashlib.sha256(b"all").hexdigest()}
            assert hashes == [sent]

    run(main(), seconds=SECONDS)


@both_versions
def test_a_paused_wisp_js_holds_back_the_sender(version: int) -> None:
    count, sent = 64, [0]

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await write_blocks(writer, count, sent)
        writer.close()

    async def main() -> None:
        async with (
            served() as (stack, server),
            await stack.start_server(flood, HOST, FLOODING),
            wisp_js_client() as client,
        ):
            await client.call("connect", url=server.url, version=version)
            await client.call("pause")
            number = await client.call("open", host=HOST, port=FLOODING)
            before = -1
            while sent[0] != before or not any(session.full for session in server.sessions):
                before = sent[0]
                await iterations(500)
            assert 0 < sent[0] <= 2 * TCP_WINDOW + KERNEL_BUFFERS
            await client.call("resume")
            ended = await client.call("ended", stream=number)
            digest = hashlib.sha256(BLOCK * count).hexdigest()
            assert ended == {"size": count * MIB, "reason": 0x02, "sha256": digest}

    run(main(), seconds=SECONDS)
