"""WireGuard's tunnels without sockets, on a network that is a list, in a time that is a number."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from random import Random
from struct import pack
from typing import Any

from tcpip_wasm.engine import abi
from tcpip_wasm.links import WireGuardPeer
from tcpip_wasm.links.wireguard.keys import new_private_key, public_key
from tcpip_wasm.links.wireguard.packets import Opener, Sealer
from tcpip_wasm.links.wireguard.peer import Peer, Session, SocketAddress
from tcpip_wasm.links.wireguard.tunnel import Tunnel
from tcpip_wasm.testing import pack_records

MTU = 1420
EPOCH = 1_000_000_000.0

Message = tuple[bytes, SocketAddress, SocketAddress]
"""A message, where it came from, where it goes."""


def packet(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    """Return an IP packet of an experimental protocol."""
    a, b = ip_address(source), ip_address(destination)
    if a.version == 4:
        return pack(">BxHIBBH4s4s", 0x45, 20 + len(payload), 0, 64, 253, 0, a.packed, b.packed) + payload
    return pack(">IHBB16s16s", 6 << 28, len(payload), 253, 64, a.packed, b.packed) + payload


class End:
    """One end: a tunnel and what its stack would see.

    Attributes:
        arrived: packets that it has received.
    """

    def __init__(self, network: Network, number: int) -> None:
        random = Random(number)
        self.network = network
        self.address: SocketAddress = (f"192.0.2.{number}", 51820)
        self.private = new_private_key(random.randbytes)
        self.public = public_key(self.private)
        self.tunnel = Tunnel(self.private, mtu=MTU, random=random.randbytes, wall=lambda: EPOCH + network.now)
        self.sealer, self.opener = Sealer(self.tunnel), Opener(self.tunnel)
        self.arrived: list[bytes] = []

    def add(self, other: End, *allowed: str, known: bool = True, **options: Any) -> Peer:
        """Add a peer.

        Args:
            other: the peer.
            allowed: its addresses.
            known: whether its endpoint is configured.
            options: further ones of `WireGuardPeer`.
        """
        configuration = WireGuardPeer(public_key=other.public, allowed_ips=allowed, **options)
        return self.tunnel.add_peer(configuration, other.address if known else None, self.network.now)

    def send(self, *packets: bytes) -> None:
        """Send packets through the tunnel."""
        records = memoryview(pack_records(*packets))
        offset = 0
        while offset < len(records):
            offset, batch, _ = self.sealer.seal(records, offset, self.network.now)
            if batch is not None:
                for at in range(0, len(batch.data), batch.size):
                    self.network.put(bytes(batch.data[at : at + batch.size]), self.address, batch.endpoint)

    def receive(self, data: bytes, source: SocketAddress, size: int | None = None) -> None:
        """Take messages from the network."""
        room = memoryview(bytearray(abi.RECORD_HEADER_SIZE * 128 + 128 * 2048))
        opened = self.opener.open(memoryview(data), size or len(data) or 1, source, self.network.now, room)
        assert opened.taken == len(data)
        offset = 0
        while offset < opened.records:
            length = abi.RECORD_HEADER.unpack_from(room, offset)[0]
            start = offset + abi.RECORD_HEADER_SIZE
            self.arrived.append(bytes(room[start : start + length]))
            offset = (start + length + abi.RECORD_HEADER_ALIGNMENT - 1) & -abi.RECORD_HEADER_ALIGNMENT


class Network:
    """The ends, and the messages between them.

    Attributes:
        now: seconds.
        sent: all messages, with the time, those that were lost too.
        rule: returns what arrives of a message.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.ends: dict[SocketAddress, End] = {}
        self.sent: list[tuple[float, Message]] = []
        self.rule: Callable[[Message], list[Message]] = lambda message: [message]
        self._waiting: list[Message] = []

    def end(self) -> End:
        """Make an end."""
        made = End(self, len(self.ends) + 1)
        self.ends[made.address] = made
        return made

    def put(self, data: bytes, source: SocketAddress, destination: SocketAddress) -> None:
        """Have a message on its way."""
        self.sent.append((self.now, (data, source, destination)))
        self._waiting += self.rule((data, source, destination))

    def settle(self) -> None:
        """Deliver all messages, and those that these cause."""
        while True:
            for end in self.ends.values():
                outgoing = end.tunnel.outgoing[:]
                end.tunnel.outgoing.clear()
                for data, destination in outgoing:
                    self.put(data, end.address, destination)
            if not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
            for data, source, destination in waiting:
                if destination in self.ends:
                    self.ends[destination].receive(data, source)

    def run(self, seconds: float) -> None:
        """Let time pass, and timers expire."""
        until = self.now + seconds
        self.settle()
        while (soonest := min(end.tunnel.soonest for end in self.ends.values())) <= until:
            self.now = max(self.now, soonest)
            for end in self.ends.values():
                if end.tunnel.soonest <= self.now:
                    end.tunnel.expire(self.now)
            self.settle()
        self.now = until

    def kinds(self, since: float = 0.0) -> list[tuple[float, int, int]]:
        """Return when which messages were sent: the time, the type and the length."""
        return [(at, message[0][0], len(message[0])) for at, message in self.sent if at >= since]


def two(**options: Any) -> tuple[Network, End, End, Peer, Peer]:
    """Return a network, two ends that are peers, and each one's peer.

    The first is 10.0.0.1 and fd00::1, and knows where the second is, which is 10.0.0.2 and fd00::2 and does not.
    """
    network = Network()
    a, b = network.end(), network.end()
    far = a.add(b, "10.0.0.2", "fd00::2", **options)
    near = b.add(a, "10.0.0.1", "fd00::1", known=False, **options)
    return network, a, b, far, near


def connected(**options: Any) -> tuple[Network, End, End, Peer, Peer]:
    """Like `two`, after a handshake."""
    network, a, b, far, near = two(**options)
    a.send(packet("10.0.0.1", "10.0.0.2"))
    network.settle()
    assert len(b.arrived) == 1
    b.arrived.clear()
    return network, a, b, far, near


def current(peer: Peer) -> Session:
    """Return the session that sends."""
    assert peer.current is not None
    return peer.current
