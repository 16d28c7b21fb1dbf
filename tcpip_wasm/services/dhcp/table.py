"""The leases of a DHCP server: which client has which address until when, and what is free.

Owns the choice of an address (RFC 2131, section 4.3.1), and the bounds: an address is offered to one client at a time
as long as there are others, offers that no client has requested are reused before an address is refused, and a hardware
address has `MAX_PER_MAC` leases at most. The time is an argument everywhere; it does no input or output.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from math import inf
from typing import Final

MAX_POOL: Final = 65_536
"""Addresses of a pool at most."""

MAX_PER_MAC: Final = 4
"""Leases of one hardware address: a machine that boots by a network card's firmware, iPXE and a system has three."""

OFFER_TIME: Final = 30.0
"""Seconds for which an address that was offered stays with its client, where there are others."""

OFFER_GUARD: Final = 1.0
"""Seconds for which an offer is kept for its client even where there are no other addresses, but for a client that has
asked before: a flood of forged clients must not take offers back from honest ones."""

MAX_RECENT: Final = 16_384
"""Offers that are remembered after they were made to another client."""

DECLINE_TIME: Final = 600.0
"""Seconds for which an address that another host has is not offered, where there are others."""


@dataclass(frozen=True, slots=True)
class DhcpLease:
    """An address that a client has.

    Attributes:
        address: the address.
        mac: the client's hardware address, as ``02:00:00:00:00:01``.
        hostname: its name by its own account, or None.
        expires: when it ends: a time of the event loop's clock, infinity for never.
        identity: what distinguishes the client: its option 61, or hardware type and address.
        renewed: when it was given or extended last, by the same clock.
    """

    address: IPv4Address
    mac: str
    hostname: str | None
    expires: float
    identity: bytes
    renewed: float


@dataclass(frozen=True, slots=True)
class _Offer:
    """An address that waits for a client's request: since when, until when, and whether it has asked before."""

    identity: bytes
    since: float
    until: float
    patient: bool


@dataclass(frozen=True, slots=True)
class Pool:
    """Addresses of one network.

    Attributes:
        first, last: the addresses to lend, both included.
        network: the network that they are in.
        router: the network's default router, or None.
    """

    first: IPv4Address
    last: IPv4Address
    network: IPv4Network
    router: IPv4Address | None

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last


