"""Ethernet over WebSockets: `connect_websocket` and `WebSocketRelay`.

Each binary message is one frame, as v86's `relay_url` and websockproxy have it; there is no further handshake. Owns the
links and the server. The connection is `message_socket`'s.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterable
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.http11 import Request
from websockets.typing import Origin
from websockets.uri import parse_uri

from tcpip_wasm.engine import abi
from tcpip_wasm.links.guests import Attach, check_guests, interface_of
from tcpip_wasm.links.link import FRAMES_PER_TRANSMIT, FrameInterface, Link, max_frame
from tcpip_wasm.links.message_server import MessageServer
from tcpip_wasm.links.message_socket import MessageSocket

__all__ = ["WebSocketLink", "WebSocketRelay", "connect_websocket"]

_log: Final = logging.getLogger("tcpip_wasm.links")

_HEADER = abi.RECORD_HEADER_SIZE
_ALIGNMENT = abi.RECORD_HEADER_ALIGNMENT
_length_at = abi.RECORD_HEADER.unpack_from

_LONGEST: Final = 65536 + 64
"""Bytes of the longest message that is read: more than any frame has. A longer one ends the connection."""


class WebSocketLink(Link):
    """Carries one frame a message; `connect_websocket` and `WebSocketRelay` make it. It closes its connection at its
    end."""

    has_flow_control = True

    def __init__(self, messages: MessageSocket, interface: FrameInterface) -> None:
        """Attach to the interface and begin to carry.

        Args:
            messages: an open connection, whose messages and end are passed to `deliver` and `end`.
            interface: a tap for Ethernet frames, a tun for packets; it must have no other link.

        Raises:
            OSError: ``EBUSY`` where something is attached to the interface.
        """
        super().__init__(interface, max_frame=max_frame(interface.type, interface.mtu))
        self._messages = messages
        self.begin()

    def send_records(self, records: memoryview) -> int:
        """Send records as messages, until the connection buffers too much."""
        messages, counters = self._messages, self.counters
        queue, length_at = messages.queue, _length_at
        offset = frames = payload = 0
        end = len(records)
        if messages.full:
            counters.send_waits += 1
            return 0
        while offset < end:
            if frames == FRAMES_PER_TRANSMIT:
                self._loop.call_soon(self.resume)
                break
            length: int = length_at(records, offset)[0]
            start = offset + _HEADER
            queue(records[start : start + length])
            frames += 1
            payload += length
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
        messages.flush()
        counters.frames_sent += frames
        counters.bytes_sent += payload
        return min(offset, end)

    def pause_reading(self) -> None:
        """Read no more messages for now."""
        self._messages.pause()

    def resume_reading(self) -> None:
        """Go on reading messages."""
        self._messages.resume()

    def release(self) -> None:
        """Close the connection."""
        self._messages.close()


class _User:
    """What a connection reports, for the link that it becomes."""

    def __init__(self) -> None:
        self.link: WebSocketLink | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem: Exception | None = None
        self.gone = False

    def opened(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def message(self, data: bytes, /) -> None:
        # Frames are lost before there is a link, as on a cable that is not plugged in.
        if self.link is not None:
            self.link.deliver(data)

    def writable(self) -> None:
        if self.link is not None:
            self.link.resume()

    def ended(self, problem: Exception | None, /) -> None:
        self.gone = True
        self.problem = problem
        if self.link is not None:
            self.link.end(problem)
        if not self.ready.done():
            self.ready.set_exception(problem or ConnectionResetError("WebSocket closed"))
            self.ready.exception()  # is seen, also where nothing awaits it


async def connect_websocket(
    interface: FrameInterface, url: str, *, ssl: ssl.SSLContext | None = None, origin: str | None = None
) -> WebSocketLink:
    """Connect an interface to a relay of Ethernet frames over a WebSocket.

    Args:
        interface: a tap for Ethernet frames, a tun for packets; it must have no other link.
        url: ``ws://HOST:PORT/PATH`` or ``wss://…``.
        ssl: for ``wss``; None verifies the server by the machine's certificates.
        origin: the header Origin, which browsers send and relays may check.

    Raises:
        ValueError: the URL is none.
        ConnectionRefusedError: nothing listens, or the relay refuses; the message has its status.
        TimeoutError: no handshake within 10 s.
        OSError: ``EBUSY`` where the interface has a link.
        Cancellation leaves neither a connection nor a link.
    """
    try:
        where = parse_uri(url)
    except (InvalidURI, ValueError) as wrong:
        raise ValueError(f"url: ws://HOST:PORT/PATH is needed, not {url!r}") from wrong
    user = _User()
    protocol = ClientProtocol(where, origin=cast(Origin, origin) if origin else None, max_size=_LONGEST)
    transport, messages = await asyncio.get_running_loop().create_connection(
        lambda: MessageSocket(protocol, user),
        where.host,
        where.port,
        ssl=(ssl or True) if where.secure else None,
    )
    try:
        await user.ready
        user.link = WebSocketLink(messages, interface)
    except BaseException:
        transport.abort()
        raise
    return user.link


class WebSocketRelay(MessageServer):
    """Accepts WebSockets that carry one Ethernet frame a message: v86's `relay_url`, websockproxy's clients, other
    stacks. An asynchronous context manager.

    It listens at a loopback address unless another is given, and accepts browsers only from the named origins: any page
    that a browser shows may connect to the machine's own ports.

    Args:
        attach: returns the interface for a guest that has connected, or a coroutine that does, or an asynchronous
            context manager that yields it and is left when the guest has gone, such as `bridge_port`. What it raises
            refuses the guest and is logged.
        host: the address to listen at.
        port: 0 picks a free one.
        origins: of pages whose scripts may connect, such as ``"http://localhost:8000"``, or regular expressions that
            match whole origins. Programs that send no Origin may always.
        ssl: serves ``wss`` with it.
        max_guests: guests that are connected at most; more are refused.

    Raises:
        ValueError: the port or the limit is none.
        OSError: entering raises ``EADDRINUSE`` where the port is taken.
    """

    def __init__(
        self,
        attach: Attach,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        origins: Iterable[str | re.Pattern[str]] = (),
        ssl: ssl.SSLContext | None = None,
        max_guests: int = 64,
    ) -> None:
        super().__init__(host=host, port=port, origins=origins, ssl=ssl, max_size=_LONGEST)
        self._attach = attach
        self._max_guests = check_guests(max_guests)
        self._guests: dict[asyncio.Task[None], _User] = {}

    @property
    def links(self) -> tuple[WebSocketLink, ...]:
        """The links of the guests that are connected now, in the order of their arrival."""
        return tuple(user.link for user in self._guests.values() if user.link is not None)

    def accepted(self) -> MessageSocket:
        """Serve a guest."""
        user = _User()
        messages = MessageSocket(self.protocol(), user, accept=self._refusal)
        task = asyncio.get_running_loop().create_task(self._serve(messages, user))
        self._guests[task] = user
        task.add_done_callback(self._guests.pop)
        return messages

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        if len(self._guests) > self._max_guests:
            return 503, f"{self._max_guests} guests are connected"
        return None

    async def _serve(self, messages: MessageSocket, user: _User) -> None:
        """Carry the frames of one guest until it goes."""
        try:
            await user.ready
            async with interface_of(self._attach) as interface:
                if user.gone:
                    return
                user.link = WebSocketLink(messages, interface)
                try:
                    await user.link.wait_closed()
                finally:
                    user.link.close()
        except Exception as problem:
            _log.warning("%s: guest refused: %s", self.url, problem)
        finally:
            messages.close()

    async def end_connections(self) -> None:
        """End the links of the guests that are connected."""
        tasks = list(self._guests)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
