"""The Wisp server of wisp-python on a port of the loopback: writes the port, and ends with its standard input.

A program of its own, since wisp-python uses uvloop's loop and the deprecated half of `websockets`.
"""

import os
import sys
import threading
import warnings
from argparse import Namespace

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from wisp.server import cli, http


class _Reporting(http.serve):  # type: ignore[misc]
    """Writes the port once the server listens."""

    async def __aenter__(self) -> object:
        server = await super().__aenter__()
        print(server.sockets[0].getsockname()[1], flush=True)
        return server


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    http.serve = _Reporting
    threading.Thread(target=_end_with_input, daemon=True).start()
    cli.run_http(
        Namespace(
            host="127.0.0.1",
            port=0,
            static=None,
            limits=False,
            proxy=None,
            allow_loopback="--allow-loopback" in sys.argv,
            allow_private=False,
            block_udp=False,
            block_tcp=False,
        )
    )
