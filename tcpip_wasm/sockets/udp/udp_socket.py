"""UDP sockets in the stream-style interface: `UdpSocket`, `UdpDatagram`.

Owns the queue of datagrams that have arrived and were not read. It is bounded in bytes; what finds it full is dropped
and counted, as UDP does. What is sent waits for room in the interface's transmit buffer, and is never dropped here.

The reasons are in docs/explanation/udp-icmp.md.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from tcpip_wasm.addresses import Address
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import DATAGRAM_DATA, abi, error_for
from tcpip_wasm.errors import NetworkError, StackClosedError, StackError, network_error
from tcpip_wasm.interfaces.interface import Interface, check_interface
from tcpip_wasm.names.lookup import Lookup
from tcpip_wasm.sockets.endpoints import Endpoints
from tcpip_wasm.sockets.udp.udp_handle import DatagramQueue, UdpHandle
from tcpip_wasm.streams import EndOfStream, ReadableStream, WritableStream
from tcpip_wasm.streams.locks import Signal


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """A datagram.

    Attributes:
        host: address of the peer: the source of what arrived, the destination of what is sent. A link-local address
            names its interface, as in ``fe80::1%tap0``.
        port: the peer's port.
        data: the bytes.
    """

    host: str
    port: int
    data: bytes


class UdpSocket:
    """A UDP socket; made by `NetworkStack.open_udp`. As an asynchronous context manager it closes itself.

    Args:
        driver: the driver of the stack it belongs to.
        handle: the socket's handle; this object takes its events from now on.
        endpoints: translates addresses.
        lookup: finds the addresses of names.

    Attributes:
        readable: the datagrams that arrive.
        writable: sends; its datagrams have addresses, names are for `send`.
        dropped: datagrams dropped because the ones before were not read.
    """

    def __init__(self, driver: Driver, handle: int, *, endpoints: Endpoints, lookup: Lookup) -> None:
        self._driver = driver
        self._udp = driver.core.udp
        self._handle = handle
        self._endpoints = endpoints
        self._lookup = lookup
        self._local = driver.core.udp.local(handle)
        self._state = _State(driver.loop)
        self._reported: OSError | None = None
        ends = _Ends(self._state, self._offer)
        self.dropped: int = 0
        self.readable: ReadableStream[UdpDatagram] = ReadableStream(ends)
        self.writable: WritableStream[UdpDatagram] = WritableStream(ends)
        self._registered = UdpHandle(driver, handle, self)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not state.closed.done() and self._driver.error is None:
            _warn(f"unclosed socket {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        host, port = self.local_address
        return f"<UdpSocket {'closed' if self._state.closed.done() else f'{host} port {port}'}>"

    async def __aenter__(self) -> UdpSocket:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def local_address(self) -> tuple[str, int]:
        """(host, port) of this end; the host is ``::`` where it is all addresses, IPv4 and IPv6."""
        host, port = self._endpoints.decode(self._local)[:2]
        return host, port

    # --- Events of the core ---------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that concerns this socket."""
        if kind == abi.EVENT_DATAGRAM:
            source = self._endpoints.decode(payload[: abi.ENDPOINT_SIZE])
            data = payload[DATAGRAM_DATA : DATAGRAM_DATA + value]
            if self._state.arrived.put(UdpDatagram(source[0], source[1], data), value):
                self._state.readable.fire()
            else:
                self.dropped += 1
        elif kind == abi.EVENT_WRITABLE:
            self._state.writable.fire()
        elif kind == abi.EVENT_DATAGRAM_ERROR:
            self._reported = error_for(-value, "reported by ICMP")
            self._state.readable.fire()

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and so is this socket."""
        self._end(error)

    # --- Receiving ------------------------------------------------------------------------------------------------

    async def receive(self) -> UdpDatagram:
        """Wait for a datagram and return it. Cancelled, it takes none.

        Raises:
            ConnectionRefusedError, OSError: ICMP reported that an earlier datagram to the remote end did not arrive;
                later calls go on. Only sockets opened with `remote` raise it.
            OSError: ``ECONNABORTED`` where the socket was closed; the stack's error where that is gone.
        """
        while True:
            if self._state.arrived.size:
                return self._state.arrived.take()
            if self._reported is not None:
                error, self._reported = self._reported, None
                raise error
            self._check()
            await self._state.readable.wait()

    def __aiter__(self) -> AsyncIterator[UdpDatagram]:
        """Iterate over the datagrams of `readable` until the socket is closed."""
        return self.readable.__aiter__()

    # --- Sending --------------------------------------------------------------------------------------------------

    async def send(self, datagram: UdpDatagram) -> None:
        """Send a datagram, once the interface has room for all of it. Cancelled, it was not sent.

        A name as its host is looked up each time; a program that sends much to one host looks it up once, by `open_udp`
        with `remote`.

        Raises:
            OSError: ``EMSGSIZE`` above 65,507 bytes, to an IPv6 address 65,487; ``ENETUNREACH``; ``EACCES`` for a
                broadcast without `allow_broadcast`; ``ECONNABORTED`` where the socket was closed.
            NameResolutionError: the host is a name, and leads to no address of the socket's family.
            ValueError, TypeError: a malformed datagram.
        """
        if isinstance(datagram, UdpDatagram) and self._endpoints.is_name(datagram.host):
            own = self.local_address[0]
            family = 0 if own == "::" else socket.AF_INET6 if ":" in own else socket.AF_INET
            datagram = UdpDatagram(await self._lookup.first(datagram.host, family), datagram.port, datagram.data)
        while not self._offer(datagram):
            await self._state.writable.wait()

    def _offer(self, datagram: UdpDatagram) -> bool:
        """Send a datagram if the interface has room for it."""
        if not isinstance(datagram, UdpDatagram):
            raise TypeError(f"datagram must be a UdpDatagram, not {type(datagram).__name__}")
        remote = self._endpoints.encode((datagram.host, datagram.port))
        data = datagram.data
        if type(data) is not bytes:
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
            data = bytes(data)
        self._check()
        try:
            sent = self._udp.send(self._handle, data, remote)
        except NetworkError as error:
            raise self._endpoints.explained(error, remote) from None
        self._driver.wake()
        return sent

    # --- Groups ---------------------------------------------------------------------------------------------------

    def join_group(self, group: str | Address, interface: Interface | None = None) -> None:
        """Receive what is sent to a multicast group, too.

        Args:
            group: its address.
            interface: an interface of the stack, or None for the one that datagrams to the group would take.

        Raises:
            OSError: ``EADDRINUSE`` for a member, ``ENETUNREACH`` without an interface, ``ENOSPC`` above 64 groups.
            ValueError, TypeError: no multicast address, or no interface of this stack.
        """
        self._group(self._udp.join, group, interface)

    def leave_group(self, group: str | Address, interface: Interface | None = None) -> None:
        """Leave a group; `close` leaves all of them.

        Args:
            group: its address.
            interface: as for `join_group`.

        Raises:
            OSError: ``EADDRNOTAVAIL`` where the socket is no member.
            ValueError, TypeError: no multicast address, or no interface of this stack.
        """
        self._group(self._udp.leave, group, interface)

    def _group(
        self, call: Callable[[int, Address, int], None], group: str | Address, interface: Interface | None
    ) -> None:
        address, scope = self._endpoints.interfaces.resolve(group)
        if not address.is_multicast:
            raise ValueError(f"group: {group!r} is no multicast address")
        self._check()
        if interface is not None:
            scope = check_interface("interface", interface, self._driver).handle
        call(self._handle, address, scope)
        self._driver.wake()

    # --- The end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the socket: what waits to be read is dropped, groups are left, waiting calls raise. Idempotent."""
        self._end(None)

    def _end(self, error: StackError | None) -> None:
        if self._state.closed.done():
            return
        self._state.closed.set_result(None)
        self._state.error = error
        self._state.arrived.clear()
        self._registered.close()
        self._state.readable.fire()
        self._state.writable.fire()

    def _check(self) -> None:
        if self._state.closed.done():
            raise self._state.error or network_error(errno.ECONNABORTED, "the socket was closed")


