"""`compat.socket` compared with real sockets: every test here runs on both, with the same result."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket as real
import struct
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit import stacks as stack_kit
from tests.kit.blocking_sockets import BOUND, Background, network, pair
from tests.kit.core_network import payload

FAMILIES = pytest.mark.parametrize("family", [real.AF_INET, real.AF_INET6])
LOOPBACK = {real.AF_INET: "127.0.0.1", real.AF_INET6: "::1"}


@pytest.fixture(params=["kernel", "stack", "stack, uvloop"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The network, and the kind of its loop; the kernel has none."""
    if request.param == "stack, uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        monkeypatch.setattr(stack_kit, "loop_factory", uvloop.new_event_loop)
    return str(request.param)


@pytest.fixture
def net(loop_kind: str) -> Iterator[Any]:
    """A module of the `socket` module's names."""
    with network(loop_kind) as module:
        yield module


def closed_port(net: Any) -> int:
    """Return a port without a listener."""
    with net.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def number(call: Any, *arguments: Any) -> int | None:
    """Return the errno that a call raises, or None."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


# --- Streams --------------------------------------------------------------------------------------------------------


@FAMILIES
def test_addresses_and_data_both_ways(net: Any, family: int) -> None:
    client, server = pair(net, family)
    with client, server:
        assert client.getpeername() == server.getsockname()
        assert client.getsockname() == server.getpeername()
        assert client.getsockname()[0] == LOOPBACK[real.AddressFamily(family)]
        assert (client.family, client.type) == (family, real.SOCK_STREAM)
        client.sendall(b"there")
        assert server.recv(100) == b"there"
        assert server.send(b"back") == 4
        buffer = bytearray(10)
        assert client.recv_into(buffer) == 4
        assert buffer[:4] == b"back"
        assert client.sendmsg([b"a", b"bc"]) == 3
        assert server.recvmsg(10)[:2] == (b"abc", [])
        client.sendall(b"peek")
        assert server.recv(2, real.MSG_PEEK) == b"pe"
        assert server.recv(4, real.MSG_WAITALL) == b"peek"


@pytest.mark.parametrize("slow", ["nobody", "reader"])
def test_bulk_both_ways_with_half_close(net: Any, slow: str) -> None:
    data = payload(8_000_000)
    client, server = pair(net)

    def back() -> bytes:
        got = bytearray()
        while chunk := server.recv(3000 if slow == "reader" else 100_000):
            got += chunk
        server.sendall(got)
        server.shutdown(real.SHUT_WR)
        return bytes(got)

    with client, server:
        echo = Background(back)
        client.sendall(data)
        client.shutdown(real.SHUT_WR)
        got = bytearray()
        while chunk := client.recv(65536):
            got += chunk
        assert echo.result() == data
        assert got == data
        assert client.recv(1) == b""


def test_data_sent_before_close_arrives(net: Any) -> None:
    data = payload(3_000_000)
    client, server = pair(net)
    with server:
        sender = Background(lambda: (client.sendall(data), client.close()))
        got = bytearray()
        while chunk := server.recv(65536):
            got += chunk
        sender.result()
        assert got == data


def test_flow_control_stops_a_sender(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        client.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200_000_000:
                sent += client.send(bytes(65536))
        assert sent < 50_000_000
        server.settimeout(BOUND)
        got = 0
        while got < sent:
            got += len(server.recv(1 << 20))
        client.settimeout(BOUND)
        client.sendall(b"goes on")
        assert server.recv(10) == b"goes on"


def test_makefile_reads_lines_and_keeps_the_socket(net: Any) -> None:
    client, server = pair(net)
    with server, client.makefile("rwb") as file:
        client.close()  # the file still holds it
        server.sendall(b"one\ntwo\nrest")
        server.shutdown(real.SHUT_WR)
        assert file.readline() == b"one\n"
        file.write(b"answer")
        file.flush()
        assert server.recv(10) == b"answer"
        assert file.read() == b"two\nrest"
    assert client.fileno() == -1


def test_a_reset_is_raised_once(net: Any) -> None:
    client, server = pair(net)
    with client:
        server.setsockopt(real.SOL_SOCKET, real.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert client.recv(10) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")


def test_a_blocked_sender_that_has_not_read_raises_on_a_reset(net: Any) -> None:
    client, server = pair(net)
    with server:
        server.settimeout(None)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(50_000_000))
        sender = Background(server.sendall, bytes(50_000_000))
        sender.wait_until_blocked()
        client.setsockopt(real.SOL_SOCKET, real.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sender.result()


def test_sending_to_a_closed_peer_fails(net: Any) -> None:
    client, server = pair(net)
    with client:
        server.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(10_000):
                client.send(bytes(1000))


def test_shutdown(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        client.shutdown(real.SHUT_WR)
        assert server.recv(10) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        server.sendall(b"still")
        assert client.recv(10) == b"still"
        with pytest.raises(OSError, match="argument"):
            client.shutdown(9)
    with net.socket() as sock:
        assert number(sock.shutdown, real.SHUT_RD) == errno.ENOTCONN


def test_two_threads_on_one_socket(net: Any) -> None:
    client, server = pair(net)
    ours, theirs = payload(4_000_000), payload(4_000_000, 2)

    def read_all(sock: Any, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            got += sock.recv(65536)
        return bytes(got)

    with client, server:
        tasks = [
            Background(client.sendall, ours),
            Background(server.sendall, theirs),
            Background(read_all, client, len(theirs)),
            Background(read_all, server, len(ours)),
        ]
        assert [task.result() for task in tasks] == [None, None, theirs, ours]


def test_dup_and_detach_share_the_connection(net: Any) -> None:
    client, server = pair(net)
    with server:
        other = client.dup()
        client.close()
        other.sendall(b"by the other")
        assert server.recv(20) == b"by the other"
        peer = other.getpeername()
        descriptor = other.detach()
        assert other.fileno() == -1
        with net.socket(fileno=descriptor) as again:
            assert again.getpeername() == peer
            again.sendall(b"again")
            assert server.recv(20) == b"again"
        assert server.recv(20) == b""


# --- Timeouts and non-blocking calls---------------------------------------------------------------------------------


def test_timeouts(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        assert client.gettimeout() == BOUND
        client.settimeout(0.05)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            client.recv(1)
        assert time.monotonic() - started >= 0.04
        client.setblocking(True)
        assert client.gettimeout() is None
        assert client.getblocking()
        with pytest.raises(ValueError, match="out of range"):
            client.settimeout(-1)
    with net.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError, match="timed out"):
            listener.accept()


def test_non_blocking_calls(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        client.setblocking(False)
        assert client.gettimeout() == 0
        for call in (client.recv, client.recvfrom):
            with pytest.raises(BlockingIOError):
                call(1)
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                client.send(bytes(65536))
    with net.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_non_blocking_connect(net: Any) -> None:
    with net.create_server(("127.0.0.1", 0)) as listener, net.socket() as sock:
        listener.settimeout(BOUND)
        sock.setblocking(False)
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        assert select.select([], [sock], [], BOUND)[1] == [sock]
        assert sock.getsockopt(real.SOL_SOCKET, real.SO_ERROR) == 0
        server, address = listener.accept()
        with server:
            assert address == sock.getsockname()
            sock.send(b"first")
            server.settimeout(BOUND)
            assert server.recv(10) == b"first"
            assert sock.connect_ex(listener.getsockname()) in (0, errno.EISCONN)


def test_non_blocking_connect_is_refused_later(net: Any) -> None:
    port = closed_port(net)
    with net.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(("127.0.0.1", port)) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        assert select.select([], [sock], [], BOUND)[1] == [sock]
        assert sock.getsockopt(real.SOL_SOCKET, real.SO_ERROR) in (0, errno.ECONNREFUSED)
        assert number(sock.getpeername) == errno.ENOTCONN


def test_a_refused_socket_connects_again(net: Any) -> None:
    port = closed_port(net)
    with net.socket() as sock, net.create_server(("127.0.0.1", 0)) as listener:
        sock.settimeout(BOUND)
        descriptor = sock.fileno()
        with pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", port))
        while True:
            try:
                sock.connect(listener.getsockname())
                break
            except ConnectionAbortedError:
                continue  # Linux refuses the first attempt after a failed one
        assert sock.fileno() == descriptor
        assert number(sock.connect, listener.getsockname()) in (None, errno.EISCONN)


# --- Waiting for several --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_selectors_mix_our_sockets_and_descriptors(net: Any, kind: str) -> None:
    client, server = pair(net)
    ours, theirs = os.pipe()
    with client, server, getattr(selectors, kind)() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(ours, selectors.EVENT_READ)
        assert selector.select(0) == []
        os.write(theirs, b"x")
        assert [key.fileobj for key, _ in selector.select(BOUND)] == [ours]
        os.read(ours, 1)
        server.send(b"y")
        assert [key.fileobj for key, _ in selector.select(BOUND)] == [client]
        client.recv(1)
        assert selector.select(0) == []
        selector.modify(client, selectors.EVENT_WRITE)
        assert selector.select(0) != []
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            while select.select([], [client], [], 0.2)[1]:
                client.send(bytes(1 << 20))
            raise BlockingIOError
        assert selector.select(0) == []
    os.close(ours)
    os.close(theirs)


def test_a_listener_is_readable_while_a_connection_waits(net: Any) -> None:
    with net.create_server(("127.0.0.1", 0)) as listener:
        assert select.select([listener], [], [], 0)[0] == []
        with net.create_connection(listener.getsockname()):
            assert select.select([listener], [], [], BOUND)[0] == [listener]
            listener.accept()[0].close()
            assert select.select([listener], [], [], 0)[0] == []


# --- Errors ---------------------------------------------------------------------------------------------------------


def test_refused(net: Any) -> None:
    with pytest.raises(ConnectionRefusedError):
        net.create_connection(("127.0.0.1", closed_port(net)), timeout=BOUND)
    with net.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", closed_port(net))) == errno.ECONNREFUSED


def test_errors_of_the_wrong_state(net: Any) -> None:
    with net.socket() as sock:
        assert number(sock.recv, 1) == errno.ENOTCONN
        assert number(sock.send, b"x") == errno.EPIPE
        assert number(sock.getpeername) == errno.ENOTCONN
        assert number(sock.accept) == errno.EINVAL
        assert sock.getsockname() == ("0.0.0.0", 0)
        sock.bind(("127.0.0.1", 0))
        assert number(sock.bind, ("127.0.0.1", 0)) == errno.EINVAL
        sock.listen()
        with net.socket() as other:
            assert number(other.bind, sock.getsockname()) == errno.EADDRINUSE
            assert number(other.bind, ("192.0.2.1", 0)) == errno.EADDRNOTAVAIL
    for call in (lambda: sock.recv(1), lambda: sock.send(b"x"), lambda: sock.accept(), lambda: sock.getsockname()):
        assert number(call) == errno.EBADF
    with net.socket(type=real.SOCK_DGRAM) as sock:
        assert number(sock.listen) == errno.EOPNOTSUPP
        assert number(sock.send, b"x") == errno.EDESTADDRREQ


def test_malformed_addresses(net: Any) -> None:
    with net.socket() as sock:
        for address, error in [
            ("127.0.0.1", TypeError),
            (("127.0.0.1",), TypeError),
            (("127.0.0.1", "80"), TypeError),
            (("127.0.0.1", 70000), OverflowError),
            (("127.0.0.1", -1), OverflowError),
            (("::1", 80), real.gaierror),
        ]:
            with pytest.raises(error):
                sock.connect(address)
            with pytest.raises(error):
                sock.bind(address)


def test_a_port_is_free_after_close(net: Any) -> None:
    with net.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with net.create_server(address) as listener:
        assert listener.getsockname() == address


def test_options(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        for level, name, value in [
            (real.IPPROTO_TCP, real.TCP_NODELAY, 1),
            (real.SOL_SOCKET, real.SO_KEEPALIVE, 1),
            (real.IPPROTO_TCP, real.TCP_KEEPIDLE, 30),
            (real.IPPROTO_TCP, real.TCP_KEEPINTVL, 5),
            (real.IPPROTO_TCP, real.TCP_KEEPCNT, 3),
            (real.SOL_SOCKET, real.SO_REUSEADDR, 1),
        ]:
            client.setsockopt(level, name, value)
            assert client.getsockopt(level, name) == value
            assert struct.unpack("i", client.getsockopt(level, name, 4)) == (value,)
        client.setsockopt(real.SOL_SOCKET, real.SO_RCVBUF, 100_000)
        assert client.getsockopt(real.SOL_SOCKET, real.SO_TYPE) == real.SOCK_STREAM
        assert client.getsockopt(real.SOL_SOCKET, real.SO_ERROR) == 0
        assert number(client.setsockopt, real.SOL_SOCKET, 9999, 1) == errno.ENOPROTOOPT
        assert number(client.getsockopt, real.IPPROTO_TCP, 9999) in (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
    with net.create_server(("127.0.0.1", 0)) as listener:
        assert listener.getsockopt(real.SOL_SOCKET, real.SO_ACCEPTCONN) == 1


# --- Ended by another thread or the peer ------------------------------------------------------------------------------


def test_shutdown_wakes_a_reader(net: Any) -> None:
    client, server = pair(net)
    with client, server:
        reader = Background(client.recv, 1)
        reader.wait_until_blocked()
        client.shutdown(real.SHUT_RDWR)
        assert reader.result() == b""


def test_shutdown_wakes_an_acceptor(net: Any) -> None:
    with net.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Background(listener.accept)
        acceptor.wait_until_blocked()
        listener.shutdown(real.SHUT_RDWR)
        with pytest.raises(OSError, match="argument"):
            acceptor.result()


# --- Datagrams ------------------------------------------------------------------------------------------------------


@FAMILIES
def test_datagrams(net: Any, family: int) -> None:
    with net.socket(family, real.SOCK_DGRAM) as a, net.socket(family, real.SOCK_DGRAM) as b:
        for sock in (a, b):
            sock.settimeout(BOUND)
            sock.bind((LOOPBACK[real.AddressFamily(family)], 0))
        for data in (b"one", b"", payload(60_000)):
            for _ in range(2):  # the first to a destination takes another way
                assert a.sendto(data, b.getsockname()) == len(data)
                assert b.recvfrom(65536) == (data, a.getsockname())
        a.sendto(b"truncated", 0, b.getsockname())
        assert b.recvfrom(4) == (b"trun", a.getsockname())
        a.connect(b.getsockname())
        assert a.getpeername() == b.getsockname()
        a.send(b"connected")
        buffer = bytearray(20)
        assert b.recvfrom_into(buffer) == (9, a.getsockname())
        assert buffer[:9] == b"connected"
        b.sendto(b"message", a.getsockname())
        data, ancillary, flags, source = a.recvmsg(3)
        assert (data, ancillary, source) == (b"mes", [], b.getsockname())
        assert flags & real.MSG_TRUNC
        with pytest.raises(OSError, match=r"too long"):
            a.send(bytes(70_000))
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            a.recv(10)


def test_many_datagrams_wait(net: Any) -> None:
    with net.socket(type=real.SOCK_DGRAM) as a, net.socket(type=real.SOCK_DGRAM) as b:
        b.bind(("127.0.0.1", 0))
        b.settimeout(BOUND)
        sent = [bytes([number]) * 100 for number in range(100)]
        for data in sent:
            a.sendto(data, b.getsockname())
        assert [b.recv(200) for _ in sent] == sent


def test_a_port_without_a_listener_refuses(net: Any) -> None:
    with net.socket(type=real.SOCK_DGRAM) as sock:
        sock.settimeout(BOUND)
        sock.connect(("127.0.0.1", 9))
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)


def test_broadcasts_need_permission(net: Any) -> None:
    with net.socket(type=real.SOCK_DGRAM) as sock:
        assert number(sock.sendto, b"x", ("255.255.255.255", 9)) in (errno.EACCES, errno.ENETUNREACH)
        sock.setsockopt(real.SOL_SOCKET, real.SO_BROADCAST, 1)
        assert sock.getsockopt(real.SOL_SOCKET, real.SO_BROADCAST) == 1


# --- Functions of the module ----------------------------------------------------------------------------------------


def test_functions(net: Any) -> None:
    assert net.getaddrinfo("127.0.0.1", 80, type=real.SOCK_STREAM) == real.getaddrinfo(
        "127.0.0.1", 80, type=real.SOCK_STREAM
    )
    assert net.gethostbyname("localhost") == "127.0.0.1"
    assert net.gethostbyname("10.1.2.3") == "10.1.2.3"
    assert net.getnameinfo(("127.0.0.1", 80), real.NI_NUMERICHOST | real.NI_NUMERICSERV) == ("127.0.0.1", "80")
    assert net.inet_ntoa(net.inet_aton("1.2.3.4")) == "1.2.3.4"
    assert isinstance(net.gethostname(), str)
    with pytest.raises(real.gaierror):
        net.getaddrinfo("not an address", 80, flags=real.AI_NUMERICHOST)
    assert net.timeout is TimeoutError
    a, b = net.socketpair()
    with a, b:
        assert a.family == real.AF_UNIX
        a.send(b"local")
        assert b.recv(10) == b"local"


def test_default_timeout(net: Any) -> None:
    net.setdefaulttimeout(3.5)
    try:
        with net.socket() as sock:
            assert sock.gettimeout() == net.getdefaulttimeout() == 3.5
        client, server = pair(net)
        with client, server:
            client.send(b"x")
            assert server.recv(1) == b"x"
    finally:
        net.setdefaulttimeout(None)


def test_unsupported_families_and_types(net: Any) -> None:
    with pytest.raises(OSError, match=r"."):
        net.socket(real.AF_INET, real.SOCK_STREAM, real.IPPROTO_UDP)
    assert number(net.socket, 9999) == errno.EAFNOSUPPORT


def test_a_forked_child_uses_a_socket_that_its_parent_closes(net: Any) -> None:
    client, server = pair(net)
    with client, net.socket(type=real.SOCK_DGRAM) as datagrams, net.socket(type=real.SOCK_DGRAM) as other:
        datagrams.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        other.settimeout(BOUND)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a process with threads, which 3.12 deprecates
            child = os.fork()
        if child == 0:
            try:
                server.sendall(server.recv(100).upper())
                datagrams.sendto(b"from the child", other.getsockname())
                server.close()
            finally:
                os._exit(0)
        server.close()
        time.sleep(0.05)  # the close takes effect before the child answers
        client.sendall(b"to the child")
        assert client.recv(100) == b"TO THE CHILD"
        assert other.recvfrom(100) == (b"from the child", datagrams.getsockname())
        assert client.recv(100) == b""
        os.waitpid(child, 0)


def test_a_host_has_a_name_and_interfaces_of_its_own() -> None:
    machine = real.gethostname(), real.if_nameindex()
    with network("stack") as module:
        assert module.gethostname() == "localhost"
        module.sethostname(b"virtual")
        assert module.gethostname() == "virtual"
        ((number, name),) = module.if_nameindex()
        assert (module.if_nametoindex(name), module.if_indextoname(number)) == (number, name)
        with pytest.raises(OSError, match="no interface"):
            module.if_nametoindex("eth0")
    assert (real.gethostname(), real.if_nameindex()) == machine
