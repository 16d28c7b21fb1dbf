"""Two stacks on a link in virtual time, and a bulk transfer between them with the arrival times."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from tcpip_wasm import NetworkStack, TapInterface, create_stack
from tcpip_wasm.simulation import Channel, Link, LinkSettings
from tests.kit.core_network import payload

TCP_SHARE = 1448 / 1514
"""The payload's share of a full Ethernet frame: IPv4, and TCP with a timestamp."""

A4, B4 = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"


@dataclass
class Hosts:
    """Two stacks on a link."""

    a: NetworkStack
    b: NetworkStack
    tap_a: TapInterface
    tap_b: TapInterface
    link: Link


@asynccontextmanager
async def linked(
    settings: LinkSettings | None = None, *, back: LinkSettings | None = None, seed: int = 1, ecn: bool = False
) -> AsyncIterator[Hosts]:
    """Connect two stacks by a link.

    Args:
        settings: of the link.
        back: of the reverse direction, if they differ.
        seed: of the link; those of the stacks derive from it.
        ecn: whether the first stack asks for explicit congestion notification.
    """
    async with await create_stack(seed=2 * seed, ecn=ecn) as a, await create_stack(seed=2 * seed + 1) as b:
        tap_a = await a.create_tap_interface(ip=[f"{A4}/24", f"{A6}/64"])
        tap_b = await b.create_tap_interface(ip=[f"{B4}/24", f"{B6}/64"])
        link = Link(tap_a, tap_b, settings, b_to_a=back, seed=seed)
        try:
            yield Hosts(a, b, tap_a, tap_b, link)
        finally:
            link.close()


@dataclass
class Transfer:
    """A bulk transfer.

    Attributes:
        began: when its first byte was written, after the connection was established.
        arrived: (time, number of bytes that had arrived) at each arrival.
        retransmissions: retransmitted segments.
        whole: whether the received bytes are those that were sent.
    """

    began: float
    size: int
    arrived: list[tuple[float, int]] = field(default_factory=list)
    retransmissions: int = 0
    whole: bool = False

    def goodput(self, begin: float = 0.0) -> float:
        """Return bit/s of payload, from the time on at which the share `begin` of it had arrived."""
        if begin == 0:
            time, count = self.began, 0
        else:
            time, count = next(entry for entry in self.arrived if entry[1] >= begin * self.size)
        return (self.arrived[-1][1] - count) * 8 / (self.arrived[-1][0] - time)


async def transfer(hosts: Hosts, size: int, host: str = B4) -> Transfer:
    """Send `size` bytes from the first stack to the second, until the second has received all of them."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    result = Transfer(0.0, size)
    digest = hashlib.sha256()
    count = 0

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while data := await reader.read(65536):
            count += len(data)
            digest.update(data)
            result.arrived.append((loop.time(), count))
        writer.close()
        finished.set_result(None)

    async with await hosts.a.create_ping_session(host) as session:
        await session.ping(timeout=20.0)  # resolves the MAC address, so that the first SYN is not sent twice
    server = await hosts.b.start_server(receive, host, 80)
    _, writer = await hosts.a.open_connection(host, 80)
    content = payload(size)
    result.began = loop.time()
    before = hosts.a.stats().core.tcp_retransmissions
    for at in range(0, size, 65536):
        writer.write(content[at : at + 65536])
        await writer.drain()
    writer.write_eof()
    await finished
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    result.retransmissions = hosts.a.stats().core.tcp_retransmissions - before
    result.whole = count == size and digest.digest() == hashlib.sha256(content).digest()
    return result


class Wire:
    """A channel without a link, and the frames that arrive, with their times since its creation."""

    def __init__(self, settings: LinkSettings, *, seed: int | str = 1) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.arrived: list[tuple[float, bytes]] = []
        self.channel = Channel(self.loop, settings, Random(f"{seed}"), self._take)

    def _take(self, frame: bytes) -> None:
        self.arrived.append((round(self.loop.time() - self.began, 9), frame))

    @property
    def frames(self) -> list[bytes]:
        """The frames that have arrived."""
        return [frame for _, frame in self.arrived]

    @property
    def times(self) -> list[float]:
        """The arrival times."""
        return [time for time, _ in self.arrived]


def numbered(count: int, size: int = 100) -> list[bytes]:
    """Return distinct frames of a size."""
    return [number.to_bytes(4) * (size // 4) for number in range(count)]


async def sample(read: Callable[[], int], seconds: float, every: float) -> list[int]:
    """Read a value at regular intervals."""
    samples = []
    for _ in range(round(seconds / every)):
        await asyncio.sleep(every)
        samples.append(read())
    return samples
