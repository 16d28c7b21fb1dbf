"""A cache of bounded size whose entries end by themselves; what has not been used longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Entries with an end.

    Args:
        size: entries at most; 0 keeps nothing.
        clock: the time in seconds, of any clock that does not step back.

    Attributes:
        evicted: entries that went before their time because there was no room.
    """

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self.size = size
        self.evicted: int = 0
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key while it lasts, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Hashable, value: Value, seconds: float) -> None:
        """Keep a value for so many seconds at most."""
        self._entries.pop(key, None)
        if seconds <= 0 or self.size < 1:
            return
        while len(self._entries) >= self.size:
            self._entries.popitem(last=False)
            self.evicted += 1
        self._entries[key] = (self._clock() + seconds, value)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
