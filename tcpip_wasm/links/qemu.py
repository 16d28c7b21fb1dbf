"""Virtual machines whose network card is a byte stream: `connect_qemu` and `listen_qemu`.

For QEMU's `-netdev stream`, passt, and whatever else speaks the format of `stream`. Owns which side connects, and
connecting anew. How frames pass is `stream`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from tcpip_wasm.arguments import check_timeout
from tcpip_wasm.links.guest_listener import GuestListener
from tcpip_wasm.links.guests import Attach, check_guests
from tcpip_wasm.links.link import FrameInterface
from tcpip_wasm.links.stream import StreamLink
from tcpip_wasm.links.transport_address import TransportAddress, connect_stream, listen_stream, parse_address

__all__ = ["QemuLink", "connect_qemu", "listen_qemu"]

_log: Final = logging.getLogger("tcpip_wasm.links")

_KINDS: Final = ("unix", "tcp")


class QemuLink(StreamLink):
    """Carries the frames of a virtual machine's network card; `connect_qemu` and `listen_qemu` make it.

    Attributes:
        reconnections: how often the link has connected anew.
    """

    def __init__(
        self,
        sock: socket.socket,
        interface: FrameInterface,
        *,
        address: TransportAddress | None = None,
        reconnect: float | None = None,
    ) -> None:
        """Attach to the interface and begin to carry. The socket belongs to the link from now on.

        Args:
            sock: connected, of type ``SOCK_STREAM``.
            interface: a tap; it must have no other link.
            address: where to connect anew.
            reconnect: seconds between attempts to connect anew after the connection has ended; None ends the link.

        Raises:
            ValueError: the socket is no stream.
            OSError: ``EBUSY`` where something is attached to the interface.
        """
        self.reconnections: int = 0
        self._address = address
        self._reconnect = reconnect
        self._connecting: asyncio.Task[None] | None = None
        super().__init__(sock, interface)

    def lost(self, problem: Exception | None) -> None:
        """The connection has ended: connect anew, or end."""
        if self._reconnect is None or self._address is None:
            self.end(problem)
            return
        _log.debug("%s: connection ended (%s), connecting anew", self._address, problem or "closed by the peer")
        self._drop()
        self._connecting = self._loop.create_task(self._connect_anew(self._address, self._reconnect))

    async def _connect_anew(self, address: TransportAddress, interval: float) -> None:
        while not self.closed:
            await asyncio.sleep(interval)
            try:
                sock = await connect_stream(address)
            except OSError:
                continue
            self.reconnections += 1
            self._use(sock)
            self.resume()
            return

    def release(self) -> None:
        """Close the socket, and connect no more."""
        if self._connecting is not None:
            self._connecting.cancel()
        super().release()


async def connect_qemu(interface: FrameInterface, address: str, *, reconnect: float | None = None) -> QemuLink:
    """Connect a tap to a virtual machine that listens: QEMU's ``-netdev stream,server=on``, or passt.

    Needs an event loop that can watch descriptors. The link closes its socket when it ends.

    Args:
        interface: a tap; it must have no other link.
        address: ``unix:PATH`` or ``tcp:HOST:PORT``.
        reconnect: seconds between attempts to connect anew after the connection has ended; the stack's frames are
            dropped meanwhile and not counted. None: the link ends with its connection.

    Raises:
        ValueError: the address or the interval is none.
        OSError: nothing listens at the address, or ``EBUSY`` where the interface has a link.
        Cancellation leaves neither a socket nor a link.
    """
    where = parse_address(address, kinds=_KINDS)
    interval = check_timeout("reconnect", reconnect)
    sock = await connect_stream(where)
    try:
        return QemuLink(sock, interface, address=where, reconnect=interval)
    except BaseException:
        sock.close()
        raise


async def listen_qemu(address: str, attach: Attach, *, max_guests: int = 64) -> GuestListener:
    """Accept virtual machines that connect: QEMU's ``-netdev stream,server=off``.

    Args:
        address: ``unix:PATH``, a socket that only this user may open, or ``tcp:HOST:PORT``; port 0 picks a free one.
            The other side of a TCP connection is not authenticated: listen at a loopback address.
        attach: returns the tap for a guest that has connected, or a coroutine that does, or an asynchronous context
            manager that yields it and is left when the guest has gone, such as `bridge_port`. What it raises refuses
            the guest and is logged.
        max_guests: guests that are connected at most; more are refused.

    Raises:
        ValueError: the address or the limit is none.
        OSError: ``EADDRINUSE`` where another process listens at the address.
    """
    where = parse_address(address, kinds=_KINDS)
    check_guests(max_guests)
    sock = listen_stream(where)
    if where.kind == "tcp":
        where = TransportAddress("tcp", host=where.host, port=sock.getsockname()[1])
    return GuestListener(sock, where, attach, QemuLink, max_guests)
