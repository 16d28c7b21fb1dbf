"""What all UDP sockets of the stack have in common: `UdpHandle` and `DatagramQueue`.

Owns how a handle of the core is registered and closed, and what a waiting datagram counts for.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Final, Generic, TypeVar

from tcpip_wasm.driver import Driver, Handler
from tcpip_wasm.errors import StackError

T = TypeVar("T")

QUEUE_BYTES: Final = 1024 * 1024
"""Bytes of datagrams that wait in one direction of a socket at most."""

OVERHEAD: Final = 64
"""Bytes that a waiting datagram counts for beside its own, so that empty ones are bounded too."""


class UdpHandle:
    """The handle of a UDP socket of the core.

    Args:
        driver: the stack's driver.
        number: the handle.
        handler: takes its events from now on.

    Attributes:
        number: as given.
    """

    __slots__ = ("_driver", "_open", "number")

    def __init__(self, driver: Driver, number: int, handler: Handler) -> None:
        self._driver = driver
        self.number: int = number
        self._open = True
        driver.handlers[number] = handler

    def close(self) -> None:
        """Close the core's socket: its groups are left, and what it sent still leaves. Idempotent."""
        if not self._open or self._driver.error is not None:
            return
        self._open = False
        self._driver.handlers.pop(self.number, None)
        with suppress(StackError):  # it has trapped, which the next poll reports
            self._driver.core.udp.close(self.number)
        self._driver.wake()


class DatagramQueue(Generic[T]):
    """Datagrams that wait, bounded by their bytes.

    Args:
        limit: bytes, with the overhead of each.

    Attributes:
        size: bytes that wait, with the overhead of each.
    """

    __slots__ = ("_items", "_limit", "size")

    def __init__(self, limit: int = QUEUE_BYTES) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._limit = limit
        self.size: int = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, length: int) -> bool:
        """Append a datagram of so many bytes and return True, or return False where the queue is full."""
        size = length + OVERHEAD
        if self.size + size > self._limit:
            return False
        self.size += size
        self._items.append((item, size))
        return True

    def first(self) -> T:
        """Return the datagram at the front, which stays there."""
        return self._items[0][0]

    def take(self) -> T:
        """Remove the datagram at the front and return it."""
        item, size = self._items.popleft()
        self.size -= size
        return item

    def clear(self) -> None:
        """Remove all."""
        self._items.clear()
        self.size = 0
