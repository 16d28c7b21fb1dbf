"""UDP for blocking programs: `DatagramRelay` on the stack's loop, and the socket class's functions for datagrams.

Each message on the pair is an endpoint in the ABI's form followed by one datagram. From the stack the endpoint is the
source; to the stack it is the destination, or zeros for the peer of a connected socket. A message without a family
means that an error was reported.
"""

from __future__ import annotations

import _socket
import errno
from typing import Any, Final

from tcpip_wasm.compat.blocking.relay import Relay
from tcpip_wasm.compat.blocking.socket_pair import Channel, as_family, socket_name
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import DATAGRAM_DATA, abi, decode_endpoint, error_for
from tcpip_wasm.errors import StackError, network_error
from tcpip_wasm.sockets.endpoints import Endpoints
from tcpip_wasm.sockets.options import V6_ONLY
from tcpip_wasm.sockets.udp.udp_handle import UdpHandle
from tcpip_wasm.stack_parts import parts_of

HEADER_SIZE: Final = abi.ENDPOINT_SIZE
CONNECTED_PEER: Final = bytes(HEADER_SIZE)
ERROR_HEADER: Final = bytes(HEADER_SIZE)

MAX_KNOWN: Final = 1024
"""Destinations that a socket remembers; beyond that all are forgotten."""

BURST: Final = 64
"""Datagrams that are read from a program in one loop iteration."""


