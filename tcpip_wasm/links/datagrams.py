"""Links over a socket of datagrams that they open themselves; one frame is one datagram.

    bind_datagrams               QEMU's `-netdev dgram`, and any peer that sends bare frames: both ends have an address;
                                 with a key another stack, by UDP that is encrypted
    connect_bess, listen_bess    user-mode Linux and Cloud Hypervisor: a Unix socket of type SOCK_SEQPACKET
    accept_vfkit                 vfkit: the address of the machine comes with its first datagram

Owns the sockets and their files. How frames pass is `descriptor`'s, and `encrypted_link`'s.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Any, ClassVar, Final, overload

from tcpip_wasm.links.descriptor import DatagramSocketLink
from tcpip_wasm.links.guest_listener import GuestListener
from tcpip_wasm.links.guests import Attach, check_guests
from tcpip_wasm.links.link import LOSES_FRAME, UNREACHABLE, FrameInterface
from tcpip_wasm.links.transport_address import (
    TransportAddress,
    bind_unix,
    connect_stream,
    listen_stream,
    parse_address,
    unlink_unix,
)

if TYPE_CHECKING:
    from tcpip_wasm.links.encrypted_link import EncryptedLink

__all__ = ["DatagramLink", "accept_vfkit", "bind_datagrams", "connect_bess", "listen_bess"]

_VFKIT_GREETING: Final = b"VFKT"
"""The first datagram of vfkit, by which a listener learns the machine's address."""

_BUFFER_BYTES: Final = 1024 * 1024
"""Of a socket of datagrams, where the kernel grants it: its default holds some 80 frames of 1514 bytes."""


class DatagramLink(DatagramSocketLink):
    """Carries one frame a datagram, over a socket that belongs to the link: it is closed at the link's end.

    A peer that is not there, or not yet, loses frames and does not end the link.
    """

    loses_frame: ClassVar[frozenset[int]] = LOSES_FRAME | UNREACHABLE | {errno.ENOENT}

    def __init__(self, sock: socket.socket, interface: FrameInterface, *, path: str = "", to: str = "") -> None:
        """Attach to the interface and begin to carry.

        Args:
            sock: of type ``SOCK_DGRAM`` or ``SOCK_SEQPACKET``.
            interface: a tap for Ethernet frames, a tun for packets.
            path: of the socket's file, which is removed at the link's end.
            to: the path that frames are sent to, where the socket is not connected.

        Raises:
            ValueError: the socket is a byte stream.
            OSError: ``EBUSY`` where something is attached to the interface.
        """
        self._sock = sock
        self._path = path
        self._to = to
        self._probe: socket.socket | None = None
        super().__init__(sock, interface, send=self.send if to else None)

    def send(self, frame: memoryview, /) -> None:
        """Send one frame. See `Link.send`."""
        self._sock.sendto(frame, self._to)

    def watch_writable(self) -> None:
        """Have the stack's frames sent when the peer has room. See `_room_probe`."""
        if self._probe is not None:
            return
        self._probe = _room_probe(self._to) if self._to else None
        if self._probe is None:
            super().watch_writable()
        else:
            self._loop.add_writer(self._probe, self._peer_has_room)

    def _peer_has_room(self) -> None:
        self._drop_probe()
        self.resume()

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._loop.remove_writer(self._probe)
            self._probe.close()
            self._probe = None

    def release(self) -> None:
        """Close the socket and remove its file."""
        self._drop_probe()
        super().release()
        self._sock.close()
        if self._path:
            unlink_unix(self._path)


@overload
async def bind_datagrams(interface: FrameInterface, local: str, remote: str, *, key: None = None) -> DatagramLink: ...


@overload
async def bind_datagrams(
    interface: FrameInterface, local: str, remote: str | None = None, *, key: bytes | str
) -> EncryptedLink: ...


async def bind_datagrams(
    interface: FrameInterface, local: str, remote: str | None = None, *, key: bytes | str | None = None
) -> DatagramLink | EncryptedLink:
    """Exchange frames with a peer by datagrams: bare ones, as QEMU's ``-netdev dgram``, or encrypted ones.

    Bare frames are neither authenticated nor encrypted; datagrams of UDP from other addresses than `remote` are
    ignored. With a key, frames that are not the peer's are dropped and counted, wherever they come from, and the peer
    may move to another address. A datagram then has 32 bytes more: where the path carries packets of 1,500 bytes, a
    tap's MTU should be 1,400 at most, so that no datagram is fragmented.

    Args:
        interface: a tap or a tun; it must have no other link.
        local: ``unix:PATH``, a socket that only this user may open, or ``udp:HOST:PORT``.
        remote: the peer's address, of the same kind. The peer may come and go. With a key it may be None at one of the
            two ends, which learns it from the other.
        key: 32 bytes or their base64, such as ``tcpip-wasm wg genpsk`` prints, secret and the same at the two ends;
            for UDP alone. It needs the extra ``wireguard``. See docs/reference/encrypted-datagrams.md.

    Raises:
        ValueError, TypeError: a malformed address or key, or addresses of different kinds.
        OSError: the local address is in use, or ``EBUSY`` where the interface has a link.
        ImportError: there is a key, and `cryptography` is not installed.
    """
    near = parse_address(local, kinds=("unix", "udp") if key is None else ("udp",), argument="local")
    if key is not None:
        from tcpip_wasm.links import EncryptedLink  # whose error names what to install

        peer = None if remote is None else parse_address(remote, kinds=("udp",), argument="remote")
        sock, there = await _bind_udp(near, peer)
        try:
            return EncryptedLink(sock, interface, key=key, remote=there)
        except BaseException:
            sock.close()
            raise
    if remote is None:
        raise TypeError("remote: the peer's address is needed without a key")
    far = parse_address(remote, kinds=(near.kind,), argument="remote")
    if near.kind == "unix":
        return _link(_unix_socket(near.path), interface, path=near.path, to=far.path)
    sock, there = await _bind_udp(near, far)
    assert there is not None
    try:
        sock.connect(there)
    except BaseException:
        sock.close()
        raise
    return _link(sock, interface)


