"""The HTTP server and client: files with ranges, confinement, applications, TLS, and peers that are slow or hostile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import NetworkStack, connect, create_stack
from tcpip_wasm.services import HttpServer, http_client
from tcpip_wasm.services.http.ranges import find_range, is_unchanged
from tcpip_wasm.simulation import run_virtually
from tests.kit.tls import client_context, server_context

_BIG = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, and a secret beside it that symbolic links point to."""
    root = tmp_path / "served"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "site").mkdir()
    (root / "big.bin").write_bytes(_BIG)
    (root / "a b&<c>.txt").write_text("strange name")
    (root / "nothing").write_bytes(b"")
    (root / "site" / "index.html").write_text("<p>index</p>")
    (root / "sub" / "page.html.gz").write_bytes(b"gz")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "served-too").mkdir()
    (tmp_path / "served-too" / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out-folder").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    (root / "inside").symlink_to("sub/page.html.gz")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe")
    return root


@asynccontextmanager
async def two() -> AsyncIterator[tuple[NetworkStack, NetworkStack]]:
    async with await create_stack(seed=1) as client, await create_stack(seed=2) as host:
        connect(
            await client.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await host.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )
        client.hosts["server.test"] = ["10.0.0.2"]
        yield client, host


@asynccontextmanager
async def serving(
    application: Any, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, NetworkStack, HttpServer]]:
    async with two() as (client, host), HttpServer(host, application, **options) as server:
        async with http_client(client, base_url="http://10.0.0.2", timeout=None) as http:
            yield http, client, server


