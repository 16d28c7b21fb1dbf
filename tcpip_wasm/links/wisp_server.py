"""`WispServer`: TCP and UDP streams for clients of Wisp, over a stack or over the machine's network.

Owns sessions, streams, their credits and the reasons of their ends. The packets are `wisp_wire`'s, the connection is
`message_socket`'s.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tcpip_wasm.arguments import check_int
from tcpip_wasm.links.guests import check_guests
from tcpip_wasm.links.message_server import MessageServer
from tcpip_wasm.links.message_socket import MessageSocket
from tcpip_wasm.links.wisp_wire import (
    CloseReason,
    Extension,
    PacketType,
    StreamType,
    pack,
    pack_close,
    pack_continue,
    pack_info,
    unpack,
    unpack_close,
    unpack_connect,
    unpack_info,
    unpack_password,
)

__all__ = ["WispServer"]

_log: Final = logging.getLogger("tcpip_wasm.links")

CREDIT: Final = 64
"""DATA packets that a client may send on a stream before the first CONTINUE.

A CONTINUE sets what the client may send from then on, whatever is on its way. So each grants as many packets as the
stream has taken since the one before: what is on its way, and what waits, stays within twice this number.
"""

_LONGEST: Final = 256 * 1024
"""Bytes of the longest message that is read. Clients send 64 KiB and less."""

_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Bytes that wait for all connections of one client at most, however large the packets of its credit are. Above it, the
next packet ends a stream of which more than `_WAITING_BYTES_OF_STREAM` wait."""

_WAITING_BYTES_OF_STREAM: Final = 64 * 1024
"""Bytes that may wait for one connection, whatever waits for the client's others."""

_CONNECT_SECONDS: Final = 30.0

_CHUNK: Final = 64 * 1024
"""Bytes of payload in a packet to the client at most."""


class StreamNetwork(Protocol):
    """What opens streams: a `NetworkStack`, or a `MachineNetwork`."""

    async def create_connection(self, protocol_factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]: ...

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], Any], *, remote_addr: tuple[str, int]
    ) -> tuple[Any, Any]: ...


def _reason(problem: BaseException) -> CloseReason:
    """Return the reason that a client is given for an error."""
    number = problem.errno if isinstance(problem, OSError) else None
    if isinstance(problem, PermissionError):
        return CloseReason.BLOCKED
    if isinstance(problem, ConnectionRefusedError):
        return CloseReason.REFUSED
    if isinstance(problem, TimeoutError):
        return CloseReason.TIMED_OUT
    if isinstance(problem, ValueError):
        return CloseReason.INVALID
    if isinstance(problem, socket.gaierror) or number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return CloseReason.UNREACHABLE
    return CloseReason.NETWORK_ERROR


class _TcpStream(asyncio.Protocol):
    """One connection, and its credit."""

    def __init__(self, session: _Session, number: int) -> None:
        self._session = session
        self._number = number
        self._transport: asyncio.Transport | None = None
        self._early: list[memoryview] = []  # what the client sent before the connection was there
        self._used = 0  # packets since the last CONTINUE
        self._allowed = CREDIT  # packets that the client may still send at most
        self._full = False
        self.task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Bytes that wait for the connection."""
        return sum(map(len, self._early)) if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, payload: memoryview) -> None:
        """Send what the client sent."""
        self._used += 1
        self._allowed -= 1
        too_much = self.waiting > _WAITING_BYTES_OF_STREAM and self._session.waiting > _WAITING_BYTES
        if self._allowed < 0 or too_much:
            self._session.end(self._number, CloseReason.THROTTLED)
        elif self._transport is None:
            self._early.append(payload)
        else:
            self._transport.write(payload)
            self._grant()

    def _grant(self) -> None:
        """Give credit anew while the connection takes data."""
        if not self._full and self._used >= CREDIT // 2:
            granted, self._used = self._used, 0
            self._allowed += granted
            self._session.send(pack_continue(self._number, granted))

    def close(self) -> None:
        """End the connection: what the client sent still leaves."""
        if self.task is not None:
            self.task.cancel()
        if self._transport is not None:
            self._transport.close()

    def pause(self, paused: bool) -> None:
        """Stop or go on reading, since the client's WebSocket is full or has room."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.writelines(self._early)
        self._early.clear()
        if self._session.confirms:
            granted = CREDIT - self._used
            self._allowed += granted
            self._session.send(pack_continue(self._number, granted))
        self._grant()

    def data_received(self, data: bytes) -> None:
        for first in range(0, len(data), _CHUNK):
            self._session.send(pack(PacketType.DATA, self._number, memoryview(data)[first : first + _CHUNK]))
        if self._session.full:
            self._session.pause()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._grant()

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.end(self._number, CloseReason.NETWORK_ERROR if exc else CloseReason.VOLUNTARY)


