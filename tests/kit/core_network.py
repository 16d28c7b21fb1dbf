"""Two hosts in virtual time: cores on a link with rules, and a clock that jumps to the next deadline.

No event loop and no waiting: a retransmission after a second takes as long as the polls it needs. A `Host` is a
core with applications (`Endpoint`s); a `Network` carries frames between two of them, by a rule that may drop them.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import itertools
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from math import inf

import pytest

from tcpip_wasm.engine import Core, abi, decode_endpoint, error_for, seed_bytes, split_records
from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.errors import NetworkError

START = 1000.0
"""Seconds: the initial time of a network."""

END_OF_TIME = 600.0
"""Virtual seconds after which waiting fails."""

Rule = Callable[[int, bytes], list[tuple[float, bytes]]]
"""Returns (delay in seconds, frame) of each copy of a frame that arrives, from the frame's number, counted from 0 over
both hosts."""


def deliver(number: int, frame: bytes) -> list[tuple[float, bytes]]:
    """Deliver a frame."""
    return [(0.0, frame)]


def lose(*numbers: int) -> Rule:
    """Return a rule that drops the frames with these numbers."""
    return lambda number, frame: [] if number in numbers else [(0.0, frame)]


def duplicate(*numbers: int) -> Rule:
    """Return a rule that delivers the frames with these numbers twice."""
    return lambda number, frame: [(0.0, frame)] * (2 if number in numbers else 1)


def delay_frames(*numbers: int, seconds: float = 0.001) -> Rule:
    """Return a rule that delays the frames with these numbers, so that later ones overtake them."""
    return lambda number, frame: [(seconds if number in numbers else 0.0, frame)]


class Endpoint:
    """One endpoint of a TCP connection, and the application on it, which records the bytes that arrive.

    Attributes:
        received: the bytes that arrived.
        eof: whether the peer has sent FIN.
        ended: how the connection ended: None while it has not, else an ``errno`` or 0.
        reading: whether the application reads; unread bytes keep the window closed.
    """

    def __init__(self, host: Host, handle: int) -> None:
        self.host = host
        self.handle = handle
        self.connected = False
        self.received = bytearray()
        self.eof = False
        self.ended: int | None = None
        self.reading = True
        self.local = self.remote = ("", 0)
        self._unread = 0
        self._waiting = b""
        self._finish = False

    def write(self, data: bytes) -> None:
        """Send data as fast as the stack accepts it."""
        self._waiting += data
        self._push()

    @property
    def written(self) -> bool:
        """Whether the stack has accepted all data."""
        return not self._waiting

    def finish(self) -> None:
        """Send FIN after the data that was written."""
        self._finish = True
        self._push()

    def read(self) -> None:
        """Acknowledge all bytes that have arrived as read."""
        if self._unread:
            self.host.core.tcp_received(self.handle, self._unread)
            self.host.dirty = True
            self._unread = 0

    def close(self) -> None:
        """Close the connection, and release the handle."""
        del self.host.ends[self.handle]
        self.host.core.tcp_close(self.handle)
        self.host.dirty = True

    def abort(self) -> None:
        """Reset the connection."""
        del self.host.ends[self.handle]
        self.host.core.tcp_abort(self.handle)
        self.host.dirty = True

    def _push(self) -> None:
        if not self.connected or self.ended is not None:
            return
        if self._waiting:
            sent = self.host.core.tcp_send(self.handle, memoryview(self._waiting))
            self._waiting = self._waiting[sent:]
        if self._finish and not self._waiting:
            self._finish = False
            self.host.core.tcp_shutdown(self.handle)
        self.host.dirty = True

    def on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Handle an event of the core."""
        if kind == abi.EVENT_DATA:
            assert len(payload) == value
            self.received += payload
            self._unread += value
            if self.reading:
                self.read()
        elif kind == abi.EVENT_EOF:
            assert not self.eof, "the end of a stream is reported once"
            self.eof = True
        elif kind == abi.EVENT_WRITABLE:
            self._push()
        elif kind == abi.EVENT_CONNECTED:
            self.open(payload)
        elif kind == abi.EVENT_CLOSED:
            assert self.ended is None, "a connection ends once"
            self.ended = error_for(-value).errno if value else 0

    def open(self, endpoints: bytes) -> None:
        """The handshake is complete."""
        local, remote = (
            decode_endpoint(endpoints, abi.CONNECTION_ENDPOINTS_LOCAL_OFFSET),
            decode_endpoint(endpoints, abi.CONNECTION_ENDPOINTS_REMOTE_OFFSET),
        )
        self.local, self.remote = (str(local[0]), local[1]), (str(remote[0]), remote[1])
        self.connected = True
        self._push()


