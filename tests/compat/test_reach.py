"""Which polyfill reaches which library: docs/reference/libraries.md, row by row.

`tests/compat/libraries.toml` names a test for each row of the page; those of libraries that are tested nowhere else are
here. They run in strict blocks, in which whatever would reach the machine's network fails.
"""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import anyio
import asyncssh
import gevent.socket
import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest
import trio
import urllib3
import websockets.sync.client

from tcpip_wasm import MachineNetworkError, NetworkStack, create_stack
from tcpip_wasm.compat import MachineNetworkWarning, StackThread, polyfill_socket
from tests.kit import stacks as stack_kit
from tests.kit.blocking_sockets import BOUND
from tests.kit.polling import poll
from tests.kit.stacks import pair, run
from tests.programs.ports import WS
from tests.programs.servers import application, serve_websockets

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "libraries.md"
TABLE = Path(__file__).with_name("libraries.toml")
LIBRARIES: list[dict[str, str]] = tomllib.loads(TABLE.read_text("utf-8"))["library"]
MQTT = 1883
HTTP = 80


# --- The page -----------------------------------------------------------------------------------------------------


def row(library: dict[str, str]) -> str:
    """Return the row of a library in the page's table."""
    cells = [library["name"], library["polyfill"], library["polyfill_socket"], library.get("note", "")]
    return f"| {' | '.join(cells)} |"


def test_the_page_lists_the_tested_libraries() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| (?!library |---)", line)]
    assert rows == [row(library) for library in LIBRARIES]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library["name"])
