"""The stack's side of a stream socket: `StreamRelay` carries bytes between the loop's end of a pair and a connection.

Relays run on the loop; they own its end of the pair.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import select
import threading
from contextlib import suppress
from typing import Any, Final

from tcpip_wasm.compat.blocking.socket_pair import Channel, State, as_family, own_addresses, socket_name
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets import TcpTransport
from tcpip_wasm.stack_parts import parts_of

CHUNK_SIZE: Final = 256 * 1024
"""Most bytes that a relay reads from a program at once."""

LINGER_POLL: Final = 0.005
"""Seconds between two checks for acknowledgements while `close` waits for them (``SO_LINGER``)."""


class _ThreadBuffer(threading.local):
    """One buffer for all relays of a thread: its bytes are passed on before other code runs in the thread."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(CHUNK_SIZE))


_buffer = _ThreadBuffer()


class Relay:
    """Base class of relays, with the loop's end of the pair.

    Args:
        channel: what it shares with the socket.
        loop_end: the loop's end.
    """

    def __init__(self, channel: Channel, loop_end: _socket.socket) -> None:
        self._channel = channel
        self._loop = channel.host.loop
        self.loop_end: Any = loop_end


class StreamRelay(Relay, asyncio.Protocol):
    """Carries the bytes of one TCP connection.

    Args:
        channel: what it shares with the socket.
        loop_end: the loop's end of the pair.
        listener: whose connection it is, if it was accepted.
    """

    def __init__(self, channel: Channel, loop_end: _socket.socket, listener: Any = None) -> None:
        super().__init__(channel, loop_end)
        self._listener = listener
        self._buffer: memoryview
        self._filler = 0
        self._undelivered: memoryview | None = None
        self._eof = False  # of the peer
        self._program_ended = False  # the program has closed its end, or shut it down for writing
        self._is_lost = False
        self._has_credited = False
        self._attempt: asyncio.Task[Any] | None = None
        self.transport: TcpTransport | None = None

    # --- Opening --------------------------------------------------------------------------------------------------

    async def connect(self, remote: tuple[Any, ...]) -> None:
        """Connect.

        Raises: what `NetworkStack.create_connection` raises.
        """
        channel = self._channel
        self._attempt = asyncio.current_task()
        try:
            if self.loop_end.fileno() < 0:
                raise network_error(errno.EBADF, "closed before it connected")
            if remote[1] == 0:
                raise network_error(errno.ECONNREFUSED, "port 0")
            local = channel.bound
            if local is not None and not local[0]:
                local = ("::" if ":" in remote[0] else "0.0.0.0"), local[1]
            await channel.host.stack.create_connection(lambda: self, remote[0], remote[1], local_addr=local)
        except BaseException:
            if self.transport is None:
                channel.state = State.NEW
            raise

    async def bind(self) -> tuple[Any, ...]:
        """Check that the channel's local address is available, and return it with its port.

        Raises: what `NetworkStack.create_server` raises.
        """
        channel = self._channel
        assert channel.bound is not None
        addresses = await own_addresses(channel)
        host, port = channel.bound
        opener = parts_of(channel.host.stack).tcp
        probe = opener.serve(asyncio.Protocol, addresses, port, 1, share=channel.values.share())
        probe.close()
        return socket_name(channel.family, host, probe.port)

    async def option(self, option: int, value: int) -> None:
        """Set an option of the ABI on the connection, if it is established."""
        if self.transport is not None:
            self.transport.set_option(option, value)

    async def information(self) -> dict[str, int] | None:
        """Return the connection's TCP state as the ABI has it, or None without a connection."""
        return None if self.transport is None else self.transport.information()

    async def wait_acknowledged(self) -> None:
        """Wait until the peer has acknowledged all data that the program wrote, and the FIN."""
        while self.transport is not None and not self._is_lost:
            information = self.transport.information()
            if information is None:
                return
            sent = self._program_ended and not self.transport.get_write_buffer_size()
            if sent and not information["UNACKNOWLEDGED"] + information["UNSENT"]:
                return
            await asyncio.sleep(LINGER_POLL)

    def abandon(self) -> None:
        """Stop connecting: the program has closed its socket."""
        if self._attempt is not None and self.transport is None:
            self._attempt.cancel()
        elif self.transport is not None:
            return  # connected in the meantime; the relay reads that the program's end is closed
        self._finish()

    async def begin_connect(self, remote: tuple[Any, ...], filler: int) -> bool:
        """Begin to connect; return whether the connection is established already. A later failure is set as the
        channel's error.

        Args:
            remote: the peer.
            filler: bytes that fill the pair, so that the program's end is not writable while it connects.
        """
        self._filler = filler
        self._attempt = asyncio.create_task(self.connect(remote))
        await asyncio.wait([self._attempt], timeout=0)
        if self._attempt.done():
            self._attempt.result()
            return True
        self._attempt.add_done_callback(self._on_attempt_done)
        return False

    def _on_attempt_done(self, attempt: asyncio.Task[Any]) -> None:
        error = network_error(errno.ECONNABORTED) if attempt.cancelled() else attempt.exception()
        if error is not None:
            self._channel.fail(error)
            self._channel.state = State.FAILED
            self._finish()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        self.transport = transport
        transport.auto_credit = False
        self._buffer = _buffer.buffer
        channel = self._channel
        channel.local = as_family(channel.family, transport.get_extra_info("sockname"))
        channel.remote = as_family(channel.family, transport.get_extra_info("peername"))
        transport.get_extra_info("socket").take_over(channel.values)
        while self._filler > 0:
            self._filler -= len(self.loop_end.recv(self._filler))
        channel.state = State.CONNECTED
        if self._listener is not None:
            self._listener.add_connection(self)
        self._loop.add_reader(self.loop_end, self._read_program)

    # --- From the stack to the program ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        # What is in the pair counts as read, except for one byte until it is known whether the program reads all: while
        # a byte is unread, the stack closes a connection by a reset (RFC 1122, section 4.2.2.13).
        assert self.transport is not None
        self.transport.credit(len(data) - (not self._has_credited))
        self._has_credited = True
        try:
            sent = self.loop_end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._on_no_reader()
            return
        if sent < len(data):
            self._undelivered = memoryview(data)[sent:]
            self.transport.pause_reading()
            self._loop.add_writer(self.loop_end, self._deliver)

    def _deliver(self) -> None:
        rest = self._undelivered
        if rest is not None:
            try:
                rest = rest[self.loop_end.send(rest) :]
            except BlockingIOError:
                return
            except OSError:
                self._undelivered = None
                self._loop.remove_writer(self.loop_end)
                self._on_no_reader()
                return
            self._undelivered = rest = rest or None
        if rest is None:
            self._loop.remove_writer(self.loop_end)
            if self._is_lost:
                self._finish()
            elif self._eof:
                self._end_of_data()
            elif self.transport is not None:
                self.transport.resume_reading()

    def _on_no_reader(self) -> None:
        """Handle data that the program does not read: discard it after a read shutdown, as the kernel does, and reset
        the connection of a closed socket."""
        if self._is_lost:
            self._finish()
        elif self._channel.read_shutdown:
            if self.transport is not None:
                self.transport.resume_reading()
        elif self.transport is not None:
            self.transport.abort()  # data for a socket that is closed is answered by a reset (RFC 1122, 4.2.2.13)

    def eof_received(self) -> bool:
        self._eof = True
        if self._undelivered is None:
            self._end_of_data()
        return True

    def _end_of_data(self) -> None:
        with suppress(OSError):
            self.loop_end.shutdown(_socket.SHUT_WR)

    # --- From the program to the stack ----------------------------------------------------------------------------

    def _read_program(self) -> None:
        parts_of(self._channel.host.stack).driver.at_once(self._forward_chunk)

    def _forward_chunk(self) -> None:
        transport = self.transport
        assert transport is not None
        try:
            count = self.loop_end.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if isinstance(error, ConnectionResetError):
                self._channel.left_unread = True
            count = 0
        if count:
            transport.write(self._buffer[:count])  # copies the bytes that it cannot send at once
            return
        self._program_ended = True
        self._loop.remove_reader(self.loop_end)
        if self._is_closed():
            self.on_program_closed()
        else:
            transport.write_eof()

    def _is_closed(self) -> bool:
        """Whether all descriptors of the program's end are closed, as opposed to shut down for writing."""
        poll = select.poll()
        poll.register(self.loop_end, 0)
        return bool(poll.poll(0))

    def on_program_closed(self) -> None:
        """Close the connection of a socket that the program has closed. Data that it wrote is still sent."""
        if self.transport is None or self.transport.is_closing() or not self._program_ended:
            return  # the relay reads the rest of the data first
        if self._channel.values.linger == 0:
            self.transport.abort()
            return
        if self._has_credited and not self._leaves_unread():
            self.transport.credit(1)
        self.transport.close()

    def _leaves_unread(self) -> bool:
        """Whether the program has closed its end without reading all that the peer has sent.

        Linux reports a closed end with unread data to the other end of a pair as a reset. Where a system does not, such
        data counts as read.
        """
        if self._channel.left_unread or self._undelivered is not None:
            return True
        if self.loop_end.fileno() < 0:
            return False
        return bool(self.loop_end.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) == errno.ECONNRESET)

    def pause_writing(self) -> None:
        if not self._program_ended:
            self._loop.remove_reader(self.loop_end)

    def resume_writing(self) -> None:
        if not self._program_ended and not self._is_lost:
            self._loop.add_reader(self.loop_end, self._read_program)

    # --- The end --------------------------------------------------------------------------------------------------

    def connection_lost(self, error: BaseException | None) -> None:
        self._is_lost = True
        if error is not None:
            self._channel.fail(error)
        if self._undelivered is None:
            self._finish()
        else:
            self._loop.remove_reader(self.loop_end)
            with suppress(OSError):
                self.loop_end.shutdown(_socket.SHUT_RD)  # ends calls of the program that block in sending

    def _finish(self) -> None:
        """Close the loop's end: calls that block on the program's end return, and raise the channel's error."""
        if self.loop_end.fileno() < 0:
            return
        self._loop.remove_reader(self.loop_end)
        self._loop.remove_writer(self.loop_end)
        self.loop_end.close()

    def discard(self) -> None:
        """Reset a connection that was not accepted."""
        if self.transport is not None:
            self.transport.abort()
