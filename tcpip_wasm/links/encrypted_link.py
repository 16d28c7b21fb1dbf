"""`EncryptedLink`: UDP with an authenticated cipher, a frame a datagram.

Owns the socket. What is in a datagram, and when the peer's address changes, is `encrypted_datagrams`'.
"""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import suppress
from typing import Any, ClassVar, Final

from tcpip_wasm.links.encrypted_datagrams import EncryptedChannel
from tcpip_wasm.links.link import LOSES_FRAME, UNREACHABLE, FrameInterface, Link, max_frame
from tcpip_wasm.links.wireguard.keys import parse_key
from tcpip_wasm.log_limit import LogLimit

_log: Final = logging.getLogger("tcpip_wasm.links")

_LONGEST: Final = 65536


class EncryptedLink(Link):
    """Carries one frame a datagram of UDP, encrypted and authenticated by ChaCha20-Poly1305 (RFC 8439).

    A peer that is not there, or not yet, loses frames and does not end the link. A peer that has moved to another
    address is followed with its next frame that is authentic and new. The socket belongs to the link.

    Args:
        sock: of type ``SOCK_DGRAM`` over IPv4 or IPv6, bound.
        interface: a tap for Ethernet frames, a tun for packets.
        key: 32 bytes or their base64, secret, the same at both ends.
        remote: the peer's address as the socket takes it; None waits for the peer.

    Raises:
        ValueError, TypeError: `key` is not 32 bytes or their base64.
        OSError: ``EBUSY`` where something is attached to the interface.
    """

    loses_frame: ClassVar[frozenset[int]] = LOSES_FRAME | UNREACHABLE | {errno.ENOTCONN}

    def __init__(
        self, sock: socket.socket, interface: FrameInterface, *, key: bytes | str, remote: tuple[Any, ...] | None = None
    ) -> None:
        most = max_frame(interface.type, interface.mtu)
        self._sock = sock
        self._channel = EncryptedChannel(parse_key("key", key), max_frame=most, send=self._send_hello, remote=remote)
        self._buffer = memoryview(bytearray(_LONGEST))
        self._writing = False
        super().__init__(interface, max_frame=most)
        self._now = self._loop.time
        self._records = LogLimit(_log, self._now)
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)
        self.begin()
        self._channel.request(self._now())

    def __repr__(self) -> str:
        return f"<EncryptedLink of {self._interface!r} with {self.remote}>"

    @property
    def remote(self) -> tuple[str, int] | None:
        """The address that frames are sent to, and port; None as long as the peer has not begun."""
        remote = self._channel.remote
        return None if remote is None else (str(remote[0]), int(remote[1]))

    @property
    def ready(self) -> bool:
        """Whether both ends have agreed on a session, so that frames are sent."""
        return self._channel.ready

    @property
    def sessions(self) -> int:
        """Sessions that were agreed on; more than one where an end was started anew, or frames had no answer."""
        return self._channel.sessions

    @property
    def unauthentic(self) -> int:
        """Datagrams that were dropped because they are not of the peer, or of an earlier run of this end.

        Where the two ends have different keys, it grows and `ready` stays False; a warning is logged."""
        return self._channel.unauthentic

    @property
    def replayed(self) -> int:
        """Datagrams of the peer that were dropped because they arrived a second time, or 8,128 others later."""
        return self._channel.replayed

    def send(self, frame: memoryview, /) -> None:
        """Send one frame. See `Link.send`."""
        channel = self._channel
        remote = channel.remote
        if remote is None or not channel.ready:
            channel.request(self._now())
            raise OSError(errno.ENOTCONN, "there is no session with the peer")
        self._sock.sendto(channel.seal(frame, self._now()), remote)

    def watch_writable(self) -> None:
        """Have the stack's frames sent when the socket takes them."""
        self._writing = True
        self._loop.add_writer(self._sock, self._writable)

    def release(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._sock)
        if self._writing:
            self._loop.remove_writer(self._sock)
        self._sock.close()

    def _send_hello(self, data: bytes, address: tuple[Any, ...]) -> None:
        with suppress(OSError):  # the other end asks again
            self._sock.sendto(data, address)

    def _readable(self) -> None:
        self.fill(self._read)

    def _read(self, buffers: list[Any]) -> int:
        count, source = self._sock.recvfrom_into(self._buffer)
        channel = self._channel
        before = channel.of_another_key
        length = channel.receive(self._buffer[:count], source, buffers[0], self._now())
        if channel.of_another_key != before:
            self._records.log(logging.WARNING, "%r: %s port %d uses another key", self._interface, *source[:2])
        return length

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._writing = False
        self.resume()
