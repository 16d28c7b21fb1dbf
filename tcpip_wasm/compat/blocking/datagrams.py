"""UDP of the stand-in: `DatagramRelay` on the stack's loop, and what the socket class does with datagrams.

Each message on the pair is an endpoint in the ABI's form and the bytes of one datagram. From the stack it is the
source; to the stack the destination, or zeros for that of a connected socket. A message without a family says that an
error was reported.
"""

from __future__ import annotations

import _socket
import errno
from typing import Any, Final

from tcpip_wasm.compat.blocking.relay import Relay
from tcpip_wasm.compat.blocking.socket_pair import Channel, as_seen, socket_name
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import DATAGRAM_DATA, abi, decode_endpoint, error_for
from tcpip_wasm.errors import StackError, network_error
from tcpip_wasm.sockets.endpoints import Endpoints
from tcpip_wasm.sockets.options import V6_ONLY
from tcpip_wasm.sockets.udp.udp_handle import UdpHandle
from tcpip_wasm.stack_parts import parts_of

HEAD: Final = abi.ENDPOINT_SIZE
TO_THE_PEER: Final = bytes(HEAD)
REPORT: Final = bytes(HEAD)

KNOWN: Final = 1024
"""Destinations of a socket that are remembered."""

BURST: Final = 64
"""Datagrams that are taken from a program before the loop gets its turn."""


class DatagramRelay(Relay):
    """Carries the datagrams of one UDP socket.

    Args:
        channel: what it shares with the socket.
        far: the loop's end of the pair.

    Attributes:
        endpoints: translates addresses.
        known: destinations that took a datagram, as the ABI has them; the peer's is under None.
        dropped: datagrams for which the program's end had no room.
    """

    def __init__(self, channel: Channel, far: _socket.socket) -> None:
        super().__init__(channel, far)
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
        """Open the stack's socket where the channel says, unless it is open.

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
        """Return the ABI's family: a socket of IPv6 serves IPv4, too, unless ``IPV6_V6ONLY`` is set."""
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
            channel.local = as_seen(channel.family, (host, port))
        else:
            channel.local = host, port, 0, scope

    async def connect(self, remote: bytes, name: tuple[Any, ...]) -> None:
        """Fix the peer.

        Raises: what `UdpCalls.connect` raises.
        """
        await self.open()
        self._udp.connect(self._handle, remote)
        self._channel.remote = name
        self._learn_name()

    async def first(self, data: bytes, remote: bytes | None) -> None:
        """Send to somebody for the first time, after what was sent before.

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
        """Choose the interface for groups, by its own address or number; 0 leaves it to the routes."""
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
            self._tell(payload[:HEAD], payload[DATAGRAM_DATA : DATAGRAM_DATA + value])
        elif kind == abi.EVENT_WRITABLE:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._offer(*waiting)
            self._read_on()
        elif kind == abi.EVENT_DATAGRAM_ERROR:
            self._report(error_for(-value, "reported by ICMP"))

    def _tell(self, head: bytes, data: bytes) -> None:
        try:
            self.far.sendmsg((head, data))
        except OSError:  # nobody reads what came before, or the socket is closed: datagrams may get lost
            self.dropped += 1

    def _report(self, error: OSError) -> None:
        if self._channel.error is None:  # else it knows that something is wrong
            self._channel.error = error
            self._tell(REPORT, b"")

    def _on_stack_gone(self, error: StackError) -> None:
        """See `Handler`."""
        self._channel.fail(error)
        self._handle = 0
        self.close()

    # --- From the program -----------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._is_reading and self._waiting is None and self._handle:
            self._is_reading = True
            self._loop.add_reader(self.far, self._read_program)

    def _hold(self, data: bytes, remote: bytes | None) -> None:
        self._waiting = data, remote
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self.far)

    def _read_program(self) -> None:
        for _ in range(BURST):
            if self._waiting is not None or not self._handle:
                return
            try:
                message = self.far.recv(HEAD + abi.MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            remote = message[:HEAD]
            self._offer(message[HEAD:], None if remote == TO_THE_PEER else remote)

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
        """Close it."""
        self._read_program()  # what was sent still leaves
        self.close()

    def close(self) -> None:
        """Close the stack's socket. Idempotent."""
        if self.far.fileno() < 0:
            return
        self._loop.remove_reader(self.far)
        self.far.close()
        self._handle = 0
        if self._registered is not None:
            self._registered.close()


# --- What the socket class does, in the program's thread --------------------------------------------------------------

_PEER: Final = None


def connect(sock: Any, remote: tuple[str, int]) -> None:
    """Fix the peer of a socket."""
    relay: DatagramRelay = sock._channel.relay  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    record = relay.endpoints.encode(remote)
    relay.known.pop(_PEER, None)
    channel.host.call(relay.connect(record, as_seen(channel.family, relay.endpoints.decode(record))))


def group(sock: Any, join: bool, address: str, interface: str | int) -> None:
    """Join or leave a group."""
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    channel.host.call(channel.relay.group(join, address, interface))


def send(sock: Any, data: Any, address: Any, flags: int) -> int:
    """Send a datagram, and return its length.

    The first one to a destination is sent by the stack before this returns, so that its errors are raised here. Later
    ones are queued; what goes wrong with them is raised by a later call, as for what ICMP reports.
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
        head = TO_THE_PEER
        if address is not None:
            host, port = sock._numeric(address, "sendto")  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
            if port == 0:
                raise network_error(errno.EINVAL, "port 0")
            head = relay.endpoints.encode((host, port))
        if not channel.host.is_elsewhere:  # else the parent's relay sends it, and nobody hears how that went
            channel.host.call(relay.first(bytes(view), None if address is None else head))
            if len(relay.known) >= KNOWN:
                relay.known.clear()
            relay.known[address] = head
            return len(view)
    if len(view) > abi.MAX_DATAGRAM:
        raise network_error(errno.EMSGSIZE, f"a datagram of {len(view)} bytes")
    try:
        return int(_socket.socket.sendmsg(sock, (head, view), (), flags)) - HEAD
    except (BrokenPipeError, ConnectionResetError):
        sock._lost()  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
        raise


def receive_message(sock: Any, buffer: memoryview, flags: int) -> tuple[int, Any, int]:
    """Receive a datagram into a buffer; return its length, its source and the message's flags."""
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    head = bytearray(HEAD)
    while True:
        count, _, message_flags, _ = _socket.socket.recvmsg_into(sock, (head, buffer), 0, flags)
        if count == 0:
            sock._check_open()  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
            if channel.ended is not None:
                raise channel.ended
            return 0, None, 0  # shut down
        if head != REPORT:
            source = channel.relay.endpoints.decode(bytes(head))
            return count - HEAD, as_seen(channel.family, source), message_flags
        if flags & _socket.MSG_PEEK:
            _socket.socket.recv(sock, 0)  # this one is ours
        error = channel.take_error()
        if error is not None:  # else somebody who sent has heard of it
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
