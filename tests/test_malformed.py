"""Truncated and mutated frames: no trap, no exception in the loop, and the stack still serves."""

from __future__ import annotations

import random
from struct import pack

import pytest

from tcpip_wasm import connect, create_stack
from tests.kit.core_network import START, Host, Network, payload
from tests.kit.frames import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    RST,
    SYN,
    TCP,
    UDP,
    ethernet,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    samples,
    tcp,
)
from tests.kit.stacks import iterations, read_all, run, send_all

MAC, PEER_MAC = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
OWN, PEER = ("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2")
SAMPLES = samples(MAC, OWN, PEER_MAC, PEER, 80)


def target(seed: int = 1) -> Host:
    host = Host("10.0.0.1/24", "fd00::1/64", seed=seed)
    host.listen(80)
    return host


def own_frames(host: Host) -> dict[str, bytes]:
    """Return the samples, addressed to this host's own MAC address."""
    return samples(mac_of(host), OWN, PEER_MAC, PEER, 80)


def mac_of(host: Host) -> bytes:
    """Return the source addresses of a host's frames."""
    for frame in host.poll(START):
        return frame[6:12]
    raise AssertionError("a host with an address announces it")


def feed(host: Host, frames: list[bytes], now: float) -> None:
    for frame in frames:
        while not host.buffers.receive_frame(frame):
            host.poll(now)
    host.poll(now)
    while host.core.more:
        host.poll(now)
    host.sent.clear()


def still_serves(host: Host, now: float) -> None:
    """Assert that a host with other addresses than those in the frames can connect and exchange data."""
    network = Network(Host("10.0.0.9/24", "fd00::9/64", seed=99, now=now), host)
    network.now = now
    for address in (0, 1):
        client, server = network.open(address=address)
        client.write(payload(20_000, 1))
        server.write(payload(20_000, 2))
        network.run(lambda a=client, b=server: len(a.received) == len(b.received) == 20_000)  # type: ignore[misc]
        assert server.received == payload(20_000, 1)
        assert client.received == payload(20_000, 2)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation(name: str) -> None:
    host = target()
    frame = own_frames(host)[name]
    feed(host, [frame[:length] for length in range(len(frame) + 1)], START)
    assert host.buffers.counters()[0] == len(frame) + 1
    assert host.buffers.counters()[2] > 14, "what is shorter than an Ethernet header is malformed, to begin with"
    still_serves(host, START + 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_with_lengths_that_fit(name: str) -> None:
    """The length fields of the packet are adjusted, so that only its content is truncated."""
    host = target()
    frame = own_frames(host)[name]
    cut = []
    for length in range(15, len(frame)):
        body = bytearray(frame[:length])
        if body[12:14] == b"\x08\x00" and length >= 18:
            body[16:18] = (length - 14).to_bytes(2, "big")
        if body[12:14] == b"\x86\xdd" and length >= 54:
            body[18:20] = (length - 54).to_bytes(2, "big")
        cut.append(bytes(body))
    # Without checksums, since with them hardly any of these would reach the parsers of the payload.
    host.core.set_checksums(host.buffers.handle, False)
    feed(host, cut, START)
    host.core.set_checksums(host.buffers.handle, True)
    still_serves(host, START + 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_well_formed(name: str) -> None:
    """Each frame is accepted completely; otherwise the tests above would prove nothing."""
    host = target()
    feed(host, [own_frames(host)[name]], START)
    assert host.buffers.counters()[2] == 0
    figures = host.core.statistics()
    assert figures.checksum_errors == 0
    assert figures.malformed == 0


def test_samples_are_answered() -> None:
    host = target()
    frames = own_frames(host)
    answers = {}
    names = ("arp request", "icmp echo", "neighbour solicitation", "echo 6", "tcp syn 4", "tcp data 4", "tcp syn 6")
    for name in names:
        for frame in (frames["arp reply"], frames["neighbour advertisement"], frames[name]):
            host.buffers.receive_frame(frame)
        answers[name] = host.poll(START)
    assert answers["arp request"][0][20:22] == b"\0\2"
    assert answers["icmp echo"][0][34] == 0
    assert answers["neighbour solicitation"][0][54] == 136
    assert answers["tcp syn 4"][0][47] == SYN | ACK
    assert answers["tcp data 4"][0][47] & RST
    assert answers["echo 6"][0][54] == 129
    assert answers["tcp syn 6"][0][67] == SYN | ACK


def mutated(dice: random.Random, frame: bytes) -> bytes:
    """Change, cut, lengthen or repeat some bytes of a frame, but not its destination: a frame for another station would
    be dropped at once."""
    body = bytearray(frame)
    for _ in range(dice.choice((1, 1, 2, 4, 8))):
        at = dice.randrange(len(body)) if body else 0
        fate = dice.random()
        if fate < 0.5 and body:
            body[at] = dice.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, dice.randrange(256)))
        elif fate < 0.7 and body:
            body[at] ^= 1 << dice.randrange(8)
        elif fate < 0.8:
            del body[at : at + dice.randrange(1, 9)]
        elif fate < 0.9:
            body[at:at] = dice.randbytes(dice.randrange(1, 9))
        else:
            body += body[at : at + 40]
    return frame[:6] + bytes(body[6:])


