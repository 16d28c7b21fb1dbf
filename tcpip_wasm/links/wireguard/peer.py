"""A peer: what a caller configures (`WireGuardPeer`), and its state (`Peer`) with its sessions (`Session`).

Owns which session sends, and which receive. Must not make messages: that is `tunnel`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import inf
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tcpip_wasm.arguments import check_int, check_port
from tcpip_wasm.links.wireguard.cookies import CookieKeeper
from tcpip_wasm.links.wireguard.keys import KEY_BYTES, parse_key
from tcpip_wasm.links.wireguard.messages import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from tcpip_wasm.links.wireguard.noise import Initiated
from tcpip_wasm.links.wireguard.replay import ReplayWindow
from tcpip_wasm.links.wireguard.timers import Timers

SocketAddress = tuple[Any, ...]
"""As sockets have it: (host, port), or with IPv6 (host, port, flow, scope)."""

Cipher = Callable[[bytes, Any, None, memoryview], int]

STAGED: Final = 128
"""Packets that wait for a session of a peer at most; the oldest is dropped."""

LONGEST_KEEPALIVE: Final = 65535


@dataclass(frozen=True, kw_only=True)
class WireGuardPeer:
    """A peer of a `WireGuard` interface, as its configuration names it.

    Attributes:
        public_key: in base64, or 32 bytes.
        endpoint: (host, port), where the host may be a name; None waits for the peer to begin.
        allowed_ips: addresses behind the peer, as text or networks: packets to them go to the peer, and packets from it
            have no other source. The longest prefix of all peers decides.
        preshared_key: a second secret, of both peers; in base64, or 32 bytes.
        keepalive: seconds between messages to a peer that would lose its way back through a NAT, 1 to 65,535.
    """

    public_key: str | bytes
    endpoint: tuple[str, int] | None = None
    allowed_ips: Iterable[str | IPv4Network | IPv6Network] = ()
    preshared_key: str | bytes | None = field(default=None, repr=False)
    keepalive: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError, TypeError: one is none.
        """
        parse_key("public_key", self.public_key)
        if self.preshared_key is not None:
            parse_key("preshared_key", self.preshared_key)
        if isinstance(self.allowed_ips, (str, bytes)):
            raise TypeError("allowed_ips: a list of networks is needed")
        object.__setattr__(self, "allowed_ips", tuple(ip_network(each, strict=False) for each in self.allowed_ips))
        if self.keepalive is not None:
            check_int("keepalive", self.keepalive, 1, LONGEST_KEEPALIVE)
        if self.endpoint is not None:
            host, port = self.endpoint
            if not isinstance(host, str) or not host:
                raise ValueError("endpoint: a host and a port are needed")
            check_port("endpoint", port, 1)


class Session:
    """Keys of both directions, with their message numbers.

    Attributes:
        peer: whose it is.
        local, remote: the index by which each end finds it.
        sent: the number of the next message.
        born: when it was made.
        initiator: whether this end has initiated it, and therefore makes the next.
        window: the numbers that have arrived.
        seal, unseal: encrypt and decrypt into a buffer.
    """

    __slots__ = ("born", "initiator", "local", "peer", "remote", "seal", "sent", "unseal", "window")

    def __init__(
        self, peer: Peer, local: int, remote: int, sending: bytes, receiving: bytes, *, initiator: bool, now: float
    ) -> None:
        self.peer: Peer = peer
        self.local: int = local
        self.remote: int = remote
        self.seal: Cipher = ChaCha20Poly1305(sending).encrypt_into
        self.unseal: Cipher = ChaCha20Poly1305(receiving).decrypt_into
        self.sent: int = 0
        self.window: ReplayWindow = ReplayWindow()
        self.born: float = now
        self.initiator: bool = initiator

    def is_usable(self, now: float) -> bool:
        """Whether it may still be used: its age and its numbers have limits."""
        return now - self.born < REJECT_AFTER_TIME and self.sent < REJECT_AFTER_MESSAGES - STAGED


class Peer:
    """The state of one peer.

    Attributes:
        public, preshared: keys; zeros where there is no preshared one.
        shared: the secret of the own static key and the peer's.
        endpoint: where its last authentic message came from, or where it was configured.
        current, previous, next: the session that sends, the one before, whose messages may still arrive, and one that
            the other end has initiated and not yet used.
        initiated: the handshake that waits for a response, with its index.
        staged: packets that wait for a session.
        jitter: a random part of intervals, in seconds; another after each initiation.
        timestamp: of the newest initiation that arrived; an older one is a replay.
        last_stamp: of the newest initiation that was sent.
    """

    def __init__(
        self, configuration: WireGuardPeer, public: bytes, shared: bytes, endpoint: SocketAddress | None
    ) -> None:
        self.configuration: WireGuardPeer = configuration
        self.public: bytes = public
        key = configuration.preshared_key
        self.preshared: bytes = bytes(KEY_BYTES) if key is None else parse_key("preshared_key", key)
        self.shared: bytes = shared
        self.endpoint: SocketAddress | None = endpoint
        self.current: Session | None = None
        self.previous: Session | None = None
        self.next: Session | None = None
        self.initiated: tuple[int, Initiated] | None = None
        self.initiated_at: float = -inf
        self.answered_at: float = -inf
        self.jitter: float = 0.0
        self.completed_at: float | None = None
        self.last_stamp: bytes = bytes(12)
        self.timestamp: bytes = bytes(12)
        self.refreshing: bool = False  # the current session was replaced at the end of its life already
        self.cookies: CookieKeeper = CookieKeeper(public)
        self.timers: Timers = Timers(configuration.keepalive)
        self.staged: deque[bytes] = deque()
        self.bytes_sent: int = 0
        self.bytes_received: int = 0

    def sending(self, now: float) -> Session | None:
        """Return the session to send with, or None where a handshake is needed."""
        session = self.current
        return session if session is not None and session.is_usable(now) else None

    def stage(self, packet: memoryview) -> bool:
        """Keep a packet until there is a session; return whether none was dropped for it."""
        full = len(self.staged) >= STAGED
        if full:
            self.staged.popleft()
        self.staged.append(bytes(packet))
        return not full
