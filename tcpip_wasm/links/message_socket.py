"""`MessageSocket`: one WebSocket connection, either side, as binary messages (RFC 6455).

Owns the connection: handshake, fragments, keep-alive, closing handshake, flow control. The library `websockets` has the
protocol, without I/O. Must not know what the messages are: Ethernet frames and Wisp packets use it.

Messages are queued and leave together with `flush`, so that a batch costs one call to the transport and no task.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

_log: Final = logging.getLogger("tcpip_wasm.links")

HANDSHAKE_SECONDS: Final = 10.0
"""For the handshake, and for the other side to close after a closing message."""

KEEPALIVE_SECONDS: Final = 20.0
"""A ping is sent after so long without a message from the other side. After as long again the connection has failed."""

WRITE_BYTES: Final = 256 * 1024
"""Bytes that the transport buffers before `full`."""


class MessageUser(Protocol):
    """What uses a `MessageSocket`. What its methods raise ends the connection."""

    def opened(self) -> None:
        """The handshake is done; messages may be sent."""

    def message(self, data: bytes, /) -> None:
        """A binary message has arrived."""

    def writable(self) -> None:
        """The transport takes messages again."""

    def ended(self, problem: Exception | None, /) -> None:
        """The connection is gone, by either side's close or by an error. Called once, also if it never opened."""


class MessageSocket(asyncio.Protocol):
    """One WebSocket connection.

    Args:
        protocol: the library's client or server.
        user: receives what happens.
        accept: of a server, called with the request; returns None to accept it, or a status and a sentence.

    Attributes:
        full: True while the transport buffers too much: no more should be queued.
    """

    def __init__(
        self,
        protocol: ClientProtocol | ServerProtocol,
        user: MessageUser,
        *,
        accept: Callable[[Request], tuple[int, str] | None] | None = None,
    ) -> None:
        self.full: bool = False
        self._protocol = protocol
        self._user = user
        self._accept = accept
        self._parts: list[bytes] = []  # of a message that arrives in fragments
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._loop.time()
        self._asked = False  # whether a ping is unanswered
        self._problem: Exception | None = None
        self._open = False
        self._ended = False
        self._lost: asyncio.Future[None] = self._loop.create_future()

    # --- What users call ------------------------------------------------------------------------------------------

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on."""
        return self._protocol.subprotocol

    def queue(self, data: bytes | memoryview, /) -> None:
        """Queue a binary message, which leaves with `flush`. Ignored once the connection closes."""
        if self._protocol.state is OPEN:
            self._protocol.send_binary(data)

    def flush(self) -> None:
        """Send what is queued."""
        assert self._transport is not None
        data = self._protocol.data_to_send()
        if not data or self._transport.is_closing():
            return
        ends = data[-1] == b""  # the library's sign for the end of the stream
        self._transport.writelines(data[:-1] if ends else data)
        if ends and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Begin the closing handshake; the connection ends without it after `HANDSHAKE_SECONDS`. Idempotent."""
        if self._transport is None:
            return
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self.flush()
            self.resume()  # to read the other side's closing message
            self._schedule(HANDSHAKE_SECONDS, self._transport.abort)
        elif not self._open:
            self._transport.abort()

    def abort(self, problem: Exception | None = None) -> None:
        """End the connection at once."""
        self._problem = self._problem or problem
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone: after `close` for `HANDSHAKE_SECONDS` at most."""
        if self._transport is not None:
            await asyncio.wait([self._lost])

    # --- asyncio's protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BYTES)
        self._schedule(HANDSHAKE_SECONDS, self._late)
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self.flush()

    def data_received(self, data: bytes) -> None:
        """Pass on what has arrived."""
        self._heard = self._loop.time()
        self._asked = False
        self._protocol.receive_data(data)
        self._proceed()

    def eof_received(self) -> None:
        """The other side sends no more."""
        self._protocol.receive_eof()
        self._proceed()

    def pause_writing(self) -> None:
        """The transport buffers too much."""
        self.full = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self.full = False
        if self._open:
            self._guarded(self._user.writable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended:
            self._ended = True
            self._user.ended(self._problem or exc or self._unfinished())
        if not self._lost.done():
            self._lost.set_result(None)

    # --- Events ---------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._guarded(self._frame, event)
            elif isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Response) and self._protocol.state is OPEN:
                self._opened()
        assert self._transport is not None
        self.flush()
        if self._protocol.close_expected():
            self._schedule(HANDSHAKE_SECONDS, self._transport.abort)

    def _answer(self, request: Request) -> None:
        assert isinstance(self._protocol, ServerProtocol)
        refusal = self._accept(request) if self._accept is not None else None
        response = self._protocol.accept(request) if refusal is None else self._protocol.reject(*refusal)
        self._protocol.send_response(response)
        if self._protocol.state is OPEN:
            self._opened()
        else:
            _log.info("WebSocket refused: %d %s", response.status_code, response.body.decode(errors="replace").strip())

    def _opened(self) -> None:
        self._open = True
        self._schedule(KEEPALIVE_SECONDS, self._keep_alive)
        self._guarded(self._user.opened)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY and frame.fin:
            self._user.message(bytes(frame.data))
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            if frame.data:  # fragments without data are not kept: their number has no limit
                self._parts.append(bytes(frame.data))
            if frame.fin:
                data, self._parts = b"".join(self._parts), []
                self._user.message(data)
        elif frame.opcode is Opcode.TEXT:
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "binary messages are needed")

    def _guarded(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as problem:
            _log.warning("WebSocket ended: %r", problem)
            self.abort(problem)

    # --- Time -----------------------------------------------------------------------------------------------------

    def _schedule(self, seconds: float, callback: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    def _late(self) -> None:
        self.abort(TimeoutError(errno.ETIMEDOUT, f"no WebSocket handshake within {HANDSHAKE_SECONDS:g} s"))

    def _keep_alive(self) -> None:
        quiet = self._loop.time() - self._heard
        if quiet < KEEPALIVE_SECONDS:
            self._schedule(KEEPALIVE_SECONDS - quiet, self._keep_alive)
        elif self._asked:
            self.abort(TimeoutError(errno.ETIMEDOUT, f"no answer from the WebSocket for {quiet:g} s"))
        else:
            self._asked = True
            self._protocol.send_ping(b"")
            self.flush()
            self._schedule(KEEPALIVE_SECONDS, self._keep_alive)

    def _unfinished(self) -> Exception | None:
        """Return what was wrong if the connection ended without a closing handshake."""
        if not self._open:
            refused = self._protocol.handshake_exc
            return ConnectionRefusedError(errno.ECONNREFUSED, f"WebSocket refused: {refused or 'connection closed'}")
        problem = self._protocol.close_exc if self._protocol.close_code != CloseCode.NORMAL_CLOSURE else None
        if isinstance(problem, WebSocketException) and self._protocol.close_code != CloseCode.GOING_AWAY:
            return ConnectionResetError(errno.ECONNRESET, f"WebSocket ended: {problem}")
        return None
