"""UDP and ICMP against the machine's own kernel, over TAP and TUN in a network namespace: its ping and ours, its
UDP and ours, fragments of both, closed ports, groups and broadcasts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final, get_args

import pytest

from tcpip_wasm import UdpDatagram
from tcpip_wasm.links.tuntap import Kind
from tests.kit.core_network import payload

from .harness.requirements import require_kernel_peer
from .scenarios import STACK_ADDRESSES, KernelPeer, kernel_peer

KERNEL: Final = {4: "10.88.0.2", 6: "fd88::2"}
MOST: Final = {4: 65_507, 6: 65_487}
SIZES: Final = (0, 1, 56, 1452, 1453, 1472, 1473, 9000, 60_000)
"""In addition to `MOST`; 1,452 and 1,472 are the largest that are not fragmented, over IPv6 and IPv4."""
GROUP: Final = {4: "239.88.1.2", 6: "ff05::8812"}
PORT: Final = 7007

ECHO: Final = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.socket(family, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
print("ready")
while True:
    data, address = server.recvfrom(65535)
    server.sendto(data[::-1], address)
"""

CLIENT: Final = """
import socket, sys
host, port, *sizes = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
client = socket.socket(family, socket.SOCK_DGRAM)
client.settimeout(60)
client.connect((host, int(port)))
for size in map(int, sizes):
    data = bytes(i * 7 % 251 for i in range(size))
    client.send(data)
    assert client.recv(65535) == data[::-1], size
    print("same", size)
"""

LOAD: Final = 5_000
IN_FLIGHT: Final = 32
"""Datagrams of a load, and those of them under way at a time: what fits every buffer, so that none may be lost."""

LOADER: Final = """
import socket, sys
host, port, count, window = sys.argv[1], *map(int, sys.argv[2:])
client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(60)
client.connect((host, port))
numbered = lambda number: b"%06d" % number * 230
for number in range(count + window):
    if number >= window:
        assert client.recv(65535) == numbered(number - window)[::-1], number - window
    if number < count:
        client.send(numbered(number))
print("all", count)
"""

REFUSED: Final = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
client = socket.socket(family, socket.SOCK_DGRAM)
client.settimeout(60)
client.connect((sys.argv[1], 9))
client.send(b"ping")
try:
    client.recv(1)
except ConnectionRefusedError:
    print("refused")
"""

MEMBER: Final = """
import socket, struct, sys
group, own, port = sys.argv[1:]
index = socket.if_nametoindex("peer0")
if ":" in group:
    member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    member.bind(("::", int(port)))
else:
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(own))
    member.bind(("", int(port)))
