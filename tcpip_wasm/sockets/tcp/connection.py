"""TCP connections and listeners in the stream-style interface: `readable`, `writable`, iteration, `accept`.

Owns the queue of what has arrived and was not read; it opens the receive window only as it is read, so the window is
its bound. Built on `TcpTransport` and `TcpServer` by way of one small protocol.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import AsyncIterator
from ssl import SSLObject
from typing import Any, cast

from tcpip_wasm.errors import StreamClosedError, network_error
from tcpip_wasm.sockets.tcp.server import TcpServer
from tcpip_wasm.sockets.tcp.transport import TcpTransport
from tcpip_wasm.streams import EndOfStream, ReadableStream, WritableStream
from tcpip_wasm.streams.locks import Signal


class StreamEnds(asyncio.Protocol):
    """The source and the sink of one connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._chunks: deque[bytes] = deque()
        self._readable = Signal()
        self._writable = Signal()
        self._eof = False
        self._paused = False
        self._read_shutdown = False  # the reader gave up: what arrives is read and forgotten
        self.lost: asyncio.Future[None] = loop.create_future()
        self.error: BaseException | None = None
        self.transport: TcpTransport = cast(TcpTransport, None)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(TcpTransport, transport)
        self.transport.auto_credit = False

    def data_received(self, data: bytes) -> None:
        if self._read_shutdown:
            self.consumed(len(data))
            return
        self._chunks.append(data)
        self._readable.fire()

    def eof_received(self) -> bool:
        self._eof = True
        self._readable.fire()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self._eof = True
        self.lost.set_result(None)
        self._readable.fire()
        self._writable.fire()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._writable.fire()

    # --- streams.Source

    def read_nowait(self) -> bytes | None:
        if self._chunks:
            chunk = self._chunks.popleft()
            self.consumed(len(chunk))
            return chunk
        if self.error is not None and not self._read_shutdown:
            raise self.error
        self.check_end()
        if self._eof or self._read_shutdown:
            raise EndOfStream
        return None

    async def wait_readable(self) -> None:
        if not self._chunks and not self._eof and not self._read_shutdown:
            await self._readable.wait()

    def cancel(self, reason: BaseException | None) -> None:
        self._read_shutdown = True
        while self._chunks:
            self.consumed(len(self._chunks.popleft()))
        self._readable.fire()

    def consumed(self, count: int) -> None:
        """So many bytes were read: as many more may come."""
        self.transport.credit(count)

    def check_end(self) -> None:
        """Raise where the end is not what it seems."""

    # --- streams.Sink

    def write_nowait(self, chunk: bytes, /) -> bool:
        self.check_writable()
        if self._paused:
            return False
        self.transport.write(chunk)
        return True

    def check_writable(self) -> None:
        """Raise what a write raises now, if it does."""
        error = self.error or self.transport.end_error
        if error is not None:
            raise error
        if self.transport.is_closing():
            raise StreamClosedError(errno.ECONNABORTED, "write after close")

    async def wait_writable(self) -> None:
        if self._paused and not self.lost.done():
            await self._writable.wait()

    async def wait_closed(self) -> None:
        await asyncio.shield(self.lost)
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        """Send FIN once everything was handed to the stack; reading goes on."""
        self.transport.write_eof()
        while self.transport.get_write_buffer_size() and not self.lost.done():
            self._paused = True
            self.transport.set_write_buffer_limits(0, 0)
            await self.wait_writable()
        if self.error is not None:
            raise self.error

    def abort(self, reason: BaseException | None) -> None:
        self.transport.abort()

    def end(self) -> None:
        """Close both directions once everything was handed to the stack."""
        self.transport.close()


