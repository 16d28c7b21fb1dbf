"""TLS below `TcpConnection` and `TcpListener`: the ends of one connection, and handshakes in the background.

Owns how much plain text waits to be read, and how many handshakes are under way. What TLS cannot do, it does not
pretend to: there is no half-close, since closing is answered by closing (RFC 5246, section 7.2.1), and asyncio's
`SSLProtocol` keeps to that with TLS 1.3, too.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final, cast

from tcpip_wasm.errors import StreamClosedError
from tcpip_wasm.sockets.tcp.connection import StreamEnds
from tcpip_wasm.sockets.tcp.transport import TcpTransport
from tcpip_wasm.sockets.tls.tls_transport import Tls

HIGH_WATER: Final = 256 * 1024
"""Bytes of plain text that wait to be read before the connection is held back; one chunk of as many may follow."""


class TlsEnds(StreamEnds):
    """The source and the sink of one connection of TLS.

    Plain text cannot open the receive window, which counts what is encrypted. So the transport below is paused, and its
    window closes, while too much waits here. (Pausing the `SSLProtocol` would lose what waits within at the end.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._held = 0
        self._choked = False
        self._ended = False  # by this side
        self._missed = False  # the peer sent more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: TcpTransport = cast(Any, transport)
        self._carrier = cast(Any, transport)._ssl_protocol._transport  # noqa: SLF001  asyncio has no public way below its TLS transport

    def data_received(self, data: bytes) -> None:
        if self._read_shutdown:
            return
        if self._ended:
            self._missed = True
            return
        super().data_received(data)
        self._held += len(data)
        if self._held > HIGH_WATER and not self._choked:
            self._choked = True
            self._carrier.pause_reading()

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def consumed(self, count: int) -> None:
        self._held -= count
        if self._choked and self._held <= HIGH_WATER // 4:
            self._breathe()

    def _breathe(self) -> None:
        if self._choked:
            self._choked = False
            self._carrier.resume_reading()

    def check_end(self) -> None:
        if self._missed:
            raise StreamClosedError(errno.ECONNABORTED, "this side closed before the peer's end; TLS has no half-close")

    def write_nowait(self, chunk: bytes, /) -> bool:
        return super().write_nowait(chunk if type(chunk) is bytes else bytes(chunk))

    def check_writable(self) -> None:
        error = self.error or self._carrier.end_error
        if error is not None:
            raise error
        if self._eof or self._ended or self.transport.is_closing():
            raise StreamClosedError(errno.ECONNABORTED, "write after the end of TLS")

    def end(self) -> None:
        """Send the close alert after what was written, and wait for the peer's, at most as long as the shutdown's
        time-out."""
        self._ended = True
        self._breathe()
        self.transport.close()

    async def close(self) -> None:
        """Close both directions; there is no other way."""
        self.end()
        await self.wait_closed()


class _Shaking(TlsEnds):
    """The ends of a connection that a listener got."""

    def __init__(self, done: Callable[[TlsEnds], None]) -> None:
        super().__init__()
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._done(self)


class Handshakes:
    """The handshakes of a listener: many at once, so that no client waits for another that is slow or never answers.

    Args:
        tls: the server's side.
        loop: where the connections live.
        most: handshakes under way; one more resets the oldest.

    Attributes:
        given_up: handshakes that were reset to make room.
    """

    def __init__(self, tls: Tls, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._tls = tls
        self._loop = loop
        self._most = most
        self._under_way: dict[asyncio.Future[None], Any] = {}
        self.given_up: int = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, done: Callable[[TlsEnds], None]) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, whose ends `done` gets once the handshake is."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        wrapper = self._tls.wrap(self._loop, _Shaking(done), waiter)
        self._under_way[waiter] = wrapper
        waiter.add_done_callback(self._over)
        if len(self._under_way) > self._most:
            self.given_up += 1
            self._give_up(next(iter(self._under_way)))
        return wrapper

    def _over(self, waiter: asyncio.Future[None]) -> None:
        self._under_way.pop(waiter, None)
        if not waiter.cancelled():
            waiter.exception()  # of a peer that was never accepted

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        transport = self._under_way.pop(waiter)._transport  # noqa: SLF001  asyncio's streams and TLS have no public way to it
        if transport is not None:
            transport.abort()

    def end(self) -> None:
        """Reset all that are under way."""
        while self._under_way:
            self._give_up(next(iter(self._under_way)))
