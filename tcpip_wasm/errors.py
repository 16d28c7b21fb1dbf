"""The package's exceptions: one tree, each leaf also the standard library's class that a caller would catch.

    TcpipError                              everything the stack raises for reasons of the network
    ├── StackError (OSError)                a whole stack has ended
    │   ├── StackClosedError                it was closed (also ConnectionAbortedError)
    │   └── StackTrappedError               its module trapped
    ├── NetworkError (OSError)              a call failed; `errno` says why
    │   ├── ConnectionRefused, ConnectionReset, ConnectionTimedOut, ConnectionAborted,
    │   │   PermissionDenied
    │   ├── MachineNetworkError             a strict block refuses the machine's network (also PermissionError)
    │   └── IcmpError                       a router or host reports it by ICMP
    │       ├── DestinationUnreachableError, TimeExceededError
    ├── NameResolutionError                 a name was not resolved (socket.gaierror, which is an OSError)
    ├── StreamClosedError                   a stream was used after its end (ConnectionAbortedError)
    ├── StreamLockedError (RuntimeError)    a stream has a reader, writer or pipe already
    ├── CaptureFormatError (ValueError)     a file is not a capture, or damaged
    └── ModuleMismatchError (RuntimeError)  no module built, or one of another ABI version

Wrong arguments (a malformed address, a wrong type) raise plain ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations

import errno
import os
import socket

__all__ = [
    "CaptureFormatError",
    "ConnectionAborted",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionTimedOut",
    "DestinationUnreachableError",
    "IcmpError",
    "MachineNetworkError",
    "ModuleMismatchError",
    "NameResolutionError",
    "NetworkError",
    "PermissionDenied",
    "StackClosedError",
    "StackError",
    "StackTrappedError",
    "StreamClosedError",
    "StreamLockedError",
    "TcpipError",
    "TimeExceededError",
    "network_error",
]


class TcpipError(Exception):
    """Base class of everything the stack raises for reasons of the network."""


class NetworkError(TcpipError, OSError):
    """A call failed; ``errno`` and ``strerror`` are set as the operating system's sockets would set them."""


class ConnectionRefused(NetworkError, ConnectionRefusedError):
    """No socket listens on the port: the answer to the SYN was RST."""


class ConnectionReset(NetworkError, ConnectionResetError):
    """The peer reset an open connection."""


class ConnectionTimedOut(NetworkError, TimeoutError):
    """No answer to SYN, ARP or ND, or no acknowledgement after all retransmissions."""


class ConnectionAborted(NetworkError, ConnectionAbortedError):
    """The connection was closed locally before the call."""


class PermissionDenied(NetworkError, PermissionError):
    """A datagram to a broadcast address, by a socket that was opened without permission for it."""


class MachineNetworkError(NetworkError, PermissionError):
    """A call would have used the machine's network inside a block that refuses it; ``errno`` is EPERM.

    Attributes:
        call: the call that was refused, as text: its audit event (PEP 578) and its destination.
    """

    def __init__(self, number: int, text: str, call: str = "") -> None:
        super().__init__(number, text)
        self.call = call

    def __reduce__(self) -> tuple[type[MachineNetworkError], tuple[int, str, str]]:
        return type(self), (self.errno or 0, self.strerror or "", self.call)


class IcmpError(NetworkError):
    """An ICMP or ICMPv6 message reports why a packet did not arrive.

    Attributes:
        reporter: address of the router or host that sent the message.
        code: the message's code (RFC 792, RFC 4443).
    """

    def __init__(self, number: int, text: str, reporter: str, code: int) -> None:
        super().__init__(number, text)
        self.reporter = reporter
        self.code = code

    def __reduce__(self) -> tuple[type[IcmpError], tuple[int, str, str, int]]:
        return type(self), (self.errno or 0, self.strerror or "", self.reporter, self.code)


class DestinationUnreachableError(IcmpError):
    """The network, the host or the port is unreachable; ``errno`` says which."""


class TimeExceededError(IcmpError):
    """The packet's TTL or hop limit reached zero at a router, as traceroute uses it; ``errno`` is EHOSTUNREACH."""


class NameResolutionError(TcpipError, socket.gaierror):
    """A name has no address, or an address no name; ``errno`` is one of the ``EAI_`` constants of `socket`.

    ``EAI_NONAME``: it does not exist. ``EAI_AGAIN``: no name server answered. ``EAI_FAIL``: no name server is known.
    """


class MalformedHostError(NameResolutionError, ValueError):
    """A host argument is neither a valid name nor a valid address; ``errno`` is ``EAI_NONAME``.

    Existing programs expect `socket.gaierror` for such a host, as `socket.getaddrinfo` raises it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(socket.EAI_NONAME, message)


class StackError(TcpipError, OSError):
    """A whole stack has ended, and every call on it raises this."""


class StackClosedError(StackError, ConnectionAbortedError):
    """The stack was closed."""


class StackTrappedError(StackError):
    """The stack's module trapped. Other stacks are not affected."""


class StreamClosedError(TcpipError, ConnectionAbortedError):
    """A stream was written to after it was closed or aborted."""


class StreamLockedError(TcpipError, RuntimeError):
    """A stream has a reader, writer or pipe already."""


class CaptureFormatError(TcpipError, ValueError):
    """A file is not a capture, or is damaged.

    Attributes:
        offset: bytes from the beginning of the file to the error.
    """

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text, offset)
        self.text = text
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.text}, at offset {self.offset}"


class ModuleMismatchError(TcpipError, RuntimeError):
    """There is no ``lwip.wasm``, or it has another ABI version than this package."""


_CLASSES: dict[int, type[NetworkError]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ECONNRESET: ConnectionReset,
    errno.ETIMEDOUT: ConnectionTimedOut,
    errno.ECONNABORTED: ConnectionAborted,
    errno.EACCES: PermissionDenied,
}


def network_error(number: int, detail: str = "") -> NetworkError:
    """Return the exception for an ``errno``.

    Args:
        number: one of the constants of :mod:`errno`.
        detail: what was attempted, appended to the system's text.
    """
    text = os.strerror(number)
    return _CLASSES.get(number, NetworkError)(number, f"{text}: {detail}" if detail else text)
