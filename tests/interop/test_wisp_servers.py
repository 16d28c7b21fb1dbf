"""Our Wisp client with servers of others: wisp-js and wisp-python.

Each server is a process on loopback, and its streams lead to the machine's loopback.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import json
import shutil
import socket
import subprocess
import tempfile
import venv
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.links import WispClient
from tests.kit.core_network import payload
from tests.kit.node import require_package
from tests.kit.stacks import run, until

from .harness.called import called_program
from .harness.requirements import missing
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

WISP_PYTHON = ("wisp-python==0.9.0", "websockets==15.0.1")
"""With newer releases of websockets, of the streams that wait for a slow client all but one wait for ever."""

WISP_PYTHON_SERVER = Path(__file__).parent / "harness" / "wisp_python_server.py"


@asynccontextmanager
async def wisp_js_server(**options: Any) -> AsyncIterator[str]:
    """Run a server of wisp-js with these of its options, and yield its URL."""
    node = require_package("@mercuryworkshop/wisp-js")
    async with called_program([node, str(PEERS / "wisp_server.mjs"), json.dumps(options)]) as server:
        yield f"ws://127.0.0.1:{await server.result()}/"


@asynccontextmanager
async def wisp_python_server(*, allow_loopback: bool) -> AsyncIterator[str]:
    """Run a server of wisp-python, and yield its URL."""
    option = ["--allow-loopback"] if allow_loopback else []
    async with called_program([wisp_python(), "-P", str(WISP_PYTHON_SERVER), *option]) as server:
        yield f"ws://127.0.0.1:{await server.result()}/"


@cache
def wisp_python() -> str:
    """Return the interpreter of an environment with wisp-python, which is made once. Skip if pip cannot install it."""
    folder = Path(tempfile.mkdtemp(prefix="tcpip-wisp-python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WISP_PYTHON]
    if subprocess.run(command, stdin=subprocess.DEVNULL, timeout=240).returncode:
        missing("pip cannot install wisp-python")
    return python


def server_of(name: str, *, allow_loopback: bool = True) -> AbstractAsyncContextManager[str]:
    """Run a server of either implementation; `allow_loopback`: whether its streams may lead to loopback."""
    if name == "wisp-python":
        return wisp_python_server(allow_loopback=allow_loopback)
    return wisp_js_server(allow_loopback_ips=allow_loopback)


@asynccontextmanager
async def on_loopback(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve on the machine's loopback, and yield the port. When the context is left, all connections have ended."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*connections)


@asynccontextmanager
async def connected(
    name: str,
    version: int,
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    allow_loopback: bool = True,
) -> AsyncIterator[tuple[WispClient, int]]:
    """Serve on the machine's loopback, and yield our client of a server of another implementation, and the port."""
    async with (
        on_loopback(handler) as port,
        server_of(name, allow_loopback=allow_loopback) as url,
        WispClient(url, version=version) as client,
    ):
        yield client, port


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    """Install wisp-python before a test's time begins."""
    if "name" in request.fixturenames and request.getfixturevalue("name") == "wisp-python":
        wisp_python()


each_server = pytest.mark.parametrize(
    ("name", "version"),
    [
        ("wisp-js", 1),
        ("wisp-js", 2),
        ("wisp-python", 1),
        ("wisp-python", 2),  # it knows version 1 alone, which the client sees in the handshake
    ],
)


@each_server
def test_streams_by_other_servers_carry_data_both_ways(name: str, version: int) -> None:
    async def main() -> None:
        exchange = Exchange()
        async with connected(name, version, exchange) as (client, target):
            assert client.credit == 128

            async def stream(number: int) -> tuple[str, str]:
                data = payload(SIZE, 100 + number)
                reader, writer = await client.open_connection("127.0.0.1", target)

                async def send() -> None:
                    for first in range(0, SIZE, 50_000):
                        writer.write(data[first : first + 50_000])
                        await writer.drain()

                _, received = await asyncio.gather(send(), reader.readexactly(SIZE + len(ACKNOWLEDGED)))
                writer.close()
                await writer.wait_closed()
                return hashlib.sha256(data).hexdigest(), hashlib.sha256(received).hexdigest()

            digests = await asyncio.gather(*map(stream, range(STREAMS)))
            await exchange.wait()
            assert sorted(sent for sent, _ in digests) == sorted(exchange.received)
            assert sorted(received for _, received in digests) == sorted(exchange.sent)

    run(main(), seconds=SECONDS)


