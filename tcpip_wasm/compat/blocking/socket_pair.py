"""A pair of local sockets connects a blocking socket to the stack, and a `Channel` holds the state they share.

The program has one end of the pair and the loop the other; a relay carries bytes between the latter and the stack. So
the kernel does what it does for any socket: it blocks, times out, wakes several threads, serves `select`, `poll` and
`epoll` for reading and for writing, and lets `ssl` read and write by descriptor. Buffers of our own would need a second
descriptor that mirrors their state, and could not support `ssl`.

Flow control is end to end: the pair's buffers are the socket's buffers, a relay reads one side only while the other
accepts data, and the stack's receive window closes when it stops reading.
"""

from __future__ import annotations

import _socket
import os
from enum import Enum
from typing import Any, Final

from tcpip_wasm.compat.blocking.thread import VirtualHost
from tcpip_wasm.compat.route import Route
from tcpip_wasm.sockets.options import CONGESTION, V6_ONLY, Values
from tcpip_wasm.stack_parts import parts_of

MESSAGES: Final = getattr(_socket, "SOCK_SEQPACKET", _socket.SOCK_DGRAM)
"""The socket type that keeps message boundaries. Linux holds ten messages in a SOCK_DGRAM, in a SEQPACKET as many as
fit."""

BUFFER: Final = 256 * 1024
"""Bytes of buffer that we request for each direction of a pair; Linux doubles it, to cover its overhead."""

_forks = 0


def count_forks() -> int:
    """Return how often this process has forked."""
    return _forks


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork, after_in_child=_count_fork)


class State(Enum):
    """State of a socket."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    LISTENING = "listening"


class Channel:
    """State that a socket and its relay share. Each field is written by one side, or before the other can read it.

    Args:
        host: the stack, and how to call it from another thread.
        family: ``AF_INET`` or ``AF_INET6``.
        kind: ``SOCK_STREAM`` or ``SOCK_DGRAM``.

    Attributes:
        state: the socket's state.
        bound: (host, port) that the program has bound it to, or None.
        local, remote: socket addresses, once they are known.
        error: the error that ended the connection or was reported, until it is raised once.
        ended: the error that ended the connection; it stays.
        values: the options.
        read_shutdown, write_shutdown: whether the program has shut down receiving, sending.
        left_unread: whether the program has closed its end, and left data there.
        proto: the protocol number that the program has given.
        holders: Python objects that hold a descriptor of the program's end.
        fork_count: how often this process had forked when it was created: later children hold descriptors, too.
        inode: of the program's end, by which its descriptor is recognised; 0 before there is one.
        route: which destinations are the stack's, or None for all.
        relay: carries data between the pair and the stack; None before it is set.
    """

    def __init__(self, host: VirtualHost, family: int, kind: int) -> None:
        self.host = host
        self.family = family
        self.kind = kind
        self.state = State.NEW
        self.bound: tuple[str, int] | None = None
        self.local: tuple[Any, ...] | None = None
        self.remote: tuple[Any, ...] | None = None
        self.error: BaseException | None = None
        self.ended: BaseException | None = None
        self.values: Values = Values(kind, family)
        if kind == _socket.SOCK_STREAM and (congestion := parts_of(host.stack).tcp.congestion):
            self.values.given[CONGESTION] = congestion
        self.read_shutdown = False
        self.write_shutdown = False
        self.left_unread = False
        self.proto = 0
        self.holders = 0
        self.fork_count: int = count_forks()
        self.inode = 0
        self.route: Route | None = None
        self.relay: Any = None

    def fail(self, error: BaseException | None) -> None:
        """Record the error that ended the connection."""
        self.error = self.ended = error

    def take_error(self) -> BaseException | None:
        """Return the pending error, and clear it."""
        error, self.error = self.error, None
        return error


class _LoopEnd(_socket.socket):
    """The loop's end of a pair. It closes without a ResourceWarning: it may be garbage-collected together with an
    unused socket, or with a loop that has ended."""

    def __del__(self) -> None:
        self.close()


def new_pair(kind: int) -> tuple[_socket.socket, _socket.socket]:
    """Return the program's end and the loop's end, which does not block."""
    kind = _socket.SOCK_STREAM if kind == _socket.SOCK_STREAM else MESSAGES
    program_end, other = _socket.socketpair(_socket.AF_UNIX, kind)
    loop_end = _LoopEnd(_socket.AF_UNIX, kind, 0, other.detach())
    for end in (program_end, loop_end):
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, BUFFER)
    program_end.setblocking(True)  # also after socket.setdefaulttimeout()
    loop_end.setblocking(False)
    return program_end, loop_end


def as_family(family: int, name: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a socket address in the form of a family: for IPv6, IPv4 addresses are mapped."""
    if family == _socket.AF_INET6 and len(name) == 2:
        return f"::ffff:{name[0]}", name[1], 0, 0
    return name


def socket_name(family: int, host: str, port: int) -> tuple[Any, ...]:
    """Return a socket address of a family."""
    if family == _socket.AF_INET:
        return host or "0.0.0.0", port
    if host and ":" not in host:
        return as_family(family, (host, port))
    return host or "::", port, 0, 0


async def own_addresses(channel: Channel) -> list[Any]:
    """Return the addresses that a bound socket listens on, in the stack's form."""
    host = channel.bound[0] if channel.bound else ""
    if not host:
        if channel.family == _socket.AF_INET6 and not channel.values.flag(V6_ONLY):
            return [(None, 0)]  # IPv4 too, as Linux does
        host = "0.0.0.0" if channel.family == _socket.AF_INET else "::"
    return list(await parts_of(channel.host.stack).lookup.listening(host))
