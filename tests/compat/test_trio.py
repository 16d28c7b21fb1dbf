"""Trio over `polyfill_socket`, imported before it: servers, clients and datagrams."""

from __future__ import annotations

import functools
import socket
from typing import Any

import pytest

from tests.kit.blocking_sockets import BOUND, polyfilled
from tests.kit.core_network import payload

trio = pytest.importorskip("trio")

MACHINE_SOCKET = socket.socket
HOSTS = {"v4": "127.0.0.1", "v6": "::1"}


def run(main: Any, *arguments: Any) -> None:
    """Run a Trio program with a time limit."""

    async def bounded() -> None:
        with trio.fail_after(BOUND):
            await main(*arguments)

    trio.run(bounded)


async def echo(stream: Any) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def talk(host: str) -> None:
    data = payload(700_000)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, echo, 0, host=host))
        for number in range(3):
            port = listeners[0].socket.getsockname()[1]
            stream = await trio.open_tcp_stream(host, port)
            async with stream, trio.open_nursery() as both:
                both.start_soon(send, stream, data + bytes([number]))
                got = bytearray()
                async for chunk in stream:
                    got += chunk
                assert got == data + bytes([number])
        nursery.cancel_scope.cancel()


async def send(stream: Any, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


@pytest.mark.parametrize("kind", ["kernel", "stack"])
@pytest.mark.parametrize("family", list(HOSTS))
def test_a_server_and_its_clients(kind: str, family: str) -> None:
    with polyfilled(kind):
        run(talk, HOSTS[family])


async def datagrams(family: str) -> None:
    number = socket.AF_INET if family == "v4" else socket.AF_INET6
    with trio.socket.socket(number, socket.SOCK_DGRAM) as one, trio.socket.socket(number, socket.SOCK_DGRAM) as two:
        await one.bind((HOSTS[family], 0))
        await two.bind((HOSTS[family], 0))
        await one.sendto(b"there", two.getsockname())
        data, source = await two.recvfrom(100)
        assert (data, source) == (b"there", one.getsockname())
        await two.connect(source)
        await two.send(b"back again")
        buffer = bytearray(100)
        count, source = await one.recvfrom_into(buffer)
        assert bytes(buffer[:count]) == b"back again"
        assert source == two.getsockname()


@pytest.mark.parametrize("kind", ["kernel", "stack"])
@pytest.mark.parametrize("family", list(HOSTS))
def test_datagrams(kind: str, family: str) -> None:
    with polyfilled(kind):
        run(datagrams, family)


async def refused() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    with trio.socket.socket() as sock, pytest.raises(OSError, match="Invalid argument"):
        await sock.accept()


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_errors(kind: str) -> None:
    with polyfilled(kind):
        run(refused)


def test_trio_is_restored_afterwards() -> None:
    from trio._socket import _SocketType

    before = _SocketType._nonblocking_helper
    with polyfilled("stack"):
        assert _SocketType._nonblocking_helper is not before
    assert _SocketType._nonblocking_helper is before
    with polyfilled("kernel"):
        run(talk, "127.0.0.1")