@pytest.mark.parametrize("sums", [True, False], ids=["checksums verified", "not verified"])
def test_a_hundred_thousand_mutations(sums: bool) -> None:
    """Half of them with checksums verified, and half without, so that they reach deeper parsers."""
    host = target()
    frames = list(own_frames(host).values())
    network = Network(Host("10.0.0.8/24", seed=98), host)
    client, server = network.open()
    host.core.set_checksums(host.buffers.handle, sums)
    dice = random.Random(20 + sums)
    now = START
    for _ in range(500):
        feed(host, [mutated(dice, dice.choice(frames)) for _ in range(100)], now)
        now += 0.01
    assert host.buffers.counters()[0] >= 50_000
    host.core.set_checksums(host.buffers.handle, True)
    assert host.core.statistics().heap_used < 8 << 20, "what the frames left behind is bounded"
    network.now = now
    client.write(b"the old connection")
    network.run(lambda: server.received == b"the old connection")
    still_serves(host, now + 1)
    for _ in range(200):
        now += 1
        host.poll(now)
    assert host.core.statistics().heap_used < 2 << 20


def test_mutations_of_a_connections_own_segments() -> None:
    """An attacker in the path of one connection mutates its segments; another connection is not affected."""
    dice = random.Random(5)

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        if frame[12:14] == b"\x08\x06":  # nothing protects ARP: who changes it cuts the connection off
            return [(0.0, frame)]
        return [(0.0, frame), (0.0, mutated(dice, frame)), (0.0, mutated(dice, frame))]

    for seed in range(10):
        network = Network(Host("10.0.0.2/24", "fd00::2/64", seed=50 + seed), target(seed), rule)
        client, server = network.open(address=seed % 2)
        client.write(payload(30_000))
        client.finish()
        network.run(lambda: server.eof or server.ended is not None)  # noqa: B023
        assert server.ended is None, "checksums are verified: no mutated segment is accepted"
        assert server.received == payload(30_000)


def test_segments_outside_the_window() -> None:
    """RFC 5961: neither a blind reset nor a blind SYN ends a connection."""
    host = target()
    network = Network(Host("10.0.0.2/24", seed=3), host)
    client, server = network.open()
    client.write(b"before")
    network.run(lambda: server.received == b"before")
    mac = next(frame[6:12] for frame in host.sent)
    peer_mac = next(frame[6:12] for frame in network.hosts[0].sent)
    dice = random.Random(4)
    forged = []
    for _ in range(2000):
        segment = tcp(
            client.local,
            client.remote,
            sequence=dice.randrange(1 << 32),
            acknowledgement=dice.randrange(1 << 32),
            flags=dice.choice((RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, ACK)),
            payload=dice.choice((b"", b"forged")),
        )
        forged.append(ethernet(mac, peer_mac, 0x0800, ipv4("10.0.0.2", "10.0.0.1", 6, segment)))
    feed(host, forged, network.now)
    client.write(b" and after")
    network.run(lambda: server.received == b"before and after" or server.ended is not None)
    assert server.received == b"before and after"


def test_a_stack_under_malformed_frames_goes_on() -> None:
    """The same with an asyncio stack: the loop's exception handler gets no report, and a transfer goes on."""

    async def main() -> None:
        async with await create_stack(seed=1) as stack, await create_stack(seed=2) as other:
            tap = await stack.create_tap_interface(mac=MAC, ip=["10.0.0.1/24", "fd00::1/64"])
            bad = await stack.create_tap_interface(mac="02:00:00:00:00:03", ip="10.0.3.1/24")
            connect(tap, await other.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]))
            async with await stack.listen_tcp(80) as listener:
                client = await other.connect_tcp("10.0.0.1", 80)
                server = await listener.accept()
                dice = random.Random(6)
                frames = list(samples(b"\2\0\0\0\0\3", OWN, PEER_MAC, PEER, 80).values())
                with bad.writable.get_writer() as writer:
                    for number in range(5000):
                        await writer.write(mutated(dice, dice.choice(frames)))
                        if number % 100 == 0:
                            await iterations(1)
                await send_all(client, payload(300_000))
                assert await read_all(server) == payload(300_000)
            assert bad.statistics().frames_in == 5000
            assert bad.statistics().malformed > 100

    run(main())


