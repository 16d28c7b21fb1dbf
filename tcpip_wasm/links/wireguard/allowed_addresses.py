"""Which peer an address belongs to: the longest prefix of the peers' allowed addresses.

Owns the prefixes of both families and a bounded cache of answers. The same table decides to which peer a packet goes
and whether a packet may come from a peer. Must not know what a peer is.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final, Generic, TypeVar

T = TypeVar("T")

Prefix = IPv4Network | IPv6Network
_CACHED: Final = 4096
"""Addresses whose peer is remembered. A scan of addresses empties the cache and costs lookups, not memory."""


class AllowedAddresses(Generic[T]):
    """A table of prefixes, each of which belongs to one owner at a time."""

    def __init__(self) -> None:
        self._prefixes: dict[tuple[int, int], dict[int, T]] = {}  # by bytes of an address and length
        self._lengths: dict[int, list[int]] = {4: [], 16: []}
        self._cache: dict[bytes, T | None] = {}

    def add(self, prefix: Prefix, owner: T) -> None:
        """Give a prefix to an owner; another one loses it, as with `wg`."""
        size = prefix.max_prefixlen // 8
        entries = self._prefixes.setdefault((size, prefix.prefixlen), {})
        entries[int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)] = owner
        self._changed()

    def remove_owner(self, owner: T) -> None:
        """Remove all prefixes of an owner."""
        for entries in self._prefixes.values():
            for value in [value for value, each in entries.items() if each is owner]:
                del entries[value]
        self._changed()

    def _changed(self) -> None:
        self._cache.clear()
        for size, lengths in self._lengths.items():
            used = (length for (bits, length), entries in self._prefixes.items() if bits == size and entries)
            lengths[:] = sorted(used, reverse=True)

    def find(self, address: bytes) -> T | None:
        """Return the owner of an address of 4 or 16 bytes, or None."""
        cache = self._cache
        try:
            return cache[address]
        except KeyError:
            pass
        size = len(address)
        value, bits = int.from_bytes(address), size * 8
        found: T | None = None
        for length in self._lengths[size]:
            found = self._prefixes[size, length].get(value >> (bits - length))
            if found is not None:
                break
        if len(cache) >= _CACHED:
            cache.clear()
        cache[address] = found
        return found
