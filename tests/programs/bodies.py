"""Large bodies: all blocks of a body differ, so that lost and reordered ones change its digest."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import AsyncIterator
from functools import cache
from typing import Final

BLOCK: Final = random.Random(7).randbytes(1_000_000)
"""A million bytes: the size of every block."""


def block(number: int) -> bytes:
    """Return the block of a number."""
    return number.to_bytes(8, "big") + BLOCK[8:]


@cache
def digest(megabytes: int) -> str:
    """Return the SHA-256, in hexadecimal, of a body of `count` blocks."""
    whole = hashlib.sha256()
    for number in range(megabytes):
        whole.update(block(number))
    return whole.hexdigest()


async def blocks(megabytes: int) -> AsyncIterator[bytes]:
    """Yield a body in blocks."""
    for number in range(megabytes):
        yield block(number)


def received(megabytes: int) -> dict[str, object]:
    """Return the application's answer to a body."""
    return {"sha256": digest(megabytes), "size": megabytes * len(BLOCK)}


class Body(io.RawIOBase):
    """A body as a file whose length is known.

    Args:
        megabytes: its number of blocks.
    """

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self._megabytes = megabytes
        self._number = 0
        self._rest = memoryview(b"")

    def __len__(self) -> int:
        return self._megabytes * len(BLOCK)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest and self._number < self._megabytes:
            self._rest = memoryview(block(self._number))
            self._number += 1
        chunk = self._rest[: size if size > 0 else len(self._rest)]
        self._rest = self._rest[len(chunk) :]
        return bytes(chunk)
