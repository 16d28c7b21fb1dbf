"""Other libraries over virtual hosts, unmodified: websockets, asyncssh, aiosmtpd with aiosmtplib."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.compat.support import BLOCK, MEGABYTES
from tests.support_stacks import Pair, pair, run, until
from tests.support_tls import client_context, server_context

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def held(two: Pair) -> int:
    return sum(s.core.connections - s.core.time_wait for s in (two.a.stats(), two.b.stats()))


@secure
def test_websockets(tls: bool) -> None:
    """Ten thousand messages, text and bytes, every tenth in fragments, echoed and compared."""
    count = 10_000

    async def echo(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    def message(number: int) -> str | bytes:
        size = random.Random(number).choice((0, 1, 125, 126, 2000))
        return f"{number}".rjust(size, "·") if number % 2 else BLOCK[number : number + size]

    async def fragments(number: int) -> AsyncIterator[bytes]:
        for at in range(0, 9000, 3000):
            yield BLOCK[number + at : number + at + 3000]

    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await websockets.asyncio.server.serve(
                    echo, two.host, 8000, ssl=server_context() if tls else None, compression=None
                )
            with two.a.polyfill():
                url = f"{'wss' if tls else 'ws'}://{two.host}:8000"
                context: dict[str, Any] = {"ssl": client_context()} if tls else {}
                async with websockets.asyncio.client.connect(url, compression=None, proxy=None, **context) as client:

                    async def send() -> None:
                        for number in range(count):
                            await client.send(message(number) if number % 10 else fragments(number))

                    sending = asyncio.create_task(send())
                    for number in range(count):
                        expected = message(number) if number % 10 else BLOCK[number : number + 9000]
                        assert await client.recv() == expected
                    await sending
            server.close()
            await server.wait_closed()
            await until(lambda: held(two) == 0)

    run(main(), seconds=60)


def test_asyncssh(tmp_path: Path) -> None:
    """An interactive command, and files copied up and down by sftp."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    size = MEGABYTES * len(BLOCK)

    async def shell(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write(f"you said: {process.command}\n")
        async for line in process.stdin:
            if line.rstrip("\n") == "exit":
                break
            process.stdout.write(line.upper())
        process.exit(7)

    async def main() -> None:
        (tmp_path / "remote").mkdir()
        with (tmp_path / "source").open("wb") as file:
            for _ in range(MEGABYTES):
                file.write(BLOCK)

        def sftp(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=str(tmp_path / "remote").encode())

        async with pair() as two:
            with two.b.polyfill():
                server = await asyncssh.listen(
                    two.host,
                    22,
                    server_host_keys=[key],
                    authorized_client_keys=asyncssh.import_authorized_keys(key.export_public_key().decode()),
                    process_factory=shell,
                    sftp_factory=sftp,
                    config=None,
                )
            with two.a.polyfill():
                known = asyncssh.import_known_hosts(f"{two.host} {key.export_public_key().decode()}")
                async with asyncssh.connect(
                    two.host, 22, known_hosts=known, client_keys=[key], username="user", config=None
                ) as connection:
                    async with connection.create_process("cat -") as process:
                        assert await process.stdout.readline() == "you said: cat -\n"
                        for number in range(100):
                            process.stdin.write(f"line {number}\n")
                            assert await process.stdout.readline() == f"LINE {number}\n"
                        process.stdin.write("exit\n")
                        await process.wait_closed()
                        assert process.exit_status == 7
                    async with connection.start_sftp_client() as client:
                        await client.put(str(tmp_path / "source"), "copy")
                        assert (await client.stat("copy")).size == size
                        await client.get("copy", str(tmp_path / "back"))
            server.close()
            await server.wait_closed()
            await until(lambda: held(two) == 0)

    run(main(), seconds=110)
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("source", "remote/copy", "back")]
    assert digests == [hashlib.sha256(BLOCK * MEGABYTES).digest()] * 3


class Mailbox:
    """A handler of aiosmtpd that keeps what arrives."""

    def __init__(self) -> None:
        self.arrived: list[Envelope] = []
        self.secure: list[bool] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.arrived.append(envelope)
        self.secure.append(session.ssl is not None)
        return "250 taken"


@secure
def test_aiosmtpd(tls: bool) -> None:
    """Mail by aiosmtplib, with STARTTLS, which aiosmtpd does by itself with asyncio's own SSL protocol."""
    aiosmtplib = pytest.importorskip("aiosmtplib", reason="aiosmtplib is not installed")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "alice@a.test", "bob@b.test", "a large one"
    mail.set_content("\n".join(f"line {number} " + "·" * 60 for number in range(5000)))

    async def main() -> None:
        mailbox = Mailbox()
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"tls_context": server_context(), "require_starttls": True} if tls else {}

        def factory() -> SMTP:
            return SMTP(mailbox, hostname="b.test", loop=loop, **options)

        async with pair() as two:
            with two.b.polyfill():
                server = await loop.create_server(factory, two.host, 25)
            with two.a.polyfill():
                client = aiosmtplib.SMTP(
                    hostname=two.host,
                    port=25,
                    start_tls=tls,
                    tls_context=client_context() if tls else None,
                    local_hostname="a.test",
                )
                async with client:
                    for _ in range(3):
                        await client.send_message(mail)
            server.close()
            await server.wait_closed()
            await until(lambda: held(two) == 0)
        assert mailbox.secure == [tls] * 3
        for envelope in mailbox.arrived:
            assert envelope.rcpt_tos == ["bob@b.test"]
            assert isinstance(envelope.content, bytes)
            assert len(envelope.content) > 500_000
        assert len({envelope.content for envelope in mailbox.arrived if isinstance(envelope.content, bytes)}) == 1

    run(main())
