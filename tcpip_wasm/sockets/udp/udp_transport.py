"""UDP as one of asyncio's transports: `UdpTransport`, an `asyncio.DatagramTransport`.

Owns the datagrams that the interface had no room for. They are bounded: above the high-water mark the protocol is
asked to pause, and above `QUEUE_BYTES` a datagram is refused with ``ENOBUFS`` by way of `error_received`, never
silently.

The reasons are in docs/explanation/udp-icmp.md.
"""

from __future__ import annotations

import asyncio
import errno
import warnings
from collections.abc import Callable
from typing import Any, cast

from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import DATAGRAM_DATA, abi, decode_endpoint, error_for
from tcpip_wasm.errors import StackError, network_error
from tcpip_wasm.sockets.endpoints import Endpoints
from tcpip_wasm.sockets.payload import HIGH_WATER, water_marks
from tcpip_wasm.sockets.transport_socket import DatagramTransportSocket
from tcpip_wasm.sockets.udp.udp_handle import DatagramQueue, UdpHandle


class UdpTransport(asyncio.DatagramTransport):
    """One UDP socket.

    Args:
        driver: the driver of the stack it belongs to.
        handle: the socket's handle; this object takes its events from now on.
        protocol: an `asyncio.DatagramProtocol`.
        endpoints: translates addresses.
        remote: the one endpoint it talks to, or None for any.
    """

    def __init__(
        self,
        driver: Driver,
        handle: int,
        protocol: asyncio.BaseProtocol,
        *,
        endpoints: Endpoints,
        remote: bytes | None = None,
    ) -> None:
        super().__init__()
        self._driver = driver
        self._udp = driver.core.udp
        self._loop = driver.loop
        self._handle = handle
        self._endpoints = endpoints
        self._remote = remote
        self._local = driver.core.udp.local(handle)
        self._waiting: DatagramQueue[tuple[bytes, bytes | None]] = DatagramQueue()
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._protocol_paused = False
        self._closing = False
        self._lost = False
        self._socket: DatagramTransportSocket | None = None
        self.set_protocol(protocol)
        self._registered = UdpHandle(driver, handle, self)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not getattr(self, "_lost", True) and not self._closing and self._driver.error is None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<UdpTransport {state} {self.get_extra_info('sockname')} -> {self.get_extra_info('peername')}>"

    # --- Events of the core ---------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that concerns this socket."""
        if kind == abi.EVENT_DATAGRAM:
            if not self._closing:
                source = self._endpoints.decode(payload[: abi.ENDPOINT_SIZE])
                self._call(self._protocol.datagram_received, payload[DATAGRAM_DATA : DATAGRAM_DATA + value], source)
        elif kind == abi.EVENT_WRITABLE:
            self._flush()
        elif kind == abi.EVENT_DATAGRAM_ERROR and not self._closing:
            self._call(self._protocol.error_received, error_for(-value, "reported by ICMP"))

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone: the protocol loses its socket."""
        self._end(error)

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, f"protocol.{callback.__name__}() failed")
            self._end(error)

    # --- Sending --------------------------------------------------------------------------------------------------

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram; its bytes are copied before this returns. What fails goes to `error_received`.

        Args:
            data: at most 65,507 bytes, to an IPv6 address 65,487.
            addr: ``(host, port)`` of the destination; None, or the remote address, for a socket that has one.

        Raises:
            TypeError: the data are not bytes, or the address is no tuple.
            ValueError: a malformed address, another one than the remote's, or none where one is needed.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        remote = None
        if self._remote is None:
            if addr is None:
                raise ValueError("addr: a socket without a remote address needs one")
            remote = self._endpoints.encode(addr)
        elif addr is not None and self._endpoints.encode(addr) != self._remote:
            raise ValueError(f"Invalid address: must be None or {self.get_extra_info('peername')}")
        if self._closing:
            return
        if type(data) is not bytes:
            data = bytes(data)
        if not self._waiting and self._send(data, remote):
            return
        if self._waiting.put((data, remote), len(data)):
            self._pause_if_full()
        else:
            self._call(self._protocol.error_received, network_error(errno.ENOBUFS, "too many datagrams wait"))

    def _pause_if_full(self) -> None:
        if self._waiting.size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._call(self._protocol.pause_writing)

    def _send(self, data: bytes, remote: bytes | None) -> bool:
        """Offer a datagram to the core; return False where it has to wait."""
        try:
            sent = self._udp.send(self._handle, data, remote)
        except StackError:
            self._driver.wake()  # the next poll ends this transport
            return True
        except OSError as error:
            self._call(self._protocol.error_received, self._endpoints.explained(error, remote or self._remote))
            return True
        self._driver.wake()
        return sent

    def _flush(self) -> None:
        waiting = self._waiting
        while waiting and self._send(*waiting.first()):
            if not waiting:
                return  # error_received aborted
            waiting.take()
        if self._protocol_paused and self._waiting.size <= self._low:
            self._protocol_paused = False
            self._call(self._protocol.resume_writing)
        if self._closing and not waiting:
            self._end(None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes waiting here, at which the protocol pauses and resumes; see asyncio.

        Raises:
            ValueError: not ``high >= low >= 0``.
        """
        self._high, self._low = water_marks(high, low)
        self._pause_if_full()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark in bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait here; what the core has taken is not counted."""
        return self._waiting.size

    # --- Options --------------------------------------------------------------------------------------------------

    def set_option(self, option: int, value: int) -> None:
        """Set one of the ABI's ``OPTION_`` values of UDP.

        Raises:
            OSError: ``EBADF`` after the end, ``EINVAL`` for a value that the option does not take.
        """
        self._check_open()
        self._udp.set_option(self._handle, option, value)

    def group(self, join: bool, group: str, interface: str | int) -> None:
        """Join or leave a multicast group.

        Args:
            join: True joins.
            group: its address.
            interface: own address or number of an interface; 0 is the one that datagrams to the group would take.

        Raises:
            OSError: ``EBADF`` after the end, ``ENODEV`` for no interface, what `UdpCalls.join` raises.
        """
        self._check_open()
        record = self._endpoints.encode((group, 1))
        address, _, scope = decode_endpoint(record)
        call = self._udp.join if join else self._udp.leave
        call(self._handle, address, self._endpoints.interfaces.handle_of(interface) or scope)
        self._driver.wake()

    def set_group_interface(self, interface: str | int) -> None:
        """Choose the interface for groups, by its own address or number; 0 leaves it to the routes."""
        self.set_option(abi.OPTION_MULTICAST_INTERFACE, self._endpoints.interfaces.handle_of(interface))

    def _check_open(self) -> None:
        if self._lost:
            raise network_error(errno.EBADF, "the socket was closed")

    # --- The end --------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then close. `connection_lost(None)` follows. Idempotent."""
        if not self._closing:
            self._closing = True
            if not self._waiting:
                self._end(None)

    def abort(self) -> None:
        """Close at once and forget what waits. `connection_lost(None)` follows. Idempotent."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self._waiting.clear()
        self._registered.close()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    # --- What it is -----------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand further callbacks to another protocol."""
        self._protocol: Any = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``, ``peername`` or ``socket`` (a `DatagramTransportSocket`) as asyncio does."""
        if name == "socket":
            if self._socket is None:
                self._socket = DatagramTransportSocket(self)
            return self._socket
        if name == "sockname":
            return self._endpoints.decode(self._local)
        if name == "peername" and self._remote is not None:
            return self._endpoints.decode(self._remote)
        return super().get_extra_info(name, default)
