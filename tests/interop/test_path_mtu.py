"""Paths with a smaller MTU than their ends, or that get one: two kernels forward between a stack and a third one.

The links of both ends carry 1,500 bytes, so that neither end's MSS says what fits in between. The stack's IPv6 segments
are too big for the way and the router says so; it sends IPv4 without DF, so that the router fragments, unless a program
asks for path MTU discovery; the kernel finds the path's MTU for both.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from tcpip_wasm import NetworkError, NetworkStack, UdpDatagram, create_stack
from tests.kit.core_network import payload

from .harness.namespaces import Namespace, network_namespace
from .harness.requirements import require_kernel_peer
from .test_kernel_datagrams import ECHO, python

HOST = {4: "10.88.1.1", 6: "fd88:1::1"}
FAR = {4: "10.88.3.2", 6: "fd88:3::2"}
PORT = 7070
LENGTH = 12_000_000
NARROW = 1300
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # Linux's

BULK = """
import hashlib, random, socket, sys, threading
host, port, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
server = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
data = random.Random(7).randbytes(length)
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    sending = threading.Thread(target=connection.sendall, args=(data,))
    sending.start()
    digest = hashlib.sha256()
    while chunk := connection.recv(65536):
        digest.update(chunk)
    sending.join()
    connection.sendall(digest.digest())
    connection.close()
"""

CLIENT = """
import errno, socket, sys
host, port, *sizes = sys.argv[1:]
client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(60)
client.connect((host, int(port)))
for size in map(int, sizes):
    data = bytes(i * 7 % 251 for i in range(size))
    for _ in range(2):  # the kernel says once that it has learned of a smaller MTU
        try:
            client.send(data)
            assert client.recv(65535) == data[::-1], size
        except OSError as error:
            assert error.errno == errno.EMSGSIZE, error
        else:
            print("same", size)
            break
