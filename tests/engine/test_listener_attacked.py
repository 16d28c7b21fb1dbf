"""A listener under forged SYNs, which any host can send, and the delay of honest clients."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_network

import pytest

from tests.kit.core_network import Host, Network, payload
from tests.kit.frames import ACK, IPV4, IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp

PORT = 80
CONNECTS = 24
INTERVAL = 5.0
"""Seconds between two honest connects."""
OPTIONS = b"\2\4\5\xb4\1\3\3\7\4\2\1\1"
FORGED_MAC = b"\2\0\0\0\0\x66"
POOL = 4000
"""Different forged segments; a flood repeats them."""

SOURCES: dict[str, Callable[[int], str]] = {
    "far away": lambda number: f"198.18.{number // 200}.{1 + number % 200}",
    "IPv4 on the link": lambda number: f"10.0.0.{10 + number % 240}",
    "IPv6 on the link": lambda number: f"fd00::1:{number:x}",
    "link-local": lambda number: f"fe80::1:{number:x}",
}


def forged(server: Host, source: str, *, flags: int = SYN) -> list[bytes]:
    """Return frames with forged segments for the server's port, from addresses of no real host."""
    chance = random.Random(source)
    frames = []
    for number in range(POOL):
        sender = SOURCES[source](number)
        target = str(server.addresses[":" in sender].ip)
        segment = tcp(
            (sender, chance.randrange(1024, 40000)),
            (target, PORT),
            sequence=chance.randrange(2**32),
            acknowledgement=chance.randrange(2**32) if flags & ACK else 0,
            flags=flags,
            options=OPTIONS if flags & SYN else b"",
        )
        packet = (ipv6 if ":" in sender else ipv4)(sender, target, TCP, segment)
        frames.append(ethernet(server.mac, FORGED_MAC, IPV6 if ":" in sender else IPV4, packet))
    return frames


def hosts(backlog: int, trip: float) -> Network:
    """Return a client, which is the server's router, and a server that listens, with a round-trip time in seconds."""
    client = Host("10.0.0.1/24", "fd00::1/64", seed=1)
    server = Host("10.0.0.2/24", "fd00::2/64", seed=2)
    server.core.routes.add(ip_network("0.0.0.0/0"), IPv4Address("10.0.0.1"), 0, 0)
    server.listen(PORT, backlog=backlog)
    return Network(client, server, lambda number, frame: [(trip / 2, frame)])


def flood(network: Network, frames: Iterator[bytes], rate: int) -> None:
    """Deliver a number of frames per second to the server until the next honest connect, in batches of 10 ms."""
    for number in range(int(rate * INTERVAL)):
        network.inject(next(frames), network.hosts[1], number // max(rate // 100, 1) * max(1 / rate, 0.01))


def connect_and_exchange(network: Network, address: int, number: int) -> float:
    """Connect, exchange data in both directions, and return the time that connecting took."""
    client_host, server_host = network.hosts
    taken, begun = len(server_host.accepted), network.now
    client = client_host.connect(server_host, PORT, address=address)
    network.run(lambda: client.connected or client.ended is not None, seconds=INTERVAL)
    assert client.connected, errno.errorcode.get(client.ended or 0)
    seconds = network.now - begun
    client.write(payload(3000, number))
    network.run(lambda: len(server_host.accepted) > taken, seconds=INTERVAL)
    server = server_host.accepted[-1]
    server.write(payload(3000, -number))
    network.run(lambda: len(server.received) == len(client.received) == 3000, seconds=INTERVAL)
    assert server.received == payload(3000, number)
    assert client.received == payload(3000, -number)
    client.abort()
    network.run(lambda: server.ended is not None, seconds=INTERVAL)
    server.close()
    return seconds


def attacked(rate: int, backlog: int, source: str, trip: float) -> Network:
    network = hosts(backlog, trip)
    server = network.hosts[1]
    frames = forged(server, source)
    repeated = (frames[number % POOL] for number in range(10**9))
    address = int(":" in SOURCES[source](0))
    before, most = server.core.statistics().heap_used, 0
    for number in range(CONNECTS):
        begun = network.now
        flood(network, repeated, rate)
        assert connect_and_exchange(network, address, number) < 3
        most = max(most, server.core.statistics().heap_used)
        network.run(lambda begun=begun: network.now >= begun + INTERVAL)  # type: ignore[misc]
    assert len(server.accepted) == CONNECTS, "a forged segment has made a connection"
    assert most - before < 2 << 20
    return network


@pytest.mark.parametrize("backlog", [100, 255])
@pytest.mark.parametrize("rate", [20, 200, 2000])
def test_honest_clients_connect_under_forged_syns(rate: int, backlog: int) -> None:
    network = attacked(rate, backlog, "far away", 0.2 if backlog == 100 else 0.0)
    if rate > 20:
        assert network.hosts[1].core.statistics().syn_cookies > 0


@pytest.mark.parametrize(("rate", "trip"), [(20, 0.1), (200, 0.2), (2000, 0.02)])
@pytest.mark.parametrize("source", [source for source in SOURCES if source != "far away"])
def test_honest_clients_connect_with_forged_neighbours(rate: int, trip: float, source: str) -> None:
    """Each answer to a forged neighbour starts its resolution. The table holds 127, so at 2,000 a second each
    has 60 ms."""
    attacked(rate, 100, source, trip)


def test_forged_acknowledgements_open_no_connection() -> None:
    network = hosts(100, 0.1)
    server = network.hosts[1]
    syns, acknowledgements = forged(server, "far away"), forged(server, "far away", flags=ACK)
    for number in range(CONNECTS):
        begun = network.now
        for place in range(500):
            network.inject(syns[place], server, place / 100)
            network.inject(acknowledgements[place + 500 * (number % 8)], server, place / 100)
        assert connect_and_exchange(network, 0, number) < 1
        network.run(lambda begun=begun: network.now >= begun + INTERVAL)  # type: ignore[misc]
    assert server.core.statistics().syn_cookies > 0
    assert len(server.accepted) == CONNECTS


def test_errors_are_limited() -> None:
    network = hosts(100, 0.0)
    server = network.hosts[1]
    for port in range(1000, 3000):
        datagram = b"\0\x09" + port.to_bytes(2, "big") + b"\0\x08\0\0"
        frame = ethernet(server.mac, FORGED_MAC, IPV4, ipv4("10.0.0.1", "10.0.0.2", UDP, datagram))
        network.inject(frame, server, 0.0)
    network.run(lambda: server.core.statistics().udp_no_port == 2000)
    figures = server.core.statistics()
    assert (figures.icmp_out, figures.icmp_limited) == (100, 1900)
