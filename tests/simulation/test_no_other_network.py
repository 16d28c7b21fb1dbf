"""A simulated host has only the simulated network: blocking calls are refused, with the reason."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tcpip_wasm import MachineNetworkError
from tcpip_wasm.compat import machine_network
from tcpip_wasm.simulation import Network, run
from tests.kit.machine_network import unreached_server

BOUND = 60.0


def by_urllib(port: int) -> None:
    with pytest.raises(urllib.error.URLError, match=r"a simulation refuses it. .*asyncio") as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=BOUND)
    assert isinstance(caught.value.reason, MachineNetworkError)


def by_name(_: int) -> None:
    with pytest.raises(MachineNetworkError, match="getaddrinfo"):
        socket.getaddrinfo("localhost", 80)


def by_socket(port: int) -> None:
    with pytest.raises(MachineNetworkError, match="asyncio") as caught:
        socket.create_connection(("127.0.0.1", port), timeout=BOUND)
    assert caught.value.errno == errno.EPERM


def by_datagram(port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(MachineNetworkError):
        sock.sendto(b"leak", ("127.0.0.1", port))


def in_a_thread(port: int) -> None:
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            by_urllib(port)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive()
    assert not failures


@pytest.mark.parametrize("attempt", [by_urllib, by_name, by_socket, by_datagram, in_a_thread])
def test_blocking_calls(attempt: Callable[[int], None]) -> None:
    """On a host, in a job of its executor, and outside of all hosts."""

    def once(port: int) -> Any:
        async def scenario(network: Network) -> None:
            host = network.host("a", "10.0.0.1/24")

            async def program() -> None:
                attempt(port)
                await asyncio.to_thread(attempt, port)
                await asyncio.get_running_loop().run_in_executor(None, attempt, port)

            await host.run(program())
            attempt(port)

        return run(scenario, seed=1)

    with unreached_server() as (_, port):
        assert once(port).digest == once(port).digest


def test_a_socket_that_is_bound_on_a_host() -> None:
    """It is the host's, and no port of the machine is opened."""

    async def scenario(network: Network) -> None:
        a, b = network.host("a", "10.0.0.1/24"), network.host("b", "10.0.0.2/24")
        network.link(a, b)

        async def serve() -> None:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind(("10.0.0.1", 80))
            server = await asyncio.start_server(lambda _, writer: writer.close(), sock=sock)
            async with server:
                await server.serve_forever()

        async def ask() -> bytes:
            reader, writer = await asyncio.open_connection("10.0.0.1", 80)
            try:
                return await reader.read()
            finally:
                writer.close()

        a.start(serve)
        await asyncio.sleep(1)
        assert await b.run(ask()) == b""
        with socket.socket() as sock, pytest.raises(OSError, match="no host"):
            sock.bind(("127.0.0.1", 0))

    assert not run(scenario).leaked


def test_other_threads_and_programs_go_on() -> None:
    """A thread that was started before, such as that of a distributed computation, uses the machine's network."""
    begin, outcome = threading.Event(), []

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def connect() -> None:
            assert begin.wait(BOUND)
            socket.create_connection(address, timeout=BOUND).close()
            outcome.append("connected")

        thread = threading.Thread(target=connect)
        thread.start()

        async def scenario(network: Network) -> None:
            begin.set()
            thread.join(BOUND)
            with machine_network():
                await asyncio.to_thread(lambda: socket.create_connection(address, timeout=BOUND).close())
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            assert await process.wait() == 0
            done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", ""], check=False)
            assert done.returncode == 0

        run(scenario)
        assert outcome == ["connected"]
        socket.create_connection(address, timeout=BOUND).close()
