"""The kernel's ends of a transfer over a path: programs with blocking sockets, each run inside a network namespace.

    python -m benchmarks.path_peer receive HOST PORT SECONDS AFTER FLOWS
    python -m benchmarks.path_peer send HOST PORT SECONDS CONGESTION FLOWS

A stream begins with the sender's monotonic clock at its call of connect, which is the receiver's clock, too. The
receiver counts payload until so many seconds later, compares it with what was to be sent, and prints the bytes of each
flow as JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Final

from benchmarks.payload import READ, WRITE, Check, writes

CLOCK: Final = struct.Struct("!d")
ENDLESS: Final = WRITE * 2**30
BOUND: Final = 30.0
"""Seconds that anything but the transfer may take."""


def receive(host: str, port: int, seconds: float, after: float, flows: int) -> list[int]:
    """Return the bytes that each flow received in time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=flows) as server:
        print("READY", flush=True)
        server.settimeout(BOUND)
        with ThreadPoolExecutor(flows) as pool:
            accepted = [server.accept()[0] for _ in range(flows)]
            return list(pool.map(lambda connection: _count(connection, seconds, after), accepted))


def _count(connection: socket.socket, seconds: float, after: float) -> int:
    with connection:
        connection.settimeout(BOUND)
        (began,) = CLOCK.unpack(connection.recv(CLOCK.size, socket.MSG_WAITALL))
        check, before = Check(), 0
        while (left := began + seconds - monotonic()) > 0:
            connection.settimeout(left)
            try:
                data = connection.recv(READ)
            except TimeoutError:
                break
            now = monotonic()
            if not data:
                raise ValueError(f"the stream ended {began + seconds - now:.3f} s too early")
            if now <= began + seconds:
                check.take(data)
            if now <= began + after:
                before = check.received
        return check.received - before


def send(host: str, port: int, seconds: float, congestion: str, flows: int) -> None:
    """Send until the receiver has enough."""
    with ThreadPoolExecutor(flows) as pool:
        for done in [pool.submit(_send, host, port, seconds, congestion) for _ in range(flows)]:
            done.result()


def _send(host: str, port: int, seconds: float, congestion: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        connection.settimeout(seconds + BOUND)
        began = monotonic()
        connection.connect((host, port))
        with suppress(ConnectionError):
            connection.sendall(CLOCK.pack(began))
            for data in writes(ENDLESS):
                connection.sendall(data)


def main(role: str, host: str, port: str, seconds: str, other: str, flows: str) -> None:
    """Run one end."""
    if role == "send":
        send(host, int(port), float(seconds), other, int(flows))
    else:
        print(json.dumps(receive(host, int(port), float(seconds), float(other), int(flows))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
