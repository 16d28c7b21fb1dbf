"""Special addresses: the unspecified one, IPv4-mapped IPv6 ones, malformed ones."""

from __future__ import annotations

import asyncio
import socket as real
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, UdpDatagram, create_stack
from tests.kit.blocking_sockets import BOUND, network
from tests.kit.stacks import pair, run

HERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "::ffff:127.0.0.1": "127.0.0.1"}


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line."""
    writer.write(b"hello " + await reader.readline())
    await writer.drain()
    writer.close()


async def ask(host: str, port: int, **options: Any) -> Any:
    """Send a line, check the answer, and return the peer's address."""
    reader, writer = await asyncio.open_connection(host, port, **options)
    writer.write(b"there\n")
    assert await reader.read() == b"hello there\n"
    peer = writer.get_extra_info("peername")
    writer.close()
    return peer


@pytest.mark.parametrize("host", list(HERE))
def test_connections_of_the_polyfill_reach_this_host(host: str) -> None:
    async def main() -> None:
        async with await create_stack(seed=3) as stack:
            with stack.polyfill():
                server = await asyncio.start_server(greet, HERE[host], 80)
                assert (await ask(host, 80))[0] == HERE[host]
                server.close()

    run(main())


def test_mapped_addresses_are_ipv4s() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            with two.b.polyfill():
                server = await asyncio.start_server(greet, f"::ffff:{two.host}", 80)
            with two.a.polyfill():
                mapped = f"::ffff:{two.host}"
                assert await ask(mapped, 80) == (two.host, 80)
                assert await ask(mapped, 80, family=real.AF_INET6) == (two.host, 80)
                assert await ask(two.host, 80, local_addr=(f"::ffff:{two.own}", 0)) == (two.host, 80)
                info = await asyncio.get_running_loop().getaddrinfo(mapped, 80, type=real.SOCK_STREAM)
                assert (info[0][0], info[0][4]) == (real.AF_INET6, (mapped, 80, 0, 0))  # as the kernel's
            server.close()
            async with await two.b.listen_tcp(81, f"::ffff:{two.host}") as listener:
                client = await two.a.connect_tcp(f"::ffff:{two.host}", 81)
                accepted = await listener.accept()
                await client.close()
                await accepted.close()

    run(main())


@pytest.mark.parametrize("host", list(HERE))
def test_datagrams_reach_this_host(host: str) -> None:
    async def main() -> None:
        async with await create_stack(seed=3) as stack:
            async with await stack.open_udp(HERE[host], 53) as one, await stack.open_udp() as two:
                await two.send(UdpDatagram(host, 53, b"there"))
                got = await one.receive()
                assert (got.data, got.host) == (b"there", HERE[host])
            async with await stack.open_udp(f"::ffff:{HERE['0.0.0.0']}", 54) as mapped:
                assert mapped.local_address == ("127.0.0.1", 54)

    run(main())


@pytest.mark.parametrize("kind", ["kernel", "stack"])
@pytest.mark.parametrize("host", list(HERE))
def test_blocking_sockets_reach_this_host(kind: str, host: str) -> None:
    family = real.AF_INET6 if ":" in host else real.AF_INET
    with network(kind) as net:
        own = real.AF_INET6 if HERE[host] == "::1" else real.AF_INET
        with net.create_server((HERE[host], 0), family=own) as listener:
            port = listener.getsockname()[1]
            with net.socket(family) as client:
                client.settimeout(BOUND)
                client.connect((host, port))
                peer = client.getpeername()
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(b"hello")
                    assert client.recv(100) == b"hello"
        shown = f"::ffff:{HERE[host]}" if host.startswith("::ffff") else HERE[host]
        assert peer[:2] == (shown, port)
        with net.socket(own, real.SOCK_DGRAM) as one, net.socket(family, real.SOCK_DGRAM) as two:
            one.bind((HERE[host], 0))
            one.settimeout(BOUND)
            two.sendto(b"there", (host, one.getsockname()[1]))
            data, source = one.recvfrom(100)
            assert data == b"there"
            two.settimeout(BOUND)
            one.sendto(b"back", source)
            data, source = two.recvfrom(100)
            assert data == b"back"
            assert source[:2] == (shown, one.getsockname()[1])


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_blocking_sockets_of_both_families(kind: str) -> None:
    with network(kind) as net:
        with net.socket(real.AF_INET6) as listener, net.socket(real.AF_INET6, real.SOCK_DGRAM) as both:
            listener.bind(("::", 0))
            listener.listen()
            both.bind(("::", 0))
            both.settimeout(BOUND)
            with net.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=BOUND) as client:
                accepted, peer = listener.accept()
                with accepted:
                    assert peer == ("::ffff:127.0.0.1", client.getsockname()[1], 0, 0)
                    assert accepted.getsockname()[:2] == ("::ffff:127.0.0.1", listener.getsockname()[1])
            for host, family in (("127.0.0.1", real.AF_INET), ("::1", real.AF_INET6)):
                with net.socket(family, real.SOCK_DGRAM) as sender:
                    sender.sendto(host.encode(), (host, both.getsockname()[1]))
                    data, source = both.recvfrom(100)
                    assert data == host.encode()
                    assert source[0] == ("::ffff:127.0.0.1" if family == real.AF_INET else "::1")
                    both.sendto(b"back", source)
                    sender.settimeout(BOUND)
                    assert sender.recv(100) == b"back"
        with net.socket(real.AF_INET6) as bound:
            bound.bind(("::ffff:127.0.0.1", 0))
            bound.listen()
            with net.create_connection(("127.0.0.1", bound.getsockname()[1]), timeout=BOUND):
                assert bound.getsockname()[0] == "::ffff:127.0.0.1"


@pytest.mark.parametrize("host", ["a b", "-x", "1.2.3", "a" * 300, "fe80::1%nowhere", "[::1", "1.2.3.4.5", "\ud800"])
def test_a_malformed_host_is_unknown(host: str) -> None:
    async def main(stack: NetworkStack) -> None:
        with stack.polyfill():
            with pytest.raises(real.gaierror) as caught:
                await asyncio.open_connection(host, 80)
            assert caught.value.errno == real.EAI_NONAME
            with pytest.raises(real.gaierror):
                await asyncio.start_server(greet, host, 80)
            with pytest.raises(real.gaierror):
                await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, None, (host, 80))
        with pytest.raises(ValueError, match="host"):
            await stack.connect_tcp(host, 80)

    async def outer() -> None:
        async with await create_stack(seed=3) as stack:
            await main(stack)

    run(outer())
