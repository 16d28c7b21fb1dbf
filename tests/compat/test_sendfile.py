"""`loop.sendfile` over connections of a stack: by the loop under a polyfill, by the stack, by aiohttp."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import NetworkStack
from tests.kit.core_network import payload
from tests.kit.stacks import Pair, pair, run, until
from tests.kit.tls import client_context, server_context

SIZE = 5_000_000
CONTENT = payload(SIZE)

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
way = pytest.mark.parametrize("by", ["polyfill", "stack"])

Send = Callable[..., Coroutine[Any, Any, int]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of five million bytes."""
    made: Path = tmp_path_factory.mktemp("sendfile") / "large.bin"
    made.write_bytes(CONTENT)
    return made


class Receiver(asyncio.Protocol):
    """Records the received data; it can start to read later, and close in the middle."""

    def __init__(self, *, reads: bool = True, most: int = 2**60) -> None:
        self.data = bytearray()
        self.reads = reads
        self.most = most
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if not self.reads:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > self.most:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class Sender(Receiver):
    """Records whether writing was paused."""

    paused = False

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False


@asynccontextmanager
async def connected(by: str, tls: bool = False, **options: Any) -> AsyncIterator[tuple[Pair, Send, Sender, Receiver]]:
    """Yield two hosts, the function that sends files, and the protocols of a connection between them."""
    async with pair() as two:
        receivers: list[Receiver] = []

        def accept() -> Receiver:
            receivers.append(Receiver(**options))
            return receivers[0]

        server = await two.b.create_server(accept, two.host, 80, ssl=server_context() if tls else None)
        client_tls: dict[str, Any] = {"ssl": client_context(), "server_hostname": two.host} if tls else {}
        _, sender = await two.a.create_connection(Sender, two.host, 80, **client_tls)
        await until(lambda: bool(receivers) and receivers[0].transport is not None)
        loop = asyncio.get_running_loop()
        with two.a.polyfill():
            yield two, loop.sendfile if by == "polyfill" else two.a.sendfile, sender, receivers[0]
        sender.transport.abort()
        server.close()


async def stuck(transport: Any) -> None:
    """Wait until a transport accepts no more of a file, and the peer no more from the transport."""
    paused = 0
    while paused < 300:
        await asyncio.sleep(0)
        paused = paused + 1 if transport._protocol_paused else 0


@way
@secure
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, (0, SIZE)),
        (1_000_000, None, (1_000_000, SIZE)),
        (1, 2_000_001, (1, 2_000_002)),
        (SIZE - 10, 1000, (SIZE - 10, SIZE)),
        (SIZE, None, (SIZE, SIZE)),
    ],
)
def test_the_file_arrives(
    by: str, tls: bool, offset: int, count: int | None, expected: tuple[int, int], path: Path
) -> None:
    async def main() -> None:
        async with connected(by, tls) as (_, send, sender, receiver):
            sender.transport.write(b"before")
            with path.open("rb") as file:
                assert await send(sender.transport, file, offset, count) == expected[1] - expected[0]
                assert file.tell() == expected[1]
            sender.transport.write(b"behind")
            sender.transport.close()
            await receiver.lost
            assert receiver.data == b"before" + CONTENT[slice(*expected)] + b"behind"

    run(main())


@way
@secure
def test_a_slow_peer_delays_the_file(by: str, tls: bool, path: Path) -> None:
    async def main() -> None:
        async with connected(by, tls, reads=False) as (_, send, sender, receiver):
            with path.open("rb") as file:
                task = asyncio.create_task(send(sender.transport, file))
                await stuck(sender.transport)  # a window, the buffers and a chunk of the file are full
                assert not task.done()
                assert file.tell() <= 3_000_000
                assert not sender.paused  # the file waits, and the protocol need not know
                receiver.transport.resume_reading()
                assert await task == SIZE
            sender.transport.close()
            await receiver.lost
            assert receiver.data == CONTENT

    run(main())


