"""`polyfill` and `run`: destinations, restoring, and that the machine's network is not used."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, TcpTransport, compat, create_stack
from tcpip_wasm.compat.loop.polyfill import REPLACED
from tcpip_wasm.compat.route import MAX_LEARNT, Route
from tests.kit.polyfill_servers import ask, kernel_server, upper
from tests.kit.stacks import Recorder, iterations, pair, run, until
from tests.kit.tls import client_context, server_context


def test_asyncios_own_functions() -> None:
    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await asyncio.start_server(upper, two.host, 80)
                assert server.sockets[0].getsockname() == (two.host, 80)
                assert server.sockets[0].family == socket.AF_INET
            with two.a.polyfill():
                assert await ask(two.host, 80) == b"QUESTION\n"
                assert await ask(two.host, "80") == b"QUESTION\n"  # type: ignore[arg-type]
                assert await ask(two.host, 80, local_addr=(two.own, 7777)) == b"QUESTION\n"
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_connection(Recorder, two.host, 80)
                assert isinstance(transport, TcpTransport)
                transport.close()
                await protocol.lost
                with pytest.raises(ConnectionRefusedError):
                    await ask(two.host, 81)
                with pytest.raises(OSError, match="unreachable"):
                    await ask("198.51.100.1", 80)
                with pytest.raises(ValueError, match="host and port was not specified"):
                    await loop.create_connection(Recorder)
            server.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::", "localhost", "127.0.0.1", ["127.0.0.1", "::1"]])
def test_servers_without_a_host_on_a_stack_alone(host: Any) -> None:
    """Servers on every form of the local host are reached at the loopback."""

    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill():
                server = await asyncio.start_server(upper, host, 8000, start_serving=False)
                assert not server.is_serving()
                target = "::1" if host == "::" else "127.0.0.1"
                with pytest.raises(ConnectionRefusedError):
                    await ask(target, 8000)
                await server.start_serving()
                assert await ask(target, 8000) == b"QUESTION\n"
                if host not in ("0.0.0.0", "::", "127.0.0.1"):
                    assert await ask("localhost", 8000) == b"QUESTION\n"
                serving = asyncio.create_task(server.serve_forever())
                await iterations(2)
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                assert not server.is_serving()
                assert server.sockets == ()

    run(main())


def test_tls() -> None:
    async def main() -> None:
        async with pair() as two:
            with two.b.polyfill():
                server = await asyncio.start_server(upper, two.host, 443, ssl=server_context())
            with two.a.polyfill():
                assert await ask(two.host, 443, ssl=client_context()) == b"QUESTION\n"
                answer = await ask(two.host, 443, ssl=client_context(), server_hostname="server.test")
                assert answer == b"QUESTION\n"
                with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
                    await ask(two.host, 443, server_hostname="server.test")
            server.close()
            await server.wait_closed()

    run(main())


def test_start_tls() -> None:
    """By the streams' own method, both ends inside a polyfill, and on a connection of the machine's inside one."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"220 go ahead\n")
            await writer.start_tls(server_context())
            writer.write(b"secret " + await reader.readline())
            writer.close()

        async def client(host: str, port: int) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"220 go ahead\n"
            await writer.start_tls(client_context(), server_hostname="server.test")
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

        async with pair() as two:
            real = await asyncio.start_server(serve, "127.0.0.1", 0)
            with two.b.polyfill():
                server = await asyncio.start_server(serve, two.host, 25)
            with two.a.polyfill(route=["10.0.0.0/8"]):
                assert await client(two.host, 25) == b"secret hello\n"
                assert await client("127.0.0.1", real.sockets[0].getsockname()[1]) == b"secret hello\n"
            for each in (server, real):
                each.close()
                await each.wait_closed()

    run(main())


def test_other_destinations_use_the_machines_network() -> None:
    async def main() -> None:
        async with kernel_server() as port, pair() as two:
            await two.b.start_server(upper, two.host, 80)
            loop = asyncio.get_running_loop()
            with two.a.polyfill(route=["10.0.0.0/8", "*.internal"]):
                assert await ask(two.host, 80) == b"QUESTION\n"
                assert await ask("127.0.0.1", port) == b"kernel question\n"
                assert await ask("localhost", port, family=socket.AF_INET) == b"kernel question\n"
                infos = await loop.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
                assert infos[0][4] == ("127.0.0.1", port)
                async with kernel_server() as another:  # a server there, made inside
                    assert await ask("127.0.0.1", another) == b"kernel question\n"
                async with await asyncio.start_server(upper, two.own, 90):  # and one of the stack
                    _, writer = await two.b.open_connection(two.own, 90)
                    writer.close()
                    await writer.wait_closed()
                with pytest.raises(ValueError, match="partly"):
                    await asyncio.start_server(upper, [two.own, "127.0.0.1"], 91)
            with two.a.polyfill(route=lambda host: host != "127.0.0.1"):
                assert await ask(two.host, 80) == b"QUESTION\n"
                assert await ask("127.0.0.1", port) == b"kernel question\n"
            with two.a.polyfill(), pytest.raises(ConnectionRefusedError):
                await ask("127.0.0.1", port)

    run(main())


