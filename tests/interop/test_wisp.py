"""Wisp with other implementations: wisp-js (client and server), wisp-python (server) and v86's own client.

Each peer is a process on loopback. Its packets to our server lead into a stack; the servers of others lead to the
machine's loopback.
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

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.engine.abi import TCP_WINDOW
from tcpip_wasm.links import MachineNetwork, WispClient, WispServer, wisp_server
from tcpip_wasm.services import HttpServer
from tests.interop.harness.called import CalledProgram, called_program
from tests.interop.harness.requirements import missing
from tests.kit.core_network import payload
from tests.kit.node import require_package
from tests.kit.stacks import run, until

pytestmark = pytest.mark.guest

WISP_PYTHON = ("wisp-python==0.9.0", "websockets==15.0.1")
"""In newer releases of websockets the server that wisp-python uses lets all but one of the streams that wait for a slow
client wait forever."""

WISP_PYTHON_SERVER = Path(__file__).parent / "harness" / "wisp_python_server.py"
PEERS = Path(__file__).resolve().parents[2] / "js" / "tests" / "peers"
MIB = 1 << 20
STREAMS = 8
SIZE = MIB
PACKET = 16 * 1024
SECONDS = 120.0
EXCHANGE, ECHO, CLOSING, RESETTING, HOLDING, FLOODING = 7, 8, 9, 10, 11, 12
HOST = "10.0.0.1"

KERNEL_BUFFERS = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2]) for name in ("rmem", "wmem"))
"""Bytes that the kernel holds for a connection at most, in both directions' buffers."""


ACKNOWLEDGED = b"all is here"


class Exchange:
    """A server that sends `SIZE` bytes while it receives as many, and then `ACKNOWLEDGED`, since a CLOSE may overtake
    what a Wisp server has not sent yet. It keeps the SHA-256 of what each connection carried.
    """

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.received: list[str] = []
        self.ended = asyncio.Semaphore(0)

    async def wait(self) -> None:
        """Wait until `STREAMS` connections have ended."""
        for _ in range(STREAMS):
            await self.ended.acquire()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = payload(SIZE, len(self.sent) + 1)
        self.sent.append(hashlib.sha256(data + ACKNOWLEDGED).hexdigest())

        async def send() -> None:
            writer.write(data)
            await writer.drain()

        sending = asyncio.create_task(send())
        self.received.append(hashlib.sha256(await reader.readexactly(SIZE)).hexdigest())
        await sending
        writer.write(ACKNOWLEDGED)
        assert await reader.read() == b""
        writer.close()
        self.ended.release()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends each datagram back, reversed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data[::-1], addr)  # type: ignore[attr-defined]