class Host:
    """A core with one interface, and the applications on it.

    Attributes:
        mac: of its interface; empty if that is not a TAP interface.
        accepted: the endpoints of accepted connections, in order.
        sent: every frame that was sent, in order.
    """

    def __init__(
        self,
        *addresses: str,
        seed: int | bytes = 0,
        kind: int = abi.KIND_TAP,
        mtu: int = 1500,
        now: float = START,
        memory_limit: int | None = None,
        instance: Instance | None = None,
    ) -> None:
        self.addresses: list[IPv4Interface | IPv6Interface] = [ip_interface(text) for text in addresses]
        self.core = Core(now=now, seed=seed_bytes(seed), memory_limit=memory_limit, instance=instance)
        mac = self.core.random_mac() if kind == abi.KIND_TAP else b""
        self.mac = mac
        self.buffers = self.core.add_interface(kind, mtu, mac)
        for address in self.addresses:
            self.core.add_address(self.buffers.handle, address.ip, address.network.prefixlen)
        self.ends: dict[int, Endpoint] = {}
        self.accepted: list[Endpoint] = []
        self.sent: list[bytes] = []
        self.dirty = True

    def connect(self, other: Host, port: int, *, address: int = 0, local_port: int = 0) -> Endpoint:
        """Start to connect to one of the other host's addresses."""
        remote = other.addresses[address].ip
        end = Endpoint(self, self.core.tcp_connect(remote, port, local_port=local_port))
        self.ends[end.handle] = end
        self.dirty = True
        return end

    def listen(self, port: int, *, backlog: int = 255) -> int:
        """Listen on all addresses, and return the listener's handle."""
        return self.core.tcp_listen(None, port, backlog)

    def poll(self, now: float) -> list[bytes]:
        """Poll the core, run the applications, and return the frames that leave."""
        self.dirty = False
        self.core.poll(now)
        frames: list[bytes] = []
        for kind, handle, value, payload in self.core.events():
            if kind == abi.EVENT_TRANSMIT:
                frames += [bytes(frame) for frame in split_records(self.buffers.transmit_view())]
                self.buffers.transmitted(value)
                self.dirty = True  # the buffer may have refused segments
            elif kind == abi.EVENT_ACCEPTED:
                end = self.ends[value] = Endpoint(self, value)
                self.accepted.append(end)
                self.core.tcp_accepted(value)
                end.open(payload)
            elif handle in self.ends:
                self.ends[handle].on_event(kind, value, payload)
        self.sent += frames
        return frames


class Network:
    """Two hosts on a link, and the time.

    Args:
        a, b: the hosts.
        rule: decides which frames arrive, and when.

    Attributes:
        now: the time, in seconds.
        count: how many frames have left either host.
        lost: how many of them never arrived.
    """

    def __init__(self, a: Host, b: Host, rule: Rule = deliver) -> None:
        self.hosts = (a, b)
        self.rule = rule
        self.now = START
        self.count = 0
        self.lost = 0
        self._flying: list[tuple[float, int, Host, bytes]] = []
        self._order = itertools.count()

    def step(self) -> bool:
        """Handle everything that is due now, then advance the clock. Return False when no deadline is left."""
        busy = False
        while self._flying and self._flying[0][0] <= self.now:
            _, _, host, frame = self._flying[0]
            if not host.buffers.receive_frame(frame):
                break
            heapq.heappop(self._flying)
            host.dirty = True
        for host, other in (self.hosts, self.hosts[::-1]):
            if host.dirty or host.core.more or host.core.deadline <= self.now:
                busy = True
                for frame in host.poll(self.now):
                    self._send(frame, other)
        if busy:
            return True
        due = min(host.core.deadline for host in self.hosts)
        if self._flying:
            due = min(due, self._flying[0][0])
        if due == inf:
            return False
        # A microsecond later, so that the truncated time that a core gets is not before its deadline.
        self.now = max(self.now, due) + 1e-6
        return True

    def _send(self, frame: bytes, to: Host) -> None:
        copies = self.rule(self.count, frame)
        self.count += 1
        self.lost += not copies
        for delay, copy in copies:
            heapq.heappush(self._flying, (self.now + delay, next(self._order), to, copy))

    def lose_all(self) -> None:
        """Drop the frames that are under way."""
        self.lost += len(self._flying)
        self._flying.clear()

    def inject(self, frame: bytes, to: Host, delay: float) -> None:
        """Deliver a frame that neither host has sent to one of them after a delay in seconds."""
        heapq.heappush(self._flying, (self.now + delay, next(self._order), to, frame))

    def run(self, done: Callable[[], bool], *, seconds: float = END_OF_TIME) -> None:
        """Advance the time until a condition is true.

        Args:
            done: returns whether it is.
            seconds: virtual seconds after which waiting fails.
        """
        until = self.now + seconds
        while not done():
            assert self.step(), "no deadline is left"
            assert self.now < until, f"still waiting after {seconds} virtual seconds"

    def settle(self, *, seconds: float = END_OF_TIME) -> None:
        """Advance the time until no frame is under way and no timer is due."""
        until = self.now + seconds
        while self.step():
            assert self.now < until, f"not at rest after {seconds} virtual seconds"

    def open(self, port: int = 80, *, address: int = 0) -> tuple[Endpoint, Endpoint]:
        """Connect the first host to the second, which must listen, and return both endpoints."""
        a, b = self.hosts
        taken = len(b.accepted)
        client = a.connect(b, port, address=address)
        self.run(lambda: client.ended is not None or (client.connected and len(b.accepted) > taken))
        assert client.ended is None, errno.errorcode.get(client.ended or 0)
        return client, b.accepted[taken]


def two_hosts(*, seed: int = 1, rule: Rule = deliver, mtu: int = 1500, kind: int = abi.KIND_TAP) -> Network:
    """Return two hosts with an IPv4 and an IPv6 address each; the second listens on port 80."""
    a = Host("10.0.0.1/24", "fd00::1/64", seed=2 * seed, mtu=mtu, kind=kind)
    b = Host("10.0.0.2/24", "fd00::2/64", seed=2 * seed + 1, mtu=mtu, kind=kind)
    b.listen(80)
    return Network(a, b, rule)


def payload(length: int, salt: int = 0) -> bytes:
    """Return bytes without a pattern, so that lost, repeated or reordered bytes are detected."""
    return hashlib.shake_128(b"%d" % salt).digest(length)


def call_raises_errno(number: int, call: Callable[[], object]) -> None:
    """Assert that a call raises `NetworkError` with an errno."""
    with pytest.raises(NetworkError) as caught:
        call()
    assert caught.value.errno == number, caught.value