def test_a_connected_socket_stays_the_machines() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            with stack.polyfill():
                left, right = socket.socketpair()
                right.setblocking(False)
                transport, protocol = await loop.create_connection(Recorder_, sock=left)
                transport.write(b"through the kernel")
                assert await loop.sock_recv(right, 100) == b"through the kernel"
                await loop.sock_sendall(right, b"and back")
                await until(lambda: protocol.data == b"and back")
                transport.close()
                right.close()
                await protocol.lost

    class Recorder_(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]

    run(main())


def test_unix_sockets_are_untouched(tmp_path: Path) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with stack.polyfill():
                path = str(tmp_path / "socket")
                async with await asyncio.start_unix_server(upper, path):
                    reader, writer = await asyncio.open_unix_connection(path)
                    writer.write(b"local\n")
                    assert await reader.readline() == b"LOCAL\n"
                    writer.close()
                    await writer.wait_closed()
                    raw = socket.socket(socket.AF_UNIX)
                    raw.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(raw, path)
                    raw.close()

    run(main())


@pytest.mark.skipif(not hasattr(NetworkStack, "create_datagram_endpoint"), reason="a stack has no datagram sockets yet")
def test_datagrams() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[tuple[bytes, Any]] = loop.create_future()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data.upper(), addr)

        class Asking(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                answered.set_result((data, addr))

        async with pair() as two:
            with two.b.polyfill():
                server, _ = await loop.create_datagram_endpoint(Echo, local_addr=(two.host, 53))
            with two.a.polyfill(route=["10.0.0.0/8"]):
                client, _ = await loop.create_datagram_endpoint(Asking, remote_addr=(two.host, 53))
                client.sendto(b"question")
                assert await answered == (b"QUESTION", (two.host, 53))
                outside, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
                assert isinstance(outside.get_extra_info("socket").fileno(), int)
                assert outside.get_extra_info("sockname")[0] == "127.0.0.1"
            for transport in (server, client, outside):
                transport.close()

    run(main())


# --- Entering and leaving -------------------------------------------------------------------------------------


def test_leaving_restores_everything() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            before = dict(vars(loop))
            with pytest.raises(KeyError), stack.polyfill():
                assert {name for name in REPLACED if name in vars(loop)} == set(REPLACED)
                raise KeyError
            after = dict(vars(loop))
            assert {name for name in REPLACED if name in after} == {name for name in REPLACED if name in before}
            again = stack.polyfill()
            with again:
                pass
            with again, pytest.raises(RuntimeError, match="active already"):
                again.__enter__()
            with pytest.raises(RuntimeError, match="not active"):
                again.__exit__(None, None, None)
            assert not {name for name in REPLACED if name in vars(loop)}
        async with kernel_server() as port:
            assert await ask("127.0.0.1", port) == b"kernel question\n"

    run(main())


def test_methods_replaced_by_others_are_restored() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def theirs(*_: Any, **__: Any) -> Any:
            return ["theirs"]

        async with await create_stack() as stack:
            loop.getaddrinfo = theirs
            with stack.polyfill(route=["10.0.0.0/8"]):
                assert await loop.getaddrinfo("192.0.2.1", 80) == ["theirs"]
                assert (await loop.getaddrinfo("10.0.0.2", 80))[0][4] == ("10.0.0.2", 80)
            assert loop.getaddrinfo is theirs
            del loop.getaddrinfo

    run(main())


def test_nesting() -> None:
    """Destinations that the inner one's route leaves go to the outer one."""

    async def main() -> None:
        async with pair() as one, pair(seed=70) as other:
            await one.b.start_server(upper, one.host, 80)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"the other " + await reader.readline())
                writer.close()

            await other.b.start_server(serve, "10.0.0.2", 81)
            with one.a.polyfill():
                with other.a.polyfill(route=lambda host: host == "10.0.0.3"), pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask("10.0.0.3", 80), 0.05)
                with other.a.polyfill(route=["10.0.0.3"]):
                    assert await ask("10.0.0.2", 80) == b"QUESTION\n"
                with other.a.polyfill():
                    assert await ask("10.0.0.2", 81) == b"the other question\n"
                assert await ask("10.0.0.2", 80) == b"QUESTION\n"

    run(main())


