"""Strict blocks: calls that would use the machine's network, its resolver or another program are refused."""

from __future__ import annotations

import _socket
import asyncio
import errno
import os
import pickle
import socket
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import MachineNetworkError, TcpipError, create_stack
from tcpip_wasm.compat import StackThread, machine_network, polyfill_socket
from tcpip_wasm.compat import run as compat_run
from tests.kit.blocking_sockets import BOUND, Background
from tests.kit.machine_network import unreached_server
from tests.kit.stacks import pair, run

TCP = (socket.AF_INET, socket.SOCK_STREAM)
RealSocket = socket.socket
real_getaddrinfo = socket.getaddrinfo
real_gethostbyname = socket.gethostbyname


def connect_real(address: Any) -> None:
    with RealSocket() as sock:
        sock.settimeout(BOUND)
        sock.connect(address)


def send_real(address: Any) -> None:
    with RealSocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", address)


def sendmsg_real(address: Any) -> None:
    with RealSocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"x"], [], 0, address)


def bind_real(_: Any) -> None:
    with RealSocket() as sock:
        sock.bind(("127.0.0.1", 0))


def listen_real(_: Any) -> None:
    with RealSocket() as sock:
        sock.listen()


class OwnSocket(RealSocket):
    """A wrapper of a socket, as libraries have it."""


def listen_subclass(_: Any) -> None:
    with OwnSocket() as sock:
        sock.listen()


def spawn(_: Any) -> None:
    os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)


CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "connect": ("socket.connect", connect_real),
    "sendto": ("socket.sendto", send_real),
    "sendmsg": ("socket.sendmsg", sendmsg_real),
    "bind": ("socket.bind", bind_real),
    "listen": ("socket.listen", listen_real),
    "listen of a subclass": ("socket.listen", listen_subclass),
    "_socket": ("socket.__new__", lambda _: _socket.socket(*TCP)),
    "packets": ("socket.__new__", lambda _: RealSocket(getattr(socket, "AF_PACKET", 17), socket.SOCK_RAW)),
    "raw": ("socket.__new__", lambda _: RealSocket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    "getaddrinfo": ("socket.getaddrinfo", lambda _: real_getaddrinfo("example.org", 80)),
    "gethostbyname": ("socket.gethostbyname", lambda _: real_gethostbyname("example.org")),
    "_socket.getaddrinfo": ("socket.getaddrinfo", lambda _: _socket.getaddrinfo("localhost", 80)),
    "gethostbyaddr": ("socket.gethostbyaddr", lambda _: _socket.gethostbyaddr("192.0.2.1")),
    "getnameinfo": ("socket.getnameinfo", lambda _: _socket.getnameinfo(("192.0.2.1", 80), 0)),
    "subprocess": ("subprocess.Popen", lambda _: subprocess.run([sys.executable, "-c", ""], check=False)),
    "system": ("os.system", lambda _: os.system("true")),
    "posix_spawn": ("os.posix_spawn", spawn),
}
"""Calls that use the machine's network: the name in the refusal, and the call, with an address of the machine."""

SERVED = ("bind", "listen")
"""Calls that the loop's polyfill serves in the thread of the loop."""

each_call = pytest.mark.parametrize("call", CALLS)


def refused(call: str, address: Any) -> None:
    name, function = CALLS[call]
    with pytest.raises(PermissionError) as caught:
        function(address)
    assert isinstance(caught.value, MachineNetworkError)
    assert isinstance(caught.value, TcpipError)
    assert caught.value.errno == errno.EPERM
    assert caught.value.call.startswith(f"{name}(")
    assert name in str(caught.value)
    assert "strict=True" in str(caught.value)
    assert "machine_network()" in str(caught.value), "the way out"


@pytest.mark.parametrize("call", [call for call in CALLS if call not in SERVED])
def test_under_the_loop_s_polyfill(call: str) -> None:
    """In the loop's thread, in the executor's threads, and in a thread that was started before."""

    async def main() -> None:
        with ThreadPoolExecutor() as pool, unreached_server() as address:
            pool.submit(int).result()  # its thread is there
            async with await create_stack() as stack:
                with stack.polyfill(strict=True):
                    refused(call, address)
                    await asyncio.to_thread(refused, call, address)
                    await asyncio.get_running_loop().run_in_executor(None, refused, call, address)
                    pool.submit(refused, call, address).result()
                    Background(refused, call, address).result()

    run(main())


@pytest.mark.parametrize("call", SERVED)
def test_bind_and_listen_in_other_threads(call: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(strict=True):
                await asyncio.to_thread(refused, call, None)
                CALLS[call][1](None)  # the stack's

    run(main())


@each_call
def test_under_the_socket_polyfill(call: str) -> None:
    with unreached_server() as address, StackThread() as thread, polyfill_socket(thread, strict=True):
        refused(call, address)
        Background(refused, call, address).result()


def test_calls_that_the_stack_serves_are_not_refused() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            with two.b.polyfill(strict=True), two.a.polyfill(strict=True):
                await two.b.start_server(upper, two.host, 80)
                reader, writer = await asyncio.open_connection(two.host, 80)
                writer.write(b"question\n")
                assert await reader.read() == b"QUESTION\n"
                writer.close()
                await writer.wait_closed()
                with socket.socket() as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (two.host, 80))
                    await loop.sock_sendall(sock, b"by hand\n")
                    assert await loop.sock_recv(sock, 100) == b"BY HAND\n"
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", 0))
                assert (await loop.getaddrinfo("localhost", 80))[0][4][1] == 80
                assert socket.getaddrinfo("10.0.0.1", "http")[0][4] == ("10.0.0.1", 80)  # numeric: no server is asked
                assert socket.getservbyname("http") == 80
                left, right = socket.socketpair()
                left.send(b"x")
                assert right.recv(1) == b"x"
                left.close()
                right.close()

    run(main())