# --- Clients of others, our server --------------------------------------------------------------------------------


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[NetworkStack, WispServer]]:
    """A Wisp server over a stack."""
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
            transport, _ = await stack.create_datagram_endpoint(EchoDatagrams, local_addr=(HOST, ECHO))
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
    """Credit is the bound; a stream beside it goes on."""
    size, may_read, hashes = 64 * MIB, asyncio.Event(), []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        received, left = hashlib.sha256(), size
        while left:
            data = await reader.read(left)
            assert data
            received.update(data)
            left -= len(data)
        hashes.append(received.hexdigest())
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
    size = 64 * MIB
    data = payload(MIB, 5)
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(size // MIB):
            for first in range(0, MIB, 65536):
                writer.write(data[first : first + 65536])
                await writer.drain()
                sent += 65536
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
            while sent != before or not any(session.full for session in server.sessions):
                before = sent
                for _ in range(500):
                    await asyncio.sleep(0)
            assert 0 < sent <= 2 * TCP_WINDOW + KERNEL_BUFFERS
            await client.call("resume")
            ended = await client.call("ended", stream=number)
            expected = hashlib.sha256()
            for _ in range(size // MIB):
                expected.update(data)
            assert ended == {"size": size, "reason": 0x02, "sha256": expected.hexdigest()}

    run(main(), seconds=SECONDS)


@pytest.mark.timeout(600)
def test_a_guest_of_v86_fetches_a_file_by_its_own_client(tmp_path: Path) -> None:
    """v86 ends the guest's TCP itself, and has a Wisp stream for each connection."""
    node = require_package("v86")
    for image in ("/usr/share/seabios/bios.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/lib/ipxe/ipxe.lkrn"):
        if not Path(image).exists():
            missing(f"{image} is not installed")
    file = payload(MIB, 86)
    (tmp_path / "file").write_bytes(file)

    async def main() -> None:
        fetched = asyncio.Event()

        async def done(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
                await send({"type": "http.response.body", "body": b"done"})
                fetched.set()

        async with served() as (stack, server), HttpServer(stack, tmp_path), HttpServer(stack, done, port=8080):
            given = {
                "relay": server.url.replace("ws://", "wisp://"),
                "file": f"http://{HOST}/file",
                "done": f"http://{HOST}:8080/",
                "size": len(file),
                "first": file[:64].hex(),
            }
            async with called_program([node, str(PEERS / "v86_wisp.mjs"), json.dumps(given)]) as guest:
                await fetched.wait()
                assert hashlib.sha256(file).hexdigest() in await guest.call("find")

    run(main(), seconds=300)


# --- Our client, servers of others --------------------------------------------------------------------------------


@asynccontextmanager
async def wisp_js_server(**options: Any) -> AsyncIterator[str]:
    """The URL of a server of wisp-js; `options` are its own."""
    node = require_package("@mercuryworkshop/wisp-js")
    async with called_program([node, str(PEERS / "wisp_server.mjs"), json.dumps(options)]) as server:
        yield f"ws://127.0.0.1:{await server.result()}/"


@asynccontextmanager
async def wisp_python_server(*, allow_loopback: bool) -> AsyncIterator[str]:
    """The URL of a server of wisp-python."""
    option = ["--allow-loopback"] if allow_loopback else []
    async with called_program([wisp_python(), "-P", str(WISP_PYTHON_SERVER), *option]) as server:
        yield f"ws://127.0.0.1:{await server.result()}/"


@cache
def wisp_python() -> str:
    """The interpreter of an environment that has wisp-python, made once; where pip cannot, the test skips."""
    folder = Path(tempfile.mkdtemp(prefix="tcpip-wisp-python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WISP_PYTHON]
    if subprocess.run(command, stdin=subprocess.DEVNULL, timeout=240).returncode:
        missing("pip cannot install wisp-python")
    return python


def server_of(name: str, *, allow_loopback: bool = True) -> AbstractAsyncContextManager[str]:
    """A server of one of the two, which may lead to loopback."""
    if name == "wisp-python":
        return wisp_python_server(allow_loopback=allow_loopback)
    return wisp_js_server(allow_loopback_ips=allow_loopback)


@asynccontextmanager
async def on_loopback(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve on the machine's loopback; the port. At the end all connections have ended."""
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
        async with (
            on_loopback(exchange) as target,
            server_of(name) as url,
            WispClient(url, version=version) as client,
        ):
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
        async with (
            on_loopback(close) as target,
            server_of(name) as url,
            WispClient(url, version=version) as client,
        ):
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
        async with (
            on_loopback(echo) as target,
            server_of(name, allow_loopback=False) as url,
            WispClient(url, version=version) as client,
        ):
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
        target, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
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
def test_back_pressure_by_other_servers(name: str, version: int) -> None:
    """A target that does not read stops our writer, and our reader that pauses stops the target's program."""
    size = 96 * MIB
    block = payload(MIB, 6)
    expected = hashlib.sha256()
    for _ in range(size // MIB):
        expected.update(block)
    flooded = 0
    may_read = asyncio.Event()
    arrived = ""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await may_read.wait()
        received, left = hashlib.sha256(), size
        while left:
            data = await reader.read(min(left, 1 << 18))
            assert data
            received.update(data)
            left -= len(data)
        arrived = received.hexdigest()
        writer.write(b"all")
        assert await reader.read() == b""
        writer.close()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal flooded
        for _ in range(size // MIB):
            for first in range(0, MIB, 65536):
                writer.write(block[first : first + 65536])
                await writer.drain()
                flooded += 65536
        assert await reader.read() == b""
        writer.close()

    async def main() -> None:
        async with (
            on_loopback(hold) as holding,
            on_loopback(flood) as flooding,
            on_loopback(echo) as echoing,
            server_of(name) as url,
            WispClient(url, version=version) as client,
        ):
            reader, writer = await client.open_connection("127.0.0.1", holding)
            transport: Any = writer.transport
            beside_reader, beside_writer = await client.open_connection("127.0.0.1", echoing)
            written = 0

            async def write() -> None:
                nonlocal written
                for _ in range(size // MIB):
                    for first in range(0, MIB, 65536):
                        writer.write(block[first : first + 65536])
                        await writer.drain()
                        written += 65536

            writing = asyncio.create_task(write())
            if name == "wisp-python":  # where a stream that is full stops all
                await until(lambda: transport._credit == 0 and transport._protocol_paused)
            else:
                before = -1
                while before != written:
                    before = written
                    for _ in range(10):
                        beside_writer.write(b"beside")
                        assert await beside_reader.readexactly(6) == b"beside"
            # Twice the credit, the kernel's connection to the target, and what waits for credit here.
            assert 0 < written <= 2 * 128 * 16 * 1024 + KERNEL_BUFFERS + MIB
            may_read.set()
            await writing
            assert await reader.readexactly(3) == b"all"
            assert arrived == expected.hexdigest()
            writer.close()

            reader, writer = await client.open_connection("127.0.0.1", flooding)
            await until(lambda: not client._messages._transport.is_reading())  # type: ignore[union-attr]
            received, left = hashlib.sha256(), size
            assert flooded < size
            while left:
                data = await reader.read(1 << 18)
                assert data
                received.update(data)
                left -= len(data)
            assert received.hexdigest() == expected.hexdigest()
            writer.close()

    run(main(), seconds=SECONDS)
