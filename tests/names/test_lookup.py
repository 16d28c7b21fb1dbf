"""Names instead of addresses: `getaddrinfo` and `getnameinfo` compared with asyncio's, and every method of a stack."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm import NameResolutionError, NetworkError, NetworkStack, UdpDatagram, create_stack
from tcpip_wasm.simulation import run_virtually
from tests.kit.dns import SERVER, Query, Zone, dns_network
from tests.kit.stacks import Recorder, iterations, run

ZONE = Zone("web.test 60 A 10.0.0.53\nweb.test 60 AAAA fd00::53\nfour.test 60 A 10.0.0.53")


@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", "80", {"type": socket.SOCK_STREAM}),
        ("::1", 80, {"type": socket.SOCK_DGRAM}),
        (b"::1", b"80", {"proto": socket.IPPROTO_TCP}),
        (None, 80, {"type": socket.SOCK_STREAM, "family": socket.AF_INET}),
        (None, 80, {"type": socket.SOCK_STREAM, "family": socket.AF_INET, "flags": socket.AI_PASSIVE}),
        (None, 80, {"type": socket.SOCK_STREAM, "family": socket.AF_INET6, "flags": socket.AI_PASSIVE}),
        ("10.0.0.1", None, {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}),
        ("10.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_CANONNAME}),
        ("10.0.0.1", 80, {"type": socket.SOCK_STREAM, "family": socket.AF_INET6}),
        ("name", 80, {"flags": socket.AI_NUMERICHOST}),
        ("10.0.0.1", "no-such-service", {"type": socket.SOCK_STREAM}),
        ("10.0.0.1", "http", {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICSERV}),
        ("10.0.0.1", 80, {"family": 12345}),
        (None, None, {}),
    ],
)
def test_getaddrinfo_as_asyncio_does(host: Any, port: Any, options: dict[str, int]) -> None:
    """Numeric hosts, so that the machine's resolver sends no query either; without raw sockets, which a stack lacks."""

    async def ask(asked: Any) -> Any:
        try:
            return [info for info in await asked.getaddrinfo(host, port, **options) if info[1] != socket.SOCK_RAW]
        except socket.gaierror as error:
            # Which of two errors is raised depends on the C library.
            return error.errno if error.errno != socket.EAI_SERVICE else socket.EAI_NONAME

    async def main() -> None:
        async with await create_stack() as stack:
            theirs = await ask(asyncio.get_running_loop())
            if theirs == socket.EAI_SERVICE:
                theirs = socket.EAI_NONAME
            assert await ask(stack) == theirs

    run(main())


