"""A WireGuard interface without its sockets: handshakes, sessions and timers of all peers (protocol paper, 5 and 6).

Owns peers, the indices by which messages find them, and what is sent unasked. Time comes with each call, entropy and
the date from functions; what is to be sent is in `outgoing`. Packets are encrypted and decrypted by `packets`, in
batches. Must not know sockets, event loops or stacks.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from tcpip_wasm.links.wireguard.allowed_addresses import AllowedAddresses
from tcpip_wasm.links.wireguard.cookies import CookieChecker
from tcpip_wasm.links.wireguard.keys import exchange, key_text, parse_key, public_key
from tcpip_wasm.links.wireguard.messages import (
    COOKIE,
    ERASE_AFTER,
    HEADER,
    HEADER_BYTES,
    INITIATION,
    INITIATION_INTERVAL,
    JITTER,
    KEEPALIVE_TIMEOUT,
    NONCE,
    OVERHEAD,
    PADDING,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSE,
    SIZES,
    TRANSPORT,
    TYPE,
)
from tcpip_wasm.links.wireguard.noise import (
    HandshakeError,
    make_initiation,
    make_response,
    read_initiation,
    read_response,
)
from tcpip_wasm.links.wireguard.peer import Peer, Session, SocketAddress, WireGuardPeer
from tcpip_wasm.links.wireguard.rate_limit import LoadMeter, SourceLimit
from tcpip_wasm.links.wireguard.timers import MAX_ATTEMPTS

_log: Final = logging.getLogger("tcpip_wasm.links")

_TAI_EPOCH: Final = 0x400000000000000A
_STAMP_GRAIN: Final = 0x1000000
"""Nanoseconds. A finer clock would show how busy this end is."""


@dataclass(slots=True)
class TunnelCounters:
    """Why messages and packets were dropped, and how many handshakes there were."""

    initiations_sent: int = 0
    handshakes: int = 0
    """Sessions that were made."""
    cookies_sent: int = 0
    cookies_received: int = 0
    malformed: int = 0
    """Messages of a wrong type or length."""
    forged: int = 0
    """Messages that are not authentic, of no session, or from no peer."""
    replayed: int = 0
    """Messages that arrived twice, or too late to say."""
    limited: int = 0
    """Handshake messages above the limit of their source, or without a cookie under load."""
    not_allowed: int = 0
    """Packets from addresses that do not belong to their peer, and packets to addresses of no peer."""
    staged_dropped: int = 0
    """Packets that waited for a session in vain."""


class Tunnel:
    """The peers of one interface, and its own key.

    Args:
        private: the own private key.
        mtu: of the interface, in bytes.
        random: returns so many unpredictable bytes; None takes them from the operating system.
        wall: returns the seconds since 1970; None takes the system's clock.

    Attributes:
        public: the own public key.
        outgoing: messages to send, with their destinations. The caller empties it.
        soonest: when `expire` is to be called; it may find nothing to do. `inf` is never.
        sessions: by the own index.
        allowed: the peer of each address.
        counters: what was dropped, and why.
    """

    def __init__(
        self,
        private: bytes,
        *,
        mtu: int,
        random: Callable[[int], bytes] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._private = private
        self.public: bytes = public_key(private)
        self.mtu: int = mtu
        self._random: Callable[[int], bytes] = random or _system_random
        self._wall: Callable[[], float] = wall or _system_time
        self.peers: dict[bytes, Peer] = {}
        self.outgoing: list[tuple[bytes, SocketAddress]] = []
        self.soonest: float = inf
        self.sessions: dict[int, Session] = {}
        self._initiated: dict[int, Peer] = {}
        self.allowed: AllowedAddresses[Peer] = AllowedAddresses()
        self.counters: TunnelCounters = TunnelCounters()
        self._checker = CookieChecker(self.public, self._random)
        self._load = LoadMeter()
        self._sources = SourceLimit()

    # --- Peers ----------------------------------------------------------------------------------------------------

    def add_peer(self, configuration: WireGuardPeer, endpoint: SocketAddress | None, now: float) -> Peer:
        """Add a peer, or replace the one with the same key.

        Raises:
            ValueError: its key is the own one, or no key of a peer.
        """
        public = parse_key("public_key", configuration.public_key)
        if public == self.public:
            raise ValueError("public_key: the peer has this end's own key")
        try:
            shared = exchange(self._private, public)
        except ValueError:
            raise ValueError("public_key: not a key of a peer") from None
        self.remove_peer(public)
        peer = self.peers[public] = Peer(configuration, public, shared, endpoint)
        peer.jitter = self.jitter()
        for prefix in configuration.allowed_ips:
            assert not isinstance(prefix, str)
            self.allowed.add(prefix, peer)
        if configuration.keepalive and endpoint is not None:
            peer.timers.persistent = now
            self._arm(peer)
        return peer

    def remove_peer(self, public: bytes) -> bool:
        """Remove a peer with its keys, and return whether there was one."""
        peer = self.peers.pop(public, None)
        if peer is None:
            return False
        self.allowed.remove_owner(peer)
        self._erase(peer)
        peer.timers.stop()
        peer.staged.clear()
        return True

    def close(self) -> None:
        """Remove all peers and forget the own key."""
        for public in list(self.peers):
            self.remove_peer(public)
        self._private = b""
        self.outgoing.clear()

    # --- Handshakes -----------------------------------------------------------------------------------------------

    def initiate(self, peer: Peer, now: float, *, again: bool = False) -> None:
        """Send an initiation, unless one was sent a moment ago."""
        if not again:
            peer.timers.attempts = 0
        if peer.endpoint is None or now - peer.initiated_at < REKEY_TIMEOUT:
            return
        peer.initiated_at = now
        self._drop_initiated(peer)
        index = self._new_index()
        stamp = peer.last_stamp = max(self._stamp(), _after(peer.last_stamp))
        try:
            message, kept = make_initiation(index, self._private, peer.public, peer.shared, stamp, self._random)
        except ValueError:  # a key of low order, which `add_peer` has refused
            return
        peer.initiated = index, kept
        self._initiated[index] = peer
        self.counters.initiations_sent += 1
        self.outgoing.append((peer.cookies.sign(message, now), peer.endpoint))
        peer.jitter = self.jitter()
        peer.timers.initiated(now, peer.jitter)
        self._arm(peer)

    def receive(self, message: bytes, source: SocketAddress, now: float) -> None:
        """Process a message of a handshake.

        Args:
            message: as it arrived; anything may be in it.
            source: where it came from.
            now: seconds.
        """
        counters = self.counters
        kind = TYPE.unpack_from(message)[0] if len(message) >= TYPE.size else 0
        if len(message) != SIZES.get(kind):
            counters.malformed += 1
            return
        if kind == COOKIE:
            self._receive_cookie(message, now)
            return
        if not self._checker.has_mac1(message):
            counters.forged += 1
            return
        if self._load.is_under_load(now):
            where = source_bytes(source)
            if not self._checker.has_mac2(message, where, now):
                counters.limited += 1
                counters.cookies_sent += 1
                sender = int.from_bytes(message[4:8], "little")
                self.outgoing.append((self._checker.make_reply(message, sender, where, now), source))
                return
            if not self._sources.allows(where[: 4 if len(where) == 6 else 8], now):
                counters.limited += 1
                return
        try:
            if kind == INITIATION:
                self._receive_initiation(message, source, now)
            else:
                assert kind == RESPONSE
                self._receive_response(message, source, now)
        except HandshakeError as problem:
            counters.forged += 1
            _log.debug("WireGuard: %s", problem)

    def _receive_initiation(self, message: bytes, source: SocketAddress, now: float) -> None:
        received = read_initiation(message, self._private, self.public, self._shared_with)
        peer = self.peers[received.static]
        if received.timestamp <= peer.timestamp:
            self.counters.replayed += 1
            return
        if now - peer.answered_at < INITIATION_INTERVAL:
            self.counters.limited += 1
            return
        peer.timestamp, peer.answered_at = received.timestamp, now
        index = self._new_index()
        response, sending, receiving = make_response(index, received, peer.preshared, self._random)
        session = Session(peer, index, received.sender, sending, receiving, initiator=False, now=now)
        # RFC 6479's window and the keys go with the sessions: two that were not used are of no use.
        self._drop(peer.next)
        self._drop(peer.previous)
        peer.previous, peer.next = None, session
        self.sessions[index] = session
        self.counters.handshakes += 1
        peer.endpoint = source
        peer.timers.received(now)
        peer.timers.derived(now)
        self.outgoing.append((peer.cookies.sign(response, now), source))
        peer.timers.sent(now)
        self._arm(peer)

    def _receive_response(self, message: bytes, source: SocketAddress, now: float) -> None:
        index = int.from_bytes(message[8:12], "little")
        peer = self._initiated.get(index)
        if peer is None or peer.initiated is None:
            raise HandshakeError("a response to no initiation")
        remote, sending, receiving = read_response(message, self._private, peer.initiated[1], peer.preshared)
        self._drop_initiated(peer)
        session = Session(peer, index, remote, sending, receiving, initiator=True, now=now)
        self.sessions[index] = session
        self._drop(peer.previous)
        if peer.next is not None:
            self._drop(peer.current)
            peer.previous, peer.next = peer.next, None
        else:
            peer.previous = peer.current
        peer.current = session
        self.counters.handshakes += 1
        peer.endpoint = source
        peer.timers.received(now)
        peer.timers.derived(now)
        self._completed(peer, now)
        if not self._send_staged(peer, now):
            self.send_keepalive(peer, now)  # the other end sends only after it has received something
        self._arm(peer)

    def _receive_cookie(self, message: bytes, now: float) -> None:
        index = int.from_bytes(message[4:8], "little")
        peer = self._initiated.get(index)
        if peer is None:
            session = self.sessions.get(index)
            peer = session.peer if session is not None else None
        if peer is not None and peer.cookies.receive(message, now):
            self.counters.cookies_received += 1
        else:
            self.counters.forged += 1

    def _shared_with(self, public: bytes) -> bytes | None:
        peer = self.peers.get(public)
        return None if peer is None else peer.shared

    def _completed(self, peer: Peer, now: float) -> None:
        peer.timers.completed()
        peer.completed_at = now
        peer.refreshing = False
        _log.debug("WireGuard: a session with %s", key_text(peer.public))

    # --- Messages of a session ------------------------------------------------------------------------------------

    def send_keepalive(self, peer: Peer, now: float) -> None:
        """Send a message without a packet, or what waits; without a session, begin a handshake."""
        if self._send_staged(peer, now):
            return
        session = peer.sending(now)
        if session is None or peer.endpoint is None:
            self.initiate(peer, now)
            return
        self._seal(session, b"")
        peer.timers.sent(now)
        self.refresh_sending(peer, session, now)

    def _send_staged(self, peer: Peer, now: float) -> bool:
        session = peer.sending(now)
        if not peer.staged or session is None or peer.endpoint is None:
            return False
        while peer.staged:
            self._seal(session, peer.staged.popleft())
        peer.timers.sent_data(now, peer.jitter)
        self.refresh_sending(peer, session, now)
        return True

    def _seal(self, session: Session, packet: bytes) -> None:
        padded = packet.ljust(min(max(self.mtu, len(packet)), -(-len(packet) // PADDING) * PADDING), b"\0")
        message = bytearray(OVERHEAD + len(padded))
        HEADER.pack_into(message, 0, TRANSPORT, session.remote, session.sent)
        session.seal(NONCE.pack(session.sent), padded, None, memoryview(message)[HEADER_BYTES:])
        session.sent += 1
        session.peer.bytes_sent += len(message)
        assert session.peer.endpoint is not None
        self.outgoing.append((bytes(message), session.peer.endpoint))

    def sent(self, session: Session, now: float) -> None:
        """Packets were sent with a session."""
        peer = session.peer
        peer.timers.sent_data(now, peer.jitter)
        self.refresh_sending(peer, session, now)
        self._arm(peer)

    def refresh_sending(self, peer: Peer, session: Session, now: float) -> None:
        """Begin the next session in time."""
        if session.sent > REKEY_AFTER_MESSAGES or (session.initiator and now - session.born > REKEY_AFTER_TIME):
            self.initiate(peer, now)

    def received(self, session: Session, source: SocketAddress, now: float, *, data: bool, size: int) -> None:
        """Authentic messages have arrived with a session.

        Args:
            session: whose.
            source: where the last came from.
            now: seconds.
            data: whether a packet was in one.
            size: bytes of them.
        """
        peer = session.peer
        peer.endpoint = source
        peer.bytes_received += size
        if session is peer.next:
            self._drop(peer.previous)
            peer.previous, peer.current, peer.next = peer.current, session, None
            self._completed(peer, now)
            self._send_staged(peer, now)
        if data:
            peer.timers.received_data(now)
        else:
            peer.timers.received(now)
        old = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        if session is peer.current and session.initiator and not peer.refreshing and now - session.born > old:
            peer.refreshing = True
            self.initiate(peer, now)
        self._arm(peer)

    def stage(self, peer: Peer, packet: memoryview, now: float) -> None:
        """Keep a packet for which there is no session, and begin a handshake."""
        if peer.endpoint is None:
            self.counters.staged_dropped += 1
            return
        if not peer.stage(packet):
            self.counters.staged_dropped += 1
        self.initiate(peer, now)

    # --- Timers ---------------------------------------------------------------------------------------------------

    def _arm(self, peer: Peer) -> None:
        self.soonest = min(self.soonest, peer.timers.next())

    def expire(self, now: float) -> None:
        """Do what is due."""
        for peer in self.peers.values():
            if peer.timers.next() <= now:
                self._expire(peer, now)
        self.soonest = min((peer.timers.next() for peer in self.peers.values()), default=inf)

    def _expire(self, peer: Peer, now: float) -> None:
        timers = peer.timers
        if timers.retransmit <= now:
            timers.retransmit = inf
            if timers.attempts >= MAX_ATTEMPTS:
                self.counters.staged_dropped += len(peer.staged)
                peer.staged.clear()
                self._drop_initiated(peer)
                timers.keepalive = inf
                timers.erase = min(timers.erase, now + ERASE_AFTER)
                _log.debug("WireGuard: %s does not answer", key_text(peer.public))
            else:
                timers.attempts += 1
                self.initiate(peer, now, again=True)
        if timers.keepalive <= now:
            timers.keepalive = inf
            self.send_keepalive(peer, now)
            if timers.more_data:
                timers.more_data = False
                timers.keepalive = now + KEEPALIVE_TIMEOUT
        if timers.silence <= now:
            timers.silence = inf
            self.initiate(peer, now)
        if timers.persistent <= now:
            timers.persistent = now + timers.interval if timers.interval else inf
            self.send_keepalive(peer, now)
        if timers.erase <= now:
            timers.erase = inf
            self._erase(peer)

    def jitter(self) -> float:
        """Return a random part of the interval between initiations."""
        return (1 + int.from_bytes(self._random(2), "little")) / 65536 * JITTER  # never none: rounding is below it

    # --- Indices and keys -----------------------------------------------------------------------------------------

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self.sessions and index not in self._initiated:
                return index

    def _stamp(self) -> bytes:
        nanoseconds = int(self._wall() * 1e9)
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        return (_TAI_EPOCH + seconds).to_bytes(8) + (rest // _STAMP_GRAIN * _STAMP_GRAIN).to_bytes(4)

    def _drop(self, session: Session | None) -> None:
        if session is not None:
            del self.sessions[session.local]

    def _drop_initiated(self, peer: Peer) -> None:
        if peer.initiated is not None:
            del self._initiated[peer.initiated[0]]
            peer.initiated = None

    def _erase(self, peer: Peer) -> None:
        """Keep no key of a session or handshake."""
        self._drop_initiated(peer)
        for session in (peer.current, peer.previous, peer.next):
            self._drop(session)
        peer.current = peer.previous = peer.next = None
        peer.cookies.forget()


def source_bytes(source: SocketAddress) -> bytes:
    """Return an address and a port as bytes: 6 with IPv4, 18 with IPv6."""
    host = str(source[0]).partition("%")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    if packed.startswith(_MAPPED):
        packed = packed[len(_MAPPED) :]
    return packed + int(source[1]).to_bytes(2)


_MAPPED: Final = bytes(10) + b"\xff\xff"


def _after(stamp: bytes) -> bytes:
    return (int.from_bytes(stamp) + 1).to_bytes(len(stamp))


def _system_random(size: int) -> bytes:
    return os.urandom(size)  # looked up with each call: a simulation replaces it


def _system_time() -> float:
    return time.time()
