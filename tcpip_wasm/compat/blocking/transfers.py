"""`Transfers`: receiving and sending of sockets over a stack.

The methods of the real socket move the bytes of a stream through the program's end of a pair. This module adds what a
pair lacks: whether the socket is connected yet, and the error that ended the connection.
"""

from __future__ import annotations

import errno
import os
import select
import socket as real
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from tcpip_wasm.compat.blocking import datagrams
from tcpip_wasm.compat.blocking.call_arguments import as_int, check_ancillary, check_buffer
from tcpip_wasm.compat.blocking.numeric import numeric_address
from tcpip_wasm.compat.blocking.socket_pair import Channel, State
from tcpip_wasm.errors import network_error

REAL: Final = real.socket
"""The real class, even while `polyfill_socket` has replaced it."""


class Transfers(real.socket):
    """The methods of `Socket` for receiving and sending."""

    _channel: Channel
    _is_stream: bool
    _ending: bool

    def _check_open(self) -> None:
        if self._ending or self.fileno() < 0:
            raise network_error(errno.EBADF)

    def _is_for_machine(self, address: Any, otherwise: str = "localhost") -> bool:
        raise NotImplementedError

    def _numeric(self, address: Any, call: str, *, passive: bool = False) -> tuple[str, int]:
        channel = self._channel
        return numeric_address(channel.host, channel.family, channel.kind, address, call, passive)

    # --- Receiving ------------------------------------------------------------------------------------------------

    def _check_reading(self) -> None:
        channel = self._channel
        if channel.state is State.CONNECTED:
            return
        self._check_open()
        if channel.state is State.CONNECTING:
            if self.gettimeout() == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return
        raise channel.take_error() or network_error(errno.ENOTCONN)

    def _at_end(self) -> None:
        """Raise the pending error at the end of the data, if there is one."""
        self._check_open()
        error = self._channel.take_error()
        if error is not None:
            raise error

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive at most `bufsize` bytes."""
        if not self._is_stream:
            return datagrams.receive(self, bufsize, flags)[0]
        self._check_reading()
        try:
            data = super().recv(bufsize, flags)
        except ConnectionResetError:
            self._raise_lost(ConnectionResetError)
        if not data and bufsize:
            self._at_end()
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a buffer, and return how many bytes."""
        if not self._is_stream:
            return datagrams.receive_into(self, buffer, nbytes, flags)[0]
        self._check_reading()
        try:
            count = super().recv_into(buffer, nbytes, flags)
        except ConnectionResetError:
            self._raise_lost(ConnectionResetError)
        if not count and len(memoryview(buffer)):
            self._at_end()
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Return a datagram and its source; for a connection, bytes and None."""
        return (self.recv(bufsize, flags), None) if self._is_stream else datagrams.receive(self, bufsize, flags)[:2]

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive a datagram into a buffer, and return its length and its source."""
        if self._is_stream:
            return self.recv_into(buffer, nbytes, flags), None
        return datagrams.receive_into(self, buffer, nbytes, flags)

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """Receive without ancillary data, of which there is none."""
        bufsize, ancbufsize, flags = as_int(bufsize), as_int(ancbufsize), as_int(flags)
        if bufsize < 0 or ancbufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        if not self._is_stream:
            data, source, message_flags = datagrams.receive(self, bufsize, flags)
            return data, [], message_flags, source
        return self.recv(bufsize, flags), [], 0, None

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        """Receive into several buffers, without ancillary data."""
        if isinstance(buffers, (int, bytes, bytearray, str)):
            raise TypeError("recvmsg_into() argument 1 must be an iterable of buffers")
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if any(view.readonly for view in views):
            raise TypeError("recvmsg_into() argument 1 must be an iterable of writable buffers")
        data, _, message_flags, source = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        at = 0
        for view in views:
            chunk = data[at : at + len(view)]
            view[: len(chunk)] = chunk
            at += len(chunk)
        return at, [], message_flags, source

    # --- Sending --------------------------------------------------------------------------------------------------

    def _check_writing(self) -> None:
        channel = self._channel
        if channel.state is State.CONNECTED:
            return
        self._check_open()
        if channel.state is State.CONNECTING:
            timeout = self.gettimeout()
            poll = select.poll()
            poll.register(self, select.POLLOUT)
            if timeout == 0 or not poll.poll(None if timeout is None else timeout * 1000):
                if timeout:
                    raise TimeoutError("timed out")
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if self._channel.state is State.CONNECTED:
                return
        raise channel.take_error() or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _raise_lost(self, otherwise: type[OSError] = BrokenPipeError) -> NoReturn:
        self._check_open()
        number = errno.EPIPE if otherwise is BrokenPipeError else errno.ECONNRESET
        raise (self._channel.take_error() or otherwise(number, os.strerror(number))) from None

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send the bytes that fit into the buffer, and return how many."""
        if not self._is_stream:
            return datagrams.send(self, data, None, flags)
        self._check_writing()
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_lost()

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of the data."""
        if not self._is_stream:
            datagrams.send(self, data, None, flags)
            return
        self._check_writing()
        try:
            super().sendall(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_lost()

    def sendto(self, data: Any, *arguments: Any) -> int:
        """Send a datagram: ``sendto(data[, flags], address)``."""
        if not 1 <= len(arguments) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(arguments)} given)")
        flags, address = arguments if len(arguments) == 2 else (0, arguments[0])
        check_buffer(data)
        flags = as_int(flags)
        if address is None:
            raise TypeError("sendto(): the address must be a tuple, not NoneType")
        if not self._is_stream and self._is_for_machine(address):
            return int(REAL.sendto(self, data, flags, address))
        return self.send(data, flags) if self._is_stream else datagrams.send(self, data, address, flags)

    def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        """Send several buffers as one.

        Raises:
            OSError: ``EOPNOTSUPP`` for ancillary data.
        """
        flags = as_int(flags)
        if check_ancillary(ancdata):
            raise network_error(errno.EOPNOTSUPP, "ancillary data")
        if not self._is_stream:
            buffers = list(buffers)
            if address is not None and self._is_for_machine(address):
                return int(REAL.sendmsg(self, buffers, (), flags, address))
            return datagrams.send(self, b"".join(buffers), address, flags)
        if address is not None:
            self._numeric(address, "sendmsg")  # checked only: a connected socket ignores it, as on Linux
        self._check_writing()
        try:
            return super().sendmsg(buffers, (), flags)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_lost()