class DatagramRelay(Relay):
    """Carries the datagrams of one UDP socket.

    Args:
        channel: what it shares with the socket.
        loop_end: the loop's end of the pair.

    Attributes:
        endpoints: translates addresses.
        known: destinations that a datagram was sent to, in the ABI's form; the peer's has the key None.
        dropped: datagrams that did not fit into the program's end.
    """

    def __init__(self, channel: Channel, loop_end: _socket.socket) -> None:
        super().__init__(channel, loop_end)
        self._driver: Driver = parts_of(channel.host.stack).driver
        self._udp = self._driver.core.udp
        self.endpoints: Endpoints = Endpoints(parts_of(channel.host.stack).interfaces)
        self.known: dict[Any, bytes] = {}
        self._handle = 0
        self._registered: UdpHandle | None = None
        self._chosen: dict[int, int] = {}
        self._waiting: tuple[bytes, bytes | None] | None = None
        self._is_reading = False
        self.dropped: int = 0

    # --- Opening: each of these runs on the loop ------------------------------------------------------------------

    async def open(self) -> None:
        """Open the stack's socket at the channel's address, unless it is open.

        Raises: what `NetworkStack.open_udp` raises.
        """
        if self._handle:
            return
        channel, stack = self._channel, self._channel.host.stack
        bound = channel.bound
        local = (bound[0] or None, bound[1]) if bound else None
        if local and local[0] in ("0.0.0.0", "::"):
            local = (None, local[1])
        values = channel.values
        options = values.for_core() | self._chosen
        handle, _ = parts_of(stack).udp.open(local, None, self._family(local), options, values.share())
        self._handle = handle
        self._registered = UdpHandle(self._driver, handle, self)
        self._learn_name()
        self._read_on()

    def _family(self, local: tuple[Any, ...] | None) -> int:
        """Return the ABI's family: an IPv6 socket serves IPv4, too, unless ``IPV6_V6ONLY`` is set."""
        channel = self._channel
        if channel.family == _socket.AF_INET6 and not channel.values.flag(V6_ONLY) and not (local and local[0]):
            return abi.FAMILY_ANY
        if channel.family == _socket.AF_INET or (local and local[0] and ":" not in local[0]):
            return abi.FAMILY_IPV4
        return abi.FAMILY_IPV6

    def _learn_name(self) -> None:
        address, port, scope = decode_endpoint(self._udp.local(self._handle))
        channel = self._channel
        host = str(address)
        if address.is_unspecified:
            channel.local = socket_name(channel.family, "", port)
        elif address.version == 4:
            channel.local = as_family(channel.family, (host, port))
        else:
            channel.local = host, port, 0, scope

    async def connect(self, remote: bytes, name: tuple[Any, ...]) -> None:
        """Connect to a peer.

        Raises: what `UdpCalls.connect` raises.
        """
        await self.open()
        self._udp.connect(self._handle, remote)
        self._channel.remote = name
        self._learn_name()

    async def send_first(self, data: bytes, remote: bytes | None) -> None:
        """Send the first datagram to a destination, after the datagrams that are queued.

        Raises: what `UdpCalls.send` raises.
        """
        await self.open()
        self._read_program()
        if self._waiting is None and not self._udp.send(self._handle, data, remote):
            self._hold(data, remote)
        self._driver.wake()

    async def option(self, option: int, value: int) -> None:
        """Set an option of the ABI."""
        if self._handle:
            self._udp.set_option(self._handle, option, value)

    async def group(self, join: bool, group: str, interface: str | int) -> None:
        """Join or leave a multicast group."""
        await self.open()
        address, scope = self.endpoints.interfaces.resolve(group)
        handle = self.endpoints.interfaces.handle_of(interface)
        (self._udp.join if join else self._udp.leave)(self._handle, address, handle or scope)
        self._driver.wake()

    async def choose_interface(self, interface: str | int) -> None:
        """Choose the interface for multicast groups by its address or number; with 0 the routing table chooses."""
        try:
            handle = self.endpoints.interfaces.handle_of(interface)
        except OSError as error:
            if isinstance(interface, str):
                raise network_error(errno.EADDRNOTAVAIL, f"no interface has {interface}") from None
            raise error
        self._chosen = {abi.OPTION_MULTICAST_INTERFACE: handle}
        await self.option(abi.OPTION_MULTICAST_INTERFACE, handle)

    # --- From the stack -------------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """See `Handler`."""
        if kind == abi.EVENT_DATAGRAM:
            self._write_message(payload[:HEADER_SIZE], payload[DATAGRAM_DATA : DATAGRAM_DATA + value])
        elif kind == abi.EVENT_WRITABLE:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._offer(*waiting)
            self._read_on()
        elif kind == abi.EVENT_DATAGRAM_ERROR:
            self._report(error_for(-value, "reported by ICMP"))

    def _write_message(self, head: bytes, data: bytes) -> None:
        try:
            self.loop_end.sendmsg((head, data))
        except OSError:  # the program's buffer is full, or the socket is closed: datagrams may be lost
            self.dropped += 1

    def _report(self, error: OSError) -> None:
        if self._channel.error is None:  # else an error is pending already
            self._channel.error = error
            self._write_message(ERROR_HEADER, b"")

    def _on_stack_gone(self, error: StackError) -> None:
        """See `Handler`."""
        self._channel.fail(error)
        self._handle = 0
        self.close()

    # --- From the program -----------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._is_reading and self._waiting is None and self._handle:
            self._is_reading = True
            self._loop.add_reader(self.loop_end, self._read_program)

    def _hold(self, data: bytes, remote: bytes | None) -> None:
        self._waiting = data, remote
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self.loop_end)

    def _read_program(self) -> None:
        for _ in range(BURST):
            if self._waiting is not None or not self._handle:
                return
            try:
                message = self.loop_end.recv(HEADER_SIZE + abi.MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            remote = message[:HEADER_SIZE]
            self._offer(message[HEADER_SIZE:], None if remote == CONNECTED_PEER else remote)

    def _offer(self, data: bytes, remote: bytes | None) -> None:
        try:
            if not self._udp.send(self._handle, data, remote):
                self._hold(data, remote)
        except StackError:
            pass  # the next poll ends this socket
        except OSError as error:
            self._report(error)
        self._driver.wake()

    async def end(self) -> None:
        """Send the datagrams that are queued, and close the stack's socket."""
        self._read_program()
        self.close()

    def close(self) -> None:
        """Close the stack's socket. Idempotent."""
        if self.loop_end.fileno() < 0:
            return
        self._loop.remove_reader(self.loop_end)
        self.loop_end.close()
        self._handle = 0
        if self._registered is not None:
            self._registered.close()


# --- Functions of the socket class, in the program's thread -----------------------------------------------------------

_PEER: Final = None


def connect(sock: Any, remote: tuple[str, int]) -> None:
    """Connect a socket to a peer."""
    relay: DatagramRelay = sock._channel.relay  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    record = relay.endpoints.encode(remote)
    relay.known.pop(_PEER, None)
    channel.host.call(relay.connect(record, as_family(channel.family, relay.endpoints.decode(record))))


def group(sock: Any, join: bool, address: str, interface: str | int) -> None:
    """Join or leave a group."""
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    channel.host.call(channel.relay.group(join, address, interface))


def send(sock: Any, data: Any, address: Any, flags: int) -> int:
    """Send a datagram, and return its length.

    The stack sends the first datagram to a destination before this returns, so that its errors are raised here. Later
    ones are queued; their errors, like those that ICMP reports, are raised by a later call.
    """
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    relay: DatagramRelay = channel.relay
    sock._check_open()  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    error = channel.take_error()
    if error is not None:
        raise error
    if address is None and channel.remote is None:
        raise network_error(errno.EDESTADDRREQ)
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
    head = relay.known.get(address)
    if head is None:
        head = CONNECTED_PEER
        if address is not None:
            host, port = sock._numeric(address, "sendto")  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
            if port == 0:
                raise network_error(errno.EINVAL, "port 0")
            head = relay.endpoints.encode((host, port))
        if not channel.host.is_in_other_process:  # else the parent process sends it, and its errors are not raised
            channel.host.call(relay.send_first(bytes(view), None if address is None else head))
            if len(relay.known) >= MAX_KNOWN:
                relay.known.clear()
            relay.known[address] = head
            return len(view)
    if len(view) > abi.MAX_DATAGRAM:
        raise network_error(errno.EMSGSIZE, f"a datagram of {len(view)} bytes")
    try:
        return int(_socket.socket.sendmsg(sock, (head, view), (), flags)) - HEADER_SIZE
    except (BrokenPipeError, ConnectionResetError):
        sock._raise_lost()  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
        raise


def receive_message(sock: Any, buffer: memoryview, flags: int) -> tuple[int, Any, int]:
    """Receive a datagram into a buffer; return its length, its source and the message's flags."""
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    head = bytearray(HEADER_SIZE)
    while True:
        count, _, message_flags, _ = _socket.socket.recvmsg_into(sock, (head, buffer), 0, flags)
        if count == 0:
            sock._check_open()  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
            if channel.ended is not None:
                raise channel.ended
            return 0, None, 0  # shut down
        if head != ERROR_HEADER:
            source = channel.relay.endpoints.decode(bytes(head))
            return count - HEADER_SIZE, as_family(channel.family, source), message_flags
        if flags & _socket.MSG_PEEK:
            _socket.socket.recv(sock, 0)  # remove the error message: only datagrams stay in the queue after a peek
        error = channel.take_error()
        if error is not None:  # else a call that sends has raised it
            raise error


def receive(sock: Any, size: int, flags: int) -> tuple[bytes, Any, int]:
    """Receive a datagram; return its bytes, its source and the message's flags."""
    if size < 0:
        raise ValueError("negative buffersize in recv")
    buffer = bytearray(size)
    count, source, message_flags = receive_message(sock, memoryview(buffer), flags)
    return bytes(memoryview(buffer)[:count]), source, message_flags


def receive_into(sock: Any, buffer: Any, size: int, flags: int) -> tuple[int, Any]:
    """Receive a datagram into a program's buffer; return its length and its source."""
    view = memoryview(buffer).cast("B")
    if size < 0 or size > len(view):
        raise ValueError("negative buffersize in recv_into" if size < 0 else "buffer too small for requested bytes")
    return receive_message(sock, view[:size] if size else view, flags)[:2]
