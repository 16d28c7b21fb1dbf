"""Links over a non-blocking file descriptor of which one read or write is one frame.

That holds for Linux TUN and TAP devices without packet information, and for datagram and seqpacket sockets. Frames are
read into and written out of the stack's own buffers, so that no frame is ever a Python object of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

from tcpip_wasm.links.link import FrameInterface, Link, max_frame


class DescriptorLink(Link):
    """Moves frames between a non-blocking descriptor and an interface, for as long as both are there.

    Needs a running event loop that can watch descriptors. The link never closes the descriptor: it belongs to
    the code that opened it, which must close the link first.
    """

    def __init__(
        self,
        fd: int,
        interface: FrameInterface,
        *,
        max_frame: int,
        zero_is_end: bool = False,
        send: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Attach to the interface and begin to carry.

        Args:
            fd: a descriptor in non-blocking mode.
            interface: the interface to serve; it must have no other link.
            max_frame: the longest frame to accept from outside, in bytes.
            zero_is_end: a read of no bytes means that the peer has gone, not an empty frame.
            send: sends one frame; None writes to the descriptor.

        Raises:
            RuntimeError: no event loop is running.
        """
        super().__init__(interface, max_frame=max_frame, send=send or partial(os.write, fd))
        self._fd = fd
        self._zero_is_end = zero_is_end
        self._writing = False
        self._read = partial(os.readv, fd)
        self._loop.add_reader(fd, self._readable)
        self.begin()

    def watch_writable(self) -> None:
        """Have the stack's frames sent when the descriptor is writable."""
        self._writing = True
        self._loop.add_writer(self._fd, self._writable)

    def release(self) -> None:
        """Watch the descriptor no more."""
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        self.fill(self._read, zero_is_end=self._zero_is_end)

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._writing = False
        self.resume()


class DatagramSocketLink(DescriptorLink):
    """Carries one frame a message over a connected AF_UNIX socket: a virtual machine's network card, for one.

    The link puts the socket into non-blocking mode and leaves closing it to its owner, who closes the link
    first.
    """

    def __init__(
        self,
        sock: socket.socket,
        interface: FrameInterface,
        *,
        send: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Args:
            sock: connected, of type SOCK_DGRAM or SOCK_SEQPACKET.
            interface: a tap interface for Ethernet frames, a tun interface for packets.
            send: sends one frame; None writes to the socket.

        Raises:
            ValueError: the socket is a byte stream, which has no frames.
        """
        if sock.type not in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            raise ValueError(f"sock: a datagram or seqpacket socket is needed, not {sock.type!r}")
        sock.setblocking(False)
        super().__init__(
            sock.fileno(),
            interface,
            max_frame=max_frame(interface.type, interface.mtu),
            zero_is_end=sock.type == socket.SOCK_SEQPACKET,
            send=send,
        )