@way
@secure
def test_cancelled(by: str, tls: bool, path: Path) -> None:
    """The connection goes on, the protocol gets its callbacks again, and the position covers the data sent."""

    async def main() -> None:
        async with connected(by, tls, reads=False) as (_, send, sender, receiver):
            with path.open("rb") as file:
                task = asyncio.create_task(send(sender.transport, file))
                await stuck(sender.transport)
                if not tls:
                    with pytest.raises(RuntimeError, match="in progress"):
                        sender.transport.write(b"between")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                at = file.tell()
            assert sender.transport.get_protocol() is sender
            assert sender.transport.is_reading()
            assert sender.paused  # what was read last waits in the transport
            receiver.transport.resume_reading()
            await until(lambda: not sender.paused)
            sender.transport.write(b"the end")
            sender.transport.close()
            await receiver.lost
            assert len(receiver.data) - len(b"the end") >= at
            assert receiver.data == CONTENT[: len(receiver.data) - 7] + b"the end"

    run(main())


@way
@secure
def test_the_peer_ends_in_the_middle(by: str, tls: bool, path: Path) -> None:
    async def main() -> None:
        async with connected(by, tls, most=400_000) as (_, send, sender, receiver):
            with path.open("rb") as file:
                with pytest.raises(ConnectionError):
                    await send(sender.transport, file)
                assert 0 < file.tell() < SIZE
            assert isinstance(await sender.lost, (ConnectionError, type(None)))
            assert receiver.data == CONTENT[: len(receiver.data)]

    run(main())


@way
@secure
def test_files_that_cannot_be_sent(by: str, tls: bool, path: Path) -> None:
    async def main() -> None:
        async with connected(by, tls) as (two, send, sender, receiver):
            with path.open("rb") as file:
                with pytest.raises(asyncio.SendfileNotAvailableError):
                    await send(sender.transport, file, fallback=False)
                for arguments in ((-1,), (0, 0), (0, -1)):
                    with pytest.raises(ValueError, match="must be a"):
                        await send(sender.transport, file, *arguments)
                for wrong in (("0",), (0, 1.5)):
                    with pytest.raises(TypeError, match="must be a"):
                        await send(sender.transport, file, *wrong)
                datagrams, _ = await two.a.create_datagram_endpoint(asyncio.DatagramProtocol, ("10.0.0.1", 0))
                with pytest.raises(RuntimeError, match="not supported"):
                    await send(datagrams, file)
                datagrams.close()
                sender.transport.close()
                with pytest.raises(RuntimeError, match="closing"):
                    await send(sender.transport, file)
                assert file.tell() == 0
            with path.open("r", encoding="latin-1") as text, pytest.raises(RuntimeError):
                await send(sender.transport, text)
            await receiver.lost
            assert receiver.data == b""

    run(main())


@secure
def test_asyncios_own_loop_without_a_polyfill(tls: bool, path: Path, loop_kind: str) -> None:
    if loop_kind == "uvloop":
        pytest.skip("uvloop's loops have no sendfile; `NetworkStack.sendfile` is for them")

    async def main() -> None:
        async with pair() as two:
            receiver = Receiver()
            server = await two.b.create_server(lambda: receiver, two.host, 80, ssl=server_context() if tls else None)
            client_tls: dict[str, Any] = {"ssl": client_context(), "server_hostname": two.host} if tls else {}
            transport, _ = await two.a.create_connection(Sender, two.host, 80, **client_tls)
            with path.open("rb") as file:
                assert await asyncio.get_running_loop().sendfile(transport, file, 1000) == SIZE - 1000
            transport.close()
            await receiver.lost
            assert receiver.data == CONTENT[1000:]
            server.close()

    run(main())