class _UdpStream(asyncio.DatagramProtocol):
    """Datagrams to one address and from it. There is no credit: what cannot be sent is lost."""

    def __init__(self, session: _Session, number: int) -> None:
        self._session = session
        self._number = number
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[memoryview] = []
        self.task: asyncio.Task[None] | None = None
        self.waiting: int = 0  # bytes, as of a TCP stream: datagrams do not wait

    def write(self, payload: memoryview) -> None:
        """Send a datagram. A few are kept until there is a socket."""
        if self._transport is not None:
            self._transport.sendto(bytes(payload))
        elif len(self._early) < CREDIT:
            self._early.append(payload)

    def close(self) -> None:
        """Close the socket."""
        if self.task is not None:
            self.task.cancel()
        if self._transport is not None:
            self._transport.close()

    def pause(self, paused: bool) -> None:
        """Datagrams are dropped while the client's WebSocket is full."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        for payload in self._early:
            self._transport.sendto(bytes(payload))
        self._early.clear()
        if self._session.confirms:
            self._session.send(pack_continue(self._number, CREDIT))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self._session.full:
            self._session.send(pack(PacketType.DATA, self._number, data))

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: UDP goes on."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.end(self._number, CloseReason.NETWORK_ERROR if exc else CloseReason.VOLUNTARY)


class _Session:
    """One client: its WebSocket and its streams."""

    def __init__(self, server: WispServer) -> None:
        self._server = server
        self._streams: dict[int, _TcpStream | _UdpStream] = {}
        self._extensions: dict[int, bytes] | None = None  # those of the client, once it has sent them
        self.messages: MessageSocket

    # --- For streams ----------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the WebSocket buffers too much."""
        return self.messages.full

    @property
    def confirms(self) -> bool:
        """Whether the client asked for a CONTINUE when a stream is open."""
        return self._extensions is not None and Extension.STREAM_CONFIRMATION in self._extensions

    @property
    def waiting(self) -> int:
        """Bytes that wait for the connections."""
        return sum(stream.waiting for stream in self._streams.values())

    def send(self, packet: bytes) -> None:
        """Send a packet to the client."""
        self.messages.queue(packet)
        self.messages.flush()

    def send_close(self, number: int, reason: CloseReason) -> None:
        """Notify the client that a stream has ended or was refused. While it reads none of these, it is not read."""
        self.send(pack_close(number, reason))
        if self.full:
            self.messages.pause()

    def pause(self) -> None:
        """Read no connection for now: the client does not keep up."""
        for stream in self._streams.values():
            stream.pause(True)

    def end(self, number: int, reason: CloseReason) -> None:
        """End a stream, and say why; without effect if it has ended."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.close()
            self.send_close(number, reason)

    # --- What the WebSocket reports -------------------------------------------------------------------------------

    def opened(self) -> None:
        """Begin: version 2 where the client named a subprotocol, else version 1."""
        if self.messages.subprotocol is None:
            if self._server.needs_password:
                self.messages.close(4401, "a password is needed, which Wisp 1 cannot send")
                return
            self.send(pack_continue(0, CREDIT))
        else:
            self.send(pack_info(self._server.offered))

    def message(self, data: bytes, /) -> None:
        """Serve a packet. One that is malformed ends the session, since nothing after it can be trusted."""
        try:
            kind, number, payload = unpack(data)
            if kind is PacketType.INFO:
                self._introduced(unpack_info(payload))
            elif self.messages.subprotocol is not None and self._extensions is None:
                raise ValueError(f"{kind.name} before INFO")
            elif kind is PacketType.CONNECT:
                self._connect(number, payload)
            elif kind is PacketType.DATA:
                stream = self._streams.get(number)
                if stream is not None:  # else it has ended, and the client does not know yet
                    stream.write(payload)
            elif kind is PacketType.CLOSE:
                stream = self._streams.pop(number, None)
                if stream is not None:
                    _log.debug("Wisp stream %d closed by the client: %s", number, unpack_close(payload).name)
                    stream.close()
        except ValueError as wrong:
            self.messages.close(1002, str(wrong)[:100])

    def writable(self) -> None:
        """Read the client and the connections again."""
        self.messages.resume()
        for stream in list(self._streams.values()):
            stream.pause(False)

    def ended(self, problem: Exception | None, /) -> None:
        """Close the client's streams."""
        self._server.sessions.discard(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.close()

    # --- Packets --------------------------------------------------------------------------------------------------

    def _introduced(self, extensions: dict[int, bytes]) -> None:
        if self.messages.subprotocol is None or self._extensions is not None:
            raise ValueError("an INFO packet where none is expected")
        if not self._server.is_known(extensions.get(Extension.PASSWORD)):
            sent = Extension.PASSWORD in extensions
            self.send(pack_close(0, CloseReason.WRONG_PASSWORD if sent else CloseReason.NO_CREDENTIALS))
            self.messages.close(4401, "wrong user or password" if sent else "a password is needed")
            return
        self._extensions = extensions
        self.send(pack_continue(0, CREDIT))

    def _connect(self, number: int, payload: memoryview) -> None:
        if number == 0 or number in self._streams:
            raise ValueError(f"stream {number} cannot be opened")
        try:
            kind, host, port = unpack_connect(payload)
        except ValueError:
            self.send_close(number, CloseReason.INVALID)
            return
        if len(self._streams) >= self._server.max_streams:
            self.send_close(number, CloseReason.THROTTLED)
            return
        stream = _TcpStream(self, number) if kind is StreamType.TCP else _UdpStream(self, number)
        self._streams[number] = stream
        stream.task = asyncio.get_running_loop().create_task(self._open(number, stream, host, port))

    async def _open(self, number: int, stream: _TcpStream | _UdpStream, host: str, port: int) -> None:
        network = self._server.network
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                if isinstance(stream, _TcpStream):
                    await network.create_connection(lambda: stream, host, port)
                else:
                    await network.create_datagram_endpoint(lambda: stream, remote_addr=(host, port))
        except (OSError, ValueError) as problem:
            _log.debug("Wisp stream to %s port %d refused: %s", host, port, problem)
            stream.task = None
            self.end(number, _reason(problem))
        else:
            stream.task = None
            if self._streams.get(number) is not stream:
                stream.close()
            elif self.full:
                stream.pause(True)


class WispServer(MessageServer):
    """Serves clients of Wisp, versions 1 and 2. An asynchronous context manager.

    It listens at a loopback address unless another is given, and accepts browsers only from the named origins: any page
    that a browser shows may connect to the machine's own ports.

    Args:
        network: where streams lead: a stack, or `MachineNetwork()` for the machine's own network, of which only global
            addresses can be reached unless it allows more.
        host: the address to listen at.
        port: 0 picks a free one.
        origins: of pages whose scripts may connect, such as ``"http://localhost:8000"``, or regular expressions that
            match whole origins. Programs that send no Origin may always.
        passwords: of users, by name; given, a client needs version 2 and one of them.
        message_of_the_day: clients of version 2 may show it.
        ssl: serves ``wss`` with it.
        max_clients: clients that are connected at most; more are refused.
        max_streams: open streams of a client at most; more are refused.

    Raises:
        ValueError: the port or a limit is none.
        OSError: entering raises ``EADDRINUSE`` where the port is taken.
    """

    def __init__(
        self,
        network: StreamNetwork,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        origins: Iterable[str | re.Pattern[str]] = (),
        passwords: Mapping[str, str] | None = None,
        message_of_the_day: str = "",
        ssl: ssl.SSLContext | None = None,
        max_clients: int = 64,
        max_streams: int = 256,
    ) -> None:
        super().__init__(host=host, port=port, origins=origins, ssl=ssl, max_size=_LONGEST)
        self.network = network
        self.sessions: set[_Session] = set()
        self.max_streams: int = check_int("max_streams", max_streams, 1, 65536)
        self._passwords = passwords
        self._message = message_of_the_day.encode()
        self._max_clients = check_guests(max_clients)

    @property
    def needs_password(self) -> bool:
        """Whether clients need a password."""
        return self._passwords is not None

    @property
    def offered(self) -> dict[int, bytes]:
        """The extensions of this side."""
        offered: dict[int, bytes] = {Extension.UDP: b"", Extension.STREAM_CONFIRMATION: b""}
        if self.needs_password:
            offered[Extension.PASSWORD] = b"\x01"
        if self._message:
            offered[Extension.MESSAGE_OF_THE_DAY] = self._message
        return offered

    def is_known(self, metadata: bytes | None) -> bool:
        """Whether a client's user and password are right. Raises ValueError where they are malformed."""
        if self._passwords is None:
            return True
        if metadata is None:
            return False
        user, password = unpack_password(metadata)
        return (
            hmac.compare_digest(self._passwords.get(user, "").encode(), password.encode()) and user in self._passwords
        )

    def accepted(self) -> MessageSocket:
        """Serve a client."""
        session = _Session(self)
        session.messages = MessageSocket(self.protocol(select_subprotocol=_first), session, accept=self._refusal)
        self.sessions.add(session)
        return session.messages

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        if not request.path.partition("?")[0].endswith("/"):
            return 404, "the path of a Wisp server ends in a slash"
        if len(self.sessions) > self._max_clients:
            return 503, f"{self._max_clients} clients are connected"
        return None

    async def end_connections(self) -> None:
        """End the streams of the clients that are connected."""
        sessions = list(self.sessions)
        for session in sessions:
            session.messages.close(1001, "the server ends")
            session.ended(None)
        for session in sessions:
            await session.messages.wait_closed()


def _first(_: ServerProtocol, offered: Iterable[Subprotocol]) -> Subprotocol | None:
    """Take the client's first subprotocol: any name of one says that the client knows version 2."""
    return next(iter(offered), None)
