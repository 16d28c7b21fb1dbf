"""`Socket`: the socket class over a stack, a subclass of the real one.

Its descriptor is the program's end of a local pair, see `socket_pair`. This module has what a pair lacks: addresses,
connecting, listening, options, and closing. Receiving and sending are in `transfers`, datagrams in `datagrams`.
"""

from __future__ import annotations

import errno
import os
import socket as real
import threading
from contextlib import suppress
from typing import Any, Final, cast
from weakref import WeakValueDictionary

from tcpip_wasm.compat.blocking import datagrams
from tcpip_wasm.compat.blocking import options as socket_options
from tcpip_wasm.compat.blocking.active_host import current_host, current_route, is_on_host_loop
from tcpip_wasm.compat.blocking.call_arguments import as_int
from tcpip_wasm.compat.blocking.datagrams import DatagramRelay
from tcpip_wasm.compat.blocking.listen_relay import ListenRelay
from tcpip_wasm.compat.blocking.relay import StreamRelay
from tcpip_wasm.compat.blocking.socket_pair import Channel, State, count_forks, new_pair, socket_name
from tcpip_wasm.compat.blocking.transfers import REAL, Transfers
from tcpip_wasm.compat.route import ANY_ADDRESS, host_text
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets.options import V6_ONLY, answer

_FLAGS: Final = getattr(real, "SOCK_NONBLOCK", 0) | getattr(real, "SOCK_CLOEXEC", 0)
_FAMILIES: Final = (real.AF_INET, real.AF_INET6)
_KINDS: Final = {real.SOCK_STREAM: real.IPPROTO_TCP, real.SOCK_DGRAM: real.IPPROTO_UDP}
_FILLER: Final = bytes(192 * 1024)
"""Bytes that make a pair unwritable while its socket connects: more than a quarter of its buffer."""

_CLOSE: Final = 5.0
"""Seconds that closing a listener waits for the stack at most, so that its port is free when `close` returns."""

_channels: WeakValueDictionary[int, Channel] = WeakValueDictionary()
_lock = threading.Lock()


def channel_of(descriptor: int) -> Channel | None:
    """Return the channel of a descriptor, or of a duplicate of one; None unless it is a `Socket`'s."""
    try:
        inode = os.fstat(descriptor).st_ino
    except OSError:
        return None
    with _lock:
        return _channels.get(inode)


class MachineSocket(real.socket):
    """The class of a `Socket` after the route has left its destination to the machine: a real socket."""