def test_misuse() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            outer, inner = stack.polyfill(), stack.polyfill()
            outer.__enter__()
            inner.__enter__()
            with pytest.raises(RuntimeError, match="reverse order"):
                outer.__exit__(None, None, None)
            assert "create_connection" in vars(loop)
            inner.__exit__(None, None, None)  # and the outer one ends with it
            assert "create_connection" not in vars(loop)
            assert "active" in repr(outer)

            def elsewhere() -> None:
                async def enter() -> None:
                    with pytest.raises(RuntimeError, match="another loop is running"), stack.polyfill():
                        pass

                asyncio.run(enter())

            await asyncio.to_thread(elsewhere)
        with pytest.raises(ConnectionAbortedError, match="closed"), stack.polyfill():
            raise AssertionError("entered")

    run(main())


# --- Routes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "taken", "left"),
    [
        (None, ["10.0.0.1", "example.org", "::1", ""], []),
        (["10.0.0.0/8"], ["10.255.0.1", "::ffff:10.0.0.1"], ["11.0.0.1", "fd00::1", "10.example.org", ""]),
        ("fd00::/8", ["fd00::1", "[fd00::2]"], ["fe80::1", "10.0.0.1"]),
        (["fe80::/10"], ["fe80::1%tap0"], ["fd00::1"]),
        (["*.internal", "db"], ["a.INTERNAL", "a.b.internal.", "db", "DB"], ["internal", "db2", "a.internal.org"]),
        (["10.0.0.7"], ["10.0.0.7"], ["10.0.0.8"]),
        (lambda host: host.endswith("1"), ["10.0.0.1", "host1"], ["10.0.0.2"]),
        ([], [], ["10.0.0.1", "a"]),
    ],
)
def test_routes(route: Any, taken: list[str], left: list[str]) -> None:
    chosen = Route(route)
    assert [host for host in taken if not chosen.takes(host)] == []
    assert [host for host in left if chosen.takes(host)] == []


def test_malformed_routes() -> None:
    for malformed in ("10.0.0.1/8", "10.0.0.0/33", "a b", "http://host", ""):
        with pytest.raises(ValueError, match="route: "):
            Route([malformed])
    for wrong in (5, b"10.0.0.0/8", None):
        with pytest.raises(TypeError, match="route: "):
            Route([wrong])  # type: ignore[list-item]


def test_addresses_learnt_by_name_are_bounded() -> None:
    route = Route(["*.internal"])
    for number in range(MAX_LEARNT + 10):
        route.learn(f"address {number}")
    assert route.takes(f"address {MAX_LEARNT + 9}")
    assert not route.takes("address 9")
    assert route.takes("address 10")


