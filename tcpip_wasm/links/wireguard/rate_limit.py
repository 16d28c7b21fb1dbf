"""Limits of the work that handshakes cause: when cookies are asked for, and how often one source may come.

Owns the counts of one interface. Signatures of MACs are cheap; what is limited are exchanges of keys, some 200 µs each.
"""

from __future__ import annotations

from math import inf
from typing import Final

HANDSHAKES_PER_SECOND: Final = 50
"""Handshake messages that are processed without a cookie."""

_PER_SOURCE: Final = 20.0
_BURST: Final = 5.0
_SOURCES: Final = 4096
"""Sources that are remembered; more than these a second have no room, and each of them has proved its address."""


class LoadMeter:
    """Whether so many handshakes arrive that senders must prove their address."""

    def __init__(self) -> None:
        self._began = -inf
        self._count = 0
        self._until = -inf

    def is_under_load(self, now: float) -> bool:
        """Count a handshake message with a valid mac1; return whether it needs a cookie."""
        if now - self._began >= 1.0:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > HANDSHAKES_PER_SECOND:
            self._until = now + 1.0
        return now < self._until


class SourceLimit:
    """A token bucket for each source: 20 messages a second, 5 at once."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, tuple[float, float]] = {}  # tokens, and when they were counted

    def allows(self, source: bytes, now: float) -> bool:
        """Take a token of a source, if there is one.

        Args:
            source: 4 bytes of an IPv4 address, or 8 of an IPv6 address: one host has the rest.
            now: seconds.
        """
        buckets = self._buckets
        tokens, since = buckets.pop(source, (_BURST, now))
        tokens = min(_BURST, tokens + (now - since) * _PER_SOURCE)
        allowed = tokens >= 1.0
        # The first is the one that came longest ago: after a quarter of a second its bucket is full, and says nothing.
        while len(buckets) >= _SOURCES:
            first = next(iter(buckets))
            if now - buckets[first][1] < _BURST / _PER_SOURCE:
                return False
            del buckets[first]
        buckets[source] = (tokens - allowed, now)
        return allowed
