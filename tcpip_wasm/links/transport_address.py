"""Addresses of transports as text: ``unix:/run/vm.sock``, ``tcp:127.0.0.1:4444``, ``udp:[::1]:4444``.

Owns the syntax, and how a listening or bound Unix socket gets its file. Must not know what a transport carries.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_LONGEST_PATH: Final = 107
"""Bytes of a Unix socket's path on Linux, without the zero that ends it."""


@dataclass(frozen=True, slots=True)
class TransportAddress:
    """Where a transport is.

    Attributes:
        kind: ``"unix"``, ``"tcp"`` or ``"udp"``.
        path: of a Unix socket, else empty.
        host: without brackets, empty for a Unix socket.
        port: 0 for a Unix socket.
    """

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}:{host}:{self.port}"


def parse_address(text: str, *, kinds: Iterable[str], argument: str = "address") -> TransportAddress:
    """Return the address that a text names.

    Args:
        text: ``unix:PATH``, ``tcp:HOST:PORT`` or ``udp:HOST:PORT``; an IPv6 address has brackets.
        kinds: those that the caller accepts.
        argument: the caller's name for it in errors.

    Raises:
        TypeError: it is no text.
        ValueError: it is not of such a kind, or has no valid path or port.
    """
    if not isinstance(text, str):
        raise TypeError(f"{argument}: text is needed, not {text!r}")
    kind, _, rest = text.partition(":")
    kinds = tuple(kinds)
    if kind not in kinds or not rest:
        forms = " or ".join("unix:PATH" if one == "unix" else f"{one}:HOST:PORT" for one in kinds)
        raise ValueError(f"{argument}: {forms} is needed, not {text!r}")
    if kind == "unix":
        if "\0" in rest or len(os.fsencode(rest)) > _LONGEST_PATH:
            raise ValueError(f"{argument}: a path of up to {_LONGEST_PATH} bytes is needed, not {rest!r}")
        return TransportAddress(kind, path=rest)
    host, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ValueError(f"{argument}: a port of 0 to 65535 is needed, not {port!r} in {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{argument}: an IPv6 address needs brackets in {text!r}")
    if not host:
        raise ValueError(f"{argument}: a host is needed in {text!r}")
    return TransportAddress(kind, host=host, port=int(port))


def bind_unix(sock: socket.socket, path: str) -> None:
    """Bind a socket to a path, which only this user may open. A socket file that no process listens at is replaced.

    Raises:
        OSError: ``EADDRINUSE`` where a process listens at the path, or it is a file of another kind.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_alive(path, sock.type):
            os.unlink(path)
    previous = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)


def unlink_unix(path: str) -> None:
    """Remove the file of a socket that is closed; one that has gone already is no error."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _is_alive(path: str, kind: int) -> bool:
    """Whether a process has a socket at the path. A full backlog and a socket of another type are signs of one."""
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as problem:
            return problem.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True


async def connect_stream(address: TransportAddress, *, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a non-blocking socket that is connected to the address.

    Args:
        kind: of a Unix socket, ``SOCK_STREAM`` or ``SOCK_SEQPACKET``.

    Raises:
        OSError: the connection was refused, or nothing is at the address.
    """
    loop = asyncio.get_running_loop()
    if address.kind == "unix":
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    problem: OSError | None = None
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, _, protocol, _, where in found:
        sock = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            sock.setblocking(False)
            # Frames leave when they are sent: the stack has done what Nagle's algorithm is for.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, where)
        except OSError as refused:
            sock.close()
            problem = refused
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem or OSError(errno.EADDRNOTAVAIL, f"no address of {address.host!r}")


def listen_stream(address: TransportAddress, *, kind: int = socket.SOCK_STREAM, backlog: int = 16) -> socket.socket:
    """Return a non-blocking socket that listens at the address. A host name is looked up in the calling thread.

    Raises:
        OSError: the address is in use or is none of this machine.
    """
    if address.kind == "unix":
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            bind_unix(sock, address.path)
            sock.listen(backlog)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock
    family, _, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
