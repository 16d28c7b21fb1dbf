"""Options of sockets: every kind of socket of the package compared with the kernel's, and the options' effects."""

from __future__ import annotations

import asyncio
import errno
import socket as real
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.sockets import options
from tests.kit.blocking_sockets import BOUND, Background, network, pair
from tests.kit.stacks import pair as stacks
from tests.kit.stacks import run, until

TCP, IP, IP6, SOCKET = real.IPPROTO_TCP, real.IPPROTO_IP, real.IPPROTO_IPV6, real.SOL_SOCKET
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # Linux's

OTHERWISE = {
    (TCP, real.TCP_NODELAY),  # on from the start, as asyncio sets it on every connection
    options.SEGMENT_SIZE,  # Linux caps it on its loopback at half of the first window
    options.INFORMATION,
    (TCP, real.TCP_CONGESTION),  # each says which it has
    (TCP, real.TCP_WINDOW_CLAMP),
    (SOCKET, real.SO_RCVBUF),  # of streams; Linux begins with less and lets them grow
    (SOCKET, real.SO_SNDBUF),
    (SOCKET, getattr(real, "SO_INCOMING_CPU", -1)),
    (IP, real.IP_MULTICAST_TTL),  # of a stream: Linux takes these from the peer's SYN, and does nothing with them
    (IP6, real.IPV6_MULTICAST_HOPS),
    (IP6, real.IPV6_MULTICAST_IF),
    (IP, 49),  # IP_MULTICAST_ALL, which some kernels answer as if they did not know it
}
"""Options that may differ from the kernel's."""

KEYS = sorted(
    {*options.OPTIONS, options.LINGER, options.GROUP_INTERFACE, *OTHERWISE}
    | {(SOCKET, getattr(real, name)) for name in ("SO_ERROR", "SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ACCEPTCONN")}
)


def made(net: Any, family: int) -> Iterator[tuple[str, Any]]:
    """Yield sockets in all states, with a name for each."""
    host = "127.0.0.1" if family == real.AF_INET else "::1"
    with ExitStack() as stack:
        yield "new stream", stack.enter_context(net.socket(family, real.SOCK_STREAM))
        yield "new datagrams", stack.enter_context(net.socket(family, real.SOCK_DGRAM))
        listener = stack.enter_context(net.socket(family, real.SOCK_STREAM))
        listener.bind((host, 0))
        listener.listen()
        yield "listener", listener
        client, server = pair(net, family)
        yield "client", stack.enter_context(client)
        yield "server", stack.enter_context(server)
        bound = stack.enter_context(net.socket(family, real.SOCK_DGRAM))
        bound.bind((host, 0))
        yield "bound datagrams", bound


def outcome(sock: Any, key: tuple[int, int]) -> Any:
    """Return the result of `getsockopt`, or that it raises."""
    try:
        return sock.getsockopt(*key, 16)
    except OSError:
        return OSError


@pytest.mark.parametrize("family", [real.AF_INET, real.AF_INET6])
def test_defaults_are_the_kernels(family: int) -> None:
    """Options that this machine's kernel lacks are not compared."""
    kernels: dict[tuple[str, tuple[int, int]], Any] = {}
    for kind, sock in made(real, family):
        kernels |= {(kind, key): outcome(sock, key) for key in KEYS}
    with network("stack") as net:
        compared = 0
        for kind, sock in made(net, family):
            for key in KEYS:
                kernel, ours = kernels[kind, key], outcome(sock, key)
                if key[1] < 0 or kernel is OSError:
                    continue
                if key in OTHERWISE and (sock.type == real.SOCK_STREAM or key[1] == 49):
                    continue
                assert ours == kernel, (kind, key)
                compared += 1
    assert compared > 150


