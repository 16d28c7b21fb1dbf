"""What `get_extra_info("socket")` and `server.sockets` give: enough of a socket for libraries that look at theirs.

Libraries switch off Nagle's algorithm, set keep-alive, read addresses, and ask whether an idle connection has become
readable. No system call is made for any of it. What a socket could do and these can't raises what a socket without that
option raises.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, Final, NoReturn, Protocol

from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets import options
from tcpip_wasm.sockets.options import Values

_TCP: Final = socket.IPPROTO_TCP
LISTENING: Final = 10
"""Linux's number of the state of a listener."""


class _Transport(Protocol):
    resets: bool
    end_error: BaseException | None

    @property
    def would_read(self) -> bool: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...

    def set_option(self, option: int, value: int) -> None: ...

    def information(self) -> dict[str, int] | None: ...


class SocketProxy:
    """What both kinds have in common; not a socket, and without methods for I/O."""

    type: socket.SocketKind = socket.SOCK_STREAM
    proto: int = _TCP

    @cached_property
    def values(self) -> Values:
        """The options that were set."""
        return Values(int(self.type), int(self.family))

    @property
    def family(self) -> socket.AddressFamily:
        """``AF_INET`` or ``AF_INET6``."""
        return socket.AF_INET if len(self.getsockname()) == 2 else socket.AF_INET6

    def getsockname(self) -> tuple[Any, ...]:
        """Return the own address as a socket does."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Return -1: there is no file behind it."""
        return -1

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """Return an option's value, as bytes where `buflen` is given; what was not set answers as on Linux.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option without meaning here.
        """
        key = level, optname
        if key == (socket.SOL_SOCKET, socket.SO_ERROR):
            return options.answer(self._error(), buflen)
        return options.answer(self._read(key), buflen)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int = 0) -> None:
        """Set an option.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option without meaning here or a value that no stack carries out, ``EINVAL``
                for a value that it cannot have, ``EBADF`` after the connection's end.
            TypeError: a value that is neither a number nor bytes.
        """
        if value is None:
            value = bytes(optlen)
        self._write((level, optname), value)

    def _error(self) -> int:
        return 0

    def _information(self) -> dict[str, int] | None:
        return None

    def _read(self, key: options.Key) -> int | bytes:
        return self.values.read(key, self._information())

    def _write(self, key: options.Key, value: Any) -> None:
        core = self.values.write(key, value, self._information())
        if core is not None:
            self._apply(*core)

    def _apply(self, option: int, value: int) -> None:
        """Listeners keep it: connections have their own."""

    def setblocking(self, flag: bool) -> None:
        """Nothing to do: nothing here blocks."""
        if flag:
            raise ValueError("the socket of a transport cannot block")

    def settimeout(self, value: float | None) -> None:
        """Accept 0 only, as `asyncio.trsock.TransportSocket` does."""
        if value != 0:
            raise ValueError("the socket of a transport has no time-out but 0")

    def gettimeout(self) -> float:
        """Return 0: a socket of asyncio's does not block."""
        return 0.0

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"cannot serialize {type(self).__name__}")


class TransportSocket(SocketProxy):
    """What `get_extra_info("socket")` gives for a connection, in place of a socket.

    Args:
        transport: the connection's.
    """

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def __repr__(self) -> str:
        return f"<TransportSocket laddr={self.getsockname()}, raddr={self.getpeername()}>"

    def getsockname(self) -> tuple[Any, ...]:
        """Return the own address as a socket does."""
        return tuple(self._transport.get_extra_info("sockname"))

    def getpeername(self) -> tuple[Any, ...]:
        """Return the peer's address as a socket does."""
        return tuple(self._transport.get_extra_info("peername"))

    def fileno(self) -> int:
        """Return a descriptor that is readable if a socket in this connection's place were so now.

        Connection pools ask `select` or `poll` whether an idle connection has ended, and take -1 for an end. The
        descriptor is one of two pipes that all connections of the process share, so only its answer at once means
        something, and must not be read from or closed.
        """
        quiet, readable = _descriptors()
        return readable if self._transport.would_read else quiet

    def _error(self) -> int:
        error = self._transport.end_error
        return 0 if error is None else getattr(error, "errno", None) or errno.EIO

    def _information(self) -> dict[str, int] | None:
        return self._transport.information()

    def _write(self, key: options.Key, value: Any) -> None:
        super()._write(key, value)
        if key == options.LINGER:
            self._transport.resets = self.values.linger == 0

    def _apply(self, option: int, value: int) -> None:
        self._transport.set_option(option, value)

    def take_over(self, values: Values) -> None:
        """Have the options that were set before there was a connection, as far as they are still possible."""
        self.__dict__["values"] = values
        self._transport.resets = values.linger == 0
        for option, value in values.for_core().items():
            with suppress(OSError):
                self._transport.set_option(option, value)


class ListeningSocket(SocketProxy):
    """What `TcpServer.sockets` has, in place of a listening socket.

    Args:
        name: the address as `getsockname` gives it.
    """

    def __init__(self, name: tuple[Any, ...]) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<ListeningSocket laddr={self._name}>"

    def getsockname(self) -> tuple[Any, ...]:
        """Return the address as a socket does."""
        return self._name

    def _read(self, key: options.Key) -> int | bytes:
        if key == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return 1
        return options.tcp_info(None, LISTENING) if key == options.INFORMATION else super()._read(key)


class DatagramTransportSocket(SocketProxy):
    """What `get_extra_info("socket")` of a UDP socket returns.

    Args:
        transport: of the socket.
    """

    type: socket.SocketKind = socket.SOCK_DGRAM
    proto: int = socket.IPPROTO_UDP

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __repr__(self) -> str:
        return f"<DatagramTransportSocket laddr={self.getsockname()}>"

    def getsockname(self) -> tuple[Any, ...]:
        """Return the own address as a socket does."""
        return tuple(self._transport.get_extra_info("sockname"))

    def getpeername(self) -> tuple[Any, ...]:
        """Return the peer's address as a socket does.

        Raises:
            OSError: ``ENOTCONN`` where there is no peer.
        """
        peer = self._transport.get_extra_info("peername")
        if peer is None:
            raise network_error(errno.ENOTCONN)
        return tuple(peer)

    def _write(self, key: options.Key, value: Any) -> None:
        if key in options.GROUPS:
            self._transport.group(options.GROUPS[key], *options.group(key[0], value))
        elif key == options.GROUP_INTERFACE:
            address, interface = options.group_interface(value)
            self._transport.set_group_interface(interface)
            self.values.group_address = address
        else:
            super()._write(key, value)

    def _apply(self, option: int, value: int) -> None:
        self._transport.set_option(option, value)


@cache
def _descriptors() -> tuple[int, int]:
    """Return the read ends of a pipe that stays silent and of one that has ended."""
    quiet, silent = os.pipe()
    ended, end = os.pipe()
    os.close(end)
    del silent  # stays open, or the first pipe would be at its end, too
    return quiet, ended