def test_unix_sockets_are_allowed(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(strict=True):
                async with await asyncio.start_unix_server(lambda _, writer: writer.close(), path):
                    reader, writer = await asyncio.open_unix_connection(path)
                    assert await reader.read() == b""
                    writer.close()
                    await writer.wait_closed()
                    with socket.socket(socket.AF_UNIX) as sock:
                        await asyncio.to_thread(sock.connect, path)
                        assert await asyncio.to_thread(sock.recv, 1) == b""

    run(main())


def test_destinations_that_the_route_leaves_are_allowed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as kernel:
            kernel.setblocking(False)
            address = kernel.getsockname()
            async with await create_stack() as stack:
                with stack.polyfill(route=["10.0.0.0/8", "*.internal"], strict=True):
                    await asyncio.to_thread(connect_real, address)
                    connect_real(address)
                    _, writer = await asyncio.open_connection(*address)
                    writer.close()
                    await writer.wait_closed()
                    assert (await loop.getaddrinfo("localhost", 80))[0][4][1] == 80
                    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0):
                        pass
                    for address in (("10.0.0.9", 80), ("db.internal", 80)):
                        with pytest.raises(MachineNetworkError):
                            await asyncio.to_thread(connect_real, address)
                    with pytest.raises(MachineNetworkError):
                        await asyncio.to_thread(real_getaddrinfo, "db.internal", 80)
                    with pytest.raises(MachineNetworkError, match="another program"):
                        CALLS["subprocess"][1](None)

    run(main())


def test_machine_network_exempts_code() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as kernel:
            address = kernel.getsockname()
            async with await create_stack() as stack:
                with stack.polyfill(strict=True):
                    with machine_network():
                        connect_real(address)
                        await asyncio.to_thread(connect_real, address)
                        thread = Background(connect_real, address)  # a thread that is started inside
                    thread.result()
                    with pytest.raises(MachineNetworkError):
                        connect_real(address)
                    with pytest.raises(MachineNetworkError):
                        Background(connect_real, address).result()

                    async def other() -> None:
                        with pytest.raises(MachineNetworkError):
                            connect_real(address)

                    task = asyncio.create_task(other())
                    with machine_network():
                        await task  # it was made outside

    run(main())


def test_subprocesses_of_the_loop() -> None:
    """uvloop starts them without an audit event."""

    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(strict=True):
                with pytest.raises(MachineNetworkError, match="another program"):
                    await asyncio.create_subprocess_exec(sys.executable, "-c", "")
                with pytest.raises(MachineNetworkError, match="another program"):
                    await asyncio.create_subprocess_shell("true")
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            assert await process.wait() == 0

    run(main())


def test_a_connected_socket_of_the_machine() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as kernel:
            sock = socket.create_connection(kernel.getsockname())
            sock.setblocking(False)
            async with await create_stack() as stack:
                with stack.polyfill(strict=True), pytest.raises(MachineNetworkError, match="socket connected"):
                    await loop.create_connection(asyncio.Protocol, sock=sock)
            sock.close()

    run(main())


def test_blocks_end() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as kernel:
            address = kernel.getsockname()
            async with await create_stack() as stack:
                with stack.polyfill(strict=True):
                    with stack.polyfill(route=["10.0.0.0/8"], strict=True), pytest.raises(MachineNetworkError):
                        connect_real(address)  # the outer block refuses it
                    with pytest.raises(MachineNetworkError):
                        connect_real(address)
            connect_real(address)

        async def program() -> None:
            with pytest.raises(MachineNetworkError):
                connect_real(("127.0.0.1", 9))

        await asyncio.to_thread(compat_run, program(), strict=True)

    run(main())


def test_blocks_of_the_socket_polyfill_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as kernel, StackThread() as thread:
        address = kernel.getsockname()
        with pytest.raises(ZeroDivisionError), polyfill_socket(thread, strict=True):
            raise ZeroDivisionError
        connect_real(address)
        with polyfill_socket(thread, strict=True):
            with socket.socket() as sock:
                assert type(sock) is not RealSocket
            left, right = socket.socketpair(socket.AF_INET)
            with left, right:
                left.sendall(b"x")
                assert right.recv(1) == b"x"
            assert socket.getaddrinfo("localhost", 80)
            with StackThread() as inner, polyfill_socket(inner):  # a thread that is started inside
                assert socket.gethostbyname("localhost") == "127.0.0.1"


def test_the_error_can_be_pickled() -> None:
    error = MachineNetworkError(errno.EPERM, "text", "call")
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.strerror, again.call) == (errno.EPERM, "text", "call")


def test_urllib_reports_the_refusal() -> None:
    with unreached_server() as (_, port), warnings.catch_warnings():

        async def main() -> None:
            async with await create_stack() as stack:
                with stack.polyfill(strict=True), pytest.raises(OSError, match="polyfill") as caught:
                    await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/", None, BOUND)
                assert isinstance(getattr(caught.value, "reason", None), MachineNetworkError)

        run(main())


PROGRAM = """
import asyncio, subprocess, sys, threading
from tcpip_wasm import MachineNetworkError, create_stack

async def main():
    async with await create_stack() as stack:
        with stack.polyfill(strict=True):
            for name in ("localhost", "example.org"):
                try:
                    await asyncio.to_thread(__import__("socket").getaddrinfo, name, 80)
                except MachineNetworkError as error:
                    print(error.call)

asyncio.run(main())
"""


def test_a_whole_program() -> None:
    """In a process of its own, where the hook is first installed inside a loop."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines() == ["socket.getaddrinfo('localhost')", "socket.getaddrinfo('example.org')"]