class TcpConnection:
    """A TCP connection, perhaps with TLS over it; made by `NetworkStack.connect_tcp` and by `TcpListener`.

    Over TLS, both streams are of plain text. TLS has no half-close: closing `writable` sends TLS's close alert after
    what was written and closes both directions; a read of what the peer still sends then raises. The peer's close alert
    is the end of `readable` and of `writable`, and so is a FIN without one, as in asyncio. Closing waits for the peer's
    alert, at most `ssl_shutdown_timeout`; `abort` resets without one.

    Attributes:
        readable: the bytes that arrive, in chunks of at most 120 KiB, over TLS of about 64 KiB.
        writable: sends; closing it sends FIN, and reading goes on.
    """

    def __init__(self, ends: Any) -> None:
        self._ends: StreamEnds = ends
        self.readable: ReadableStream[bytes] = ReadableStream(self._ends)
        self.writable: WritableStream[bytes] = WritableStream(self._ends)

    def __repr__(self) -> str:
        return f"<TcpConnection {self.local_address} -> {self.remote_address}>"

    @property
    def local_address(self) -> tuple[str, int]:
        """(host, port) of this end."""
        return cast("tuple[str, int]", self._ends.transport.get_extra_info("sockname")[:2])

    @property
    def remote_address(self) -> tuple[str, int]:
        """(host, port) of the peer."""
        return cast("tuple[str, int]", self._ends.transport.get_extra_info("peername")[:2])

    @property
    def ssl_object(self) -> SSLObject | None:
        """The TLS object, with its certificates, cipher and version; None without TLS."""
        return cast("SSLObject | None", self._ends.transport.get_extra_info("ssl_object"))

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the chunks of `readable`."""
        return self.readable.__aiter__()

    async def close(self) -> None:
        """Close both directions: what was written is still delivered. Idempotent.

        Cancelled, the closing goes on.
        """
        self._ends.end()
        await asyncio.shield(self._ends.lost)

    def abort(self) -> None:
        """Reset the connection at once."""
        self._ends.transport.abort()

    async def __aenter__(self) -> TcpConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class TcpListener:
    """A listening port; made by `NetworkStack.listen_tcp`. Connections wait in its backlog until they are accepted.

    With TLS, those wait whose handshake is done; `accept` never waits for another's. Handshakes under way are as many
    as the backlog, and one more resets the oldest, so that peers which never answer do not keep others out.
    """

    def __init__(self, make_server: Any, handshakes: Any = None, backlog: int = 0) -> None:
        self._backlog = backlog
        self._handshakes = handshakes
        self._waiting: deque[StreamEnds] = deque()
        self._acceptors: deque[asyncio.Future[None]] = deque()
        self._server: TcpServer = make_server(self._new)
        self._server.on_gone = self._wake_all

    def __repr__(self) -> str:
        return f"<TcpListener {self._server!r}>"

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return self._server.port

    def _new(self) -> asyncio.BaseProtocol | None:
        if self._handshakes is None:
            return _Accepting(self)
        if len(self._waiting) >= self._backlog:
            return None
        return cast(asyncio.BaseProtocol, self._handshakes.begin(self._arrived))

    def _arrived(self, ends: StreamEnds) -> None:
        self._waiting.append(ends)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._acceptors:
            acceptor = self._acceptors.popleft()
            if not acceptor.done():
                acceptor.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._acceptors:
            self._wake_one()

    async def accept(self) -> TcpConnection:
        """Wait for a connection and return it. Cancelled, it takes none.

        Raises:
            OSError: ``ECONNABORTED`` where the listener was closed; the stack's error where that is gone.
        """
        while True:
            while self._waiting:
                ends = self._waiting.popleft()
                if not ends.lost.done():
                    if self._handshakes is None:
                        ends.transport._leave_backlog()  # noqa: SLF001  for this package alone: the class is public
                    return TcpConnection(ends)
            self._server._driver.check()  # noqa: SLF001  listener and server are one thing with two interfaces
            if not self._server.is_serving():
                raise network_error(errno.ECONNABORTED, "the listener was closed")
            acceptor: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._acceptors.append(acceptor)
            try:
                await acceptor
            except asyncio.CancelledError:
                if acceptor.done() and not acceptor.cancelled():
                    self._wake_one()  # the connection that woke this call is for another
                elif acceptor in self._acceptors:
                    self._acceptors.remove(acceptor)
                raise

    async def __aiter__(self) -> AsyncIterator[TcpConnection]:
        """Yield connections until the listener is closed."""
        while True:
            try:
                connection = await self.accept()
            except OSError:
                if self._server.is_serving():
                    raise
                return
            yield connection

    async def close(self) -> None:
        """Stop listening, and reset the connections that were not accepted. Accepted ones go on. Idempotent."""
        self._server.close()
        if self._handshakes is not None:
            self._handshakes.end()
        while self._waiting:
            self._waiting.popleft().transport.abort()

    async def __aenter__(self) -> TcpListener:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Accepting(StreamEnds):
    """The ends of a connection that a listener got and that is not accepted yet."""

    def __init__(self, listener: TcpListener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener._arrived(self)  # noqa: SLF001  listener and server are one thing with two interfaces
