"""For programs that must not reach the machine's network: `deny`, an audit hook that notes and refuses what would."""

from __future__ import annotations

import socket

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
