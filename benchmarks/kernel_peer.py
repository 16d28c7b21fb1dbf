"""The kernel's end of a transfer: a program with one blocking socket, run inside a network namespace.

python -m benchmarks.kernel_peer send|receive HOST PORT BYTES
"""

from __future__ import annotations

import socket
import sys

from benchmarks.payload import Check, writes


def main(role: str, host: str, port: int, size: int) -> None:
    """Connect, and send the payload or check it."""
    with socket.create_connection((host, port), timeout=60) as connection:
        if role == "send":
            for data in writes(size):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        else:
            check = Check()
            while chunk := connection.recv(262144):
                check.take(chunk)
            check.finish(size)
            connection.sendall(b"!")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