"""

pytestmark = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@dataclass(frozen=True)
class Path:
    """A stack, two routers, and a host beyond them."""

    stack: NetworkStack
    routers: tuple[Namespace, Namespace]
    far: Namespace

    def narrow(self) -> None:
        """Reduce the MTU of the link between the routers, in both directions."""
        for router in self.routers:
            router.run("ip", "link", "set", "middle", "mtu", str(NARROW))


def join(left: Namespace, right: Namespace, names: tuple[str, str], network: int) -> None:
    """A cable between two namespaces: the left one has the addresses that end with 1, the right one those with 2."""
    left.run("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", right.name)
    for number, (namespace, name) in enumerate(zip((left, right), names, strict=True), 1):
        namespace.run("ip", "address", "add", f"10.88.{network}.{number}/24", "dev", name)
        namespace.run("ip", "address", "add", f"fd88:{network}::{number}/64", "dev", name, "nodad")
        namespace.run("ip", "link", "set", name, "up")


def route(namespace: Namespace, network: str, via: str) -> None:
    namespace.run("ip", "-6" if ":" in via else "-4", "route", "add", network, "via", via)


@asynccontextmanager
async def path() -> AsyncIterator[Path]:
    """10.88.1.1, the stack - 10.88.1.2, a router, 10.88.2.1 - 10.88.2.2, another, 10.88.3.1 - 10.88.3.2, a host."""
    async with AsyncExitStack() as held:
        stack = await held.enter_async_context(await create_stack(seed=b"path"))
        near, next_, far = (held.enter_context(network_namespace()) for _ in range(3))
        device = held.enter_context(near.open_device("tap", ["10.88.1.2/24", "fd88:1::2/64"]))
        join(near, next_, ("middle", "middle"), 2)
        join(next_, far, ("last", "peer0"), 3)
        for router in (near, next_):
            router.run("sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for prefix, bits in (("10.88.{}.", "0/24"), ("fd88:{}::", "/64")):
            one, two, three = (prefix.format(number) for number in (1, 2, 3))
            route(near, three + bits, two + "2")
            route(next_, one + bits, two + "1")
            route(far, one + bits, three + "1")
        tap = await stack.create_tap_interface(ip=["10.88.1.1/24", "fd88:1::1/64"])
        device.attach(tap)
        stack.add_route("0.0.0.0/0", via="10.88.1.2")
        stack.add_route("::/0", via="fd88:1::2")
        yield Path(stack, (near, next_), far)


def with_path(work: Callable[[Path], Awaitable[None]]) -> None:
    async def main() -> None:
        async with path() as made, asyncio.timeout(250):
            await work(made)

    require_kernel_peer("ping", "sysctl")
    asyncio.run(main())


async def start(made: Path, program: str, *arguments: object) -> None:
    await asyncio.to_thread(made.far.start, *python(program, *arguments), ready="ready")


async def exchange(made: Path, version: int, *, narrow_after: int, discovers: bool = False) -> int:
    """Send bytes in both directions at once, and reduce the path MTU after some of them have arrived.

    Args:
        made: the path.
        version: of IP.
        narrow_after: bytes.
        discovers: whether the stack's segments may not be fragmented.

    Returns:
        The size of the stack's segments in the end.
    """
    reader, writer = await made.stack.open_connection(FAR[version], PORT)
    sock = writer.get_extra_info("socket")
    if discovers:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    data = payload(LENGTH, version)
    digest, length = hashlib.sha256(), 0
    narrow = False

    async def send() -> None:
        for offset in range(0, LENGTH, 60_000):
            writer.write(data[offset : offset + 60_000])
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    while length < LENGTH:
        if length >= narrow_after and not narrow:
            narrow = True
            await asyncio.to_thread(made.narrow)
        chunk = await reader.read(min(65536, LENGTH - length))
        assert chunk, f"the stream ended after {length} bytes"
        digest.update(chunk)
        length += len(chunk)
    await sending
    assert await reader.readexactly(32) == hashlib.sha256(data).digest(), "what the kernel got is not what was sent"
    segment: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert digest.digest() == hashlib.sha256(random.Random(7).randbytes(LENGTH)).digest()

    return segment


def test_tcp_on_a_path_whose_mtu_becomes_smaller(version: int) -> None:
    async def work(made: Path) -> None:
        await start(made, BULK, FAR[version], PORT, LENGTH)
        await exchange(made, version, narrow_after=LENGTH // 4)
        await exchange(made, version, narrow_after=LENGTH + 1)
        after = made.stack.stats().core
        assert after.fragments_out == 0, "what had been cut before is cut anew, and new connections send what fits"
        if version == 4:
            assert after.fragments_in == 0, "the kernel finds the path's MTU"

    with_path(work)


@pytest.mark.parametrize("narrow_after", [0, LENGTH // 4])
def test_tcp_that_discovers_the_mtu(version: int, narrow_after: int) -> None:
    """RFC 1191: the routers fragment nothing over IPv4, either, and segments have the size of the path."""

    async def work(made: Path) -> None:
        if narrow_after == 0:
            made.narrow()
        await start(made, BULK, FAR[version], PORT, LENGTH)
        segment = await exchange(made, version, narrow_after=narrow_after or LENGTH + 1, discovers=version == 4)
        if narrow_after == 0:  # else all may have been sent by then
            assert segment == NARROW - (20 if version == 4 else 40) - 20 - 12
        for router in made.routers:
            counters = router.run("cat", "/proc/net/snmp").stdout.splitlines()
            names, values = (line.split() for line in counters if line.startswith("Ip:"))
            assert dict(zip(names, values, strict=True))["FragCreates"] == "0"

    with_path(work)


def test_tcp_on_a_path_with_a_small_mtu(version: int) -> None:
    async def work(made: Path) -> None:
        made.narrow()
        await start(made, BULK, FAR[version], PORT, LENGTH)
        await exchange(made, version, narrow_after=LENGTH + 1)

    with_path(work)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[::-1], addr)


def test_datagrams_and_pings_of_60000_bytes(version: int) -> None:
    """Each sender learns the path MTU from the loss of its first packet; later ones arrive."""

    async def work(made: Path) -> None:
        made.narrow()
        await start(made, ECHO, FAR[version], PORT)
        async with await made.stack.create_ping_session(FAR[version]) as session:
            await session.ping(timeout=60)  # the kernels keep few packets for neighbours that they do not know yet
            for _ in range(2):  # the request is lost, then the reply
                with suppress(TimeoutError, NetworkError):
                    await session.ping(payload(60_000), timeout=1)
            for number in range(5):
                assert (await session.ping(payload(60_000, number), timeout=60)).payload == payload(60_000, number)
        async with await made.stack.open_udp() as udp:
            for number in range(10):
                data = payload(60_000, number)
                await udp.send(UdpDatagram(FAR[version], PORT, data))
                assert await udp.receive() == UdpDatagram(FAR[version], PORT, data[::-1])
        for _ in range(6):  # the kernel learns of the path's MTU as soon as it sends
            ping = ("ping", "-n", "-c", "1", "-W", "1", "-s", "60000", HOST[version])
            await asyncio.to_thread(made.far.run, *ping, timeout=100, check=False)
        await asyncio.to_thread(made.far.echoes, HOST[version], 6, size=60_000)
        transport, _ = await made.stack.create_datagram_endpoint(Echo, local_addr=(HOST[version], PORT))
        sizes = (0, 1200, 1253, 1472, 60_000)
        said = (await asyncio.to_thread(made.far.run, *python(CLIENT, HOST[version], PORT, *sizes), timeout=100)).stdout
        assert said.count("same") == len(sizes)
        transport.close()

    with_path(work)
