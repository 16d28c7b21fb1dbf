"""TCP connections as `asyncio.Transport`s.

Owns a connection's handle, data that its protocol or the core does not take yet, and the order of a protocol's
callbacks. It knows the core's calls and the driver, of interfaces only the names of scopes, and nothing of streams.

Flow control, end to end: data is handed up only while reading is not paused, and only what was handed up opens the
receive window again. What the core does not take at once waits here, and above the high-water mark the protocol is
asked to pause. Data that the core took is delivered even if the transport is closed at once.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

import asyncio
import errno
import warnings
from asyncio.constants import _SendfileMode
from asyncio.sslproto import SSLProtocol
from asyncio.transports import _FlowControlMixin
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from tcpip_wasm.addresses import Address
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi, decode_endpoint, error_for
from tcpip_wasm.errors import NetworkError, StackClosedError, StackError, network_error
from tcpip_wasm.interfaces.table import InterfaceTable
from tcpip_wasm.sockets.payload import CHUNK, HIGH_WATER, SMALL_PART, UNLIMITED, ViewProtocol, chunks, flat, water_marks
from tcpip_wasm.sockets.tcp.stream_handlers import expect_the_end
from tcpip_wasm.sockets.tcp.stream_reader import take_unread
from tcpip_wasm.sockets.tcp.weak_handler import WeakHandler, abort_unused
from tcpip_wasm.sockets.transport_socket import TransportSocket

CREDIT: Final = 60_000
"""Bytes handed up before the core is notified: one call for a large chunk, none for a request and its answer. Less than
65,535, the whole window of a peer without window scaling, which would wait for ever (RFC 7323, section 2)."""

_STREAM_EOF: Final = asyncio.StreamReaderProtocol.eof_received


class TcpTransport(_FlowControlMixin):
    """One TCP connection.

    Its states, by the fields that distinguish them::

                      _made   _closing  _lost
        connecting    False   False     False   until CONNECTED; the future `connected` is pending
        open          True    False     False
        closing       True    True      False   `close` was called, and `_waiting` is not empty yet
        ended         any     True      True    the handle is released; `connection_lost` follows if it was made

        connecting ──CONNECTED──► open ──close()──► closing ──all was handed to the core──► ended
             │                      │                   │                                     ▲
             └──────────────────────┴───────────────────┴── CLOSED, abort(), the stack's end ─┘

    While it is open, both directions have states of their own::

        receiving   _reading_paused    data waits in `_arrived` instead of being handed up
                    _eof_arrived       the peer's FIN is here, and what came before it is not all handed up
                    _eof_reported      `eof_received` was called
        sending     _full              the core takes no more until WRITABLE; what is written waits in `_waiting`
                    _protocol_paused   more than the high-water mark waits there
                    _eof_wanted        `write_eof` was called; FIN follows what waits

    Of `_FlowControlMixin` only the type is used: `loop.sendfile` of asyncio's loops takes no other transport.

    Args:
        driver: the driver of the stack it belongs to.
        handle: the connection's handle; this object takes its events from now on.
        protocol: an `asyncio.Protocol` or `asyncio.BufferedProtocol`.
        endpoints: local and remote address as the ABI has them, or empty until CONNECTED.
        remote: address and port of the peer, for errors before CONNECTED.
        interfaces: the stack's, for the names of scopes.
        extra: further answers of `get_extra_info`.

    Attributes:
        connected: a future that is done once the connection is open, or fails; only for connections made here.
        explained: adds the cause to an error; only for connections made here.
        end_error: why the connection ended, one loop iteration before `connection_lost` is called; or None.
        auto_credit: whether data counts as read once the protocol has it. A consumer that queues it sets this to
            False and calls `credit` when it was read.
    """

    is_connection = True  # among the handlers of a stack
    resets = False
    """Whether closing resets the connection, as with ``SO_LINGER`` of 0 seconds."""

    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.FALLBACK  # loop.sendfile reads the file and writes

    def __init__(
        self,
        driver: Driver,
        handle: int,
        protocol: asyncio.BaseProtocol,
        *,
        endpoints: bytes = b"",
        remote: tuple[Address, int] | None = None,
        interfaces: InterfaceTable,
        extra: dict[str, Any] | None = None,
    ) -> None:
        asyncio.Transport.__init__(self, extra)  # the fields of `_FlowControlMixin` are set below
        self._driver = driver
        self._core = driver.core
        self._loop = driver.loop
        self._handle = handle
        self._endpoints = endpoints
        self._remote = remote
        self._interfaces = interfaces
        self._waiting: deque[bytes | memoryview] = deque()  # to be sent, once the core has room
        self._waiting_size = 0
        self._full = False  # the core takes no more until WRITABLE
        self._most = UNLIMITED  # bytes to hand to the core at once: twice what it took, if that was a part
        self._arrived: deque[bytes] = deque()  # received while reading was paused
        self._uncredited = 0
        self._congestion = 0  # the ABI's number of the algorithm
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._protocol_paused = False
        self._reading_paused = False
        self._made = False
        self._closing = False
        self._lost = False
        self._eof_wanted = False  # write_eof was called
        self._eof_arrived = False
        self._eof_reported = False
        self._data_run = 0  # the scheduler's run in which data was handed up last
        self._writes_after_loss = 0
        self.connected: asyncio.Future[None] | None = None
        self.explained: Callable[[NetworkError], NetworkError] | None = None
        self.auto_credit = True
        self.end_error: BaseException | None = None
        self.on_lost: Any = None
        self._socket: TransportSocket | None = None
        self._weakly: WeakHandler | None = None
        self.set_protocol(protocol)
        driver.handlers[handle] = self

    def __del__(self) -> None:
        if self._lost or self._driver.error is not None:
            return
        warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
        with suppress(RuntimeError):  # the loop is closed; rubbish is collected in any thread
            self._loop.call_soon_threadsafe(abort_unused, self._driver, self._handle)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        names = {name: self.get_extra_info(name) for name in ("sockname", "peername")}
        return f"<TcpTransport {state} {names['sockname']} -> {names['peername']}>"

    # --- Events of the core ---------------------------------------------------------------------------------------

    def _on_event(self, kind: int, value: int, payload: Any) -> None:
        """Take an event that concerns this connection."""
        if kind == abi.EVENT_DATA:
            self._data_run = self._driver.notified
            if self._reading_paused or self._arrived:
                self._arrived.extend(chunks(payload))
            elif not self._closing:
                self._deliver(payload)
        elif kind == abi.EVENT_WRITABLE:
            self._full = False
            if self._waiting:
                self._flush()
        elif kind == abi.EVENT_EOF:
            self._eof_arrived = True
            if not self._reading_paused and not self._arrived:
                if self._data_run == self._driver.notified:
                    self._deliver_eof_after_data()
                else:
                    self._deliver_eof()
        elif kind == abi.EVENT_CLOSED:
            self._end(error_for(-value, self._what()) if value else None)
        elif kind == abi.EVENT_CONNECTED:
            self._endpoints = payload
            self._begin()

    def _what(self) -> str:
        peer = self.get_extra_info("peername")
        if peer:
            return f"connection with {peer[0]} port {peer[1]}"
        return f"connect to {self._remote[0]} port {self._remote[1]}" if self._remote else "connection"

    def _begin(self) -> None:
        """The connection is open: call the protocol's `connection_made`."""
        self._made = True
        self._data_run = self._driver.notified  # tasks that begin now run before an EOF, too
        try:
            self._protocol.connection_made(self)
        except BaseException as error:
            if self.connected is not None and not self.connected.done():
                self.connected.set_exception(error)
            self.abort()
            raise
        if self.connected is not None and not self.connected.done():
            self.connected.set_result(None)

    def _leave_backlog(self) -> None:
        """The application has accepted it: its place in the listener's backlog is free."""
        if not self._lost and self._core.tcp_accepted(self._handle):
            self._driver.wake()  # only a poll reports the connection that waits for that place

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone: the protocol loses its connection."""
        if isinstance(error, StackClosedError):
            expect_the_end(self._protocol, error)
        self._end(error)

    # --- Receiving ------------------------------------------------------------------------------------------------

    def _deliver(self, data: bytes | memoryview) -> None:
        """Hand data up, in chunks; what is left when the protocol pauses reading waits for it."""
        given = len(data)
        try:
            if given <= CHUNK and not self._buffered:
                self._protocol.data_received(bytes(data))
            else:
                given = self._deliver_chunks(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal(error, "protocol.data_received() failed")
            return
        if self.auto_credit:
            self._uncredited += given
            if self._uncredited >= CREDIT:
                self.credit(0)

    def _deliver_chunks(self, data: bytes | memoryview) -> int:
        """Hand up more than one chunk, or anything to a `BufferedProtocol`; return how many bytes were handed up."""
        given, size = 0, len(data)
        while given < size and not self._closing:
            if self._reading_paused:
                self._arrived.extendleft(reversed(list(chunks(data[given:]))))
                break
            if self._buffered:
                given += self._fill(memoryview(data)[given:])
            else:
                chunk = bytes(data[given : given + CHUNK])
                given += len(chunk)
                self._protocol.data_received(chunk)
        return given

    def _fill(self, data: memoryview) -> int:
        """Hand data to a `BufferedProtocol`, as much as it offers room for, and return how much that was."""
        protocol: Any = self._protocol
        if self._views:
            return cast(int, protocol.view_received(data))
        buffer = protocol.get_buffer(len(data))
        count = min(len(buffer), len(data))
        if count == 0:
            raise RuntimeError("get_buffer() returned an empty buffer")
        memoryview(buffer)[:count] = data[:count]
        protocol.buffer_updated(count)
        return count

    def credit(self, count: int) -> None:
        """Count so many bytes as read; the peer may send as many more."""
        self._uncredited += count
        if self._uncredited >= CREDIT and not self._closing:
            read, self._uncredited = self._uncredited, 0  # before: a port that hands the frame on may read more
            self._driver.received(self._handle, read)

    def _deliver_eof_after_data(self) -> None:
        """Hand up the end of the data in the next loop iteration, behind the tasks that the data has woken.

        Over the kernel, asyncio and uvloop read data and its end in two iterations, and servers rely on it: their
        `eof_received` lets the transport close, before which the task of a request, which `data_received` has made, can
        write its answer. Where data is only put into a queue that the reader empties, its end may follow at once.
        """
        if not self.auto_credit or type(self._protocol).eof_received is _STREAM_EOF:
            self._deliver_eof()
        else:
            self._loop.call_soon(self._deliver_arrived)

    def _deliver_eof(self) -> None:
        if self._closing or not self._eof_arrived:
            return
        self._eof_arrived, self._eof_reported = False, True
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal(error, "protocol.eof_received() failed")
            return
        if not keep_open:
            self.close()

    def is_reading(self) -> bool:
        """Whether data is handed up."""
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        """Hand up nothing until `resume_reading`; the receive window closes as it fills.

        As with asyncio's own, a transport that neither reads nor has anything to send lives as long as the program
        refers to it: a caller that was cancelled and forgot it leaves no connection behind.
        """
        if not self._closing:
            self._reading_paused = True
            if self._made and not self._waiting:
                if self._weakly is None:
                    self._weakly = WeakHandler(self)
                self._driver.handlers[self._handle] = self._weakly

    def resume_reading(self) -> None:
        """Hand data up again, what has arrived meanwhile first."""
        if self._closing or not self._reading_paused:
            return
        self._reading_paused = False
        self._driver.handlers[self._handle] = self
        if self._arrived or self._eof_arrived:
            self._loop.call_soon(self._deliver_arrived)

    def _deliver_arrived(self) -> None:
        had_data = bool(self._arrived)
        while self._arrived and not self._reading_paused and not self._closing:
            self._deliver(self._arrived.popleft())
        if self._eof_arrived and not self._arrived and not self._reading_paused:
            if had_data:
                self._deliver_eof_after_data()
            else:
                self._deliver_eof()

    # --- Sending --------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data; it is copied before this returns. Raises TypeError for anything but bytes."""
        if type(data) is not bytes:
            data = flat(data)
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing:
            self._writes_after_loss += 1
            if self._writes_after_loss == 5:  # as asyncio: a protocol may be notified late
                warnings.warn("write to a closed transport", ResourceWarning, stacklevel=2)
            return
        size = len(data)
        if size == 0:
            return
        taken = 0
        if not self._full and not self._waiting:
            taken, self._full = self._driver.send(self._handle, data)
            if taken == size or self._closing:
                return
        self._waiting.append(memoryview(data)[taken:] if type(data) is bytes else bytes(data[taken:]))
        self._waiting_size += size - taken
        self._driver.handlers[self._handle] = self
        if self._waiting_size > self._high and not self._protocol_paused:
            self._set_paused(True)

    def writelines(self, list_of_data: Any) -> None:
        """Send several chunks as one."""
        self.write(b"".join(list_of_data))

    def _flush(self) -> None:
        waiting = self._waiting
        while waiting and not self._full:
            data = waiting[0]
            size = len(data)
            most = min(size, self._most)
            taken, self._full = self._driver.send(self._handle, data if most == size else memoryview(data)[:most])
            self._waiting_size -= taken
            # All that is handed over is copied, and a call takes little of it where segments are small.
            self._most = max(2 * taken, SMALL_PART) if 0 < taken < most else UNLIMITED
            if taken == size:
                waiting.popleft()
                continue
            if taken:
                waiting[0] = memoryview(data)[taken:]
            if taken < most:
                break
        if self._protocol_paused and self._waiting_size <= self._low:
            self._set_paused(False)
        if not waiting:
            if self._closing:
                self._release()
            elif self._eof_wanted:
                self._shutdown()

    def _set_paused(self, paused: bool) -> None:
        """Ask the protocol to pause writing, or to resume it."""
        self._protocol_paused = paused
        callback = "pause_writing" if paused else "resume_writing"
        try:
            getattr(self._protocol, callback)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, f"protocol.{callback}() failed")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes waiting here, at which the protocol pauses and resumes; see asyncio.

        Raises:
            ValueError: not ``high >= low >= 0``.
        """
        self._high, self._low = water_marks(high, low)
        if not self._protocol_paused and self._waiting_size > self._high:
            self._set_paused(True)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark in bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait here; what the core has taken is not counted."""
        return self._waiting_size

    def can_write_eof(self) -> bool:
        """TCP can close one direction."""
        return True

    def write_eof(self) -> None:
        """Send FIN after what was written. Receiving goes on."""
        if self._eof_wanted or self._closing:
            return
        self._eof_wanted = True
        if not self._waiting:
            self._shutdown()

    def _shutdown(self) -> None:
        with suppress(OSError):  # the connection is ending already; its CLOSED event reports how
            self._core.tcp_shutdown(self._handle)
        self._driver.wake()

    # --- The end --------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    def close(self) -> None:
        """Send what was written, then close. `connection_lost(None)` follows."""
        if self._closing:
            return
        self._closing = True
        self._arrived.clear()
        if not self._waiting:
            self._release()

    def _release(self) -> None:
        """Release the handle: everything was handed to the core, which delivers the rest by itself.

        Of data that arrived and that nothing has read, the core notifies the peer by a reset in the place of the FIN
        (RFC 1122, section 4.2.2.13; RFC 2525, section 2.17). So what was read is reported before.
        """
        if not self._lost:
            self._lost = True
            self._driver.handlers.pop(self._handle, None)
            if self.resets:
                self._core.tcp_abort(self._handle)
            else:
                if self._uncredited > 0:
                    self._core.tcp_received(self._handle, self._uncredited)  # acknowledged by the FIN
                self._core.tcp_close(self._handle)
            self._driver.wake()
            self._loop.call_soon(self._report_lost, None)

    def abort(self) -> None:
        """Reset the connection at once. `connection_lost(None)` follows, if `connection_made` came before."""
        self._reset(None)

    def _force_close(self, error: BaseException | None) -> None:
        """Reset the connection at once: asyncio's `SSLProtocol` ends its transport by this name."""
        self._reset(error)

    def _reset(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        if self._driver.error is None:
            self._driver.handlers.pop(self._handle, None)
            self._core.tcp_abort(self._handle)
            self._driver.wake()
        self._drop_buffers()
        if self._made:
            self._loop.call_soon(self._report_lost, error)

    def _end(self, error: BaseException | None) -> None:
        """The connection is gone: by the peer, by a time-out, with the stack, or in order."""
        if self._lost:
            return
        if error is None and (self._arrived or self._eof_arrived):
            # All was received and the peer is done; the protocol reads on at its own pace.
            return
        if self.explained is not None and isinstance(error, NetworkError):
            error = self.explained(error)
        self._closing = self._lost = True
        self.end_error = error
        if self._driver.error is None:
            self._driver.handlers.pop(self._handle, None)
            self._core.tcp_close(self._handle)
        self._drop_buffers()
        if self.connected is not None and not self.connected.done():
            self.connected.set_exception(error or network_error(errno.ECONNABORTED, "closed before it was open"))
        else:
            self._loop.call_soon(self._report_lost, error)

    def _drop_buffers(self) -> None:
        self._waiting.clear()
        self._waiting_size = 0
        self._arrived.clear()

    def _report_lost(self, error: BaseException | None) -> None:
        protocol = self._protocol
        try:
            protocol.connection_lost(error)
        finally:
            if self.on_lost is not None:
                self.on_lost(self)
                self.on_lost = None

    def _fatal(self, error: BaseException, message: str) -> None:
        self._report(error, message)
        self._reset(error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    # --- What it is -----------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand further callbacks to another protocol.

        TLS that begins on an open connection reads also what the stream before it has received and not read: the line
        before a handshake (PROXY protocol, STARTTLS) and the ClientHello may have come in one segment. Plain text that
        an attacker has put behind the line fails the handshake then, and is not read as if it had come over TLS.
        """
        if self._made and isinstance(protocol, SSLProtocol):
            self._put_back(take_unread(self._protocol))
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._views = isinstance(protocol, ViewProtocol)

    def _put_back(self, data: bytes) -> None:
        """Hand up again, to another protocol, what was handed up and not read, and the end of the data behind it."""
        self._eof_arrived |= self._eof_reported
        if data:
            self._uncredited -= len(data)
            self._arrived.extendleft(reversed(list(chunks(data))))
        if (data or self._eof_arrived) and not self._reading_paused:
            self._loop.call_soon(self._deliver_arrived)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``sockname``, ``peername``, ``socket`` (a `TransportSocket`) or what else was given."""
        if name in ("sockname", "peername") and self._endpoints:
            local, remote = abi.CONNECTION_ENDPOINTS_LOCAL_OFFSET, abi.CONNECTION_ENDPOINTS_REMOTE_OFFSET
            address, port, scope = decode_endpoint(self._endpoints, local if name == "sockname" else remote)
            if address.version == 4:
                return str(address), port
            return self._interfaces.text(address, scope), port, 0, scope
        if name == "socket" and self._endpoints:
            if self._socket is None:
                self._socket = TransportSocket(self)
            return self._socket
        return super().get_extra_info(name, default)

    def set_option(self, option: int, value: int) -> None:
        """Set one of the ABI's ``OPTION_`` values on this connection; times are in milliseconds.

        Raises:
            OSError: ``EBADF`` where the connection has ended.
        """
        if self._lost:
            raise network_error(errno.EBADF, "the connection has ended")
        self._core.tcp_option(self._handle, option, value)
        if option == abi.OPTION_CONGESTION_CONTROL:
            self._congestion = value

    def information(self) -> dict[str, int] | None:
        """Return what `Core.tcp_information` does, and ``CONGESTION_CONTROL``; None where the connection has ended."""
        if self._lost:
            return None
        try:
            return self._core.tcp_information(self._handle) | {"CONGESTION_CONTROL": self._congestion}
        except OSError:  # it has ended, or the stack has; the event that reports it follows
            return None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop its callbacks run on."""
        return self._loop

    @property
    def is_finishing(self) -> bool:
        """Whether the program has closed or half-closed it, and the core has not yet taken all that was written."""
        return bool(self._waiting) and (self._closing or self._eof_wanted)

    @property
    def is_local(self) -> bool:
        """Whether it is a connection of the stack with itself, by one address."""
        ends = self._endpoints
        local, remote = abi.CONNECTION_ENDPOINTS_LOCAL_OFFSET, abi.CONNECTION_ENDPOINTS_REMOTE_OFFSET
        return bool(ends) and decode_endpoint(ends, local)[0] == decode_endpoint(ends, remote)[0]

    @property
    def would_read(self) -> bool:
        """Whether a socket of this connection would be readable: something waits for `resume_reading`, or it ended."""
        return bool(self._arrived) or self._eof_arrived or self._eof_reported or self._closing