class Socket(Transfers):
    """A socket of the current host, see `polyfill_socket`.

    Args: as for `socket.socket`. A real socket of the machine is returned for ``AF_UNIX``, for a `fileno` that is not a
    `Socket`'s, and on the host's own loop.

    Raises:
        OSError: ``EAFNOSUPPORT``, ``ESOCKTNOSUPPORT``, ``EPROTONOSUPPORT``; ``ENETDOWN`` where no host is active.
    """

    def __new__(
        cls,
        family: int = -1,
        type: int = -1,  # noqa: A002
        proto: int = -1,
        fileno: int | None = None,
    ) -> Any:
        is_machine_socket = (
            channel_of(fileno) is None if fileno is not None else family == getattr(real, "AF_UNIX", None)
        )
        if is_machine_socket or (fileno is None and is_on_host_loop()):
            return REAL(family, type, proto, fileno)
        return super().__new__(cls)

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is not None:
            channel = channel_of(fileno)
            assert channel is not None
            self._adopt(channel, fileno, None if proto == -1 else proto, family, type)
            return
        family, kind = (real.AF_INET if family == -1 else family), (real.SOCK_STREAM if type == -1 else type)
        flags, kind = kind & _FLAGS, kind & ~_FLAGS
        if family not in _FAMILIES:
            raise network_error(errno.EAFNOSUPPORT, f"family {family}")
        if kind not in _KINDS:
            raise network_error(errno.ESOCKTNOSUPPORT, f"socket type {kind}")
        if proto not in (-1, 0, _KINDS[real.SocketKind(kind)]):
            raise network_error(errno.EPROTONOSUPPORT, f"protocol {proto}")
        channel = Channel(current_host(), family, kind)
        channel.route = current_route()
        program_end, loop_end = new_pair(kind)
        channel.relay = StreamRelay(channel, loop_end) if kind == real.SOCK_STREAM else DatagramRelay(channel, loop_end)
        self._adopt(channel, program_end.detach(), max(proto, 0))
        if flags & getattr(real, "SOCK_NONBLOCK", 0):
            self.setblocking(False)

    def _adopt(
        self, channel: Channel, descriptor: int, proto: int | None = None, family: int = -1, kind: int = -1
    ) -> None:
        if proto is None:
            proto = channel.proto
        channel.proto = proto
        self._channel = channel
        self._ending = False  # `close` was called: calls that it ends do not report the peer's end of data
        self._is_stream = channel.kind == real.SOCK_STREAM
        # A program may pass any family and type along with a descriptor, as with real sockets.
        family, kind = (channel.family if family == -1 else family), (channel.kind if kind == -1 else kind)
        super().__init__(family, kind, proto, descriptor)
        with _lock:
            channel.holders += 1
            channel.inode = os.fstat(descriptor).st_ino
            _channels[channel.inode] = channel

    def _is_for_machine(self, address: Any, otherwise: str = "localhost") -> bool:
        """Return whether the route leaves an address to the machine; if so, make the socket one of the machine."""
        channel = self._channel
        if channel.route is None or not isinstance(address, tuple) or not address:
            return False
        if channel.state is not State.NEW or channel.local is not None or channel.remote is not None:
            return False
        if channel.route.takes(host_text(address[0]) or otherwise):
            return False
        machine_socket = REAL(channel.family, channel.kind, channel.proto)
        for (level, name), value in channel.values.given.items():
            with suppress(OSError):  # options that a stack has and this machine lacks
                machine_socket.setsockopt(level, name, value)
        with _lock:
            _channels.pop(channel.inode, None)
        channel.host.call_soon(channel.relay.abandon if self._is_stream else channel.relay.close)
        os.dup2(machine_socket.fileno(), self.fileno(), inheritable=False)
        machine_socket.close()
        cast(Any, self).__class__ = MachineSocket
        self.settimeout(self.gettimeout())  # the new file description has none yet
        return True

    # --- Addresses ------------------------------------------------------------------------------------------------

    def _check_descriptor(self) -> None:
        """Raise where the descriptor was closed, or reused, without a call of `close`."""
        self._check_open()
        if channel_of(self.fileno()) is not self._channel:
            raise network_error(errno.EBADF)

    def getsockname(self) -> tuple[Any, ...]:
        """Return the local address."""
        self._check_open()
        channel = self._channel
        return channel.local or socket_name(channel.family, "", 0)

    def getpeername(self) -> tuple[Any, ...]:
        """Return the peer's address.

        Raises:
            OSError: ``ENOTCONN``.
        """
        self._check_open()
        channel = self._channel
        if channel.remote is None or channel.ended is not None:
            raise network_error(errno.ENOTCONN)
        return channel.remote

    def bind(self, address: Any, /) -> None:
        """Bind to a local address. A TCP port is reserved once the socket listens or connects.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EINVAL`` where it is bound already.
        """
        self._check_descriptor()
        if self._is_for_machine(address, ANY_ADDRESS):
            REAL.bind(self, address)
            return
        channel = self._channel
        host, port = self._numeric(address, "bind", passive=True)
        if channel.local is not None:
            raise network_error(errno.EINVAL, "the socket is bound already")
        channel.bound = host, port
        if ":" in host:
            channel.values.given[V6_ONLY] = 1  # as Linux: an address of IPv6 is of no use to IPv4
        try:
            if self._is_stream:
                channel.local = channel.host.call(channel.relay.bind())
                channel.bound = host, channel.local[1]
            else:
                channel.host.call(channel.relay.open())
        except BaseException:
            channel.bound = None
            raise

    # --- Connecting -----------------------------------------------------------------------------------------------

    def connect(self, address: Any, /) -> None:
        """Connect, within the socket's time-out.

        Raises:
            TimeoutError: it took longer than the time-out; the attempt is cancelled.
            BlockingIOError: ``EINPROGRESS``, of a non-blocking socket, which becomes writable once it is connected or
                has failed.
            OSError: ``ECONNREFUSED``, ``EISCONN``, ``EALREADY`` and others.
        """
        self._check_descriptor()
        if self._is_for_machine(address):
            REAL.connect(self, address)
            return
        channel = self._channel
        remote = self._numeric(address, "connect")
        if not self._is_stream:
            datagrams.connect(self, remote)
            return
        if channel.state is State.FAILED:
            self._replace_pair()
        elif channel.state is State.CONNECTING:
            raise network_error(errno.EALREADY)
        elif channel.state is not State.NEW:
            raise network_error(errno.EISCONN)
        channel.state = State.CONNECTING
        timeout = self.gettimeout()
        if timeout == 0:
            self._begin(remote)
            return
        try:
            channel.host.call(channel.relay.connect(remote), timeout)
        except BaseException:
            if self.fileno() < 0:  # another thread closed it, which cancelled the attempt
                raise network_error(errno.EBADF) from None
            raise

    def _begin(self, remote: tuple[str, int]) -> None:
        channel = self._channel
        filler = REAL.send(self, _FILLER)
        try:
            done = channel.host.call(channel.relay.begin_connect(remote, filler))
        except BaseException:
            channel.state = State.FAILED  # the pair is full of filler bytes
            raise
        if not done:
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def _replace_pair(self) -> None:
        """Replace the pair of a socket that failed to connect, keeping its descriptor, and raise the error if it was
        not raised yet."""
        channel = self._channel
        error = channel.take_error()
        channel.ended = None
        program_end, loop_end = new_pair(channel.kind)
        channel.host.call_soon(channel.relay.abandon)
        os.dup2(program_end.fileno(), self.fileno(), inheritable=False)
        program_end.close()
        channel.relay = StreamRelay(channel, loop_end)
        channel.state = State.NEW
        self.settimeout(self.gettimeout())  # the new file description has none yet
        with _lock:
            channel.inode = os.fstat(self.fileno()).st_ino
            _channels[channel.inode] = channel
        if error is not None:
            raise error

    def connect_ex(self, address: Any, /) -> int:
        """Connect, and return the error's number, or 0."""
        try:
            if self._is_for_machine(address):
                return int(REAL.connect_ex(self, address))
            Socket.connect(self, address)  # an SSLSocket's would do the handshake, which its caller does
        except real.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    # --- Listening ------------------------------------------------------------------------------------------------

    def listen(self, backlog: int = 128, /) -> None:
        """Listen.

        Args:
            backlog: most connections that wait to be accepted; at most 4,096.

        Raises:
            OSError: ``EADDRINUSE``; ``EINVAL`` of a connected socket, ``EOPNOTSUPP`` of a UDP socket.
        """
        backlog = as_int(backlog)
        self._check_descriptor()
        channel = self._channel
        if not self._is_stream:
            raise network_error(errno.EOPNOTSUPP)
        if channel.state is State.LISTENING:
            return
        if channel.state is not State.NEW:
            raise network_error(errno.EINVAL)
        if channel.bound is None:
            channel.bound = "", 0
        relay = ListenRelay(channel, channel.relay.loop_end)
        channel.host.call(relay.listen(backlog))
        channel.relay = relay

    def accept(self) -> tuple[Any, Any]:
        """Wait for a connection, and return its socket and the peer's address.

        Raises:
            OSError: ``EINVAL`` where it does not listen, ``EBADF`` where another thread closed it; the stack's error.
            TimeoutError, BlockingIOError: no connection was established in time.
        """
        self._check_open()
        if self._channel.state is not State.LISTENING:
            raise network_error(errno.EINVAL if self._is_stream else errno.EOPNOTSUPP)
        if self._channel.host.is_in_other_process:
            raise network_error(errno.ENETDOWN, "only the process in which the stack runs accepts connections")
        while True:
            if not REAL.recv(self, 1):
                self._check_open()
                raise self._channel.ended or network_error(errno.EINVAL)
            try:
                channel, relay, program_end = self._channel.relay.accepted.popleft()
                break
            except IndexError:
                continue  # the listener is about to end
        channel.host.call_soon(relay.transport._leave_backlog)  # noqa: SLF001  for this package alone: the class is public
        accepted = Socket.__new__(Socket, channel.family, channel.kind)
        accepted._adopt(channel, program_end.detach(), self.proto)  # noqa: SLF001  another socket of this class
        if real.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, channel.remote

    # --- Options --------------------------------------------------------------------------------------------------

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        """Return an option's value, as bytes where `buflen` is given.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option without meaning here.
        """
        self._check_open()
        if socket_options.is_of_the_pair(level, optname):
            return super().getsockopt(level, optname, buflen)
        return answer(socket_options.read(self._channel, level, optname), buflen)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int = 0, /) -> None:
        """Set an option.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option or a value that a stack does not support, ``EINVAL`` for an invalid
                value.
        """
        self._check_open()
        if socket_options.is_of_the_pair(level, optname):
            super().setsockopt(level, optname, value)
            return
        socket_options.write(self, level, optname, bytes(optlen) if value is None else value)

    # --- The end --------------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        """Shut down receiving, sending, or both.

        Raises:
            OSError: ``ENOTCONN``.
        """
        how = as_int(how)
        self._check_open()
        channel = self._channel
        if how not in (real.SHUT_RD, real.SHUT_WR, real.SHUT_RDWR):
            raise network_error(errno.EINVAL, f"how: {how!r}")
        usable = channel.state in (State.CONNECTED, State.LISTENING) and channel.ended is None
        if not (usable if self._is_stream else channel.remote is not None):
            raise network_error(errno.ENOTCONN)
        if how != real.SHUT_WR:
            channel.read_shutdown = True
        if how != real.SHUT_RD:
            channel.write_shutdown = True
        with suppress(OSError):
            super().shutdown(how)

    def detach(self) -> int:
        """Release the descriptor, and return it; ``socket(fileno=…)`` makes a socket of it again."""
        with _lock:
            self._channel.holders -= 1
        return super().detach()

    def _real_close(self, *arguments: Any) -> None:
        if self._ending:
            return  # `close` was called again
        channel = self._channel
        with _lock:
            channel.holders -= 1
            last = channel.holders <= 0
        self._ending = True
        # A child process that was forked since may still use the socket.
        if last and channel.state is not State.NEW and channel.fork_count == count_forks():
            # Ends calls that block on it in other threads. The relay may act on it before the descriptor is closed, so
            # it has to know whether data is unread; from the first shutdown on nothing is added.
            with suppress(OSError):
                super().shutdown(real.SHUT_RD)
                channel.left_unread = bool(REAL.recv(self, 1, real.MSG_PEEK))
                super().shutdown(real.SHUT_WR)
        cast(Any, super())._real_close(*arguments)  # noqa: SLF001  socket.close calls it, and has no public hook
        if last and not channel.host.is_in_other_process:
            self._end(channel)

    @staticmethod
    def _end(channel: Channel) -> None:
        host, relay = channel.host, channel.relay
        if isinstance(relay, StreamRelay):
            if channel.values.linger and channel.state is State.CONNECTED and not host.is_inside:
                with suppress(OSError):  # the time is up, or the connection lost: the stack sends the rest later
                    host.call(relay.wait_acknowledged(), channel.values.linger)
            if channel.state is not State.CONNECTED or channel.write_shutdown:
                host.call_soon(relay.abandon if channel.state is not State.CONNECTED else relay.on_program_closed)
        elif host.is_inside:
            host.call_soon(relay.close)
        else:
            with suppress(OSError):  # the stack has ended, and its port is free
                host.call(relay.end(), _CLOSE)