print("ready")
data, address = member.recvfrom(65535)
member.sendto(b"received " + data, address)
"""

SENDER: Final = """
import socket, struct, sys
to, own, port, data = sys.argv[1:]
if ":" in to:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("peer0"))
else:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.bind((own, 0))
sender.sendto(data.encode(), (to, int(port)))
"""

pytestmark = [
    pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"]),
    pytest.mark.parametrize("kind", get_args(Kind)),
]


def with_peer(kind: Kind, work: Callable[[KernelPeer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with kernel_peer(kind) as peer, asyncio.timeout(250):
            await work(peer)

    require_kernel_peer("ping")
    asyncio.run(main())


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-u", "-c", program, *map(str, arguments)]


async def run_inside(peer: KernelPeer, *argv: str) -> str:
    return (await asyncio.to_thread(peer.namespace.run, *argv, timeout=100.0)).stdout


def test_the_kernels_ping(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        for size in (*SIZES, MOST[version]):
            await asyncio.to_thread(peer.namespace.echoes, STACK_ADDRESSES[version], 5, size=size)

    with_peer(kind, work)


def test_the_kernels_pings_at_once(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        for size in (*SIZES, MOST[version]):
            # Five are sent before any reply is waited for. With a deadline ping ends when it has five replies, and not
            # soon after its last request; it would send a sixth in place of one that did not come.
            options = ("-n", "-l", "5", "-c", "5", "-i", "60", "-w", "90", "-s", str(size))
            said = await run_inside(peer, "ping", *options, STACK_ADDRESSES[version])
            assert "5 packets transmitted, 5 received, 0% packet loss" in said, said
            assert "wrong" not in said, said

    with_peer(kind, work)


def test_ping_to_the_kernel(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        async with await peer.stack.create_ping_session(KERNEL[version]) as session:
            for size in (*SIZES, MOST[version]):
                reply = await session.ping(payload(size), timeout=60)
                assert reply.payload == payload(size)
                assert reply.host == KERNEL[version]
            replies = await asyncio.gather(*[session.ping(payload(100, n), timeout=60) for n in range(50)])
            assert [reply.payload for reply in replies] == [payload(100, n) for n in range(50)]

    with_peer(kind, work)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[::-1], addr)


def test_udp_to_the_kernel(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        host = KERNEL[version]
        await asyncio.to_thread(peer.namespace.start, *python(ECHO, host, PORT), ready="ready")
        async with await peer.stack.open_udp() as udp:
            for size in (*SIZES, MOST[version]):
                await udp.send(UdpDatagram(host, PORT, payload(size)))
                assert await udp.receive() == UdpDatagram(host, PORT, payload(size)[::-1])
            assert udp.dropped == 0
        assert peer.stack.stats().core.checksum_errors == 0
        assert peer.stack.stats().core.fragment_drops == 0

    with_peer(kind, work)


def test_udp_from_the_kernel(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        sizes = (*SIZES, MOST[version])
        transport, _ = await peer.stack.create_datagram_endpoint(Echo, local_addr=(STACK_ADDRESSES[version], PORT))
        said = await run_inside(peer, *python(CLIENT, STACK_ADDRESSES[version], PORT, *sizes))
        assert said.split() == [word for size in sizes for word in ("same", str(size))]
        transport.close()

    with_peer(kind, work)


def test_a_load_to_the_kernel(kind: Kind, version: int) -> None:
    """Numbered datagrams of 1,380 bytes, many under way: each is echoed, unchanged and in order."""

    async def work(peer: KernelPeer) -> None:
        host = KERNEL[version]
        await asyncio.to_thread(peer.namespace.start, *python(ECHO, host, PORT), ready="ready")
        async with await peer.stack.open_udp() as udp:
            for number in range(LOAD + IN_FLIGHT):
                if number >= IN_FLIGHT:
                    assert (await udp.receive()).data == (b"%06d" % (number - IN_FLIGHT) * 230)[::-1]
                if number < LOAD:
                    await udp.send(UdpDatagram(host, PORT, b"%06d" % number * 230))
            assert udp.dropped == 0

    with_peer(kind, work)


def test_a_load_from_the_kernel(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        transport, _ = await peer.stack.create_datagram_endpoint(Echo, local_addr=(STACK_ADDRESSES[version], PORT))
        said = await run_inside(peer, *python(LOADER, STACK_ADDRESSES[version], PORT, LOAD, IN_FLIGHT))
        assert said.split() == ["all", str(LOAD)]
        transport.close()

    with_peer(kind, work)


def test_closed_ports(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        assert (await run_inside(peer, *python(REFUSED, STACK_ADDRESSES[version]))).strip() == "refused"
        async with await peer.stack.open_udp(remote=(KERNEL[version], 9)) as udp:
            for size in (10, 5000):
                await udp.send(UdpDatagram(KERNEL[version], 9, bytes(size)))
                with pytest.raises(ConnectionRefusedError):
                    await udp.receive()
        assert peer.stack.stats().core.icmp_unmatched == 0

    with_peer(kind, work)


def test_groups(kind: Kind, version: int) -> None:
    async def work(peer: KernelPeer) -> None:
        group, own = GROUP[version], KERNEL[version]
        (interface,) = [each for each in peer.stack.interfaces if each.type == kind]
        async with await peer.stack.open_udp(port=PORT, multicast_interface=interface) as udp:
            udp.join_group(group, interface)
            await run_inside(peer, *python(SENDER, group, own, PORT, "to the group"))
            heard = await udp.receive()
            assert (heard.host, heard.data) == (own, b"to the group")
            await asyncio.to_thread(peer.namespace.start, *python(MEMBER, group, own, PORT + 1), ready="ready")
            await udp.send(UdpDatagram(group, PORT + 1, b"the group"))
            assert (await udp.receive()).data == b"received the group"

    with_peer(kind, work)


def test_broadcasts(kind: Kind, version: int) -> None:
    if kind == "tun" or version == 6:
        pytest.skip("no broadcasts there")

    async def work(peer: KernelPeer) -> None:
        async with await peer.stack.open_udp(port=PORT, allow_broadcast=True) as udp:
            await run_inside(peer, "ip", "address", "change", "10.88.0.2/24", "brd", "10.88.0.255", "dev", "peer0")
            await run_inside(peer, *python(SENDER, "10.88.0.255", KERNEL[4], PORT, "to all"))
            assert (await udp.receive()).data == b"to all"
            await asyncio.to_thread(peer.namespace.start, *python(ECHO, "0.0.0.0", PORT + 1), ready="ready")
            for everybody in ("255.255.255.255", "10.88.0.255"):
                await udp.send(UdpDatagram(everybody, PORT + 1, b"abc"))
                assert await udp.receive() == UdpDatagram(KERNEL[4], PORT + 1, b"cba")

    with_peer(kind, work)
