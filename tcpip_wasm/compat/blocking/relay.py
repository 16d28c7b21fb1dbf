"""The stack's side of a stream socket: `StreamRelay` carries bytes between the loop's end of a pair and a connection.

Relays live on the loop; they own its end of the pair.

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

from tcpip_wasm.compat.blocking.socket_pair import Channel, State, as_seen, own_addresses, socket_name
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets import TcpTransport
from tcpip_wasm.stack_parts import parts_of

PIECE: Final = 256 * 1024
"""Bytes that a relay takes from a program at once."""

LINGERING: Final = 0.005
"""Seconds between two looks at what the peer has acknowledged, while closing waits for that (``SO_LINGER``)."""


class _Space(threading.local):
    """One buffer for all relays of a thread: its bytes are handed on before anybody else runs there."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(PIECE))


_space = _Space()


class Relay:
    """What relays have in common: the loop's end of the pair.

    Args:
        channel: what it shares with the socket.
        far: the loop's end.
    """

    def __init__(self, channel: Channel, far: _socket.socket) -> None:
        self._channel = channel
        self._loop = channel.host.loop
        self.far: Any = far


class StreamRelay(Relay, asyncio.Protocol):
    """Carries the bytes of one TCP connection.

    Args:
        channel: what it shares with the socket.
        far: the loop's end of the pair.
        listener: whose connection it is, if it was accepted.
    """

    def __init__(self, channel: Channel, far: _socket.socket, listener: Any = None) -> None:
        super().__init__(channel, far)
        self._listener = listener
        self._space: memoryview
        self._junk = 0
        self._undelivered: memoryview | None = None
        self._eof = False  # of the peer
        self._program_ended = False  # the program writes no more
        self._lost = False
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
            if self.far.fileno() < 0:
                raise network_error(errno.EBADF, "closed before it could connect")
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
        """Find out whether the channel's own address can be had, and return it with its port.

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
        """Set an option of the ABI, if there is a connection yet."""
        if self.transport is not None:
            self.transport.set_option(option, value)

    async def information(self) -> dict[str, int] | None:
        """Return what the connection is like, or None where there is none."""
        return None if self.transport is None else self.transport.information()

    async def lingering(self) -> None:
        """Wait until the peer has acknowledged all that the program wrote, and the FIN behind it."""
        while self.transport is not None and not self._lost:
            information = self.transport.information()
            if information is None:
                return
            sent = self._program_ended and not self.transport.get_write_buffer_size()
            if sent and not information["UNACKNOWLEDGED"] + information["UNSENT"]:
                return
            await asyncio.sleep(LINGERING)

    def abandon(self) -> None:
        """The program has closed its socket before it was connected."""
        if self._attempt is not None and self.transport is None:
            self._attempt.cancel()
        elif self.transport is not None:
            return  # connected meanwhile; its end is read
        self._finish()

    async def begin_connect(self, remote: tuple[Any, ...], junk: int) -> bool:
        """Begin to connect; return whether that is done already. What fails later is the channel's error.

        Args:
            remote: the peer.
            junk: bytes that wait in the pair, so that it cannot be written to.
        """
        self._junk = junk
        self._attempt = asyncio.create_task(self.connect(remote))
        await asyncio.wait([self._attempt], timeout=0)
        if self._attempt.done():
            self._attempt.result()
            return True
        self._attempt.add_done_callback(self._attempted)
        return False

    def _attempted(self, attempt: asyncio.Task[Any]) -> None:
        error = network_error(errno.ECONNABORTED) if attempt.cancelled() else attempt.exception()
        if error is not None:
            self._channel.fail(error)
            self._channel.state = State.FAILED
            self._finish()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        self.transport = transport
        self._space = _space.buffer
        channel = self._channel
        channel.local = as_seen(channel.family, transport.get_extra_info("sockname"))
        channel.remote = as_seen(channel.family, transport.get_extra_info("peername"))
        transport.get_extra_info("socket").take_over(channel.values)
        while self._junk > 0:
            self._junk -= len(self.far.recv(self._junk))
        channel.state = State.CONNECTED
        if self._listener is not None:
            self._listener.arrived(self)
        self._loop.add_reader(self.far, self._read_program)

    # --- From the stack to the program ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            sent = self.far.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._nobody_reads()
            return
        if sent < len(data):
            self._undelivered = memoryview(data)[sent:]
            assert self.transport is not None
            self.transport.pause_reading()
            self._loop.add_writer(self.far, self._deliver)

    def _deliver(self) -> None:
        rest = self._undelivered
        if rest is not None:
            try:
                rest = rest[self.far.send(rest) :]
            except BlockingIOError:
                return
            except OSError:
                self._undelivered = None
                self._loop.remove_writer(self.far)
                self._nobody_reads()
                return
            self._undelivered = rest = rest or None
        if rest is None:
            self._loop.remove_writer(self.far)
            if self._lost:
                self._finish()
            elif self._eof:
                self._end_of_data()
            elif self.transport is not None:
                self.transport.resume_reading()

    def _nobody_reads(self) -> None:
        """The program's end is closed, or shut for reading: then data is thrown away, as the kernel does."""
        if self._lost:
            self._finish()
        elif self._channel.deaf:
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
            self.far.shutdown(_socket.SHUT_WR)

    # --- From the program to the stack ----------------------------------------------------------------------------

    def _read_program(self) -> None:
        parts_of(self._channel.host.stack).driver.at_once(self._take)

    def _take(self) -> None:
        transport = self.transport
        assert transport is not None
        try:
            count = self.far.recv_into(self._space)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count:
            transport.write(self._space[:count])  # copies what it cannot send
            return
        self._program_ended = True
        self._loop.remove_reader(self.far)
        if self._is_closed():
            self.closed()
        else:
            transport.write_eof()

    def _is_closed(self) -> bool:
        """Whether no descriptor of the program's end is left, as opposed to one that is shut for writing."""
        poll = select.poll()
        poll.register(self.far, 0)
        return bool(poll.poll(0))

    def closed(self) -> None:
        """The program has closed its socket. What it wrote is still sent."""
        if self.transport is None or not self._program_ended:
            return  # its end is read first
        if self._channel.values.linger == 0:
            self.transport.abort()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        if not self._program_ended:
            self._loop.remove_reader(self.far)

    def resume_writing(self) -> None:
        if not self._program_ended and not self._lost:
            self._loop.add_reader(self.far, self._read_program)

    # --- The end --------------------------------------------------------------------------------------------------

    def connection_lost(self, error: BaseException | None) -> None:
        self._lost = True
        if error is not None:
            self._channel.fail(error)
        if self._undelivered is None:
            self._finish()
        else:
            self._loop.remove_reader(self.far)
            with suppress(OSError):
                self.far.shutdown(_socket.SHUT_RD)  # whoever is blocked on sending hears of it now

    def _finish(self) -> None:
        """Close the loop's end: whoever is blocked on the program's wakes up, and finds the channel's error."""
        if self.far.fileno() < 0:
            return
        self._loop.remove_reader(self.far)
        self._loop.remove_writer(self.far)
        self.far.close()

    def discard(self) -> None:
        """End what nobody has accepted."""
        if self.transport is not None:
            self.transport.abort()
