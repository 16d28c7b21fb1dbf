"""For programs that must not reach the machine's network: `deny`, an audit hook that notes and refuses what would,
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
"""What was refused."""


def machine_refuses(port: int) -> None:
    """Assert that nothing of the machine's listens on a port of its loopback."""
    for family, host in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
        with closing(_socket.socket(family)) as sock:  # of `_socket`: a polyfill warns of others
            assert sock.connect_ex((host, port)) != 0, f"port {port} of the machine is open"


@contextmanager
def unreached_server() -> Iterator[tuple[str, int]]:
    """A server of the machine that no connection may reach while the block lasts. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()
        try:
            server.accept()
        except BlockingIOError:
            return
        raise AssertionError("a connection has reached the machine")


def deny(event: str, arguments: object) -> None:
    """Refuse; a hook of `sys.addaudithook`, which stays for as long as the process lives."""
    if event in DENIED:
        seen.append(event)
        raise PermissionError(f"{event}{arguments}")


def conclude() -> None:
    """Say that nothing was refused, and that something would have been."""
    assert not seen, seen
    try:
        socket.socket().connect(("127.0.0.1", 22))
    except PermissionError:
        print("denied outside, unseen inside", flush=True)