def test_files_of_connections_of_the_machine(path: Path, loop_kind: str) -> None:
    """Connections of the machine use the loop's method."""

    async def main() -> None:
        async with pair() as two:
            loop, receiver = asyncio.get_running_loop(), Receiver()
            server = await loop.create_server(lambda: receiver, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(Sender, *server.sockets[0].getsockname())
            with two.a.polyfill(["10.0.0.0/8"]), path.open("rb") as file:
                if loop_kind == "uvloop":
                    with pytest.raises(NotImplementedError):
                        await loop.sendfile(transport, file)
                else:
                    assert await loop.sendfile(transport, file) == SIZE
            transport.close()
            await receiver.lost
            assert receiver.data == (CONTENT if loop_kind == "asyncio" else b"")
            server.close()

    run(main())


# --- aiohttp ----------------------------------------------------------------------------------------------------------


async def fetch(url: str) -> list[tuple[int, str | None, int, str]]:
    """Fetch a file as a whole, in parts, and a missing one; return the responses."""
    aiohttp = pytest.importorskip("aiohttp")
    requests = [
        ("/static/large.bin", {}),
        ("/static/large.bin", {"Range": "bytes=1000000-1999999"}),
        ("/static/large.bin", {"Range": "bytes=-5"}),
        ("/file", {}),
        ("/file", {"Range": "bytes=4999999-"}),
        ("/file", {"Range": "bytes=6000000-"}),
        ("/static/nothing", {}),
    ]
    answers = []
    async with aiohttp.ClientSession() as session:
        for path, headers in requests:
            async with session.get(url + path, headers=headers) as response:
                body = await response.read()
                described = response.headers.get("Content-Range"), len(body), hashlib.sha256(body).hexdigest()
                answers.append((response.status, *described))
    return answers


@asynccontextmanager
async def static_files(path: Path, host: str, port: int = 0) -> AsyncIterator[str]:
    """Serve a folder and one file with aiohttp, and yield the URL."""
    web = pytest.importorskip("aiohttp.web")

    async def one_file(_: Any) -> Any:
        return web.FileResponse(path)

    application = web.Application()
    application.router.add_static("/static", path.parent)
    application.router.add_get("/file", one_file)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        server = await asyncio.get_running_loop().create_server(runner.server, host, port)
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
        server.close()
    finally:
        await runner.cleanup()


def test_static_files_of_aiohttp(path: Path) -> None:
    """The responses are those over the kernel."""

    async def main() -> None:
        async with static_files(path, "127.0.0.1") as url:
            expected = await fetch(url)
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert [answer[0] for answer in expected] == [200, 206, 206, 200, 206, 416, 404]
        assert expected[0] == expected[3] == (200, None, SIZE, digest)
        async with pair() as two:
            assert isinstance(two.a, NetworkStack)
            with two.b.polyfill():
                served = static_files(path, two.host, 80)
                url = await served.__aenter__()
            with two.a.polyfill():
                assert await fetch(url) == expected
            await served.__aexit__(None, None, None)

    run(main())


def test_a_second_file_at_the_same_time_is_refused(path: Path) -> None:
    """It is refused, and the first arrives completely."""

    async def main() -> None:
        async with connected("stack") as (_, send, sender, receiver):
            receiver.transport.pause_reading()
            with path.open("rb") as file, path.open("rb") as second:
                first = asyncio.create_task(send(sender.transport, file))
                await stuck(sender.transport)
                with pytest.raises(RuntimeError, match="in progress"):
                    await send(sender.transport, second)
                receiver.transport.resume_reading()
                assert await first == SIZE
            await until(lambda: len(receiver.data) == SIZE)
            assert bytes(receiver.data) == CONTENT
            sender.transport.write(b"more")
            await until(lambda: len(receiver.data) == SIZE + 4)

    run(main())


def test_a_file_that_is_closed_while_it_is_sent(path: Path) -> None:
    """The call raises the file's error, and the transport has its protocol again."""

    async def main() -> None:
        async with connected("stack") as (_, send, sender, receiver):
            receiver.transport.pause_reading()
            with path.open("rb") as file:
                task = asyncio.create_task(send(sender.transport, file))
                await stuck(sender.transport)
                file.close()
                receiver.transport.resume_reading()
                with pytest.raises(ValueError, match="closed file"):
                    await task
            assert sender.transport.get_protocol() is sender
            before = len(receiver.data)
            sender.transport.write(b"more")
            await until(lambda: len(receiver.data) > before and receiver.data.endswith(b"more"))

    run(main())