class LeaseTable:
    """Leases, offers and free addresses.

    Args:
        pools: what may be lent.
        reservations: addresses by hardware address, within or outside of the pools.
        excluded: addresses that are never lent, such as the server's own.
    """

    def __init__(
        self, pools: tuple[Pool, ...], reservations: Mapping[str, IPv4Address], excluded: frozenset[IPv4Address]
    ) -> None:
        self.reservations: dict[str, IPv4Address] = dict(reservations)
        self._reserved = frozenset(self.reservations.values())
        self._excluded = excluded
        self._leases: dict[IPv4Address, DhcpLease] = {}
        self._by_client: dict[bytes, IPv4Address] = {}
        self._per_mac: dict[str, int] = {}
        self._offers: OrderedDict[IPv4Address, _Offer] = OrderedDict()
        self._recent: OrderedDict[tuple[bytes, IPv4Address], None] = OrderedDict()  # offers that were made again
        self._offered_to: dict[bytes, IPv4Address] = {}
        self._declined: OrderedDict[IPv4Address, float] = OrderedDict()
        self._fresh: dict[Pool, Iterator[IPv4Address]] = {pool: _addresses(pool) for pool in pools}
        self._used: dict[Pool, OrderedDict[IPv4Address, None]] = {pool: OrderedDict() for pool in pools}
        self._chosen: set[IPv4Address] = set()  # returned by `choose`, and neither offered nor put back yet
        self._previous: OrderedDict[bytes, IPv4Address] = OrderedDict()  # of clients whose lease has ended
        self._ends: list[tuple[float, IPv4Address]] = []

    # --- What is known --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._leases)

    def leases(self, now: float) -> tuple[DhcpLease, ...]:
        """Return the leases, in the order of their addresses."""
        return tuple(sorted((o for o in self._leases.values() if o.expires > now), key=lambda lease: lease.address))

    def lease_of(self, identity: bytes) -> DhcpLease | None:
        """Return the lease of a client, or None."""
        address = self._by_client.get(identity)
        return None if address is None else self._leases[address]

    def next_end(self) -> float:
        """Return when the next lease ends, or earlier; infinity without leases."""
        return self._ends[0][0] if self._ends else inf

    def pool_of(self, address: IPv4Address) -> Pool | None:
        """Return the pool that an address is in, or None."""
        return next((pool for pool in self._used if address in pool), None)

    # --- Choosing -------------------------------------------------------------------------------------------------

    def choose(
        self,
        identity: bytes,
        mac: str,
        requested: IPv4Address | None,
        pool: Pool,
        now: float,
        *,
        patient: bool = False,
    ) -> IPv4Address | None:
        """Return the address to offer to a client; it is no other client's. None where there is none.

        A reservation comes first, then what the client has or had, what it asks for, and what was not used for
        longest. The address is taken out of the free ones, until `offer` or `put_back`. A patient client, which has
        asked before, also gets what was just offered to one that has not.
        """
        self.expire(now)
        reserved = self.reservations.get(mac)
        if reserved is not None and reserved in pool.network:
            return reserved if self._is_for(reserved, identity, mac) else None
        held = self._by_client.get(identity) or self._offered_to.get(identity)
        if held is not None and held in pool and held not in self._reserved:
            return held
        if self._per_mac.get(mac, 0) >= MAX_PER_MAC:
            return None
        for wanted in (self._previous.get(identity), requested):
            if wanted is not None and wanted in pool and self._take(wanted, pool):
                return wanted
        return self._next_free(pool, now, patient)

    def _next_free(self, pool: Pool, now: float, patient: bool) -> IPv4Address | None:
        for address in self._fresh[pool]:
            if self._take(address, pool):
                return address
        used = self._used[pool]
        while used:
            address = next(iter(used))
            if self._take(address, pool):
                return address
            del used[address]
        # In want of free addresses: the oldest offer that no client has requested, the oldest that was declined.
        oldest = next(
            (one for one, offer in self._offers.items() if one in pool and _may_recycle(offer, now, patient)), None
        )
        if oldest is not None:
            former = self._offers[oldest].identity
            self._withdraw(oldest)
            self._recent[former, oldest] = None
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        else:
            oldest = next((one for one in self._declined if one in pool), None)
        if oldest is not None:
            self._declined.pop(oldest, None)
            self._chosen.add(oldest)
        return oldest

    def oldest_silent(self, pool: Pool, now: float, least_age: float) -> DhcpLease | None:
        """Return the lease that was not renewed for longest, or None where all were within so many seconds."""
        candidates = (
            lease
            for lease in self._leases.values()
            if lease.address in pool and lease.address not in self._reserved and lease.renewed <= now - least_age
        )
        return min(candidates, key=lambda lease: (lease.renewed, lease.address), default=None)

    def _is_for(self, address: IPv4Address, identity: bytes, mac: str) -> bool:
        """Whether a reserved address is a client's: all clients of one hardware address share it."""
        lease = self._leases.get(address)
        return lease is None or lease.identity == identity or lease.mac == mac

    def _is_free(self, address: IPv4Address) -> bool:
        blocked = self._leases, self._chosen, self._offers, self._declined, self._excluded, self._reserved
        return not any(address in each for each in blocked)

    def _take(self, address: IPv4Address, pool: Pool) -> bool:
        """Take an address out of the free ones and return True, or return False where it is not free."""
        if not self._is_free(address):
            return False
        self._used[pool].pop(address, None)
        self._chosen.add(address)
        return True

    def put_back(self, address: IPv4Address) -> None:
        """Make an address free again that is neither leased, offered nor declined."""
        self._chosen.discard(address)
        pool = self.pool_of(address)
        if pool is not None and self._is_free(address):
            self._used[pool][address] = None
            self._used[pool].move_to_end(address)

    # --- Changes --------------------------------------------------------------------------------------------------

    def offer(self, address: IPv4Address, identity: bytes, now: float, *, patient: bool = False) -> bool:
        """Keep a chosen address for a client until it requests it; False where another has requested it meanwhile."""
        self._chosen.discard(address)
        lease = self._leases.get(address)
        if lease is not None:
            return lease.identity == identity or address in self._reserved
        self._withdraw(address)
        former = self._offered_to.get(identity)
        if former is not None and former != address:
            self._withdraw(former)
            self.put_back(former)
        self._offers[address] = _Offer(identity, now, now + OFFER_TIME, patient)
        self._offered_to[identity] = address
        return True

    def _withdraw(self, address: IPv4Address) -> None:
        offer = self._offers.pop(address, None)
        if offer is not None and self._offered_to.get(offer.identity) == address:
            del self._offered_to[offer.identity]

    def reject_offer(self, identity: bytes) -> None:
        """The client has chosen another server's offer."""
        address = self._offered_to.get(identity)
        if address is not None:
            self._withdraw(address)
            self.put_back(address)

    def may_have(self, address: IPv4Address, identity: bytes, mac: str, pool: Pool) -> bool:
        """Whether a client may have an address that it requests."""
        reserved = self.reservations.get(mac)
        if reserved is not None and reserved in pool.network:
            return address == reserved and self._is_for(address, identity, mac)
        lease = self._leases.get(address)
        if lease is not None:
            return lease.identity == identity
        offer = self._offers.get(address)
        # An address that was offered to two clients is that of the first to request it, but not where the second has
        # asked for long.
        is_offered = offer is not None and offer.identity != identity
        if is_offered and ((offer and offer.patient) or (identity, address) not in self._recent):
            return False
        if address in self._chosen:  # it is probed for another client
            return False
        if self._by_client.get(identity) is None and self._per_mac.get(mac, 0) >= MAX_PER_MAC:
            return False
        barred = address in self._excluded or address in self._reserved or address in self._declined
        return address in pool and not barred

    def grant(self, lease: DhcpLease) -> None:
        """Give a client its address, or extend its lease; a client's former address becomes free."""
        former = self._by_client.get(lease.identity)
        if former is not None and former != lease.address:
            self._remove(former)
        present = self._leases.get(lease.address)
        if present is not None:
            self._count(present.mac, -1)
            self._by_client.pop(present.identity, None)
        self._withdraw(lease.address)
        pool = self.pool_of(lease.address)
        if pool is not None:
            self._used[pool].pop(lease.address, None)
        self._previous.pop(lease.identity, None)
        self._leases[lease.address] = lease
        self._by_client[lease.identity] = lease.address
        self._count(lease.mac, 1)
        if lease.expires < inf:
            heapq.heappush(self._ends, (lease.expires, lease.address))
            if len(self._ends) > 2 * len(self._leases) + 64:  # most of them are of leases that were renewed
                self._ends = [(one.expires, one.address) for one in self._leases.values() if one.expires < inf]
                heapq.heapify(self._ends)

    def release(self, address: IPv4Address) -> DhcpLease | None:
        """End a lease and return it, or None where there is none; the client may have the address again."""
        lease = self._leases.get(address)
        if lease is not None:
            self._remove(address)
            self._previous[lease.identity] = address
            if len(self._previous) > MAX_POOL:
                self._previous.popitem(last=False)
        return lease

    def _remove(self, address: IPv4Address) -> None:
        lease = self._leases.pop(address)
        self._by_client.pop(lease.identity, None)
        self._count(lease.mac, -1)
        self.put_back(address)

    def _count(self, mac: str, change: int) -> None:
        count = self._per_mac.get(mac, 0) + change
        if count > 0:
            self._per_mac[mac] = count
        else:
            self._per_mac.pop(mac, None)

    def decline(self, address: IPv4Address, now: float) -> None:
        """Another host has an address: do not lend it for a while."""
        self._chosen.discard(address)
        if address in self._leases:
            self._remove(address)
        self._withdraw(address)
        pool = self.pool_of(address)
        if pool is not None:
            self._used[pool].pop(address, None)
            self._declined[address] = now + DECLINE_TIME
            self._declined.move_to_end(address)

    def holds(self, identity: bytes, address: IPv4Address) -> bool:
        """Whether a client has an address, or was offered it."""
        return address in (self._by_client.get(identity), self._offered_to.get(identity))

    def expire(self, now: float) -> list[DhcpLease]:
        """End what has ended: offers, declined addresses and leases; return the leases."""
        for kept in (self._offers, self._declined):
            while kept:
                address = next(iter(kept))
                entry = kept[address]
                if (entry.until if isinstance(entry, _Offer) else entry) > now:
                    break
                self._withdraw(address)
                self._declined.pop(address, None)
                self.put_back(address)
        ended = []
        while self._ends and self._ends[0][0] <= now:
            _, address = heapq.heappop(self._ends)
            lease = self._leases.get(address)
            if lease is not None and lease.expires <= now:
                self.release(address)
                ended.append(lease)
        return ended


def _addresses(pool: Pool) -> Iterator[IPv4Address]:
    for number in range(int(pool.first), int(pool.last) + 1):
        yield IPv4Address(number)


def _may_recycle(offer: _Offer, now: float, patient: bool) -> bool:
    """Whether the address of an offer may be offered to another client."""
    return now - offer.since >= OFFER_GUARD or (patient and not offer.patient)