def test_each_row_has_a_test(library: dict[str, str]) -> None:
    for test in library["test"].split():
        file, name = test.split("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


# --- Servers ------------------------------------------------------------------------------------------------------


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nstack")
    writer.close()


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


def packet(kind: int, body: bytes) -> bytes:
    """Return a packet of MQTT 3.1.1 of fewer than 128 bytes."""
    return bytes((kind, len(body))) + body


async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client of MQTT 3.1.1, which receives what it publishes at QoS 0."""
    try:
        while True:
            kind, length = await reader.readexactly(2)
            body = await reader.readexactly(length)
            if kind == 0x10:  # CONNECT
                writer.write(packet(0x20, b"\0\0"))
            elif kind == 0x82:  # SUBSCRIBE
                writer.write(packet(0x90, body[:2] + b"\0"))
            elif kind == 0x30:  # PUBLISH
                writer.write(packet(kind, body))
            elif kind == 0xE0:  # DISCONNECT
                break
    except asyncio.IncompleteReadError:
        pass
    writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[NetworkStack]:
    """Run the servers on one host, and yield the other."""
    async with pair() as two:
        for serve, port in ((answer, HTTP), (upper, 7), (broker, MQTT)):
            await two.b.start_server(serve, two.host, port)
        with two.b.polyfill():
            server = await serve_websockets(two.host, WS, None)
        yield two.a
        server.close()
        await server.wait_closed()


HOST = "10.0.0.2"


def blocking(program: Callable[[], object]) -> None:
    """Run a blocking program on a host whose peer has the servers."""
    loop_factory = stack_kit.loop_factory
    with StackThread(served, loop_factory=loop_factory) as thread, polyfill_socket(thread, strict=True):
        program()


def alone(program: Callable[[NetworkStack], Coroutine[Any, Any, None]]) -> None:
    """Run an asyncio program on a host of its own."""

    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(strict=True):
                await program(stack)

    run(main())


# --- stack.polyfill -----------------------------------------------------------------------------------------------


def test_hypercorn() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        config = hypercorn.config.Config()
        config.bind = ["10.0.0.2:8000"]
        config.errorlog = None
        async with pair() as two:
            with two.b.polyfill(strict=True):
                serving = asyncio.create_task(
                    hypercorn.asyncio.serve(application(), config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
                )

                async def attempt() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
                    assert not serving.done(), serving.result()
                    with suppress(ConnectionRefusedError):
                        return await two.a.open_connection(two.host, 8000)
                    return None

                reader, writer = await poll(attempt)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).endswith(b"hello 10.0.0.1")
                writer.close()
                await writer.wait_closed()
                stop.set()
                await serving

    run(main())


class _Forwards(asyncssh.SSHServer):
    def connection_requested(self, *_: Any) -> bool:
        """Allow every connection."""
        return True


def test_asyncssh_forwards(tmp_path: Path) -> None:
    """`forward_local_port` and `forward_socks` bind sockets of their own."""
    key = tmp_path / "key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    public = asyncssh.read_private_key(key).export_public_key().decode()

    async def ask(port: int, before: bytes, answers: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if before:
            writer.write(before[:3])
            assert await reader.readexactly(2) == b"\5\0"
            writer.write(before[3:])
            await reader.readexactly(answers)
        writer.write(b"question\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async def program(_: NetworkStack) -> None:
        target = await asyncio.start_server(upper, "127.0.0.1", 7)
        server = await asyncssh.listen(
            "127.0.0.1",
            22,
            server_host_keys=[str(key)],
            authorized_client_keys=asyncssh.import_authorized_keys(public),
            server_factory=_Forwards,
            config=None,
        )
        known = asyncssh.import_known_hosts(f"127.0.0.1 {public}")
        async with asyncssh.connect(
            "127.0.0.1", known_hosts=known, client_keys=[str(key)], username="root", config=None
        ) as connection:
            for host in ("127.0.0.1", ""):
                listener = await connection.forward_local_port(host, 0, "127.0.0.1", 7)
                assert await ask(listener.get_port(), b"", 0) == b"QUESTION\n"
                listener.close()
                await listener.wait_closed()
            socks = await connection.forward_socks("127.0.0.1", 1080)
            request = b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1\0\7"  # RFC 1928: no authentication; connect to 127.0.0.1:7
            assert await ask(1080, request, 10) == b"QUESTION\n"
            socks.close()
            await socks.wait_closed()
        for each in (server, target):
            each.close()
            await each.wait_closed()

    alone(program)


def test_anyio() -> None:
    """Its listeners bind sockets and accept by `loop.sock_accept`."""

    async def program(_: NetworkStack) -> None:
        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send((await stream.receive()).upper())

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"question")
                assert await stream.receive() == b"QUESTION"
            group.cancel_scope.cancel()
        await listener.aclose()

    alone(program)


# --- polyfill_socket ----------------------------------------------------------------------------------------------


def test_urllib3() -> None:
    def program() -> None:
        with urllib3.PoolManager(timeout=BOUND) as pool:
            assert pool.request("GET", f"http://{HOST}/").data == b"stack"

    blocking(program)


def test_httpx_without_asyncio() -> None:
    def program() -> None:
        with httpx.Client(trust_env=False, timeout=BOUND) as client:
            assert client.get(f"http://{HOST}/").text == "stack"

    blocking(program)


def test_websockets_without_asyncio() -> None:
    def program() -> None:
        with websockets.sync.client.connect(f"ws://{HOST}:{WS}", proxy=None) as client:
            client.send("through a thread")
            assert client.recv(BOUND) == "through a thread"

    blocking(program)


async def mqtt(host: str) -> None:
    """Publish something, and receive it."""
    async with aiomqtt.Client(host, MQTT, timeout=BOUND) as client:
        await client.subscribe("topic")
        await client.publish("topic", b"news")
        async for message in client.messages:
            assert message.payload == b"news"
            break


def test_aiomqtt() -> None:
    """paho connects in a thread of its own; it uses the stack if the loop is not the stack's."""

    async def program(stack: NetworkStack) -> None:
        with pytest.raises(aiomqtt.MqttError, match=r"strict=True"):
            await mqtt("127.0.0.1")

    alone(program)

    async def warned() -> None:
        async with await create_stack() as stack:
            warning = pytest.warns(MachineNetworkWarning, match="polyfill_socket")
            with stack.polyfill(), warning, pytest.raises(aiomqtt.MqttError):
                await mqtt("127.0.0.1")

    run(warned())
    blocking(lambda: asyncio.run(mqtt(HOST)))


def test_trio() -> None:
    async def program() -> None:
        async with await trio.open_tcp_stream(HOST, 7) as stream:
            await stream.send_all(b"question\n")
            assert await stream.receive_some() == b"QUESTION\n"

    blocking(lambda: trio.run(program))


TWISTED = """
import sys
from tcpip_wasm.compat import StackThread, polyfill_socket
with StackThread() as thread, polyfill_socket(thread, strict=True):
    from twisted.internet import reactor, protocol, endpoints
    from twisted.protocols.basic import LineReceiver
    class Upper(LineReceiver):
        def lineReceived(self, line):
            self.sendLine(line.upper())
    class Ask(LineReceiver):
        def connectionMade(self):
            self.sendLine(b"question")
        def lineReceived(self, line):
            print(line.decode(), self.transport.getPeer().host, flush=True)
            self.transport.loseConnection()
        def connectionLost(self, reason):
            reactor.stop()
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Upper), interface="127.0.0.1")
    point = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    endpoints.connectProtocol(point, Ask())
    reactor.callLater(60, reactor.stop)
    reactor.run()
"""

TWISTED_ON_ASYNCIO = """
import asyncio
from twisted.internet import asyncioreactor
loop = asyncio.new_event_loop()
asyncioreactor.install(loop)
from twisted.internet import protocol, reactor
from tcpip_wasm import TcpipError, create_stack
stack = loop.run_until_complete(create_stack())
with stack.polyfill():
    try:
        reactor.listenTCP(8080, protocol.Factory(), interface="127.0.0.1")
    except TcpipError as error:
        print(error)
"""


def run_program(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_twisted() -> None:
    assert run_program(TWISTED) == "QUESTION 127.0.0.1"
    assert "polyfill_socket()" in run_program(TWISTED_ON_ASYNCIO)


# --- Neither ------------------------------------------------------------------------------------------------------


def test_gevent() -> None:
    """Its sockets are subclasses of `_socket.socket`, and wait on a loop of libev's."""

    def program() -> None:
        with pytest.raises(MachineNetworkError, match=r"socket.__new__"):
            gevent.socket.create_connection((HOST, HTTP), timeout=BOUND)

    async def on_a_loop(_: NetworkStack) -> None:
        program()

    alone(on_a_loop)
    blocking(program)


GRPC = """
import asyncio, sys, warnings
import grpc, grpc.aio
from tcpip_wasm import MachineNetworkError, create_stack
from tcpip_wasm.compat import MachineNetworkWarning

async def main():
    async with await create_stack() as stack:
        for make in (grpc.aio.insecure_channel, grpc.insecure_channel):
            with stack.polyfill(strict=True):
                try:
                    make("127.0.0.1:50051")
                except MachineNetworkError as error:
                    print("refused:", error.call)
            with stack.polyfill(), warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                make("127.0.0.1:50051")
                print("warned:", [str(one.message)[:20] for one in seen if one.category is MachineNetworkWarning])
            with stack.polyfill(route=["10.0.0.0/8"]), warnings.catch_warnings():
                warnings.simplefilter("error", MachineNetworkWarning)
                make("127.0.0.1:50051")
        with stack.polyfill(strict=True):
            try:
                grpc.aio.server()
            except MachineNetworkError as error:
                print("refused:", error.call)

asyncio.run(main())
"""


def test_grpcio() -> None:
    """Its core opens sockets in C."""
    assert run_program(GRPC).splitlines() == [
        "refused: grpc: AioChannel",
        "warned: ['grpc: AioChannel use']",
        "refused: grpc: Channel",
        "warned: ['grpc: Channel uses t']",
        "refused: grpc: AioServer",
    ]
