"""What other hosts have announced, for as long as it holds (RFC 6762, section 10)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from tcpip_wasm.services.mdns.wire import Labels, Record

MAX_KEYS: Final = 4096
"""Names and types that are kept; what was not used for longest goes first."""

MAX_RECORDS: Final = 512
"""Records of one name and type."""

FLUSH_DELAY: Final = 1.0
"""Seconds for which records stay that a unique one has replaced, or that were withdrawn (section 10.1 and 10.2)."""

MAX_TTL: Final = 75 * 60


@dataclass(frozen=True, slots=True)
class Kept:
    """A record of another host.

    Attributes:
        record: the record.
        since, until: when it arrived, and when it ends.
    """

    record: Record
    since: float
    until: float


class MdnsCache:
    """Records of other hosts.

    Args:
        clock: the loop's time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[Labels, int], list[Kept]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, record: Record) -> bool:
        """Keep a record, in place of others where it is unique; return whether it is news."""
        now = self._clock()
        kept = [one for one in self._kept.pop(record.key, []) if one.until > now]
        same = next((one for one in kept if one.record.is_same(record)), None)
        if same is None and record.ttl == 0:
            self._store(record.key, kept)
            return False
        others = [one for one in kept if one is not same]
        if record.unique:  # but not what arrived just now: of the same message, or of another one of its set
            others = [
                one if now - one.since <= FLUSH_DELAY else replace(one, until=min(one.until, now + FLUSH_DELAY))
                for one in others
            ]
        seconds = min(record.ttl, MAX_TTL) or FLUSH_DELAY
        self._store(record.key, [*others[-MAX_RECORDS + 1 :], Kept(record, now, now + seconds)])
        return same is None

    def _store(self, key: tuple[Labels, int], kept: list[Kept]) -> None:
        if kept:
            self._kept[key] = kept
            if len(self._kept) > MAX_KEYS:
                self._kept.popitem(last=False)

    def get(self, name: Labels, rdtype: int) -> list[Kept]:
        """Return the records of a name, in lower case, and type that have not ended."""
        now = self._clock()
        kept = self._kept.get((name, rdtype))
        if kept is None:
            return []
        kept[:] = [one for one in kept if one.until > now]
        if not kept:
            del self._kept[name, rdtype]
            return []
        self._kept.move_to_end((name, rdtype))
        return list(kept)

    def known(self, name: Labels, rdtype: int) -> Iterator[Record]:
        """Yield the records to name in a query for them: those with more than half of their time left (section 7.1)."""
        now = self._clock()
        for one in self.get(name, rdtype):
            if one.until - now > (one.until - one.since) / 2:
                yield replace(one.record, ttl=int(one.until - now), unique=False)