async def connect_bess(interface: FrameInterface, address: str) -> DatagramLink:
    """Connect to a Unix socket of type SOCK_SEQPACKET on which each message is a frame.

    Args:
        interface: a tap; it must have no other link.
        address: ``unix:PATH``.

    Raises:
        ValueError: the address is none.
        OSError: nothing listens at the path, or ``EBUSY`` where the interface has a link.
    """
    where = parse_address(address, kinds=("unix",))
    return _link(await connect_stream(where, kind=socket.SOCK_SEQPACKET), interface)


async def listen_bess(address: str, attach: Attach, *, max_guests: int = 64) -> GuestListener:
    """Accept user-mode Linux with ``vec0:transport=bess,dst=PATH``, and others with such sockets.

    Args:
        address: ``unix:PATH``, a socket that only this user may open.
        attach: returns the tap for a guest that has connected, or a coroutine that does, or an asynchronous context
            manager that yields it and is left when the guest has gone, such as `bridge_port`. What it raises refuses
            the guest and is logged.
        max_guests: guests that are connected at most; more are refused.

    Raises:
        ValueError: the address or the limit is none.
        OSError: ``EADDRINUSE`` where another process listens at the path.
    """
    where = parse_address(address, kinds=("unix",))
    check_guests(max_guests)
    return GuestListener(listen_stream(where, kind=socket.SOCK_SEQPACKET), where, attach, DatagramLink, max_guests)


async def accept_vfkit(interface: FrameInterface, address: str) -> DatagramLink:
    """Wait for the first datagram of a machine, and exchange frames with it: vfkit's
    ``virtio-net,unixSocketPath=PATH``.

    Args:
        interface: a tap; it must have no other link.
        address: ``unix:PATH``, a socket that only this user may open.

    Raises:
        ValueError: the address is none.
        OSError: the path is in use, or ``EBUSY`` where the interface has a link.
        Cancellation removes the socket.
    """
    path = parse_address(address, kinds=("unix",)).path
    sock = _unix_socket(path)
    try:
        loop = asyncio.get_running_loop()
        peer = b""
        while not peer:  # a socket without an address cannot be answered
            frame, peer = await loop.sock_recvfrom(sock, 65536 + 64)
        link = DatagramLink(sock, interface, path=path, to=os.fsdecode(peer))
    except BaseException:
        sock.close()
        unlink_unix(path)
        raise
    if frame != _VFKIT_GREETING:
        link.deliver(frame)
    return link


async def _bind_udp(
    near: TransportAddress, far: TransportAddress | None
) -> tuple[socket.socket, tuple[Any, ...] | None]:
    """Return a socket that is bound, and the other end's address as the socket takes it, or None."""
    loop = asyncio.get_running_loop()
    family, _, protocol, _, where = (await loop.getaddrinfo(near.host, near.port, type=socket.SOCK_DGRAM))[0]
    there = None
    if far is not None:
        there = (await loop.getaddrinfo(far.host, far.port, family=family, type=socket.SOCK_DGRAM))[0][4]
    sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    try:
        _grow_buffers(sock)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock, there


def _room_probe(path: str) -> socket.socket | None:
    """Return a socket that becomes writable when the queue of the socket at a path has room. None if the queue is not
    full, if it does not limit a sender, or if there is no socket.

    For a socket that is not connected, the system reports only whether its own buffer has room: with a full queue at
    the other end it stays writable, and a wait would spin. The queue of a socket that is connected to the sender has
    no limit.
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
        poll = select.poll()
        poll.register(probe, select.POLLOUT)
        if not poll.poll(0):
            return probe
    except OSError:
        pass
    except BaseException:
        probe.close()
        raise
    probe.close()
    return None


def _unix_socket(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        _grow_buffers(sock)
        bind_unix(sock, path)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _grow_buffers(sock: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)


def _link(sock: socket.socket, interface: FrameInterface, *, path: str = "", to: str = "") -> DatagramLink:
    try:
        return DatagramLink(sock, interface, path=path, to=to)
    except BaseException:
        sock.close()
        if path:
            unlink_unix(path)
        raise