async def raw(client: NetworkStack, data: bytes) -> bytes:
    """Send bytes to the server, and return all that comes back until it closes."""
    reader, writer = await client.open_connection("10.0.0.2", 80)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def test_files_and_ranges(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as (http, _, _):
            whole = await http.get("/big.bin")
            assert (whole.status_code, whole.content == _BIG) == (200, True)
            assert whole.headers["content-type"] == "application/octet-stream"
            assert whole.headers["accept-ranges"] == "bytes"
            assert "date" in whole.headers
            for field, part in [
                ("bytes=0-0", _BIG[:1]),
                ("bytes=5-", _BIG[5:]),
                ("bytes=-7", _BIG[-7:]),
                ("bytes=1000000-1999999", _BIG[1_000_000:2_000_000]),
                ("bytes=2999999-9999999", _BIG[-1:]),
                ("bytes=-9999999", _BIG),
            ]:
                answer = await http.get("/big.bin", headers={"range": field})
                assert (answer.status_code, answer.content == part) == (206, True), field
            assert answer.headers["content-range"] == "bytes 0-2999999/3000000"
            for field in ("bytes=1-2,5-6", "bytes=9-3", "lines=1-2", "bytes=", "bytes=a-b"):
                assert len((await http.get("/big.bin", headers={"range": field})).content) == 3_000_000
            beyond = await http.get("/big.bin", headers={"range": "bytes=3000000-"})
            assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */3000000")
            head = await http.head("/big.bin")
            assert (head.headers["content-length"], head.content) == ("3000000", b"")
            tag = whole.headers["etag"]
            assert (await http.get("/big.bin", headers={"if-none-match": tag})).status_code == 304
            assert (await http.get("/big.bin", headers={"if-none-match": '"other"'})).status_code == 200
            since = {"if-modified-since": whole.headers["last-modified"]}
            assert (await http.get("/big.bin", headers=since)).status_code == 304
            changed = {"if-range": '"other"', "range": "bytes=0-0"}
            assert (await http.get("/big.bin", headers=changed)).status_code == 200
            same = {"if-range": tag, "range": "bytes=0-0"}
            assert (await http.get("/big.bin", headers=same)).status_code == 206
            assert (await http.get("/nothing")).content == b""
            assert (await http.get("/a%20b&%3Cc%3E.txt")).text == "strange name"
            assert (await http.get("/inside")).content == b"gz"
            assert (await http.get("/sub/page.html.gz")).headers["content-type"] == "application/gzip"
            refused = await http.post("/big.bin", content=b"x" * 100_000)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")

    run_virtually(main())


def test_lists(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as (http, _, _):
            page = await http.get("/")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert '<a href="./a%20b%26%3Cc%3E.txt">a b&amp;&lt;c&gt;.txt</a>' in page.text
            assert '<a href="./sub/">sub/</a>' in page.text
            moved = await http.get("/sub")
            assert (moved.status_code, moved.headers["location"]) == (301, "/sub/")
            assert "../" in (await http.get("/sub/")).text
            assert (await http.get("/site/")).text == "<p>index</p>"
            assert (await http.get("/big.bin/")).status_code == 404
        async with serving(folder, listing=False) as (http, _, _):
            assert (await http.get("/")).status_code == 403
            assert (await http.get("/site/")).status_code == 200

    run_virtually(main())


_OUTSIDE = [
    "/out",
    "/out-folder/secret",
    "/out-folder/",
    "/loop",
    "/pipe",
    "/../secret",
    "/sub/../../secret",
    "/%2e%2e/secret",
    "/sub/..%2f..%2fsecret",
    "/%2e%2e%2fsecret",
    "/..%5csecret",
    "/%252e%252e/secret",
    "/..;/secret",
    "//../secret",
    "/./secret",
    "/../served-too/secret",
    "/big.bin%00.txt",
    "/%c0%ae%c0%ae/secret",
    "/sub//page.html.gz",
    "/" + "a" * 300,
    "/" + "sub/" * 100,
    "/big.bin/x",
    "/%ff%fe",
]


def test_nothing_outside_of_the_folder_is_reachable(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as (_, client, _):
            for target in [*_OUTSIDE, str(folder.parent / "secret"), "http://10.0.0.2/../secret", "*", "secret"]:
                answer = await raw(client, f"GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
                assert b"secret" not in answer.partition(b"\r\n\r\n")[2].replace(target.encode(), b""), target
                assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 403")), (target, answer)

    run_virtually(main())


@given(
    st.lists(st.sampled_from(["..", ".", "%2e%2e", "sub", "out-folder", "secret", "%2f", "served-too", ""]), max_size=6)
)
def test_any_path_stays_inside(parts: list[str]) -> None:
    import tempfile

    from tcpip_wasm.services.folder import Folder
    from tcpip_wasm.services.http.files import _names

    with tempfile.TemporaryDirectory() as text:
        root = Path(text) / "served"
        (root / "sub").mkdir(parents=True)
        (Path(text) / "secret").write_text("secret")
        (root / "out-folder").symlink_to(text)
        names, _ = _names("/".join(["", *parts]).encode())
        try:
            descriptor = Folder(root).open(names)
        except OSError:
            return
        found = os.fstat(descriptor)
        os.close(descriptor)
        assert found.st_ino in {root.stat().st_ino, (root / "sub").stat().st_ino}


def test_a_link_that_is_changed_after_it_was_looked_at_leads_nowhere(folder: Path) -> None:
    from tcpip_wasm.services.folder import Folder

    served = Folder(folder)
    resolve = served._resolve

    def change(names: Any) -> Any:
        found = resolve(names)
        (folder / "sub").rename(folder / "moved")
        (folder / "sub").symlink_to(folder.parent)
        return found

    (folder.parent / "page.html.gz").write_text("secret")
    served._resolve = change  # type: ignore[method-assign]
    with pytest.raises(FileNotFoundError):
        served.open([b"sub", b"page.html.gz"])


def test_pipelined_requests(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as (_, client, _):
            one = b"GET /big.bin HTTP/1.1\r\nhost: a\r\nrange: bytes=%d-%d\r\n\r\n"
            requests = b"".join(one % (n * 1000, n * 1000 + 999) for n in range(100))
            requests += b"GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            answer = await raw(client, requests)
            assert answer.count(b"HTTP/1.1 206") == 100
            for number in range(100):
                head, _, answer = answer.partition(b"\r\n\r\n")
                assert b"bytes %d-%d/" % (number * 1000, number * 1000 + 999) in head
                assert answer[:1000] == _BIG[number * 1000 : number * 1000 + 1000]
                answer = answer[1000:]

    run_virtually(main())


def test_tls(folder: Path) -> None:
    async def main() -> None:
        async with two() as (client, host), HttpServer(host, folder, port=443, ssl=server_context()) as server:
            async with http_client(client, verify=client_context(), timeout=None) as http:
                for url in ("https://10.0.0.2", "https://server.test", "https://[fd00::2]"):
                    answer = await http.get(f"{url}/big.bin")
                    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(_BIG).digest()
            async with http_client(client, timeout=None) as http:
                with pytest.raises(httpx.ConnectError):
                    await http.get("https://10.0.0.2/")
            assert server.port == 443

    run_virtually(main())


def test_an_application_with_a_lifespan() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                while (message := await receive())["type"] != "lifespan.shutdown":
                    scope["state"]["greeting"] = "good day"
                    seen.append(message["type"])
                    await send({"type": "lifespan.startup.complete"})
                seen.append("shutdown")
                await send({"type": "lifespan.shutdown.complete"})
                return
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            text = f"{scope['state']['greeting']}, {scope['client'][0]}: {len(body)} by {scope['scheme']}"
            await send({"type": "http.response.start", "status": 201, "headers": [(b"x", b"y")]})
            await send({"type": "http.response.body", "body": text.encode()})

        async with serving(application) as (http, _, server):
            answer = await http.post("/", content=b"a" * 500_000)
            assert (answer.status_code, answer.text, answer.headers["x"]) == (
                201,
                "good day, 10.0.0.1: 500000 by http",
                "y",
            )
        assert seen == ["lifespan.startup", "shutdown"]
        assert server.closed

    run_virtually(main())


def test_an_application_that_cannot_start_or_fails() -> None:
    async def main() -> None:
        async def fails_to_start(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            raise ZeroDivisionError

        async with two() as (client, host):
            with pytest.raises(RuntimeError, match="no database"):
                await HttpServer(host, fails_to_start).start()
            async with HttpServer(host, fails), http_client(client, timeout=None) as http:
                assert (await http.get("http://10.0.0.2/")).status_code == 500

    run_virtually(main())


def test_slow_and_silent_peers_are_disconnected(folder: Path) -> None:
    async def main() -> None:
        async def reads(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                while (await receive()).get("more_body"):
                    pass

        async with serving(reads) as (_, client, _):
            loop = asyncio.get_running_loop()
            for head in (b"", b"GET / HTTP/1.1\r\nx: ", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"):
                reader, writer = await client.open_connection("10.0.0.2", 80)
                writer.write(head)
                began = loop.time()

                async def drip(writer: asyncio.StreamWriter = writer, head: bytes = head) -> None:
                    while head.endswith(b"x: "):
                        writer.write(b"a")
                        await asyncio.sleep(1)

                dripping = asyncio.create_task(drip())
                with pytest.raises(ConnectionResetError):
                    assert await reader.read() == b"never"
                assert loop.time() - began <= 46
                dripping.cancel()
                writer.close()
        async with serving(folder) as (_, client, server):
            reader, writer = await client.open_connection("10.0.0.2", 80, limit=1000)
            writer.write(b"GET /big.bin HTTP/1.1\r\nhost: a\r\n\r\n")  # and does not read the answer
            await asyncio.sleep(100)
            assert not server._connections.shared.connections  # type: ignore[union-attr]
            assert not server._connections.shared.tasks  # type: ignore[union-attr]
            writer.transport.abort()

    run_virtually(main())


def test_too_many_connections(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, max_connections=10) as (http, client, server):
            held = [await client.open_connection("10.0.0.2", 80) for _ in range(15)]
            await asyncio.sleep(1)
            assert server.refused == 5
            await asyncio.sleep(60)
            assert (await http.get("/nothing")).status_code == 200
            for _, writer in held:
                writer.close()

    run_virtually(main())


def test_damaged_requests(folder: Path) -> None:
    async def main() -> None:
        rng = random.Random(3)
        valid = b"GET /nothing HTTP/1.1\r\nhost: a\r\nrange: bytes=0-1\r\nconnection: close\r\n\r\n"
        async with serving(folder) as (http, client, server):
            for _ in range(300):
                data = bytearray(valid)
                for _ in range(rng.randrange(1, 8)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                reader, writer = await client.open_connection("10.0.0.2", 80)
                writer.write(bytes(data[: rng.randrange(1, len(data) + 1)]))
                writer.write_eof()
                del reader
                writer.close()
            await raw(client, b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 200_000 + b"\r\n\r\n")
            await asyncio.sleep(60)
            assert (await http.get("/nothing")).status_code == 200
            assert len(server._connections.shared.connections) <= 1  # type: ignore[union-attr]

    run_virtually(main())


def test_the_server_ends_with_its_stack(folder: Path) -> None:
    async def main() -> None:
        async with two() as (client, host):
            server = await HttpServer(host, folder, port=0).start()
            _, writer = await client.open_connection("10.0.0.2", server.port)
            await host.aclose()
            assert server.closed
            await server.aclose()
            writer.close()

    run_virtually(main())


def test_malformed_arguments(folder: Path) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(NotADirectoryError):
                HttpServer(stack, folder / "big.bin")
            for wrong in (5, b"folder"):
                with pytest.raises(TypeError, match="application"):
                    HttpServer(stack, wrong)
            with pytest.raises(TypeError, match="ssl"):
                HttpServer(stack, folder, ssl=True)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="proxy"):
                http_client(stack, proxy="http://10.0.0.1")

    run_virtually(main())


@given(st.text(max_size=60), st.integers(0, 10**6))
def test_any_range_is_within_the_file(text: str, size: int) -> None:
    for value in (text, "bytes=" + text):
        try:
            found = find_range(value, size)
        except ValueError:
            continue
        assert found is None or 0 <= found[0] < found[1] <= size
        is_unchanged(None, text, '"a"', 1.0)
