"""`WispClient`: TCP and UDP streams by a Wisp server, in asyncio's vocabulary.

Owns the connection to the server, streams and their credit. The packets are `wisp_wire`'s.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tcpip_wasm.arguments import check_port
from tcpip_wasm.links.message_socket import MessageSocket
from tcpip_wasm.links.wisp_wire import (
    CloseReason,
    Extension,
    PacketType,
    StreamType,
    pack,
    pack_close,
    pack_connect,
    pack_info,
    pack_password,
    unpack,
    unpack_close,
    unpack_continue,
    unpack_info,
)

__all__ = ["WispClient"]

_LONGEST: Final = 16 * 1024 * 1024
"""Bytes of the longest message that is read; servers send what they read from a socket."""

_CHUNK: Final = 16 * 1024
"""Bytes of payload in a packet to the server."""

_HIGH_WATER: Final = 64 * 1024
"""Bytes that wait for credit before a protocol is asked to pause."""

_UNREAD_BYTES: Final = 1024 * 1024
"""Bytes that wait for a paused protocol before the whole connection pauses: Wisp has no credit for the server."""

_SUBPROTOCOL: Final = Subprotocol("wisp-v2")

_ERRORS: Final = {
    CloseReason.UNREACHABLE: (OSError, errno.EHOSTUNREACH, "no route to the host"),
    CloseReason.TIMED_OUT: (TimeoutError, errno.ETIMEDOUT, "no answer"),
    CloseReason.REFUSED: (ConnectionRefusedError, errno.ECONNREFUSED, "connection refused"),
    CloseReason.INVALID: (OSError, errno.EINVAL, "the server does not accept the destination"),
    CloseReason.BLOCKED: (PermissionError, errno.EACCES, "the server blocks the destination"),
    CloseReason.THROTTLED: (OSError, errno.EAGAIN, "the server limits this client"),
    CloseReason.IDLE: (TimeoutError, errno.ETIMEDOUT, "the stream was idle"),
}

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


def _error_of(reason: CloseReason, where: str) -> OSError:
    kind, number, text = _ERRORS.get(reason, (ConnectionResetError, errno.ECONNRESET, "the stream was reset"))
    return kind(number, f"{where}: {text} (Wisp reason 0x{reason:02x})")


class _TcpTransport(asyncio.Transport):
    """A TCP stream as a transport."""

    def __init__(self, client: WispClient, number: int, protocol: asyncio.Protocol, where: str) -> None:
        super().__init__({"peername": where})
        self._client = client
        self._number = number
        self._protocol = protocol
        self._where = where
        self._credit = client.credit
        self._waiting = bytearray()
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._paused = self._protocol_paused = self._closing = self._ended = False

    def began(self) -> None:
        """The stream is open as far as the client knows."""
        self._protocol.connection_made(self)

    # --- asyncio's transport --------------------------------------------------------------------------------------

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        # Not at once: a StreamReader resumes the transport first, and waits for data then.
        asyncio.get_running_loop().call_soon(self._deliver)

    def can_write_eof(self) -> bool:
        return False  # Wisp has no half-close

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._waiting += data
            self._send()
            if len(self._waiting) > _HIGH_WATER and not self._protocol_paused:
                self._protocol_paused = True
                self._protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send()

    def abort(self) -> None:
        self._closing = True
        self._waiting.clear()
        self._send()

    # --- The client -----------------------------------------------------------------------------------------------

    @property
    def unread(self) -> int:
        """Bytes that wait for the protocol."""
        return self._unread_bytes

    def _deliver(self, *, while_paused: bool = False) -> None:
        """Hand on what waits, until the protocol pauses; with `while_paused` all of it."""
        while self._unread and (while_paused or not self._paused):
            data = self._unread.popleft()
            self._unread_bytes -= len(data)
            if not self._closing:
                self._protocol.data_received(data)
        self._client.read_again()

    def _send(self) -> None:
        while self._waiting and self._credit > 0:
            self._credit -= 1
            self._client.send(pack(PacketType.DATA, self._number, bytes(self._waiting[:_CHUNK])))
            del self._waiting[:_CHUNK]
        if self._protocol_paused and len(self._waiting) <= _HIGH_WATER // 4:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if self._closing and not self._waiting and not self._ended:
            self._client.send(pack_close(self._number, CloseReason.VOLUNTARY))
            self._client.forget(self._number)
            self._end(None)

    def granted(self, packets: int) -> None:
        """The server takes so many packets."""
        self._credit = packets
        self._send()

    def received(self, data: bytes) -> None:
        """Data has arrived."""
        if self._paused or self._unread:
            self._unread.append(data)
            self._unread_bytes += len(data)
        elif not self._closing:
            self._protocol.data_received(data)

    def ended(self, reason: CloseReason) -> None:
        """The server has closed the stream."""
        self._deliver(while_paused=True)
        self._end(None if reason is CloseReason.VOLUNTARY else _error_of(reason, self._where))

    def _end(self, problem: OSError | None) -> None:
        if not self._ended:
            self._ended = self._closing = True
            if problem is None:
                self._protocol.eof_received()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, problem)


class _UdpTransport(asyncio.DatagramTransport):
    """A UDP stream as a transport."""

    def __init__(
        self, client: WispClient, number: int, protocol: asyncio.DatagramProtocol, peer: tuple[str, int]
    ) -> None:
        super().__init__({"peername": peer})
        self._client = client
        self._number = number
        self._protocol = protocol
        self._peer = peer
        self._closing = False

    def began(self) -> None:
        """The stream is open as far as the client knows."""
        self._protocol.connection_made(self)

    def is_closing(self) -> bool:
        return self._closing

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        if not self._closing and not self._client.full:
            self._client.send(pack(PacketType.DATA, self._number, bytes(data)))

    def close(self) -> None:
        if not self._closing:
            self._client.send(pack_close(self._number, CloseReason.VOLUNTARY))
            self._client.forget(self._number)
            self.ended(CloseReason.VOLUNTARY)

    abort = close
    unread = 0

    def granted(self, packets: int) -> None:
        """UDP has no credit."""

    def received(self, data: bytes) -> None:
        """A datagram has arrived."""
        self._protocol.datagram_received(data, self._peer)

    def ended(self, reason: CloseReason) -> None:
        """The server has closed the stream."""
        if not self._closing:
            self._closing = True
            problem = None if reason is CloseReason.VOLUNTARY else _error_of(reason, f"{self._peer[0]}:{self._peer[1]}")
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, problem)


class WispClient:
    """Opens streams by a Wisp server, version 2 or 1. An asynchronous context manager.

    Args:
        url: of the server, ``ws://HOST:PORT/``; it ends in a slash.
        ssl: for ``wss``; None verifies the server by the machine's certificates.
        origin: the header Origin.
        user, password: for a server that needs them.
        version: 2, or 1 for servers that refuse subprotocols.

    Attributes:
        credit: DATA packets that the server takes on a new stream.
        message_of_the_day: the server's text; empty where it has none, or with version 1.

    Raises:
        ValueError: the URL, the version or the password is none.
        ConnectionRefusedError: entering raises it where the server refuses; the message says why.
        OSError: entering raises it where nothing listens.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl: ssl.SSLContext | None = None,
        origin: str | None = None,
        user: str = "",
        password: str = "",
        version: int = 2,
    ) -> None:
        try:
            self._where = parse_uri(url)
        except (InvalidURI, ValueError) as wrong:
            raise ValueError(f"url: ws://HOST:PORT/ is needed, not {url!r}") from wrong
        if version not in (1, 2):
            raise ValueError(f"version: 1 or 2 is needed, not {version!r}")
        self.credit: int = 0
        self.message_of_the_day: str = ""
        self._ssl = ssl
        self._origin = cast(Origin, origin) if origin else None
        self._password = pack_password(user, password) if user or password else None
        self._version = version
        self._streams: dict[int, _TcpTransport | _UdpTransport] = {}
        self._confirmed: dict[int, asyncio.Future[None]] = {}
        self._introduced = False  # whether the server has sent an INFO packet
        self._confirms = False  # whether the server confirms that a stream is open
        self._number = 0
        self._ready: asyncio.Future[None] | None = None
        self._problem: Exception | None = None
        self._messages: MessageSocket

    # --- What users call ------------------------------------------------------------------------------------------

    async def create_connection(
        self, protocol_factory: Callable[[], _P], host: str, port: int
    ) -> tuple[asyncio.Transport, _P]:
        """Open a TCP stream.

        A server of version 1 does not say when a stream is open: a refusal ends the stream then.

        Args:
            protocol_factory: returns the protocol.
            host: resolved by the server.
            port: 1 to 65535.

        Raises:
            ConnectionRefusedError, TimeoutError, PermissionError, OSError: what the server says.
            ConnectionAbortedError: the client is closed.
            ValueError: the port is none.
        """
        protocol = protocol_factory()
        number = self._next()
        transport = _TcpTransport(self, number, cast(asyncio.Protocol, protocol), f"{host}:{port}")
        await self._open(number, transport, StreamType.TCP, host, port)
        return transport, protocol

    async def open_connection(
        self, host: str, port: int, *, limit: int = 65536
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP stream as a reader and a writer; see `create_connection`.

        Args:
            limit: bytes; see `asyncio.open_connection`.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        transport, protocol = await self.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), host, port
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], _P], *, remote_addr: tuple[str, int]
    ) -> tuple[asyncio.DatagramTransport, _P]:
        """Open a UDP stream to one address. Raises what `create_connection` raises."""
        protocol = protocol_factory()
        number = self._next()
        transport = _UdpTransport(self, number, cast(asyncio.DatagramProtocol, protocol), remote_addr)
        await self._open(number, transport, StreamType.UDP, *remote_addr)
        return transport, protocol

    async def aclose(self) -> None:
        """End all streams and the connection. Idempotent."""
        if self._ready is not None:
            self._messages.close()
            self._problem = self._problem or ConnectionAbortedError(errno.ECONNABORTED, "the Wisp client is closed")
            self._end_streams(CloseReason.VOLUNTARY)
            await self._messages.wait_closed()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        protocol = ClientProtocol(
            self._where,
            origin=self._origin,
            subprotocols=[_SUBPROTOCOL] if self._version == 2 else None,
            max_size=_LONGEST,
        )
        transport, self._messages = await loop.create_connection(
            lambda: MessageSocket(protocol, self),
            self._where.host,
            self._where.port,
            ssl=(self._ssl or True) if self._where.secure else None,
        )
        try:
            await self._ready
        except BaseException:
            transport.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- For streams ----------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the connection buffers too much."""
        return self._messages.full

    def send(self, packet: bytes) -> None:
        """Send a packet to the server."""
        self._messages.queue(packet)
        self._messages.flush()

    def forget(self, number: int) -> None:
        """A stream has ended."""
        self._streams.pop(number, None)

    def read_again(self) -> None:
        """Read the connection again, if no stream has too much unread."""
        if all(stream.unread < _UNREAD_BYTES for stream in self._streams.values()):
            self._messages.resume()

    def _next(self) -> int:
        if self._problem is not None:
            raise self._problem
        while True:
            self._number = self._number % 0xFFFFFFFF + 1
            if self._number not in self._streams:
                return self._number

    async def _open(
        self, number: int, transport: _TcpTransport | _UdpTransport, kind: StreamType, host: str, port: int
    ) -> None:
        packet = pack_connect(number, kind, host, check_port("port", port, 1))
        self._streams[number] = transport
        self.send(packet)
        if self._confirms and kind is StreamType.TCP:
            confirmed = self._confirmed[number] = asyncio.get_running_loop().create_future()
            try:
                await confirmed
            except BaseException:
                if self._streams.pop(number, None) is not None:
                    self.send(pack_close(number, CloseReason.VOLUNTARY))
                raise
            finally:
                self._confirmed.pop(number, None)
        else:
            transport.began()

    # --- What the WebSocket reports -------------------------------------------------------------------------------

    def opened(self) -> None:
        """Wait for the server's first packet."""

    def message(self, data: bytes, /) -> None:
        """Take a packet."""
        kind, number, payload = unpack(data)
        assert self._ready is not None
        if kind is PacketType.INFO:
            if self._introduced or self._ready.done():
                raise ValueError("the Wisp server has sent an INFO packet where none is expected")
            self._introduced = True
            extensions = unpack_info(payload)
            known = (Extension.UDP, Extension.MESSAGE_OF_THE_DAY, Extension.STREAM_CONFIRMATION)
            mine: dict[int, bytes] = dict.fromkeys(known, b"")
            if Extension.PASSWORD in extensions and self._password is not None:
                mine[Extension.PASSWORD] = self._password
            self.message_of_the_day = extensions.get(Extension.MESSAGE_OF_THE_DAY, b"").decode(errors="replace")
            self._confirms = Extension.STREAM_CONFIRMATION in extensions
            self.send(pack_info(mine))
        elif kind is PacketType.CONTINUE:
            packets = unpack_continue(payload)
            if number == 0:
                self.credit = packets
                if not self._ready.done():
                    self._ready.set_result(None)
            elif number in self._streams:
                confirmed = self._confirmed.get(number)
                if confirmed is not None and not confirmed.done():
                    # At once: data may be in the next packet.
                    self._streams[number].began()
                    confirmed.set_result(None)
                self._streams[number].granted(packets)
        elif kind is PacketType.DATA:
            stream = self._streams.get(number)
            if stream is not None:
                stream.received(bytes(payload))
                if stream.unread > _UNREAD_BYTES:
                    self._messages.pause()
        elif kind is PacketType.CLOSE:
            self._closed(number, unpack_close(payload))

    def _closed(self, number: int, reason: CloseReason) -> None:
        if number == 0:
            self._problem = ConnectionRefusedError(
                errno.ECONNREFUSED, f"the Wisp server ends the connection: {reason.name} (0x{reason:02x})"
            )
            self._messages.close()
            return
        stream = self._streams.pop(number, None)
        confirmed = self._confirmed.get(number)
        if confirmed is not None and not confirmed.done():
            confirmed.set_exception(_error_of(reason, f"stream {number}"))
        elif stream is not None:
            stream.ended(reason)

    def writable(self) -> None:
        """The connection takes packets again."""

    def ended(self, problem: Exception | None, /) -> None:
        """The connection is gone, and all streams with it."""
        self._problem = self._problem or problem or ConnectionResetError(errno.ECONNRESET, "the Wisp server is gone")
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_exception(self._problem)
        self._end_streams(CloseReason.NETWORK_ERROR)

    def _end_streams(self, reason: CloseReason) -> None:
        for confirmed in self._confirmed.values():
            if not confirmed.done():
                assert self._problem is not None
                confirmed.set_exception(self._problem)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.ended(reason)
