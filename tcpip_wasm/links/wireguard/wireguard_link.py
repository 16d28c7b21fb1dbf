"""`WireGuard`: the peers of WireGuard as what carries a tun's packets.

Owns the joints: the stack's records, the tunnel, its socket and one timer. Packets are encrypted out of the stack's
transmit buffer and decrypted into its receive buffer, a batch with each call. What a message means is `tunnel`'s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from tcpip_wasm.arguments import check_port
from tcpip_wasm.links.link import FrameInterface, Link
from tcpip_wasm.links.wireguard.keys import key_text, parse_key
from tcpip_wasm.links.wireguard.packets import Opener, Sealer
from tcpip_wasm.links.wireguard.peer import SocketAddress, WireGuardPeer
from tcpip_wasm.links.wireguard.sockets import (
    MachineSocket,
    MessageSocketPort,
    StackSocket,
    bind_machine_socket,
)
from tcpip_wasm.links.wireguard.tunnel import Tunnel, TunnelCounters

if TYPE_CHECKING:
    from tcpip_wasm.stack import NetworkStack

_BATCHES_PER_TRANSMIT: Final = 8
"""Batches that are sent at once: some 360 full packets, 5 ms of encryption."""

_OUTGOING: Final = 1024
"""Messages of handshakes that wait for the socket at most."""


@dataclass(frozen=True, slots=True)
class WireGuardPeerStatus:
    """What a `WireGuard` has to say of a peer.

    Attributes:
        public_key: in base64.
        endpoint: (host, port) that messages go to; None where the peer has not begun.
        latest_handshake: the loop's time at which the latest session came into use, or None.
        bytes_received, bytes_sent: of messages with packets or keepalives.
        allowed_ips: as configured.
    """

    public_key: str
    endpoint: tuple[str, int] | None
    latest_handshake: float | None
    bytes_received: int
    bytes_sent: int
    allowed_ips: tuple[Any, ...]


class WireGuard(Link):
    """Carries the packets of a tun through WireGuard to its peers, until it is closed.

    Attributes:
        counters: packets that were carried and dropped.
        tunnel_counters: handshakes, and messages that were dropped with the reason.
    """

    def __init__(self, interface: FrameInterface, tunnel: Tunnel, port: MessageSocketPort) -> None:
        """Attach to the interface and begin to carry; use `create`."""
        super().__init__(interface, max_frame=interface.mtu)
        self._tunnel = tunnel
        self._socket = port
        self._sealer, self._opener = Sealer(tunnel), Opener(tunnel)
        self._unsent: tuple[memoryview, int, SocketAddress] | None = None  # of a batch
        self._unread: tuple[memoryview, int, SocketAddress] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self.begin()
        port.begin(self._arrived_messages, self._writable)

    @classmethod
    async def create(
        cls,
        interface: FrameInterface,
        *,
        private_key: str | bytes,
        listen_port: int = 0,
        host: str | None = None,
        stack: NetworkStack | None = None,
        sock: socket.socket | None = None,
        peers: Iterable[WireGuardPeer] = (),
    ) -> WireGuard:
        """Open a socket for WireGuard and carry the packets of a tun.

        Args:
            interface: a tun, with an MTU of 1,420 where the path of messages has 1,500; it must have no other link.
            private_key: in base64, or 32 bytes; `tcpip-wasm wg genkey` prints one.
            listen_port: 0 is any.
            host: the own address that messages come to; None is all.
            stack: the stack whose UDP carries messages, which may be the interface's own; None is the machine.
            sock: a bound UDP socket, such as one of another network namespace, in place of a host and a port; it
                belongs to the link from now on.
            peers: the peers; `add_peer` adds more.

        Raises:
            ValueError, TypeError: an argument is none; the interface is no tun.
            OSError: the port is in use, a peer's name has no address, or ``EBUSY`` where the interface has a link.

        Cancelled, it leaves nothing behind.
        """
        if interface.type != "tun":
            raise ValueError(f"interface: WireGuard carries packets; a tun is needed, not a {interface.type}")
        private = parse_key("private_key", private_key)
        check_port("listen_port", listen_port)
        configured = tuple(peers)
        if sock is not None and (stack is not None or host is not None or listen_port):
            raise ValueError("sock: it has its host and its port, and is the machine's")
        port: MessageSocketPort
        if stack is not None:
            port = await StackSocket.bind(stack, host, listen_port)
        else:
            port = MachineSocket(sock or await bind_machine_socket(host, listen_port))
        try:
            link = cls(interface, Tunnel(private, mtu=interface.mtu), port)
        except BaseException:
            port.close()
            raise
        try:
            for peer in configured:
                await link.add_peer(peer)
        except BaseException:
            link.close()
            raise
        return link

    # --- Peers ----------------------------------------------------------------------------------------------------

    async def add_peer(self, peer: WireGuardPeer) -> None:
        """Add a peer, or replace the one with the same public key.

        Raises:
            ValueError: its key is the own one, or no key.
            OSError: its name has no address.
        """
        endpoint = None if peer.endpoint is None else await self._socket.resolve(*peer.endpoint)
        self._tunnel.add_peer(peer, endpoint, self._loop.time())
        self._after()

    def remove_peer(self, public_key: str | bytes) -> None:
        """Remove a peer with its keys. Raises `KeyError` where there is none with this public key."""
        public = parse_key("public_key", public_key)
        if not self._tunnel.remove_peer(public):
            raise KeyError(key_text(public))

    @property
    def peers(self) -> tuple[WireGuardPeerStatus, ...]:
        """The peers as they are now."""
        return tuple(
            WireGuardPeerStatus(
                public_key=key_text(peer.public),
                endpoint=None if peer.endpoint is None else _shown(peer.endpoint),
                latest_handshake=peer.completed_at,
                bytes_received=peer.bytes_received,
                bytes_sent=peer.bytes_sent,
                allowed_ips=tuple(peer.configuration.allowed_ips),
            )
            for peer in self._tunnel.peers.values()
        )

    @property
    def public_key(self) -> str:
        """The own public key in base64, which peers are configured with."""
        return key_text(self._tunnel.public)

    @property
    def port(self) -> int:
        """The port of the socket."""
        return self._socket.port

    @property
    def tunnel_counters(self) -> TunnelCounters:
        """Handshakes, and why messages were dropped."""
        return self._tunnel.counters

    # --- From the stack to peers ----------------------------------------------------------------------------------

    def send_records(self, records: memoryview) -> int:
        """Encrypt and send records, a batch with each system call. See `Link.send_records`."""
        if self._unsent is not None:
            return 0
        counters, end = self.counters, len(records)
        now = self._loop.time()
        offset = 0
        for _ in range(_BATCHES_PER_TRANSMIT):
            if offset >= end or self._unsent is not None:
                break
            offset, batch, lost = self._sealer.seal(records, offset, now)
            counters.send_dropped += lost
            if batch is not None:
                counters.frames_sent += batch.frames
                counters.bytes_sent += batch.payload
                self._send_batch(batch.data, batch.size, batch.endpoint)
        else:
            if offset < end and self._unsent is None:
                self._loop.call_soon(self.resume)
        self._after()
        return offset

    def _send_batch(self, data: memoryview, size: int, endpoint: SocketAddress) -> None:
        try:
            sent = self._socket.send(data, size, endpoint)
        except OSError:  # lost, as messages of UDP may be: the network or the peer may come back
            self.counters.send_dropped += -(-len(data) // size)
            return
        if sent < len(data):
            self.counters.send_waits += 1
            self._unsent = memoryview(bytes(data[sent:])), size, endpoint
            self._socket.watch_writable()

    def _writable(self) -> None:
        if self.closed:
            return
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            self._send_batch(*unsent)
        if self._unsent is None:
            self._after()
            self.resume()

    # --- From peers to the stack ----------------------------------------------------------------------------------

    def _arrived_messages(self, data: memoryview, size: int, source: SocketAddress) -> bool:
        if self.closed or not data:
            return True
        if self._unread is not None:  # a socket that hands messages over
            self.counters.receive_dropped += 1
            return False
        self._unread = data, size, source
        return self._take_unread()

    def _take_unread(self) -> bool:
        """Decrypt what was read; return False where some of it waits for room in the stack."""
        counters = self.counters
        now = self._loop.time()
        while self._unread is not None:
            data, size, source = self._unread
            try:
                view = self._interface.receive_buffer()
                opened = self._opener.open(data, size, source, now, view)
                del view  # it is valid only until the next call into the stack
                counters.frames_received += opened.frames
                counters.bytes_received += opened.payload
                counters.receive_truncated += opened.truncated
                if opened.records:
                    self._interface.commit_received(opened.records)
            except OSError as problem:
                self.end(problem)
                return False
            if self.closed:
                return False
            if opened.taken == len(data):
                self._unread = None
            else:
                self._unread = data[opened.taken :], size, source
                if not opened.taken:
                    counters.receive_full += 1
                    self._socket.watch_readable(False)
                    self._interface.call_when_room(self._room)
                    break
        self._after()
        return self._unread is None

    def _room(self) -> None:
        if not self.closed and self._take_unread() and not self.closed:
            self._socket.watch_readable(True)

    # --- Handshakes and timers ------------------------------------------------------------------------------------

    def _after(self) -> None:
        """Send what the tunnel has to say by itself, and set the timer."""
        outgoing = self._tunnel.outgoing
        if outgoing:
            self._send_outgoing()
        soonest = self._tunnel.soonest
        if soonest < self._timer_at and not self.closed:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = soonest
            self._timer = self._loop.call_at(soonest, self._expired)

    def _send_outgoing(self) -> None:
        outgoing = self._tunnel.outgoing
        count = 0
        for message, endpoint in outgoing:
            try:
                if not self._socket.send(memoryview(message), len(message), endpoint):
                    self._socket.watch_writable()
                    break
            except OSError:
                pass  # a lost message: the timers repeat it
            count += 1
        del outgoing[:count]
        del outgoing[:-_OUTGOING]

    def _expired(self) -> None:
        self._timer, self._timer_at = None, inf
        if not self.closed:
            self._tunnel.expire(self._loop.time())
            self._after()

    def release(self) -> None:
        """Close the socket and forget all keys."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unsent = self._unread = None
        self._tunnel.close()
        self._socket.close()


def _shown(endpoint: SocketAddress) -> tuple[str, int]:
    host = str(endpoint[0])
    return host.removeprefix("::ffff:") if "." in host else host, int(endpoint[1])
