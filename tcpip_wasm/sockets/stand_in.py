"""What `get_extra_info("socket")` and `server.sockets` give: enough of a socket for libraries that look at theirs.

Libraries switch off Nagle's algorithm, set keep-alive, read addresses, and ask whether an idle connection has become
readable. No system call is made for any of it. What a socket could do and these can't raises what a socket without that
option raises.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import cache
from typing import Any, Final, NoReturn, Protocol

from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error

_TCP: Final = socket.IPPROTO_TCP


def _constants(level: int, *names: str) -> set[tuple[int, int]]:
    return {(level, getattr(socket, name)) for name in names if hasattr(socket, name)}  # systems differ


_OPTIONS: Final = {
    **dict.fromkeys(_constants(_TCP, "TCP_NODELAY"), (abi.OPTION_NODELAY, 1)),
    **dict.fromkeys(_constants(socket.SOL_SOCKET, "SO_KEEPALIVE"), (abi.OPTION_KEEPALIVE, 1)),
    **dict.fromkeys(_constants(_TCP, "TCP_KEEPIDLE", "TCP_KEEPALIVE"), (abi.OPTION_KEEPALIVE_IDLE, 1000)),
    **dict.fromkeys(_constants(_TCP, "TCP_KEEPINTVL"), (abi.OPTION_KEEPALIVE_INTERVAL, 1000)),
    **dict.fromkeys(_constants(_TCP, "TCP_KEEPCNT"), (abi.OPTION_KEEPALIVE_COUNT, 1)),
}
"""(level, name) of a socket option -> option of the ABI, and its units in one of the socket's."""

_HINTS: Final = (
    _constants(socket.SOL_SOCKET, "SO_REUSEADDR", "SO_REUSEPORT", "SO_RCVBUF", "SO_SNDBUF", "SO_PRIORITY")
    | _constants(_TCP, "TCP_QUICKACK")
    | _constants(socket.IPPROTO_IP, "IP_TOS")
    | _constants(socket.IPPROTO_IPV6, "IPV6_V6ONLY", "IPV6_TCLASS")
)
"""Options that are remembered and change nothing: buffers size themselves, ports need no permission to be reused."""


class _Transport(Protocol):
    @property
    def would_read(self) -> bool: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...

    def set_option(self, option: int, value: int) -> None: ...


class StandIn:
    """What both kinds have in common; not a socket, and of no use to who would do I/O on it."""

    type: Final = socket.SOCK_STREAM
    proto: Final = _TCP

    def __init__(self) -> None:
        self._options: dict[tuple[int, int], int] = {}

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

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int:
        """Return an option's value, 0 where none was set.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option without meaning here.
        """
        if level == socket.SOL_SOCKET and optname == socket.SO_ERROR:
            return 0
        if level == socket.SOL_SOCKET and optname == socket.SO_TYPE:
            return int(socket.SOCK_STREAM)
        key = (level, optname)
        if key not in _OPTIONS and key not in _HINTS:
            raise network_error(errno.ENOPROTOOPT, f"option {optname} of level {level}")
        return self._options.get(key, 0)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int = 0) -> None:
        """Set an option.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option without meaning here, ``EBADF`` after the connection's end.
            TypeError: a value that is no number.
        """
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = int.from_bytes(bytes(value)[:4], "little", signed=True)
        if not isinstance(value, int):
            raise TypeError(f"value must be an int or bytes, not {type(value).__name__}")
        key = (level, optname)
        if key in _OPTIONS:
            self._apply(*_OPTIONS[key], value)
        elif key not in _HINTS:
            raise network_error(errno.ENOPROTOOPT, f"option {optname} of level {level}")
        self._options[key] = value

    def _apply(self, option: int, units: int, value: int) -> None:
        """Listeners keep it: connections have their own."""

    def setblocking(self, flag: bool) -> None:
        """Nothing to do: nothing here blocks."""
        if flag:
            raise ValueError("a stand-in for a socket cannot block")

    def settimeout(self, value: float | None) -> None:
        """Accept 0 only, as `asyncio.trsock.TransportSocket` does."""
        if value != 0:
            raise ValueError("a stand-in for a socket has no time-out but 0")

    def gettimeout(self) -> float:
        """Return 0: a socket of asyncio's does not block."""
        return 0.0

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"cannot serialize {type(self).__name__}")


class TransportSocket(StandIn):
    """The stand-in for the socket of a connection.

    Args:
        transport: the connection's.
    """

    def __init__(self, transport: _Transport) -> None:
        super().__init__()
        self._transport = transport
        self._options[_TCP, socket.TCP_NODELAY] = 1  # as asyncio's own sockets, the core's have it from the start

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
        something, and nobody may read from it or close it.
        """
        quiet, readable = _descriptors()
        return readable if self._transport.would_read else quiet

    def _apply(self, option: int, units: int, value: int) -> None:
        self._transport.set_option(option, value * units)


class ListeningSocket(StandIn):
    """The stand-in for a listening socket.

    Args:
        name: the address as `getsockname` gives it.
    """

    def __init__(self, name: tuple[Any, ...]) -> None:
        super().__init__()
        self._name = name

    def __repr__(self) -> str:
        return f"<ListeningSocket laddr={self._name}>"

    def getsockname(self) -> tuple[Any, ...]:
        """Return the address as a socket does."""
        return self._name


@cache
def _descriptors() -> tuple[int, int]:
    """Return the read ends of a pipe that stays silent and of one that has ended."""
    quiet, silent = os.pipe()
    ended, end = os.pipe()
    os.close(end)
    del silent  # stays open, or the first pipe would be at its end, too
    return quiet, ended