@each_server
def test_ends_by_other_servers(name: str, version: int) -> None:
    """What a target sends before it closes arrives; one that refuses has the peer's reason."""
    data = payload(20_000, 4)

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await reader.readexactly(1)
        writer.close()

    async def main() -> None:
        async with connected(name, version, close) as (client, target):
            reader, writer = await client.open_connection("127.0.0.1", target)
            assert await reader.readexactly(len(data)) == data
            writer.write(b"x")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
            # The stream seems to be open: only a confirmation, which neither server has, would show that it is not.
            reader, writer = await client.open_connection("127.0.0.1", port)
            with pytest.raises(OSError, match="0x03" if name == "wisp-js" else "0x42"):
                await reader.read()
            writer.close()

    run(main(), seconds=SECONDS)


@each_server
def test_other_servers_block_loopback(name: str, version: int) -> None:
    async def main() -> None:
        async with connected(name, version, echo, allow_loopback=False) as (client, target):
            reader, writer = await client.open_connection("127.0.0.1", target)
            with pytest.raises(OSError, match="0x48" if name == "wisp-js" else "0x42"):
                await reader.read()
            writer.close()

    run(main(), seconds=SECONDS)


@each_server
def test_datagrams_by_other_servers_pass(name: str, version: int) -> None:
    class Received(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.datagrams.put_nowait(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        target, _ = await loop.create_datagram_endpoint(Reverser, local_addr=("127.0.0.1", 0))
        async with server_of(name) as url, WispClient(url, version=version) as client:
            where = target.get_extra_info("sockname")
            transport, received = await client.create_datagram_endpoint(Received, remote_addr=where)
            sent = [payload(1400, number) for number in range(5)]
            for datagram in sent:
                transport.sendto(datagram)
            assert [await received.datagrams.get() for _ in sent] == [datagram[::-1] for datagram in sent]
            transport.close()
        target.close()

    run(main(), seconds=SECONDS)


def test_the_message_of_the_day_of_wisp_js() -> None:
    async def main() -> None:
        async with wisp_js_server(wisp_motd="Grüße") as url, WispClient(url) as client:
            assert client.message_of_the_day == "Grüße"

    run(main(), seconds=SECONDS)


@each_server
def test_a_target_that_does_not_read_holds_back_our_writer(name: str, version: int) -> None:
    count = 96
    may_read = asyncio.Event()
    arrived: list[str] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        arrived.append(await read_digest(reader, count * MIB))
        writer.write(b"all")
        assert await reader.read() == b""

    async def main() -> None:
        async with on_loopback(echo) as echoing, connected(name, version, hold) as (client, holding):
            reader, writer = await client.open_connection("127.0.0.1", holding)
            transport: Any = writer.transport
            beside_reader, beside_writer = await client.open_connection("127.0.0.1", echoing)
            written = [0]
            writing = asyncio.create_task(write_blocks(writer, count, written))
            if name == "wisp-python":  # where a stream that is full stops all
                await until(lambda: transport._credit == 0 and transport._protocol_paused)
            else:
                before = -1
                while before != written[0]:
                    before = written[0]
                    for _ in range(10):
                        beside_writer.write(b"beside")
                        assert await beside_reader.readexactly(6) == b"beside"
            # Twice the credit, the kernel's connection to the target, and what waits for credit here.
            assert 0 < written[0] <= 2 * 128 * 16 * 1024 + KERNEL_BUFFERS + MIB
            may_read.set()
            sent = await writing
            assert await reader.readexactly(3) == b"all"
            assert arrived == [sent]
            writer.close()

    run(main(), seconds=SECONDS)


@each_server
def test_a_reader_of_ours_that_pauses_holds_back_the_target(name: str, version: int) -> None:
    count, flooded = 96, [0]

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await write_blocks(writer, count, flooded)
        assert await reader.read() == b""

    async def main() -> None:
        async with connected(name, version, flood) as (client, flooding):
            reader, writer = await client.open_connection("127.0.0.1", flooding)
            await until(lambda: not client._messages._transport.is_reading())  # type: ignore[union-attr]
            assert flooded[0] < count * MIB
            assert await read_digest(reader, count * MIB) == hashlib.sha256(BLOCK * count).hexdigest()
            writer.close()

    run(main(), seconds=SECONDS)
