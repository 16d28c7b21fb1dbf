"""What a frame costs over UDP, plain and with the authenticated cipher: `python -m benchmarks.encrypted`.

Both ends are links in one process, over loopback; frames go from a list to a list, without a stack. Each frame is
compared with what was sent.
"""

from __future__ import annotations

import asyncio
import socket
from itertools import chain
from statistics import median
from time import perf_counter
from typing import Final

from tcpip_wasm.links import Link, bind_datagrams
from tcpip_wasm.testing import MemoryInterface

ROUNDS: Final = 400
BATCH: Final = 64
"""Frames that are sent before they are received: the kernel's buffer holds them."""
KEY: Final = bytes(32)
"""For a link on loopback: it protects nothing."""


async def _links(key: bytes | None) -> tuple[MemoryInterface, Link, MemoryInterface, Link]:
    ports = []
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            ports.append(f"udp:127.0.0.1:{sock.getsockname()[1]}")
    near, far = MemoryInterface(), MemoryInterface()
    if key is None:
        return near, await bind_datagrams(near, *ports), far, await bind_datagrams(far, *reversed(ports))
    one = await bind_datagrams(near, *ports, key=key)
    other = await bind_datagrams(far, *reversed(ports), key=key)
    while not (one.ready and other.ready):  # noqa: ASYNC110
        await asyncio.sleep(0)  # the loop calls what reads the handshake
    return near, one, far, other


async def measure(size: int, key: bytes | None, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the microseconds that it takes to send a frame, and to receive it; medians of rounds.

    Args:
        size: bytes of a frame.
        key: the cipher's, 32 bytes; None for plain frames.
        rounds: how often 64 frames are sent.
    """
    near, one, far, other = await _links(key)
    sending, receiving = [], []
    for number in range(rounds):
        frames = [bytes([number % 256, each]) * (size // 2) for each in range(BATCH)]
        started = perf_counter()
        near.send(*frames)
        sent = perf_counter()
        while len(far.received) < BATCH:
            other._readable()  # type: ignore[attr-defined]  # noqa: SLF001  without the event loop's own time
        received = perf_counter()
        if list(far.received) != frames:
            raise AssertionError("other frames arrived than were sent")
        far.received.clear()
        sending.append(sent - started)
        receiving.append(received - sent)
    for link in (one, other):
        link.close()
    return 1e6 * median(sending) / BATCH, 1e6 * median(receiving) / BATCH


async def main() -> None:
    """Print a table: a row for each length of frames."""
    print("bytes   plain: send, receive   encrypted: send, receive   (µs a frame)")
    for size in (60, 590, 1514):
        pairs = [await measure(size, key) for key in (None, KEY)]
        print(f"{size:5}   " + "   ".join(f"{each:8.1f}" for each in chain(*pairs)))


if __name__ == "__main__":
    asyncio.run(main())
