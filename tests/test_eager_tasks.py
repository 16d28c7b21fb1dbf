"""Connections, servers, datagrams and names with eager tasks (Python 3.12 and later)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tcpip_wasm import UdpDatagram
from tests.kit import stacks as stack_kit
from tests.kit.core_network import payload
from tests.kit.stacks import Recorder, pair, recorders, run
from tests.kit.tls import client_context, server_context

EAGER: Any = getattr(asyncio, "eager_task_factory", None)

if EAGER is None:
    pytest.skip("asyncio has eager tasks since Python 3.12", allow_module_level=True)

CONTENT = payload(300_000)


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(EAGER)
    return loop


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` create loops with eager tasks."""
    monkeypatch.setattr(stack_kit, "loop_factory", eager_loop)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_many_connections_of_a_polyfill_at_once(tls: bool) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask(host: str, number: int) -> None:
        content = CONTENT[number:]
        options: dict[str, Any] = {"ssl": client_context()} if tls else {}
        reader, writer = await asyncio.open_connection(host, 80, **options)
        sending = asyncio.create_task(_send(writer, content))
        assert await reader.readexactly(len(content)) == content
        await sending
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await asyncio.start_server(echo, two.host, 80, ssl=server_context() if tls else None)
            with two.a.polyfill():
                async with asyncio.TaskGroup() as group:
                    for number in range(5):
                        group.create_task(ask(two.host, number))
            server.close()
            await server.wait_closed()

    run(main())


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    await writer.drain()


def test_streams_datagrams_names_and_pings() -> None:
    async def main() -> None:
        async with pair() as two:
            two.a.hosts["other"] = two.host
            listener = await two.b.listen_tcp(80, two.host)
            connecting = asyncio.create_task(two.a.connect_tcp("other", 80))
            accepting = asyncio.create_task(listener.accept())
            async with await connecting as client, await accepting as server:
                sending = asyncio.create_task(stack_kit.send_all(client, CONTENT))
                assert await stack_kit.read_all(server) == CONTENT
                await sending
            await listener.close()
            async with await two.a.open_udp() as near, await two.b.open_udp(two.host, 53) as far:
                receiving = asyncio.create_task(far.receive())
                await near.send(UdpDatagram(two.host, 53, b"question"))
                assert (await receiving).data == b"question"
            async with await two.a.create_ping_session("other") as session:
                assert (await session.ping(b"payload")).payload == b"payload"

    run(main())


def test_a_cancelled_attempt_and_a_reset() -> None:
    async def main() -> None:
        async with pair() as two:
            attempt = asyncio.create_task(two.a.create_connection(lambda: Recorder(), two.host, 81))
            attempt.cancel()
            with pytest.raises((asyncio.CancelledError, ConnectionRefusedError)):
                await attempt
            client, server = await recorders(two)
            client.transport.abort()
            assert isinstance(await server.lost, ConnectionResetError)
            assert await client.lost is None

    run(main())
