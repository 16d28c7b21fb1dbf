"""What stands between a socket of the stand-in and the stack: `Channel`, and a pair of local sockets.

The program holds one end of the pair and the loop the other; a relay carries bytes between the latter and the stack.
So the kernel does what it does for any socket: it blocks, times out, wakes several threads, answers `select`, `poll`
and `epoll` for reading and for writing, and lets `ssl` read and write by descriptor. Buffers of our own would need a
second descriptor that mirrors their state, and could not have `ssl`.

Flow control goes through: the pair's buffers are the socket's buffers, a relay reads one end only while the other takes
it, and the stack's windows close behind.
"""

from __future__ import annotations

import _socket
import os
from enum import Enum
from typing import Any, Final

from tcpip_wasm.compat.blocking.thread import VirtualHost
from tcpip_wasm.compat.route import Route
from tcpip_wasm.sockets.options import V6_ONLY, Values
from tcpip_wasm.stack_parts import parts_of

MESSAGES: Final = getattr(_socket, "SOCK_SEQPACKET", _socket.SOCK_DGRAM)
"""The kind of pair that keeps boundaries. Linux holds ten messages in a SOCK_DGRAM, in a SEQPACKET as many as fit."""

BUFFER: Final = 256 * 1024
"""Bytes that we ask the kernel to hold each way of a pair; Linux doubles it, for its own part of each."""

_forked = 0


def forks() -> int:
    """Return how often this process has forked."""
    return _forked


def _count_fork() -> None:
    global _forked
    _forked += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork, after_in_child=_count_fork)


class State(Enum):
    """What a socket is."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    LISTENING = "listening"


class Channel:
    """What a socket and its relay share. Each field is written by one side, or before the other can look.

    Args:
        host: the stack, and how to get there.
        family: ``AF_INET`` or ``AF_INET6``.
        kind: ``SOCK_STREAM`` or ``SOCK_DGRAM``.

    Attributes:
        state: what the socket is.
        bound: (host, port) that the program has asked for, or None.
        local, remote: socket addresses, once they are known.
        error: what ended the connection, or was reported; whoever takes it leaves None.
        ended: the same, but it stays.
        values: the options.
        deaf, mute: whether the program has shut down receiving, sending.
        proto: as the program has given it.
        holders: Python objects that hold a descriptor of the program's end.
        born: how often this process had forked when it was made: children may hold descriptors, too.
        inode: of the program's end, by which its descriptor is known again; 0 before there is one.
        route: which destinations are the stack's, or None for all.
        relay: what carries between the pair and the stack, or None.
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
        self.deaf = False
        self.mute = False
        self.proto = 0
        self.holders = 0
        self.born: int = forks()
        self.inode = 0
        self.route: Route | None = None
        self.relay: Any = None

    def fail(self, error: BaseException | None) -> None:
        """Note why it is over."""
        self.error = self.ended = error

    def take_error(self) -> BaseException | None:
        """Return what has gone wrong, once."""
        error, self.error = self.error, None
        return error


class _Far(_socket.socket):
    """The loop's end of a pair. It closes without a warning: it may be rubbish together with a socket that did nothing,
    or with a loop that has ended."""

    def __del__(self) -> None:
        self.close()


def new_pair(kind: int) -> tuple[_socket.socket, _socket.socket]:
    """Return the program's end and the loop's end, which does not block."""
    kind = _socket.SOCK_STREAM if kind == _socket.SOCK_STREAM else MESSAGES
    near, other = _socket.socketpair(_socket.AF_UNIX, kind)
    far = _Far(_socket.AF_UNIX, kind, 0, other.detach())
    for end in (near, far):
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, BUFFER)
    near.setblocking(True)  # whatever setdefaulttimeout has said
    far.setblocking(False)
    return near, far


def as_seen(family: int, name: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a socket address as a socket of a family has it: IPv4 addresses are mapped for one of IPv6."""
    if family == _socket.AF_INET6 and len(name) == 2:
        return f"::ffff:{name[0]}", name[1], 0, 0
    return name


def socket_name(family: int, host: str, port: int) -> tuple[Any, ...]:
    """Return a socket address of a family."""
    if family == _socket.AF_INET:
        return host or "0.0.0.0", port
    if host and ":" not in host:
        return as_seen(family, (host, port))
    return host or "::", port, 0, 0


async def own_addresses(channel: Channel) -> list[Any]:
    """Return the addresses that a bound socket listens on, as the stack has them."""
    host = channel.bound[0] if channel.bound else ""
    if not host:
        if channel.family == _socket.AF_INET6 and not channel.values.flag(V6_ONLY):
            return [(None, 0)]  # IPv4 too, as Linux does
        host = "0.0.0.0" if channel.family == _socket.AF_INET else "::"
    return list(await parts_of(channel.host.stack).lookup.listening(host))
