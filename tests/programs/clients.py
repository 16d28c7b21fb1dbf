"""asyncio clients: each is called on a loop that uses the stack's network, and checks the responses.

They take the client's stack only to count its connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import aiosmtplib
import asyncssh
import httpx
import pytest
import websockets.asyncio.client

from tcpip_wasm import NetworkStack
from tests.kit.tls import client_context
from tests.programs.bodies import BLOCK, block, blocks, digest, received
from tests.programs.ports import NOBODY
from tests.programs.servers import COMMAND

ROUNDS: Final = 20
"""Requests over a connection that is kept alive."""


async def httpx_client(stack: NetworkStack, url: str, own: str, megabytes: int) -> None:
    """Fetch small and large bodies, and send a large one, over one connection; then connect to a closed port.

    Args:
        stack: the client's.
        url: the server's, without a path.
        own: the client's address.
        megabytes: size of the large bodies.
    """
    limits = httpx.Limits(keepalive_expiry=300)
    async with httpx.AsyncClient(verify=client_context(), trust_env=False, timeout=60, limits=limits) as client:
        for _ in range(ROUNDS):
            response = await client.get(url)
            assert response.text == f"hello {own}"
        # Kept alive: all over one connection, which the pool asks for signs of life each time.
        assert stack.stats().core.connections == 1
        arrived, size = hashlib.sha256(), 0
        async with client.stream("GET", f"{url}/down", params={"megabytes": megabytes}) as response:
            async for chunk in response.aiter_raw():
                arrived.update(chunk)
                size += len(chunk)
        assert (size, arrived.hexdigest()) == (megabytes * len(BLOCK), digest(megabytes))
        response = await client.post(f"{url}/up", content=blocks(megabytes))
        assert response.json() == received(megabytes)
        assert stack.stats().core.connections == 1
    async with httpx.AsyncClient(verify=client_context(), trust_env=False, timeout=60) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(httpx.URL(url).copy_with(port=NOBODY))


async def aiohttp_client(stack: NetworkStack, url: str, own: str, megabytes: int) -> None:
    """Like `httpx_client`, and over a websocket, too."""
    ssl = client_context()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=300)) as session:
        for _ in range(ROUNDS):
            async with session.get(url, ssl=ssl) as response:
                assert await response.text() == f"hello {own}"
        assert stack.stats().core.connections == 1
        arrived = hashlib.sha256()
        async with session.get(f"{url}/down", params={"megabytes": megabytes}, ssl=ssl) as response:
            async for chunk in response.content.iter_any():
                arrived.update(chunk)
        assert arrived.hexdigest() == digest(megabytes)
        async with session.post(f"{url}/up", data=blocks(megabytes), ssl=ssl) as response:
            assert await response.json() == received(megabytes)
        assert stack.stats().core.connections == 1
        async with session.ws_connect(f"{url}/echo", ssl=ssl) as socket:
            await socket.send_str("over a websocket")
            assert await socket.receive_str() == "OVER A WEBSOCKET"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(str(httpx.URL(url).copy_with(port=NOBODY)), ssl=ssl)


async def websockets_client(url: str, count: int = 10_000) -> None:
    """Send `count` messages, text and bytes, every tenth in fragments, and compare the echoes."""

    def message(number: int) -> str | bytes:
        size = random.Random(number).choice((0, 1, 125, 126, 2000))
        return f"{number}".rjust(size, "·") if number % 2 else BLOCK[number : number + size]

    async def fragments(number: int) -> AsyncIterator[bytes]:
        for at in range(0, 9000, 3000):
            yield BLOCK[number + at : number + at + 3000]

    context: dict[str, Any] = {"ssl": client_context()} if url.startswith("wss") else {}
    async with websockets.asyncio.client.connect(url, compression=None, proxy=None, **context) as client:

        async def send() -> None:
            for number in range(count):
                await client.send(message(number) if number % 10 else fragments(number))

        sending = asyncio.create_task(send())
        for number in range(count):
            expected = message(number) if number % 10 else BLOCK[number : number + 9000]
            assert await client.recv() == expected
        await sending


def letter(number: int) -> bytes:
    """Return a mail as it is on arrival; some of its lines begin with a dot."""
    head = f"From: alice@a.test\r\nTo: bob@b.test\r\nSubject: number {number}\r\n\r\n"
    return (head + "".join(f"{'.' * (line % 3)}line {line} {'=' * 60}\r\n" for line in range(8000))).encode()


async def aiosmtplib_client(host: str, port: int, tls: bool) -> None:
    """Send mails; the server reports what it received."""
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        start_tls=tls,
        tls_context=client_context() if tls else None,
        local_hostname="a.test",
    )
    async with client:
        for number in range(3):
            mail = letter(number)
            refused, answer = await client.sendmail("alice@a.test", ["bob@b.test", "carol@b.test"], mail)
            assert not refused
            assert answer == f"2 {hashlib.sha256(mail).hexdigest()} {'tls' if tls else 'plain'}"


async def asyncssh_client(host: str, port: int, key: Path, folder: Path, remote: str, megabytes: int) -> None:
    """Exchange lines with a command, and copy a file in both directions by sftp.

    Args:
        host, port: the server's.
        key: file of the private key that is the server's and the user's.
        folder: where the copies are.
        remote: the folder on the server, as sftp knows it.
        megabytes: size of the file.
    """
    public = asyncssh.read_private_key(key).export_public_key().decode()
    where = host if port == 22 else f"[{host}]:{port}"
    known = asyncssh.import_known_hosts(f"{where} {public}")
    source, back = folder / "source", folder / "back"
    with source.open("wb") as file:
        for number in range(megabytes):
            file.write(block(number))
    async with asyncssh.connect(
        host, port, known_hosts=known, client_keys=[str(key)], username="root", config=None
    ) as connection:
        async with connection.create_process(COMMAND) as process:
            for number in range(100):
                process.stdin.write(f"line {number}\n")
                assert await process.stdout.readline() == f"LINE {number}\n"
            process.stdin.write("exit\n")
            await process.wait_closed()
            assert process.exit_status == 7
        async with connection.start_sftp_client() as client:
            await client.put(str(source), f"{remote}/copy")
            assert (await client.stat(f"{remote}/copy")).size == megabytes * len(BLOCK)
            await client.get(f"{remote}/copy", str(back))
            await client.remove(f"{remote}/copy")
    with back.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest(megabytes)
    source.unlink()
    back.unlink()