def bad_packets() -> dict[str, list[bytes]]:
    """Packets to the host, each malformed in one way, with right checksums, which mutations may not produce."""
    (own4, own6), (peer4, peer6) = OWN, PEER
    syn = tcp((peer4, 3000), (own4, 80))

    def udp4(length: int, data: bytes) -> bytes:
        return ipv4(peer4, own4, UDP, pack("!HHHH", 5000, 80, length, 0) + data)

    def option6(header: int, options: bytes) -> bytes:
        follows = tcp((peer6, 3001), (own6, 80))
        return ipv6(peer6, own6, header, bytes([TCP, len(options) // 8]) + options + follows)

    def to_group(kind: int, body: bytes) -> bytes:
        # MLD without the router alert that RFC 2710 asks for.
        return ipv6("fe80::2", "ff02::1", ICMPV6, icmpv6("fe80::2", "ff02::1", kind, 0, body), hops=1)

    return {
        "IPv4: header of four words": [b"\x44" + udp4(8, b"")[1:]],
        "IPv4: header behind the packet": [b"\x4f" + udp4(8, b"")[1:]],
        "IPv4: shorter than its header": [udp4(8, b"")[:2] + b"\0\x13" + udp4(8, b"")[4:]],
        "IPv6: options behind the header": [option6(0, b"\x05\xc8\0\0\0\0"), option6(60, b"\x05\xc8\0\0\0\0")],
        "IPv6: header behind the packet": [ipv6(peer6, own6, 0, b"\x06\xff" + bytes(22))],
        "IPv6: headers without an end": [ipv6(peer6, own6, 60, b"\x3c\0\1\4\0\0\0\0" * 150)],
        "UDP: shorter than its header": [udp4(7, b"abc")],
        "UDP: longer than its packet": [udp4(1000, b"abc")],
        "TCP: header behind the segment": [ipv4(peer4, own4, TCP, syn[:12] + b"\xf0" + syn[13:])],
        "TCP: header cut in tiny fragments": [
            ipv4(peer4, own4, TCP, syn[:8], fragment=0x2000),
            ipv4(peer4, own4, TCP, syn[8:16], fragment=0x2001),
        ],
        "TCP: flags overwritten by a second fragment": [
            ipv4(peer4, own4, TCP, syn[:16], fragment=0x2000),
            ipv4(peer4, own4, TCP, syn[8:], fragment=0x0001),
        ],
        "ICMP: shorter than its header": [ipv4(peer4, own4, ICMP, icmp(8, 0, b"")), ipv4(peer4, own4, ICMP, b"\x08")],
        "ICMP: error without a packet": [ipv4(peer4, own4, ICMP, icmp(3, 3, bytes(4)))],
        "ICMPv6: error without a packet": [ipv6(peer6, own6, ICMPV6, icmpv6(peer6, own6, 2, 0, bytes(4)))],
        "IGMP: short": [ipv4(peer4, "224.0.0.1", 2, b"\x11\0\xee\xff"), ipv4(peer4, "224.0.0.1", 2, b"\x11")],
        "MLD: short": [to_group(130, bytes(4)), to_group(130, bytes(12))],
        "from broadcast": [ipv4("255.255.255.255", own4, UDP, pack("!HHHH", 5000, 80, 8, 0))],
        "from a group": [
            ipv4("224.0.0.5", own4, TCP, tcp(("224.0.0.5", 3000), (own4, 80))),
            ipv6("ff02::5", own6, TCP, tcp(("ff02::5", 3000), (own6, 80))),
        ],
        "from the host's own loopback": [ipv4("127.0.0.1", own4, TCP, tcp(("127.0.0.1", 3000), (own4, 80)))],
    }


COUNTED = ("malformed", "protocol_drops", "checksum_errors", "fragment_drops", "icmp_unmatched")


@pytest.mark.parametrize("name", bad_packets())
def test_malformed_packets_get_no_answer_and_leak_nothing(name: str) -> None:
    host = target()
    own = mac_of(host)
    packets = [ethernet(own, PEER_MAC, 0x86DD if p[0] >> 4 == 6 else 0x0800, p) for p in bad_packets()[name]]
    network = Network(Host("10.0.0.9/24", "fd00::9/64", seed=99), host)
    network.open()
    for _ in range(70):  # what it takes to end the search for neighbours and a last datagram's reassembly
        network.now += 1
        host.poll(network.now)
    host.sent.clear()
    before = host.core.statistics()
    for _ in range(300):
        for frame in packets:
            assert host.buffers.receive_frame(frame)
        sent = host.poll(network.now)
        # IPv4 and IPv6 say so where that is allowed (RFC 792, RFC 4443: a parameter problem or a time-out), TCP never.
        for frame in sent:
            assert frame[12:14] == b"\x08\x06" or frame[23 if frame[12] == 8 else 20] in (ICMP, ICMPV6), frame.hex()
    after = host.core.statistics()
    assert after.connections == before.connections
    refused = sum(getattr(after, each) - getattr(before, each) for each in COUNTED) + host.buffers.counters()[2]
    assert refused >= 299 * len(packets) - 1, "each is counted, but for fragments that wait"
    for _ in range(130):
        network.now += 1
        host.poll(network.now)
    last = host.core.statistics()
    assert last.heap_used <= before.heap_used + 2048, "nothing is kept"
    host.sent.clear()
    still_serves(host, network.now + 1)
