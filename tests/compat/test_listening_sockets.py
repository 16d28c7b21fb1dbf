"""Sockets that a program binds itself within a polyfill: they are the stack's, and the machine opens no port."""

from __future__ import annotations

import _socket
import asyncio
import errno
import socket
import warnings
from typing import Any

import pytest

from tcpip_wasm import TcpipError, create_stack
from tcpip_wasm.compat import MachineNetworkWarning, machine_network
from tests.kit.machine_network import machine_refuses
from tests.kit.stacks import iterations, pair, raises_errno, run
from tests.kit.tls import client_context, server_context


def new_socket(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    writer.close()


async def ask(stack: Any, host: str, port: int, **options: Any) -> bytes:
    reader, writer = await stack.open_connection(host, port, **options)
    writer.write(b"question\n")
    answer: bytes = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_sock_accept() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            with two.b.polyfill(), new_socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((two.host, 0))  # an address that the machine does not have
                host, port = listening.getsockname()
                assert host == two.host
                await raises_errno(errno.ECONNREFUSED, two.a.open_connection(host, port))
                listening.listen(5)
                machine_refuses(port)
                reader, writer = await two.a.open_connection(host, port)
                accepted, address = await loop.sock_accept(listening)
                with accepted:
                    assert address == accepted.getpeername() == writer.get_extra_info("sockname")
                    assert accepted.getsockname() == (host, port)
                    await loop.sock_sendall(accepted, b"hello")
                    assert await reader.readexactly(5) == b"hello"
                    writer.write(b"answer")
                    assert await loop.sock_recv(accepted, 100) == b"answer"
                assert await reader.read() == b""
                writer.close()
                waiting = asyncio.create_task(loop.sock_accept(listening))
                await iterations(3)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                _, writer = await two.a.open_connection(host, port)
                accepted, _ = await loop.sock_accept(listening)
                accepted.close()
                writer.close()
            await raises_errno(errno.ECONNREFUSED, two.a.open_connection(host, port))

    run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("listens", [False, True])
def test_a_server_over_a_socket(tls: bool, listens: bool) -> None:
    """Connections that arrived before the server was created are served, too."""
    context: dict[str, Any] = {"ssl": server_context()} if tls else {}

    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                sock = new_socket()
                sock.bind(("0.0.0.0", 0))
                port = sock.getsockname()[1]
                early = None
                if listens:
                    sock.listen()
                    early = asyncio.create_task(two.a.open_connection(two.host, port, **client_options()))
                    await iterations(50)
                server = await asyncio.start_server(upper, sock=sock, **context)
                machine_refuses(port)
                assert sock.getsockname() == ("0.0.0.0", port)
                assert server.sockets[0].getsockname()[1] == port
            assert await ask(two.a, two.host, port, **client_options()) == b"QUESTION\n"
            if early is not None:
                reader, writer = await early
                writer.write(b"early\n")
                assert await reader.read() == b"EARLY\n"
                writer.close()
                await writer.wait_closed()
            server.close()
            await server.wait_closed()
            assert sock.fileno() == -1
            await raises_errno(errno.ECONNREFUSED, two.a.open_connection(two.host, port))

    def client_options() -> dict[str, Any]:
        return {"ssl": client_context()} if tls else {}

    run(main())


def test_closing_the_socket_of_a_server_ends_it() -> None:
    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                sock = new_socket()
                sock.bind((two.host, 80))
                server = await asyncio.start_server(upper, sock=sock)
                sock.close()
                assert not server.is_serving()
                await raises_errno(errno.ECONNREFUSED, two.a.open_connection(two.host, 80))

    run(main())


def test_a_socket_bound_on_the_machine_before() -> None:
    """The server is the stack's, and the machine's port is released."""

    async def main() -> None:
        async with pair() as two:
            sock = new_socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            port = sock.getsockname()[1]
            with two.b.polyfill():
                server = await asyncio.start_server(upper, sock=sock)
            machine_refuses(port)
            assert await ask(two.b, "127.0.0.1", port) == b"QUESTION\n"
            server.close()
            await server.wait_closed()
            outside = new_socket()
            outside.bind(("127.0.0.1", 0))
            with two.b.polyfill(route=["10.0.0.0/8"]):  # the machine's: the route leaves its address
                server = await asyncio.start_server(upper, sock=outside)
            reader, writer = await asyncio.open_connection(*outside.getsockname())
            writer.write(b"question\n")
            assert await reader.read() == b"QUESTION\n"
            writer.close()
            server.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_accepted_socket_gets_a_protocol(tls: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            with two.b.polyfill(), new_socket() as listening:
                listening.bind((two.host, 80))
                listening.listen()
                options: dict[str, Any] = {"ssl": client_context()} if tls else {}
                asking = asyncio.create_task(ask(two.a, two.host, 80, **options))
                accepted, _ = await loop.sock_accept(listening)
                reader = asyncio.StreamReader()
                await loop.connect_accepted_socket(
                    lambda: asyncio.StreamReaderProtocol(reader, upper),
                    accepted,
                    ssl=server_context() if tls else None,
                )
                assert await asking == b"QUESTION\n"

    run(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_addresses(family: socket.AddressFamily) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            own = "127.0.0.1" if family == socket.AF_INET else "::1"
            with stack.polyfill():
                first, second = new_socket(family), new_socket(family)
                first.bind((own, 0))
                with pytest.raises(TcpipError, match="bound already") as caught:
                    first.bind((own, 81))
                assert getattr(caught.value, "errno", None) == errno.EINVAL
                first.listen()
                with pytest.raises(OSError, match="in use"):
                    second.bind(first.getsockname()[:2])
                elsewhere = "10.9.9.9" if family == socket.AF_INET else "fd09::9"
                with pytest.raises(OSError, match="assign") as caught_too:
                    second.bind((elsewhere, 80))
                assert caught_too.value.errno == errno.EADDRNOTAVAIL
                with pytest.raises(OverflowError):
                    second.bind((own, 65536))
                second.bind((own, 4000))  # a client's own address
                await loop.sock_connect(second, first.getsockname()[:2])
                accepted, address = await loop.sock_accept(first)
                assert address[:2] == (own, 4000)
                for each in (first, second, accepted):
                    each.close()
                unbound = new_socket(family)
                unbound.listen()
                port = unbound.getsockname()[1]
                assert port
                machine_refuses(port)
                (accepted, _), (_, writer) = await asyncio.gather(
                    loop.sock_accept(unbound), stack.open_connection(own, port)
                )
                unbound.close()
                accepted.close()
                writer.close()

    run(main())


def test_both_families() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill():
                for only, port in ((1, 80), (0, 81)):
                    sock = new_socket(socket.AF_INET6)
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                    sock.bind(("::", port))
                    server = await asyncio.start_server(upper, sock=sock)
                    assert await ask(stack, "::1", port) == b"QUESTION\n"
                    if only:
                        await raises_errno(errno.ECONNREFUSED, stack.open_connection("127.0.0.1", port))
                    else:
                        assert await ask(stack, "127.0.0.1", port) == b"QUESTION\n"
                    server.close()
                    await server.wait_closed()

    run(main())


def test_shared_ports() -> None:
    """Sockets with ``SO_REUSEPORT`` share a port, and connections are spread; without it another is refused."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def accept(sock: socket.socket) -> None:
            while True:
                accepted, _ = await loop.sock_accept(sock)
                with accepted:
                    await loop.sock_sendall(accepted, b"accepted")

        async with pair() as two:
            with two.b.polyfill(), new_socket() as served, new_socket() as listening, new_socket() as other:
                for one in (served, listening):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    one.bind((two.host, 80))
                server = await asyncio.start_server(upper, sock=served)
                listening.listen()
                with pytest.raises(OSError, match="in use"):
                    other.bind((two.host, 80))
                accepting = asyncio.create_task(accept(listening))
                assert {await ask(two.a, two.host, 80) for _ in range(24)} == {b"QUESTION\n", b"accepted"}
                accepting.cancel()
                server.close()

    run(main())


@pytest.mark.parametrize("port", [0, 5353])
def test_datagrams(port: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            with two.b.polyfill(), new_socket(kind=socket.SOCK_DGRAM) as sock:
                sock.bind((two.host, port))
                here = sock.getsockname()
                assert here[0] == two.host
                assert here[1] == port or not port
                with new_socket(kind=socket.SOCK_DGRAM) as machine, machine_network():
                    machine.bind(("127.0.0.1", here[1]))  # which the machine has free
                    assert _socket.socket.getsockname(machine) == ("127.0.0.1", here[1]), "bound on the machine"
                waiting = asyncio.create_task(loop.sock_recvfrom(sock, 100))
                await iterations(3)
                transport, _ = await two.a.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=here)
                transport.sendto(b"datagram")
                assert await waiting == (b"datagram", transport.get_extra_info("sockname"))
                transport.close()

    run(main())


def test_calls_that_cannot_be_served_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            with two.b.polyfill(), new_socket() as listening:
                listening.bind((two.host, 80))
                listening.listen()
                with pytest.raises(TcpipError, match=r"loop.sock_accept"):
                    listening.accept()
                for each in (listening, listening.fileno()):
                    with pytest.raises(TcpipError, match="polyfill_socket"):
                        loop.add_reader(each, print)
                    with pytest.raises(TcpipError, match="polyfill_socket"):
                        loop.add_writer(each, print)
                here, there = socket.socketpair()  # the machine's, and not of a network
                here.setblocking(False)
                readable = asyncio.Event()
                loop.add_reader(here, readable.set)
                there.send(b"x")
                await readable.wait()
                loop.remove_reader(here)
                here.close()
                there.close()

    run(main())


def test_calls_that_use_the_machines_network_warn() -> None:
    """Blocking calls, and those of the loop's executor."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            with socket.create_server(("127.0.0.1", 0)) as kernel:
                kernel.setblocking(False)
                address = kernel.getsockname()

                def connect() -> None:
                    socket.create_connection(address, timeout=10).close()

                def send() -> None:
                    with socket.socket(type=socket.SOCK_DGRAM) as udp:
                        udp.sendto(b"x", address)

                def bind() -> None:
                    with socket.socket() as sock:
                        sock.bind(("127.0.0.1", 0))

                with stack.polyfill():
                    for call in (connect, send):
                        with pytest.warns(MachineNetworkWarning, match="polyfill_socket"):
                            call()
                    for call in (connect, send, bind):
                        with pytest.warns(MachineNetworkWarning, match="machine's network"):
                            await loop.run_in_executor(None, call)
                        with pytest.warns(MachineNetworkWarning, match="machine's network"):
                            await asyncio.to_thread(call)
                    with new_socket() as early, pytest.warns(MachineNetworkWarning):
                        early.connect_ex(address)
                    with warnings.catch_warnings(), machine_network():
                        warnings.simplefilter("error")
                        connect()
                        await asyncio.to_thread(connect)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    connect()
                    with stack.polyfill(route=["10.0.0.0/8"]):
                        connect()
                        await loop.run_in_executor(None, connect)

    run(main())


def test_the_class_is_restored() -> None:
    before = dict(vars(socket.socket))

    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(), stack.polyfill(route=["10.0.0.0/8"]):
                assert dict(vars(socket.socket)) != before
            assert dict(vars(socket.socket)) == before

    run(main())
    assert dict(vars(socket.socket)) == before


@pytest.mark.parametrize("call", ["getsockname", "getpeername", "listen"])
def test_calls_on_a_socket_that_was_closed(call: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill():
                sock = socket.socket()
                sock.bind(("127.0.0.1", 0))
                sock.close()
                with pytest.raises(OSError, match="closed") as caught:
                    getattr(sock, call)()
                assert caught.value.errno == errno.EBADF

    run(main())


def test_a_second_descriptor_of_a_bound_socket_is_refused() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill(), socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                with pytest.raises(OSError, match="dup") as caught:
                    sock.dup()
                assert caught.value.errno == errno.EOPNOTSUPP

    run(main())
