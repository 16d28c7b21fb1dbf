"""Connections by their addresses and ports: self-connect, simultaneous open, a port used again, all ports used up."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.engine import abi
from tests.kit import frames
from tests.kit.core_network import START, Host, call_raises_errno, payload, two_hosts
from tests.kit.stacks import WAYS, pair, raises_errno, run

ways = pytest.mark.parametrize("way", WAYS)
cables = pytest.mark.parametrize("way", [way for way in WAYS if "loopback" not in way])
FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT
"""Own ports that a client may get (RFC 6056, section 3.2)."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer all that arrives, and close."""
    writer.write(await reader.read(-1))
    writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_self_connect(host: str) -> None:
    """RFC 9293, section 3.5: a SYN that meets itself opens a connection whose two ends are one."""

    async def main() -> None:
        async with await create_stack() as stack:
            reader, writer = await stack.open_connection(host, 5000, local_addr=(host, 5000))
            assert writer.get_extra_info("sockname") == writer.get_extra_info("peername")
            writer.write(payload(200_000))
            assert await reader.readexactly(200_000) == payload(200_000)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())


def test_self_connect_to_a_listener_is_refused() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            server = await stack.start_server(echo, "127.0.0.1", 5000)
            await raises_errno(
                errno.EADDRINUSE, stack.open_connection("127.0.0.1", 5000, local_addr=("127.0.0.1", 5000))
            )
            server.close()

    run(main())


@cables
def test_simultaneous_open(way: str) -> None:
    """RFC 9293, section 3.5, figure 8: two SYNs that cross open one connection, without a listener."""

    async def main() -> None:
        async with pair(way) as two:
            (reader, writer), (far_reader, far_writer) = await asyncio.gather(
                two.a.open_connection(two.host, 700, local_addr=(two.own, 600)),
                two.b.open_connection(two.own, 600, local_addr=(two.host, 700)),
            )
            writer.write(payload(100_000, 1))
            far_writer.write(payload(90_000, 2))
            writer.write_eof()
            far_writer.write_eof()
            assert await far_reader.read(-1) == payload(100_000, 1)
            assert await reader.read(-1) == payload(90_000, 2)
            writer.close()
            far_writer.close()

    run(main())


@ways
@pytest.mark.parametrize("closes_first", ["client", "server"])
def test_client_comes_back_from_its_port_at_once(way: str, closes_first: str) -> None:
    """RFC 6191, section 2; RFC 1122, section 4.2.2.13: timestamps end TIME-WAIT, whichever end has it."""

    async def main() -> None:
        async with pair(way) as two:

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(await reader.readexactly(1000))
                if closes_first == "client":
                    assert await reader.read() == b""
                writer.close()

            server = await two.b.start_server(answer, two.host, 7)
            for turn in range(20):
                reader, writer = await two.a.open_connection(two.host, 7, local_addr=(two.own, 4000))
                writer.write(payload(1000, turn))
                assert await reader.readexactly(1000) == payload(1000, turn)
                if closes_first == "server":
                    assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
                assert await reader.read() == b""
            server.close()

    run(main())


def test_local_port_of_an_open_connection_is_in_use() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            server = await two.b.start_server(echo, two.host, 7)
            _, writer = await two.a.open_connection(two.host, 7, local_addr=(two.own, 4000))
            await raises_errno(errno.EADDRINUSE, two.a.open_connection(two.host, 7, local_addr=(two.own, 4000)))
            writer.close()
            server.close()

    run(main())


def test_all_ports_of_a_destination_are_used_up() -> None:
    """Then connecting fails with the number and the text that say so; another destination has all ports still."""
    host = Host("10.0.0.1/24", kind=abi.KIND_TUN)
    other = Host("10.0.0.2/24", "10.0.1.3/32", kind=abi.KIND_TUN)
    ends = [host.connect(other, 80) for _ in range(PORTS)]
    with pytest.raises(OSError, match=r"connect to 10\.0\.0\.2:80: all own ports") as caught:
        host.connect(other, 80)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    host.connect(other, 81).abort()
    while host.poll(START):  # their SYNs leave, so that there is room for a reset
        pass
    ends.pop().abort()
    host.connect(other, 80)
    call_raises_errno(errno.EADDRNOTAVAIL, lambda: host.connect(other, 80))


def test_connect_from_an_address_of_no_interface() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            for port in (0, 4000):
                with pytest.raises(OSError, match=r"10\.0\.0\.99 is no own address") as caught:
                    await two.a.open_connection(two.host, 7, local_addr=("10.0.0.99", port))
                assert caught.value.errno == errno.EADDRNOTAVAIL

    run(main())


def test_wrong_answers_to_a_syn_do_not_end_a_connect() -> None:
    """Each is answered by a reset (RFC 9293, section 3.10.7.3), and the SYN is sent again at once for the first only.

    They come from an attacker, or from a peer that has the ports in TIME-WAIT and ignores resets (RFC 1337).
    """
    network = two_hosts(kind=abi.KIND_TUN)
    host, peer = network.hosts
    forged = frames.tcp(("10.0.0.2", 80), ("10.0.0.1", 4000), sequence=7, acknowledgement=9, flags=frames.ACK)
    client = host.connect(peer, 80, local_port=4000)
    for _ in range(50):
        host.buffers.receive_frame(frames.ipv4("10.0.0.2", "10.0.0.1", frames.TCP, forged))
        host.poll(network.now)
    flags = [frame[33] for frame in host.sent]
    assert flags.count(frames.SYN) == 2
    assert sum(flag & frames.RST != 0 for flag in flags) == 50
    host.dirty = True
    network.run(lambda: client.connected, seconds=2)