def test_names_without_a_name_server() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await create_stack() as stack:
            with stack.polyfill():
                stream = socket.SOCK_STREAM
                infos = await loop.getaddrinfo("::1", "http", type=stream)
                assert infos == [(socket.AF_INET6, stream, socket.IPPROTO_TCP, "", ("::1", 80, 0, 0))]
                infos = await loop.getaddrinfo("127.0.0.1", 80)
                assert {info[1] for info in infos} >= {stream, socket.SOCK_DGRAM}
                with pytest.raises(socket.gaierror):
                    await loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)
                name = await loop.getnameinfo(("10.9.8.7", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
                assert name == ("10.9.8.7", "80")

    run(main())


# --- Nothing leaks --------------------------------------------------------------------------------------------

DENYING = """
import asyncio, ctypes, platform, socket, struct, sys
import httpx, aiohttp
from tcpip_wasm import connect, create_stack
from tests.kit.machine_network import conclude, deny

def kill_at_system_calls():
    # Where the kernel can: end this process at connect or bind, for loops whose sockets raise no audit events.
    numbers = {"x86_64": (42, 49), "aarch64": (203, 200)}.get(platform.machine())
    if sys.platform != "linux" or numbers is None:
        return
    connect, bind = numbers
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 1, 0, connect), (0x15, 0, 1, bind),
        (0x06, 0, 0, 0x80000000),  # SECCOMP_RET_KILL_PROCESS
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ))
    code = ctypes.create_string_buffer(program)
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    if prctl(22, 2, ctypes.c_void_p(ctypes.addressof(filters)), 0, 0) == 0:  # PR_SET_SECCOMP
        print("watched by the kernel", flush=True)

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    sys.addaudithook(deny)
    kill_at_system_calls()
    async with await create_stack() as a, await create_stack() as b:
        connect(await a.create_tap_interface(ip="10.0.0.1/24"), await b.create_tap_interface(ip="10.0.0.2/24"))
        with b.polyfill():
            for host in ("10.0.0.2", "127.0.0.1"):
                await asyncio.start_server(serve, host, 80)
            await asyncio.start_server(serve, None, 81)
            await loop.create_server(asyncio.Protocol, "0.0.0.0", 82, reuse_address=True, keep_alive=True)
        with a.polyfill():
            async with httpx.AsyncClient() as client:
                for port in (80, 81):
                    assert (await client.get(f"http://10.0.0.2:{port}/")).text == "ok"
            async with aiohttp.ClientSession() as session, session.get("http://10.0.0.2/") as response:
                assert await response.text() == "ok"
            attempts = [
                asyncio.open_connection("127.0.0.1", 22),
                asyncio.open_connection("localhost", 22),
                asyncio.open_connection("::1", 22),
                asyncio.open_connection("example.org", 80),
                asyncio.open_connection("192.0.2.1", 80),
                asyncio.open_connection("example.org", 443, ssl=True),
                loop.getaddrinfo("example.org", 80),
                loop.getnameinfo(("192.0.2.1", 80), socket.NI_NAMEREQD),
                loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("192.0.2.1", 53)),
                loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("example.org", 53)),
            ]
            for attempt in attempts:
                try:
                    await asyncio.wait_for(attempt, 0.3)
                except (OSError, TimeoutError):
                    pass
            sock = socket.socket()
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, ("192.0.2.1", 80))
            except OSError:
                pass
            sock.close()
            with socket.socket(type=socket.SOCK_DGRAM) as udp:
                udp.setblocking(False)
                try:
                    await loop.sock_sendto(udp, b"leak", ("192.0.2.1", 9))
                except OSError:
                    pass
    conclude()
    if sys.argv[1] == "uvloop":
        await asyncio.open_connection("127.0.0.1", 22)  # ends the process, if the kernel watches

if sys.argv[1] == "uvloop":
    import uvloop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
else:
    asyncio.run(main())
"""


def test_nothing_reaches_the_machines_network(loop_kind: str) -> None:
    """A program whose real sockets must neither connect, bind, send nor look up names works inside a polyfill."""
    done = subprocess.run(
        [sys.executable, "-c", DENYING, loop_kind],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=Path(__file__).resolve().parents[2],
    )
    watched = "watched by the kernel" in done.stdout
    if loop_kind == "uvloop":
        if not watched:
            pytest.skip("this kernel does not watch system calls for us")
        assert done.returncode == -signal.SIGSYS, done.stderr
    else:
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "no call has used the machine's network", done.stderr


# --- run ------------------------------------------------------------------------------------------------------


async def program() -> bytes:
    async with await asyncio.start_server(upper, "127.0.0.1", 80) as server:
        assert isinstance(server.sockets, tuple)
        return await ask("127.0.0.1", 80)


def test_run() -> None:
    made: list[NetworkStack] = []

    async def make() -> NetworkStack:
        made.append(await create_stack(seed=1))
        return made[0]

    assert compat.run(program()) == b"QUESTION\n"
    assert compat.run(program(), stack=make) == b"QUESTION\n"
    assert made[0].closed
    with asyncio.Runner() as runner:
        stack = runner.run(create_stack())
        assert compat.run(program(), stack=stack) == b"QUESTION\n"
        assert "create_server" not in vars(runner.get_loop())

        async def inside() -> bytes:
            answer: bytes = await compat.run(program(), stack=stack)
            return answer

        assert runner.run(inside()) == b"QUESTION\n"
        with pytest.raises(ValueError, match="has its loop already"):
            compat.run(program(), stack=stack, debug=True)
        runner.run(stack.aclose())

    async def nested() -> None:
        with pytest.raises(RuntimeError, match="one runs in this thread already"):
            compat.run(program())

    asyncio.run(nested())


def test_run_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def which() -> str:
        await program()
        return type(asyncio.get_running_loop()).__module__

    assert compat.run(which(), loop_factory=uvloop.new_event_loop) == "uvloop"
