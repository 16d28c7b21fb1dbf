"""Other unmodified libraries over stacks: websockets, asyncssh, aiosmtpd with aiosmtplib."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from tests.kit.stacks import Pair, pair, run, until
from tests.kit.tls import server_context
from tests.programs.clients import aiosmtplib_client, asyncssh_client, websockets_client
from tests.programs.ports import SMTP, SSH, WS
from tests.programs.servers import serve_mail, serve_ssh, serve_websockets

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


async def nothing_held(two: Pair) -> None:
    """Wait until neither host has a connection except in TIME-WAIT."""
    await until(lambda: all(s.core.connections == s.core.time_wait for s in (two.a.stats(), two.b.stats())))


@secure
def test_websockets(tls: bool) -> None:
    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await serve_websockets(two.host, WS, server_context() if tls else None)
            with two.a.polyfill():
                await websockets_client(f"{'wss' if tls else 'ws'}://{two.host}:{WS}")
            server.close()
            await server.wait_closed()
            await nothing_held(two)

    run(main(), seconds=60)


def test_asyncssh(tmp_path: Path) -> None:
    key = tmp_path / "key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    (tmp_path / "remote").mkdir()

    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await serve_ssh(two.host, SSH, key, tmp_path / "remote")
            with two.a.polyfill():
                await asyncssh_client(two.host, SSH, key, tmp_path, "", 50)
            server.close()
            await server.wait_closed()
            await nothing_held(two)

    run(main(), seconds=110)


@secure
def test_aiosmtpd(tls: bool) -> None:
    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await serve_mail(two.host, SMTP, server_context())
            with two.a.polyfill():
                await aiosmtplib_client(two.host, SMTP, tls)
            server.close()
            await server.wait_closed()
            await nothing_held(two)

    run(main())
