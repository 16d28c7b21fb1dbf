"""`polyfill_socket` and the machine's network: code on the stack's own loop, and destinations outside of a route."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tcpip_wasm.compat import StackThread, polyfill_socket
from tests.kit import stacks as stack_kit
from tests.kit.blocking_sockets import BOUND, Background
from tests.kit.core_network import payload

MACHINE_SOCKET = socket.socket


@pytest.fixture
def thread() -> Iterator[StackThread]:
    """A stack in a thread."""
    with StackThread(loop_factory=stack_kit.loop_factory) as made:
        yield made


@contextmanager
def machines_echo(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[str, int]]:
    """An echo server on the machine's loopback."""
    with MACHINE_SOCKET(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(BOUND)
        if kind == socket.SOCK_STREAM:
            server.listen()
        running = threading.Thread(target=_echo, args=(server, kind), daemon=True)
        running.start()
        yield server.getsockname()
        running.join(BOUND)
        assert not running.is_alive()


def _echo(server: Any, kind: int) -> None:
    if kind == socket.SOCK_DGRAM:
        data, source = server.recvfrom(65536)
        server.sendto(data, source)
        return
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def exchange(sock: Any, data: bytes) -> None:
    """Send data, and receive its echo."""
    sock.settimeout(BOUND)
    running = Background(sock.sendall, data)
    got = bytearray()
    while len(got) < len(data):
        chunk = sock.recv(65536)
        assert chunk
        got += chunk
    running.result()
    assert got == data


def on_the_loop(thread: StackThread, function: Callable[[], Any]) -> Any:
    """Call a coroutine function on the stack's loop."""
    return thread.call(function(), BOUND)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_gateway_on_the_stacks_loop_uses_the_machines_network(thread: StackThread, host: str) -> None:
    data = payload(300_000)
    with machines_echo() as (_, port), polyfill_socket(thread):

        async def gateway() -> bytes:
            reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
            writer.write(data)
            writer.write_eof()
            try:
                return await reader.read()
            finally:
                writer.close()
                await writer.wait_closed()

        assert on_the_loop(thread, gateway) == data
        with pytest.raises(ConnectionRefusedError):  # the same port of the stack: no other code reaches the machine
            socket.create_connection(("127.0.0.1", port), timeout=BOUND)


def test_other_calls_on_the_stacks_loop_use_the_machines_network(thread: StackThread) -> None:
    name, index = socket.gethostname(), socket.if_nameindex()
    with polyfill_socket(thread):

        async def inside() -> tuple[Any, ...]:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                info = await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
                return type(sock), socket.gethostname(), socket.if_nameindex(), info[0][4]

        assert on_the_loop(thread, inside) == (MACHINE_SOCKET, name, index, ("127.0.0.1", 80))
        assert socket.if_nameindex() == [(thread.stack.interfaces[0].handle, "lo0")]


def test_a_route_divides_connections(thread: StackThread) -> None:
    def serve(listener: Any) -> None:
        _echo(listener, socket.SOCK_STREAM)

    with machines_echo() as address, polyfill_socket(thread, route=["127.7.0.0/16", "*.virtual"]):
        thread.call(_add_name(thread), BOUND)
        with socket.create_server(("127.7.0.1", 0)) as listener:
            for _ in range(2):
                server = Background(serve, listener)
                where = "host.virtual", listener.getsockname()[1]
                with socket.create_connection(where, timeout=BOUND) as ours:
                    exchange(ours, payload(200_000, 1))
                    assert ours.getpeername()[0] == "127.7.0.1"
                server.result()
            with socket.socket() as theirs:
                theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
                theirs.settimeout(BOUND)
                theirs.connect(address)
                assert theirs.gettimeout() == BOUND
                assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
                exchange(theirs, payload(200_000, 2))
                assert theirs.getpeername() == address


async def _add_name(thread: StackThread) -> None:
    thread.stack.hosts["host.virtual"] = "127.7.0.1"


@pytest.mark.parametrize("way", ["sendto", "connect"])
def test_a_route_divides_datagrams(thread: StackThread, way: str) -> None:
    with machines_echo(socket.SOCK_DGRAM) as address, polyfill_socket(thread, route="10.0.0.0/8"):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(BOUND)
            if way == "connect":
                sock.connect(address)
                sock.send(b"to the machine")
            else:
                sock.sendto(b"to the machine", address)
            assert sock.recvfrom(100) == (b"to the machine", address)
        with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="unreachable"):
            sock.sendto(b"to the stack", ("10.0.0.1", 9))


def test_a_malformed_route_is_refused(thread: StackThread) -> None:
    with pytest.raises(ValueError, match="route"), polyfill_socket(thread, route=["10.0.0.0/99"]):
        pass
    assert socket.socket is MACHINE_SOCKET