class _State:
    """What a socket and its streams share.

    Attributes:
        arrived: datagrams that were not read yet.
        readable, writable: fired when there is something to read, and when the interface has room.
        closed: done once the socket is closed.
        error: the stack's error, if that ended the socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.arrived: DatagramQueue[UdpDatagram] = DatagramQueue()
        self.readable = Signal()
        self.writable = Signal()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.error: StackError | None = None


class _Ends:
    """The source and the sink of a socket's streams. Errors that ICMP reports do not end a stream; `receive` raises
    them."""

    def __init__(self, state: _State, offer: Callable[[UdpDatagram], bool]) -> None:
        self._state = state
        self._offer = offer
        self._read_shutdown = False

    def read_nowait(self) -> UdpDatagram | None:
        state = self._state
        if self._read_shutdown:
            raise EndOfStream
        if state.arrived.size:
            return state.arrived.take()
        if state.closed.done():
            if state.error is not None and not isinstance(state.error, StackClosedError):
                raise state.error
            raise EndOfStream
        return None

    async def wait_readable(self) -> None:
        state = self._state
        if not state.arrived and not state.closed.done() and not self._read_shutdown:
            await state.readable.wait()

    def cancel(self, reason: BaseException | None) -> None:
        self._read_shutdown = True
        self._state.readable.fire()

    def write_nowait(self, datagram: UdpDatagram, /) -> bool:
        return self._offer(datagram)

    async def wait_writable(self) -> None:
        await self._state.writable.wait()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._state.closed)

    async def close(self) -> None:
        """End the stream; the socket stays, since UDP has no end to send."""

    def abort(self, reason: BaseException | None) -> None:
        """End the stream; the socket stays."""
        self._state.writable.fire()
