"""The package's exceptions: one tree, each leaf also the standard library's class that a caller would catch.

    TcpipError                              everything the stack raises for reasons of the network
    ├── StackError (OSError)                a whole stack is gone
    │   ├── StackClosedError                it was closed (also ConnectionAbortedError)
    │   └── StackTrappedError               its module trapped
    ├── NetworkError (OSError)              a call failed; `errno` says why
    │   ├── ConnectionRefused, ConnectionReset, ConnectionTimedOut, ConnectionAborted
    ├── StreamClosedError                   a stream was used after its end (ConnectionAbortedError)
    ├── StreamLockedError (RuntimeError)    a stream has another user
    └── ModuleMismatchError (RuntimeError)  no module built, or one of another ABI version

Mistakes of the caller (a malformed address, a wrong type) are plain ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations

import errno
import os

__all__ = [
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "ModuleMismatchError",
    "NetworkError",
    "StackClosedError",
    "StackError",
    "StackTrappedError",
    "StreamClosedError",
    "StreamLockedError",
    "TcpipError",
    "network_error",
]


class TcpipError(Exception):
    """Root of everything the stack raises for reasons of the network."""


class NetworkError(TcpipError, OSError):
    """A call failed; ``errno`` and ``strerror`` are set as the operating system's sockets would set them."""


class ConnectionRefused(NetworkError, ConnectionRefusedError):
    """Nobody listens there: the answer to SYN was RST."""


class ConnectionReset(NetworkError, ConnectionResetError):
    """The peer reset an open connection."""


class ConnectionTimedOut(NetworkError, TimeoutError):
    """No answer to SYN, ARP or ND, or all retransmissions used up."""


class ConnectionAborted(NetworkError, ConnectionAbortedError):
    """The connection was closed on this side before the call."""


class StackError(TcpipError, OSError):
    """A whole stack is gone, and every call on it raises this."""


class StackClosedError(StackError, ConnectionAbortedError):
    """The stack was closed."""


class StackTrappedError(StackError):
    """The stack's module trapped. Other stacks go on."""


class StreamClosedError(TcpipError, ConnectionAbortedError):
    """A stream was written to after it was closed or aborted."""


class StreamLockedError(TcpipError, RuntimeError):
    """A stream has a reader, writer or pipe already."""


class ModuleMismatchError(TcpipError, RuntimeError):
    """There is no ``lwip.wasm``, or it has another ABI version than this package."""


_CLASSES: dict[int, type[NetworkError]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ECONNRESET: ConnectionReset,
    errno.ETIMEDOUT: ConnectionTimedOut,
    errno.ECONNABORTED: ConnectionAborted,
}


def network_error(number: int, detail: str = "") -> NetworkError:
    """Return the exception for an ``errno``.

    Args:
        number: one of the constants of :mod:`errno`.
        detail: what was attempted, appended to the system's text.
    """
    text = os.strerror(number)
    return _CLASSES.get(number, NetworkError)(number, f"{text}: {detail}" if detail else text)
