"""The payload of bulk transfers, which a receiver checks at the cost of one comparison of memory.

The stream repeats a block of random bytes whose length is no multiple of the size of a write, so that bytes
which are lost, repeated or reordered do not match, however the data is divided into chunks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

WRITE: Final = 65536
"""Bytes of each write."""

READ: Final = 65536
"""Bytes asked for by each read."""

_PERIOD: Final = 5 * WRITE // 4
_BLOCK: Final = random.Random(20240229).randbytes(_PERIOD)
# Long enough for a chunk of any size that a transport delivers, at any offset in the block.
_UNROLLED: Final = _BLOCK * 14
_WRITES: Final = [_UNROLLED[WRITE * i % _PERIOD :][:WRITE] for i in range(5)]


def writes(size: int) -> Iterator[bytes]:
    """Yield the writes of a stream of `size` bytes, a multiple of `WRITE`."""
    if size % WRITE:
        raise ValueError(f"size: {size} is not a multiple of {WRITE}")
    return islice(cycle(_WRITES), size // WRITE)


class Check:
    """Compares each chunk of a stream with the data that was sent.

    Attributes:
        received: bytes that arrived and were right.
    """

    def __init__(self) -> None:
        self.received = 0

    def take(self, chunk: bytes) -> None:
        """Compare the next chunk.

        Raises:
            ValueError: it differs from the data sent.
        """
        if not _UNROLLED.startswith(chunk, self.received % _PERIOD):
            raise ValueError(f"wrong bytes within {len(chunk)} after byte {self.received} of the stream")
        self.received += len(chunk)

    def finish(self, size: int) -> None:
        """Check that the whole stream arrived.

        Raises:
            ValueError: it is incomplete.
        """
        if self.received != size:
            raise ValueError(f"{self.received} bytes arrived of {size}")
