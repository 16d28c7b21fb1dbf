"""What transports are given and hand up: the form of the data, how much at once, and how much waits at most.

`ViewProtocol` is the one way in which data is read without a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

HIGH_WATER: Final = 64 * 1024
"""Bytes: asyncio's default for its own sockets. The low-water mark is a quarter of it."""

CHUNK: Final = 65536
"""Bytes of the largest chunk that is delivered: the most common read size, so that most chunks need no division."""

SMALL_PART: Final = 8192
"""Bytes passed to the core in one call at least, even if the previous call accepted fewer."""

UNLIMITED: Final = 2**62


class ViewProtocol(asyncio.BufferedProtocol):
    """A `BufferedProtocol` that can read data where it lies, in the module's memory."""

    def view_received(self, data: memoryview) -> int:
        """Take some of what has arrived, from the front, and return how many bytes it was.

        Args:
            data: bytes, at least one; valid only during this call.
        """
        raise NotImplementedError


def water_marks(high: int | None, low: int | None) -> tuple[int, int]:
    """Return what `set_write_buffer_limits` means by its arguments, as asyncio does: the high and the low mark.

    Raises:
        ValueError: not ``high >= low >= 0``.
    """
    if high is None:
        high = HIGH_WATER if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return high, low


def flat(data: object) -> bytes | memoryview:
    """Return what was given to be written as bytes in a row.

    Raises:
        TypeError: it is not bytes-like.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 and view.c_contiguous else view.tobytes()


def chunks(data: bytes | memoryview) -> Iterator[bytes]:
    """Return data in chunks that are handed up one at a time."""
    for start in range(0, len(data), CHUNK):
        yield bytes(data[start : start + CHUNK])