@pytest.mark.parametrize(
    ("sockaddr", "flags"),
    [
        (("10.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("::1", 8080, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    ],
)
def test_getnameinfo_as_asyncio_does(sockaddr: Any, flags: int) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            theirs = await asyncio.get_running_loop().getnameinfo(sockaddr, flags)
            assert await stack.getnameinfo(sockaddr, flags) == theirs

    run(main())


def test_services_are_the_packages_own_list() -> None:
    """The machine may have none."""

    async def main() -> None:
        async with await create_stack() as stack:
            (info,) = await stack.getaddrinfo("10.0.0.1", "HTTPS", type=socket.SOCK_STREAM)
            assert info[4] == ("10.0.0.1", 443)
            assert await stack.getnameinfo(("10.0.0.1", 443), socket.NI_NUMERICHOST) == ("10.0.0.1", "https")
            assert await stack.getnameinfo(("10.0.0.1", 444), socket.NI_NUMERICHOST) == ("10.0.0.1", "444")

    run(main())


@pytest.mark.parametrize(
    ("sockaddr", "error"),
    [
        (("name", 80), OSError),
        (("::1",), TypeError),
        ("::1", TypeError),
        (("::1", "80"), TypeError),
        (("::1", -1), ValueError),
    ],
)
def test_getnameinfo_mistakes(sockaddr: Any, error: type[Exception]) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(error, match="sockaddr"):
                await stack.getnameinfo(sockaddr)

    run(main())


@pytest.mark.parametrize(
    ("host", "port", "error"),
    [
        ("a..b", 80, ValueError),
        ("x" * 64, 80, ValueError),
        (".".join(["x" * 60] * 5), 80, ValueError),
        ("a b", 80, ValueError),
        ("nul\0", 80, ValueError),
        ("10.0.0.256", 80, ValueError),
        ("１２７.0.0.1", 80, ValueError),
        ("fe80::1%nowhere", 80, ValueError),
        (5, 80, TypeError),
        ("10.0.0.1", 65536, ValueError),
        ("10.0.0.1", 8.0, TypeError),
    ],
)
def test_mistakes(host: Any, port: Any, error: type[Exception]) -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network:
            with pytest.raises(error, match=r"host|port"):
                await network.client.getaddrinfo(host, port)
            assert network.asked == []

    run_virtually(main())


def test_link_local_addresses_have_a_scope() -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network:
            client = network.client
            tap = client.interfaces[1]
            client.hosts["router"] = f"fe80::1%{tap.name}"
            expected = ("fe80::1", 80, 0, tap.handle)
            for host in ("router", f"fe80::1%{tap.name}"):
                infos = await client.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
                assert [info[4] for info in infos] == [expected]

    run_virtually(main())


async def tcp_by_name(client: NetworkStack, peer: NetworkStack, host: str, at: str) -> None:
    """Connect by every method to a host by name; `at` is a name of the peer's own."""
    listener = await peer.listen_tcp(80, at)
    connection = await client.connect_tcp(host, 80)
    accepted = await listener.accept()
    assert accepted.local_address == connection.remote_address
    connection.abort()
    accepted.abort()
    await listener.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    served = await peer.start_server(serve, [at, "127.0.0.1"], 81)
    reader, writer = await client.open_connection(host, 81)
    writer.write(b"hello\n")
    assert await reader.read() == b"hello\n"
    writer.close()
    served.close()
    await served.wait_closed()

    made = await peer.create_server(Recorder, at, 82)
    transport, protocol = await client.create_connection(Recorder, host, 82)
    transport.abort()
    await protocol.lost
    made.close()


async def first(stack: NetworkStack, host: str) -> str:
    (info, *_) = await stack.getaddrinfo(host, 90, type=socket.SOCK_DGRAM)
    return str(info[4][0])


async def udp_and_ping_by_name(client: NetworkStack, peer: NetworkStack, host: str, at: str) -> None:
    """Send datagrams and a ping by every method to a host by name; `at` is a name of the peer's own."""
    echo = await peer.open_udp(port=90)
    async with await client.open_udp(remote=(host, 90)) as udp, await client.open_udp() as free:
        await udp.send(UdpDatagram(await first(client, host), 90, b"one"))
        arrived = await echo.receive()
        assert arrived.data == b"one"
        await echo.send(UdpDatagram(arrived.host, arrived.port, b"back"))
        assert (await udp.receive()).data == b"back"
        await free.send(UdpDatagram(host, 90, b"two"))
        assert (await echo.receive()).data == b"two"
    endpoint, _ = await client.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, 90))
    endpoint.sendto(b"three")
    assert (await echo.receive()).data == b"three"
    endpoint.close()
    await echo.close()
    session = await client.create_ping_session(host)
    assert (await session.ping(b"are you there?")).payload == b"are you there?"
    await session.close()
    # A local end by name.
    endpoint, _ = await peer.create_datagram_endpoint(asyncio.DatagramProtocol, (at, 91))
    assert endpoint.get_extra_info("sockname")[1] == 91
    endpoint.close()


@pytest.mark.parametrize("host", ["web.test", "four.test", "own", "OWN.", "localhost"])
def test_every_method_that_takes_a_host(host: str) -> None:
    """The server is known by DNS, the client by its own table; `localhost` is the client itself."""

    async def main() -> None:
        async with dns_network(ZONE) as network:
            client, server = network.client, network.host
            client.hosts["own"] = "10.0.0.53"
            server.hosts["me"] = ["10.0.0.53", "fd00::53"]
            peer, at = (client, "localhost") if host == "localhost" else (server, "me")

            await tcp_by_name(client, peer, host, at)
            await udp_and_ping_by_name(client, peer, host, at)
            await iterations(10)

    run_virtually(main())


def test_both_ends_of_a_datagram_socket_are_of_one_family() -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network:
            client = network.client
            client.hosts["me4"] = "10.0.0.1"
            client.hosts["me"] = ["10.0.0.1", "fd00::1"]
            for local, remote, expected in (
                ("me4", "web.test", ("10.0.0.1", "10.0.0.53")),
                ("10.0.0.1", "web.test", ("10.0.0.1", "10.0.0.53")),
                ("me", "fd00::53", ("fd00::1", "fd00::53")),
                ("me", "10.0.0.53", ("10.0.0.1", "10.0.0.53")),
                ("me", "web.test", ("fd00::1", "fd00::53")),
            ):
                endpoint, _ = await client.create_datagram_endpoint(asyncio.DatagramProtocol, (local, 0), (remote, 90))
                ends = tuple(endpoint.get_extra_info(name)[0] for name in ("sockname", "peername"))
                assert ends == expected
                endpoint.close()
            with pytest.raises(NameResolutionError):
                await client.create_datagram_endpoint(asyncio.DatagramProtocol, ("me4", 0), ("fd00::53", 90))

    run_virtually(main())


def test_a_datagram_to_a_name_uses_the_socket_s_family() -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network, await network.host.open_udp(port=90) as echo:
            for own, expected in (("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1"), (None, "fd00::1")):
                async with await network.client.open_udp(own) as udp:
                    await udp.send(UdpDatagram("web.test", 90, b"hello"))
                    assert (await echo.receive()).host == expected
            async with await network.client.open_udp("fd00::1") as udp:
                with pytest.raises(NameResolutionError):
                    await udp.send(UdpDatagram("four.test", 90, b"hello"))
                with pytest.raises(ValueError, match="host"):
                    await udp.send(UdpDatagram("no..name", 90, b"hello"))

    run_virtually(main())


def test_binding_to_a_name_without_a_local_address() -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network:
            with pytest.raises(NetworkError, match=r"10\.0\.0\.53"):
                await network.client.listen_tcp(80, "four.test")
            with pytest.raises(NetworkError, match=r"10\.0\.0\.53"):
                await network.client.create_connection(Recorder, SERVER, 80, local_addr=("four.test", 0))

    run_virtually(main())


def test_a_missing_answer_for_ipv6_does_not_delay_connecting() -> None:
    """RFC 8305, section 3: some servers never answer a question for AAAA."""

    def rule(asked: Query) -> bytes | None:
        return ZONE(asked) if asked.type == "A" else None

    async def main() -> None:
        async with dns_network(rule) as network:
            await network.host.create_server(Recorder, None, 80)
            begun = asyncio.get_running_loop().time()
            connection = await network.client.connect_tcp("web.test", 80)
            assert connection.remote_address == ("10.0.0.53", 80)
            assert asyncio.get_running_loop().time() - begun == pytest.approx(0.05, abs=0.01)
            connection.abort()
            assert network.client.resolver.statistics().under_way == 0
            # A lookup of all addresses waits for the answer.
            begun = asyncio.get_running_loop().time()
            infos = await network.client.getaddrinfo("web.test", 80, type=socket.SOCK_STREAM)
            assert [info[4][0] for info in infos] == ["10.0.0.53"]
            assert asyncio.get_running_loop().time() - begun > 1

    run_virtually(main())


def test_timeout_covers_the_lookup() -> None:
    async def main() -> None:
        async with dns_network(lambda asked: None) as network:
            with pytest.raises(TimeoutError, match=r"web\.test"):
                await network.client.connect_tcp("web.test", 80, timeout=0.5)
            assert network.client.resolver.statistics().under_way == 0

    run_virtually(main())


def test_family_and_flags_of_a_connection() -> None:
    async def main() -> None:
        async with dns_network(ZONE) as network:
            await network.host.create_server(Recorder, None, 80)
            for family, host in ((socket.AF_INET, "10.0.0.53"), (socket.AF_INET6, "fd00::53")):
                transport, protocol = await network.client.create_connection(Recorder, "web.test", 80, family=family)
                assert transport.get_extra_info("peername")[0] == host
                transport.abort()
                await protocol.lost
            with pytest.raises(NameResolutionError):
                await network.client.create_connection(Recorder, "four.test", 80, family=socket.AF_INET6)
            with pytest.raises(NameResolutionError):
                await network.client.create_connection(Recorder, "web.test", 80, flags=socket.AI_NUMERICHOST)
            for options in ({"family": 5}, {"proto": socket.IPPROTO_UDP}):
                with pytest.raises(ValueError, match=next(iter(options))):
                    await network.client.create_connection(Recorder, "web.test", 80, **options)  # type: ignore[arg-type]

    run_virtually(main())


@settings(max_examples=150)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_random_answers_give_an_address_or_an_error(data: bytes, right_id: bool, right_question: bool) -> None:
    """Random bytes, behind a header and a question that are right or not: an address, or one class of error."""

    def rule(asked: Query) -> bytes:
        query = asked.message.to_wire()
        question = query[12 : 12 + len(b"\x03web\x04test\x00") + 4]
        head = query[:2] + bytes.fromhex("8180 0001 0001 0001 0001") + question
        if right_id and right_question:
            return head + data
        return (query[:2] if right_id else b"") + data

    async def main() -> None:
        async with dns_network(rule) as network:
            try:
                infos = await network.client.getaddrinfo("web.test", 80)
            except NameResolutionError as error:
                assert error.errno in (socket.EAI_AGAIN, socket.EAI_NONAME)  # noqa: PT017
            else:
                assert all(ip_address(info[4][0]) for info in infos)
            await iterations(5)
            assert network.client.resolver.statistics().under_way == 0

    run_virtually(main())
