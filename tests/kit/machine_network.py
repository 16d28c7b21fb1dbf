"""For programs that must not use the machine's network: `deny`, an audit hook that records and refuses such calls,
`machine_refuses`, and `unreached_server`."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

DENIED = {
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "socket.sendmsg",
    "socket.sendto",
}

seen: list[str] = []
"""The audit events that were refused."""


def machine_refuses(port: int) -> None:
    """Assert that no program listens on a port of the machine's loopback."""
    for family, host in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        with closing(_socket.socket(family)) as sock:  # a polyfill warns of other socket classes
            assert sock.connect_ex((host, port)) != 0, f"port {port} of the machine is open"


@contextmanager
def unreached_server() -> Iterator[tuple[str, int]]:
    """A server of the machine that must not get a connection in the block. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()
        try:
            server.accept()
        except BlockingIOError:
            return
        raise AssertionError("a connection has reached the machine")


def deny(event: str, arguments: object) -> None:
    """Refuse calls; a hook of `sys.addaudithook`, which stays until the process ends."""
    if event in DENIED:
        seen.append(event)
        raise PermissionError(f"{event}{arguments}")


def conclude() -> None:
    """Assert that no call was refused so far, and that one would be."""
    assert not seen, seen
    try:
        socket.socket().connect(("127.0.0.1", 22))
    except PermissionError:
        print("no call has used the machine's network", flush=True)
