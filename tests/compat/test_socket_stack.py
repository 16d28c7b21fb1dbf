"""Behaviour of `compat.socket` beyond the kernel's sockets, and errors of blocked calls when a stack ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket as real
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, StackClosedError, TcpipError, create_stack
from tcpip_wasm.compat import StackThread, VirtualHost, polyfill_socket
from tcpip_wasm.compat import socket as stack_socket
from tcpip_wasm.compat.blocking.active_host import current_host
from tcpip_wasm.compat.blocking.patch import REPLACED
from tests.kit import stacks as stack_kit
from tests.kit.blocking_sockets import BOUND, Background, pair
from tests.kit.core_network import payload
from tests.kit.stacks import Pair, iterations, until
from tests.kit.stacks import pair as pair_of_stacks


@pytest.fixture
def thread() -> Iterator[StackThread]:
    with StackThread(loop_factory=stack_kit.loop_factory) as thread:
        host = stack_socket.use(thread)
        yield thread
        stack_socket.leave(host)


def connections(thread: VirtualHost) -> int:
    """Return the number of the stack's connections that are not in TIME-WAIT."""

    async def count() -> int:
        figures = thread.stack.stats().core
        return figures.connections - figures.time_wait

    return thread.call(count())


def wait_for_no_connections(thread: VirtualHost) -> None:
    """Wait until no connection is left."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        if connections(thread) == 0:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{connections(thread)} connections are left")


# --- The thread -----------------------------------------------------------------------------------------------------


def test_a_setup_that_fails_is_raised_and_leaves_no_thread() -> None:
    async def setup() -> NetworkStack:
        raise KeyError("no such cable")

    before = threading.active_count()
    with pytest.raises(KeyError, match="no such cable"):
        StackThread(setup)
    assert threading.active_count() == before


def test_a_setup_that_hangs_times_out() -> None:
    async def setup() -> NetworkStack:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(TimeoutError, match=r"within 0\.05 s") as caught:
        StackThread(setup, timeout=0.05)
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_setup_must_make_a_stack() -> None:
    async def setup() -> Any:
        return _NoStack()

    with pytest.raises(TypeError, match="must return a stack"):
        StackThread(setup)


class _NoStack:
    async def __aenter__(self) -> _NoStack:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def test_a_setup_whose_exit_hangs_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcpip_wasm.compat.blocking.thread.EXIT_TIMEOUT", 0.02)

    @asynccontextmanager
    async def setup() -> AsyncIterator[NetworkStack]:
        async with await create_stack() as stack:
            yield stack
            await asyncio.Event().wait()

    StackThread(setup).close()


def test_calls_return_raise_and_time_out(thread: StackThread) -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    assert thread.call(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(TimeoutError, match="its own"):
        thread.call(fail())
    with pytest.raises(TimeoutError, match="timed out"):
        thread.call(asyncio.sleep(60), 0.02)


def test_a_blocking_call_on_the_loop_itself_is_refused(thread: StackThread) -> None:
    sock = stack_socket.socket()

    async def inside() -> None:
        sock.bind(("127.0.0.1", 0))

    with sock, pytest.raises(RuntimeError, match="never end"):
        thread.call(inside())


def test_calls_after_the_end_raise() -> None:
    with StackThread() as thread:
        host = stack_socket.use(thread)
        sock = stack_socket.socket()
    try:
        with pytest.raises(StackClosedError):
            thread.call(asyncio.sleep(0))
        with pytest.raises(StackClosedError):
            sock.connect(("127.0.0.1", 80))
        sock.close()
        thread.close()
    finally:
        stack_socket.leave(host)


def test_a_running_call_ends_with_the_thread() -> None:
    thread = StackThread()
    caller = Background(thread.call, asyncio.sleep(3600))
    caller.wait_until_blocked()
    thread.close()
    with pytest.raises(StackClosedError):
        caller.result()


# --- Blocked calls end with the stack --------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close the socket", "close the stack", "end the thread"])
@pytest.mark.parametrize("call", ["recv", "recv_into", "accept", "sendall", "recvfrom", "connect"])
def test_blocked_calls_wake_up(call: str, end: str) -> None:
    thread = StackThread(loop_factory=stack_kit.loop_factory)
    host = stack_socket.use(thread)
    sockets: list[Any] = []
    try:
        if call in ("recv", "recv_into", "sendall"):
            sockets += pair(stack_socket)
            sockets[0].settimeout(None)
        elif call == "accept":
            sockets.append(stack_socket.create_server(("127.0.0.1", 0)))
        elif call == "recvfrom":
            sockets.append(stack_socket.socket(type=real.SOCK_DGRAM))
            sockets[0].bind(("127.0.0.1", 0))
        else:
            thread.call(silent_cable(thread.stack))
            sockets.append(stack_socket.socket())
        blocked = Background(
            *{
                "recv": (sockets[0].recv, 1),
                "recv_into": (sockets[0].recv_into, bytearray(1)),
                "accept": (sockets[0].accept,),
                "sendall": (sockets[0].sendall if call == "sendall" else None, bytes(50_000_000)),
                "recvfrom": (sockets[0].recvfrom, 1),
                "connect": (sockets[0].connect, ("10.0.0.2", 80)),
            }[call]
        )
        blocked.wait_until_blocked()
        if end == "close the socket":
            sockets[0].close()
        elif end == "close the stack":
            thread.call(thread.stack.aclose())
        else:
            thread.close()
        with pytest.raises(OSError, match=r".") as caught:
            blocked.result()
        if end == "close the socket":
            assert caught.value.errno == errno.EBADF
        else:
            assert isinstance(caught.value, StackClosedError)
    finally:
        for sock in sockets:
            sock.close()
        thread.close()
        stack_socket.leave(host)


async def silent_cable(stack: NetworkStack) -> None:
    """Give a stack a network in which no host answers."""
    tap = await stack.create_tap_interface(ip="10.0.0.1/24")
    stack.loop.create_task(_swallow(tap))


async def _swallow(tap: Any) -> None:
    async for _ in tap:
        pass


def test_connect_times_out_and_leaks_nothing(thread: StackThread) -> None:
    thread.call(silent_cable(thread.stack))
    with pytest.raises(TimeoutError, match="timed out"):
        stack_socket.create_connection(("10.0.0.2", 80), timeout=0.05)
    wait_for_no_connections(thread)


# --- Leaks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "shut, then close", "forget", "reset", "detach"])
def test_connections_end_with_their_sockets(thread: StackThread, how: str) -> None:
    for _ in range(20):
        client, server = pair(stack_socket)
        server.sendall(b"unread")
        if how == "shut, then close":
            client.shutdown(real.SHUT_WR)
        if how == "reset":
            client.setsockopt(real.SOL_SOCKET, real.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "detach":
            os.close(client.detach())
        elif how == "forget":
            with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
                del client
                gc.collect()
        else:
            client.close()
        server.close()
    wait_for_no_connections(thread)


def test_descriptors_do_not_leak(thread: StackThread) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use_some() -> None:
        client, server = pair(stack_socket)
        client.close()
        server.close()
        with stack_socket.socket(type=real.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", 9))
        with stack_socket.socket() as sock:
            sock.connect_ex(("127.0.0.1", 1))
        with stack_socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", 1))

    use_some()
    before = count()
    for _ in range(50):
        use_some()
    wait_for_no_connections(thread)
    assert count() <= before + 4


def test_a_backlog_is_a_bound(thread: StackThread) -> None:
    with stack_socket.create_server(("127.0.0.1", 0), backlog=3) as listener:
        clients = []
        for _ in range(10):
            client = stack_socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            clients.append(client)
        accepted = listener._channel.relay.accepted
        thread.call(until(lambda: len(accepted) >= 3))
        thread.call(iterations(500))  # what would go beyond the bound
        assert len(accepted) <= 4
        for client in clients:
            client.close()


# --- The polyfill ---------------------------------------------------------------------------------------------------


def names() -> dict[str, Any]:
    """Return the names that are replaced."""
    return {name: getattr(real, name) for name in REPLACED} | {"ssl": ssl.SSLContext.sslsocket_class}


def test_polyfills_restore_and_nest(thread: StackThread) -> None:
    before = names()
    with polyfill_socket(thread) as outer:
        assert real.socket is stack_socket.socket
        inner_names = names()
        with StackThread() as other, pytest.raises(ZeroDivisionError), polyfill_socket(other) as inner:
            assert current_host() is inner
            raise ZeroDivisionError
        assert names() == inner_names
        assert current_host() is outer
    assert names() == before


def test_leaving_out_of_order_is_refused(thread: StackThread) -> None:
    first = stack_socket.use(thread)
    second = stack_socket.use(thread.stack)
    with pytest.raises(RuntimeError, match="another host"):
        stack_socket.leave(first)
    stack_socket.leave(second)
    stack_socket.leave(first)


def test_without_a_host_no_socket_can_be_created() -> None:
    with pytest.raises(OSError, match="no virtual host") as caught:
        stack_socket.socket()
    assert caught.value.errno == errno.ENETDOWN
    with pytest.raises(TypeError, match="StackThread"), polyfill_socket("10.0.0.1"):  # type: ignore[arg-type]
        pass


def test_a_polyfilled_program_does_not_use_the_machines_network(thread: StackThread) -> None:
    with real.create_server(("127.0.0.1", 0)) as kernel, polyfill_socket(thread):
        with pytest.raises(ConnectionRefusedError):
            real.create_connection(kernel.getsockname(), timeout=BOUND)
        with pytest.raises(OSError, match="family"):
            real.socket(real.AF_PACKET)
        with pytest.raises(OSError, match="socket type"):
            real.socket(real.AF_INET, real.SOCK_RAW)


def test_errors_are_of_the_packages_tree(thread: StackThread) -> None:
    with pytest.raises(TcpipError), stack_socket.socket() as sock:
        sock.connect(("127.0.0.1", 1))
    with pytest.raises(TcpipError), stack_socket.socket() as sock:
        sock.connect(("192.0.2.1", 1))


def test_socketpair_over_the_loopback(thread: StackThread) -> None:
    for family in (real.AF_INET, real.AF_INET6):
        a, b = stack_socket.socketpair(family)
        with a, b:
            assert a.getpeername() == b.getsockname()
            a.sendall(b"x")
            assert b.recv(2) == b"x"
    with pytest.raises(OSError, match="SOCK_STREAM only"):
        stack_socket.socketpair(real.AF_INET, real.SOCK_DGRAM)


def test_a_new_event_loop_runs_inside(thread: StackThread) -> None:
    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"asked")
        answer = await reader.read(100)
        writer.close()
        await writer.wait_closed()
        return answer

    with polyfill_socket(thread), real.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(sock.recv(100).upper())

        server = Background(answer)
        assert asyncio.run(ask(listener.getsockname()[1])) == b"ASKED"
        server.result()


# --- Groups ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def first_of(kind: str, others: list[Pair]) -> AsyncIterator[NetworkStack]:
    """Create two stacks on a cable, and yield the first."""
    async with pair_of_stacks(kind) as two:
        others.append(two)
        yield two.a


def test_multicast_between_two_hosts() -> None:
    others: list[Pair] = []
    with StackThread(lambda: first_of("tap4", others), loop_factory=stack_kit.loop_factory) as a:
        two = others[0]
        with polyfill_socket(two.b):
            member = real.socket(type=real.SOCK_DGRAM)
            member.settimeout(BOUND)
            member.bind(("", 5000))
            member.setsockopt(
                real.IPPROTO_IP, real.IP_ADD_MEMBERSHIP, real.inet_aton("224.1.2.3") + real.inet_aton(two.host)
            )
        with polyfill_socket(a):
            sender = real.socket(type=real.SOCK_DGRAM)
            sender.setsockopt(real.IPPROTO_IP, real.IP_MULTICAST_TTL, 2)
        with member, sender:
            sender.sendto(b"to all", ("224.1.2.3", 5000))
            data, source = member.recvfrom(100)
            assert (data, source[0]) == (b"to all", two.own)


def test_hosts_have_names_of_their_own() -> None:
    others: list[Pair] = []
    with StackThread(lambda: first_of("tap4", others), loop_factory=stack_kit.loop_factory) as a:
        two = others[0]

        async def name_it() -> None:
            two.a.hosts["db.internal"] = two.host

        a.call(name_it())
        with polyfill_socket(two.b):
            listener = real.create_server(("", 5432))
        with listener, polyfill_socket(a):
            assert real.gethostbyname("db.internal") == two.host
            with real.create_connection(("db.internal", 5432), timeout=BOUND) as client:
                server, address = listener.accept()
                with server:
                    assert address == client.getsockname()
                    data = payload(1_000_000)
                    sender = Background(client.sendall, data)
                    assert server.recv(len(data), real.MSG_WAITALL) == data
                    sender.result()
            with pytest.raises(real.gaierror):
                real.create_connection(("unknown.internal", 80), timeout=BOUND)
