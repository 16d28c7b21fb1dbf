"""The clients of `tests/compat`, over TAP, and the servers they talk to there on virtual hosts in a namespace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack
from tests.interop.programs.places import HOST, OWN, Place
from tests.programs.blocking_clients import ftplib_client, requests_client, smtplib_client, urllib_client
from tests.programs.clients import (
    aiohttp_client,
    aiosmtplib_client,
    asyncssh_client,
    httpx_client,
    websockets_client,
)
from tests.programs.ports import FTP, HTTP, HTTPS, OPENSSH, SMTP, SSH, WS, WSS

MEGABYTES = 100

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def _url(tls: bool) -> str:
    return f"https://{HOST}:{HTTPS}" if tls else f"http://{HOST}:{HTTP}"


@secure
@pytest.mark.parametrize("client", [httpx_client, aiohttp_client])
def test_http(client: Callable[[NetworkStack, str, str, int], Awaitable[None]], tls: bool, servers: Place) -> None:
    servers.run(lambda stack: client(stack, _url(tls), OWN, MEGABYTES))


@secure
@pytest.mark.parametrize("client", [urllib_client, requests_client])
def test_http_by_blocking_sockets(client: Callable[[str, str, int], None], tls: bool, servers: Place) -> None:
    with servers.blocking():
        client(_url(tls), OWN, MEGABYTES)


@secure
def test_websockets(tls: bool, servers: Place) -> None:
    servers.run(lambda _: websockets_client(f"wss://{HOST}:{WSS}" if tls else f"ws://{HOST}:{WS}"))


@secure
def test_mail(tls: bool, servers: Place) -> None:
    servers.run(lambda _: aiosmtplib_client(HOST, SMTP, tls))


@secure
def test_mail_by_blocking_sockets(tls: bool, servers: Place) -> None:
    with servers.blocking():
        smtplib_client(HOST, SMTP, tls)


def test_ftp_by_blocking_sockets(servers: Place) -> None:
    with servers.blocking():
        ftplib_client(HOST, FTP, 20)


def test_asyncssh(servers: Place, tmp_path: Path) -> None:
    servers.run(lambda _: asyncssh_client(HOST, SSH, servers.folder / "ssh_key", tmp_path, "", 50))


def test_openssh(sshd: Place, tmp_path: Path) -> None:
    """The server is Debian's, which runs a real command."""
    remote = str(sshd.folder / "openssh")
    sshd.run(lambda _: asyncssh_client(HOST, OPENSSH, sshd.folder / "ssh_key", tmp_path, remote, 50))