def number(call: Callable[..., Any], *arguments: Any) -> int | None:
    """Return the number of the error that a call raises, or None."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_values_are_kept_and_checked(kind: str) -> None:
    with network(kind) as net, net.socket() as tcp, net.socket(type=real.SOCK_DGRAM) as udp:
        for key, given, wanted in [
            ((TCP, real.TCP_USER_TIMEOUT), 1500, 1500),
            ((TCP, real.TCP_KEEPIDLE), 50, 50),
            ((TCP, real.TCP_NODELAY), 7, 1),
            ((TCP, real.TCP_CORK), 1, 1),
            ((IP, real.IP_TTL), 9, 9),
            ((IP, real.IP_TTL), -1, 64),
            ((IP, real.IP_TOS), 0x2B, 0x28),
            ((SOCKET, real.SO_RCVBUF), 10_000, 20_000),
            ((SOCKET, real.SO_SNDBUF), 1, 4608),
            ((SOCKET, real.SO_PRIORITY), 5, 5),
            ((IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO, IP_PMTUDISC_DO),
            ((IP, IP_MTU_DISCOVER), 0, 0),  # IP_PMTUDISC_DONT
            ((SOCKET, real.SO_REUSEPORT), 1, 1),
        ]:
            tcp.setsockopt(*key, given)
            assert tcp.getsockopt(*key) == wanted, key
        for key, value in [
            ((TCP, real.TCP_KEEPIDLE), 0),
            ((TCP, real.TCP_KEEPCNT), 128),
            ((TCP, real.TCP_USER_TIMEOUT), -1),
            ((IP, real.IP_TTL), 256),
            ((IP, IP_MTU_DISCOVER), 6),
        ]:
            assert number(tcp.setsockopt, *key, value) == errno.EINVAL, key
        several: list[tuple[tuple[int, int], Any, int]] = [
            ((IP, real.IP_MULTICAST_TTL), b"\x05", 5),
            ((IP, real.IP_MULTICAST_TTL), 6, 6),
            ((IP, real.IP_MULTICAST_TTL), -1, 1),
            ((IP, real.IP_MULTICAST_LOOP), b"\x00", 0),
            ((IP, real.IP_MULTICAST_LOOP), 3, 1),
            ((IP, real.IP_TOS), b"\x2b", 0x2B),
            ((SOCKET, real.SO_BROADCAST), 2, 1),
        ]
        for key, given, wanted in several:
            udp.setsockopt(*key, given)
            assert udp.getsockopt(*key) == wanted, key
        assert number(udp.setsockopt, IP, real.IP_MULTICAST_TTL, 256) == errno.EINVAL
        assert number(udp.setsockopt, SOCKET, real.SO_BROADCAST, b"\x01") == errno.EINVAL
        assert number(udp.setsockopt, IP, real.IP_MULTICAST_IF, real.inet_aton("203.0.113.1")) == errno.EADDRNOTAVAIL
        udp.setsockopt(IP, real.IP_MULTICAST_IF, real.inet_aton("127.0.0.1"))
        assert udp.getsockopt(IP, real.IP_MULTICAST_IF, 4) == real.inet_aton("127.0.0.1")


def test_unsupported_values_are_refused() -> None:
    with network("stack") as net, net.socket() as tcp, net.socket(type=real.SOCK_DGRAM) as udp:
        for sock, level, name, value in [
            (tcp, SOCKET, real.SO_MARK, 1),
            (tcp, SOCKET, real.SO_BINDTODEVICE, b"eth0"),
            (tcp, SOCKET, real.SO_DONTROUTE, 1),
            (tcp, TCP, real.TCP_SYNCNT, 2),
            (tcp, TCP, real.TCP_MAXSEG, 100),
            (udp, IP, real.IP_RECVTOS, 1),
            (udp, IP, 8, 1),  # IP_PKTINFO
            (udp, IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO),
            (tcp, IP, IP_MTU_DISCOVER, 3),  # IP_PMTUDISC_PROBE: no stack ignores the MTU of a path
            (udp, TCP, real.TCP_NODELAY, 1),
            (tcp, SOCKET, 9999, 1),
        ]:
            assert number(sock.setsockopt, level, name, value) == errno.ENOPROTOOPT, (level, name)
        tcp.setsockopt(SOCKET, real.SO_BINDTODEVICE, b"")


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_linger_of_zero_resets(kind: str) -> None:
    with network(kind) as net:
        client, server = pair(net)
        with server:
            client.setsockopt(SOCKET, real.SO_LINGER, struct.pack("ii", 1, 0))
            assert client.getsockopt(SOCKET, real.SO_LINGER, 8) == struct.pack("ii", 1, 0)
            client.close()
            with pytest.raises(ConnectionResetError):
                server.recv(1)


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_lingering_waits_for_the_peer(kind: str) -> None:
    """All data has arrived when `close` returns: the peer reads it after the listener and the client are closed."""
    with network(kind) as net:
        client, server = pair(net)
        with server:
            client.setsockopt(SOCKET, real.SO_LINGER, struct.pack("ii", 1, int(BOUND)))
            running = Background(_drain, server)
            client.sendall(bytes(1_000_000))
            client.close()
            assert running.result() == 1_000_000


def _drain(sock: Any) -> int:
    count = 0
    while chunk := sock.recv(65536):
        count += len(chunk)
    return count


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_information_of_a_connection(kind: str) -> None:
    with network(kind) as net:
        client, server = pair(net)
        with client, server:
            client.sendall(b"x" * 100_000)
            count = 0
            while count < 100_000:
                count += len(server.recv(65536))
            fields = struct.unpack("8B24I", client.getsockopt(TCP, real.TCP_INFO, 104))
            state, flags, scales = fields[0], fields[5], fields[6]
            assert state == 1  # TCP_ESTABLISHED
            assert flags & 7 == 7  # timestamps, SACK, window scaling
            assert scales & 15
            assert scales >> 4
            rto, segment, window = fields[8], fields[10], fields[26]
            round_trip, variation = fields[23], fields[24]
            assert 200_000 <= rto < 60_000_000  # us
            assert 0 < round_trip < 1_000_000  # us
            assert variation < 1_000_000
            assert fields[1] == 0  # TCP_CA_Open
            assert segment == client.getsockopt(TCP, real.TCP_MAXSEG) > 10_000
            assert window >= 1
            with net.socket() as new:
                assert new.getsockopt(TCP, real.TCP_INFO, 104)[0] == 7  # TCP_CLOSE
                new.bind(("127.0.0.1", 0))
                new.listen()
                assert new.getsockopt(TCP, real.TCP_INFO, 104)[0] == 10  # TCP_LISTEN


def test_times_for_calls_that_block() -> None:
    with network("stack") as net:
        client, server = pair(net)
        with client, server:
            client.settimeout(None)
            client.setsockopt(SOCKET, real.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
            with pytest.raises(BlockingIOError):
                client.recv(1)


# --- asyncio's --------------------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Records its transport and how it ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.lost: list[BaseException | None] = []

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.append(error)


def test_sockets_of_transports() -> None:
    async def main() -> None:
        async with stacks("tap4") as two:
            accepted: list[Echo] = []

            def accept() -> Echo:
                accepted.append(Echo())
                return accepted[-1]

            server = await two.b.create_server(accept, two.host, 80)
            transport, client = await two.a.create_connection(Echo, two.host, 80)
            await until(lambda: bool(accepted))
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(TCP, real.TCP_MAXSEG) == 1448
            assert sock.getsockopt(TCP, real.TCP_INFO, 104)[0] == 1
            assert sock.getsockopt(IP, real.IP_TTL) == 64
            assert sock.getsockopt(SOCKET, real.SO_ERROR) == 0
            assert sock.getsockopt(SOCKET, real.SO_PROTOCOL) == TCP
            assert number(sock.setsockopt, SOCKET, real.SO_MARK, 1) == errno.ENOPROTOOPT
            sock.setsockopt(IP, real.IP_TTL, 5)
            assert server.sockets[0].getsockopt(SOCKET, real.SO_ACCEPTCONN) == 1
            sock.setsockopt(SOCKET, real.SO_LINGER, struct.pack("ii", 1, 0))
            transport.write(b"x")
            transport.close()
            await until(lambda: bool(accepted[0].lost) and bool(client.lost))
            assert isinstance(accepted[0].lost[0], ConnectionResetError)
            assert client.lost == [None]
            server.close()

    run(main())


def test_sockets_of_datagram_transports() -> None:
    async def main() -> None:
        async with stacks("tap4") as two:
            transport, _ = await two.a.create_datagram_endpoint(asyncio.DatagramProtocol, (two.own, 0))
            sock = transport.get_extra_info("socket")
            assert (sock.type, sock.family) == (real.SOCK_DGRAM, real.AF_INET)
            assert sock.getsockname()[0] == two.own
            sock.setsockopt(IP, real.IP_MULTICAST_TTL, b"\x07")
            assert sock.getsockopt(IP, real.IP_MULTICAST_TTL) == 7
            membership = real.inet_aton("239.1.2.3") + real.inet_aton(two.own)
            sock.setsockopt(IP, real.IP_ADD_MEMBERSHIP, membership)
            assert number(sock.setsockopt, IP, real.IP_ADD_MEMBERSHIP, membership) == errno.EADDRINUSE
            sock.setsockopt(IP, real.IP_DROP_MEMBERSHIP, membership)
            unknown = real.inet_aton("239.1.2.3") + real.inet_aton("203.0.113.9")
            assert number(sock.setsockopt, IP, real.IP_ADD_MEMBERSHIP, unknown) == errno.ENODEV
            transport.close()

    run(main())


def test_several_servers_of_one_port() -> None:
    """Connections are spread, and each server has some; without `reuse_port` the second is refused."""

    async def main() -> None:
        async with await create_stack(seed=5) as stack:
            counts = [0, 0, 0]

            def serve(index: int) -> Any:
                async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    counts[index] += 1
                    writer.close()

                return accepted

            with stack.polyfill():
                servers = [await asyncio.start_server(serve(i), "127.0.0.1", 8080, reuse_port=True) for i in range(3)]
                assert servers[0].sockets[0].getsockopt(SOCKET, real.SO_REUSEPORT) == 1
                with pytest.raises(OSError, match="in use"):
                    await asyncio.start_server(serve(0), "127.0.0.1", 8080)
                for _ in range(60):
                    reader, writer = await asyncio.open_connection("127.0.0.1", 8080)
                    assert await reader.read() == b""
                    writer.close()
                assert sum(counts) == 60
                assert min(counts) >= 8
                for server in servers:
                    server.close()

    run(main())


def test_several_datagram_endpoints_of_one_port() -> None:
    class Count(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.sources: list[Any] = []

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.sources.append(addr)

    async def main(stack: NetworkStack) -> None:
        with stack.polyfill():
            loop = asyncio.get_running_loop()
            where = "127.0.0.1", 5000
            made = [await loop.create_datagram_endpoint(Count, where, reuse_port=True) for _ in range(2)]
            with pytest.raises(OSError, match="in use"):
                await loop.create_datagram_endpoint(Count, where)
            for _ in range(40):
                transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, None, where)
                for _ in range(3):
                    transport.sendto(b"x")
                transport.close()
            sources = [protocol.sources for _, protocol in made]
            await until(lambda: sum(map(len, sources)) == 120)
            assert min(map(len, sources)) >= 15
            assert not set(sources[0]) & set(sources[1])  # a flow stays with one of them
            for transport, _ in made:
                transport.close()

    async def outer() -> None:
        async with await create_stack(seed=6) as stack:
            await main(stack)

    run(outer())


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_blocking_sockets_share_a_port(kind: str) -> None:
    with network(kind) as net, ExitStack() as stack:
        sockets: list[Any] = []
        for _ in range(2):
            sock = stack.enter_context(net.socket(type=real.SOCK_DGRAM))
            sock.setsockopt(SOCKET, real.SO_REUSEPORT, 1)
            sock.settimeout(BOUND)
            sock.bind(("127.0.0.1", sockets[0].getsockname()[1] if sockets else 0))
            sockets.append(sock)
        with net.socket(type=real.SOCK_DGRAM) as other:
            assert number(other.bind, sockets[0].getsockname()) == errno.EADDRINUSE
        listeners: list[Any] = []
        for _ in range(2):
            listener = stack.enter_context(net.socket())
            listener.setsockopt(SOCKET, real.SO_REUSEPORT, 1)
            listener.bind(("127.0.0.1", listeners[0].getsockname()[1] if listeners else 0))
            listener.listen()
            listeners.append(listener)


def test_user_timeout_is_passed_on() -> None:
    with network("stack") as net:
        client, server = pair(net)
        with client, server:
            client.setsockopt(TCP, real.TCP_USER_TIMEOUT, 250)
            assert client.getsockopt(TCP, real.TCP_USER_TIMEOUT) == 250
