"""The leases of a DHCPv6 server: which association of which client has which address until when.

Owns the choice of an address: it follows from the client's identifier, so that a client whose lease was forgotten gets
the same again. The number of leases is bounded, and that of one client. The time is an argument everywhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

MAX_LEASES: Final = 65_536
"""Leases at a time; beyond, the one that was not extended for longest is forgotten."""

MAX_PER_CLIENT: Final = 8
"""Leases of one client, beside an address that is reserved for it."""

TRIES: Final = 64
"""Addresses that are looked at for one association."""

MOST_LISTED: Final = 2 * MAX_LEASES
"""Addresses of a pool of which every one is found; of a larger one more than half are always free."""

DECLINE_TIME: Final = 600.0

Client = tuple[bytes, int]
"""Identifier of a client, and number of its association."""


@dataclass(frozen=True, slots=True)
class Dhcp6Lease:
    """An address that a client has.

    Attributes:
        address: the address.
        client: the client's identifier (DUID).
        association: the number of its interface.
        mac: the hardware address in its identifier, or None.
        expires: when it ends, by the event loop's clock.
    """

    address: IPv6Address
    client: bytes
    association: int
    mac: str | None
    expires: float


class LeaseTable:
    """Leases and declined addresses.

    Args:
        first, last: the addresses to lend, both included; None lends none but reserved ones.
        reservations: addresses by hardware address, or by identifier in hexadecimal digits.
        own: addresses that are never lent.
    """

    def __init__(
        self,
        first: IPv6Address | None,
        last: IPv6Address | None,
        reservations: Mapping[str, IPv6Address],
        own: frozenset[IPv6Address],
    ) -> None:
        self._first = int(first) if first is not None else 0
        self._size = int(last) - self._first + 1 if last is not None else 0
        self._reservations = dict(reservations)
        self._barred = own | frozenset(self._reservations.values())
        self._leases: OrderedDict[IPv6Address, Dhcp6Lease] = OrderedDict()  # that extended last comes last
        self._by_client: dict[Client, IPv6Address] = {}
        self._counts: Counter[bytes] = Counter()
        self._declined: OrderedDict[IPv6Address, float] = OrderedDict()
        self._freed: OrderedDict[IPv6Address, None] = OrderedDict()  # that were lent or declined, and are free again
        self._fresh = 0  # of the addresses before this one, counted from the first, no others are free

    def __len__(self) -> int:
        return len(self._leases)

    def leases(self, now: float) -> tuple[Dhcp6Lease, ...]:
        """Return the leases that have not ended, in the order of their addresses."""
        return tuple(sorted((o for o in self._leases.values() if o.expires > now), key=lambda lease: lease.address))

    def reserved(self, client: Client, mac: str | None) -> IPv6Address | None:
        """Return the address that is a client's alone, or None."""
        return self._reservations.get(mac or "") or self._reservations.get(client[0].hex())

    def choose(self, client: Client, mac: str | None, now: float) -> IPv6Address | None:
        """Return an address for an association, or None where there is none; nothing is kept for it."""
        self.expire(now)
        reserved = self.reserved(client, mac)
        if reserved is not None:
            return reserved if self.may_have(reserved, client, mac) else None
        held = self._by_client.get(client)
        if held is not None:
            return held
        if not self._size or self._has_enough(client):
            return None
        digest = hashlib.blake2b(client[0] + client[1].to_bytes(4), digest_size=16).digest()
        begin = int.from_bytes(digest) % self._size
        for step in range(min(TRIES, self._size)):
            address = IPv6Address(self._first + (begin + step * step) % self._size)
            if self.may_have(address, client, mac):
                return address
        return self._any_free()

    def _any_free(self) -> IPv6Address | None:
        """Return a free address, or None. Each is looked at once, however many clients ask."""
        if self._freed:
            return next(iter(self._freed))
        while self._fresh < self._size <= MOST_LISTED:
            address = IPv6Address(self._first + self._fresh)
            if not (address in self._leases or address in self._barred or address in self._declined):
                return address
            self._fresh += 1
        return None

    def _has_ended(self, address: IPv6Address) -> None:
        """An address is not lent any more, or not declined any more."""
        if self._size <= MOST_LISTED and 0 <= int(address) - self._first < self._size and address not in self._barred:
            self._freed[address] = None

    def _has_enough(self, client: Client) -> bool:
        return client not in self._by_client and self._counts[client[0]] >= MAX_PER_CLIENT

    def may_have(self, address: IPv6Address, client: Client, mac: str | None) -> bool:
        """Whether an association may have an address."""
        lease = self._leases.get(address)
        if lease is not None and (lease.client, lease.association) != client:
            return False
        if self.reserved(client, mac) == address:
            return True
        if self._has_enough(client):
            return False
        in_pool = self._first <= int(address) < self._first + self._size
        return in_pool and address not in self._barred and address not in self._declined

    def holds(self, client: Client, address: IPv6Address) -> bool:
        """Whether an association has an address."""
        return self._by_client.get(client) == address

    def grant(self, lease: Dhcp6Lease) -> None:
        """Give an association its address, or extend its lease."""
        client = lease.client, lease.association
        former = self._by_client.get(client)
        if former is not None:
            self.remove(former)
        if len(self._leases) >= MAX_LEASES:
            self.remove(next(iter(self._leases)))
        self._leases[lease.address] = lease
        self._freed.pop(lease.address, None)
        self._by_client[client] = lease.address
        self._counts[lease.client] += 1

    def remove(self, address: IPv6Address) -> Dhcp6Lease | None:
        """End a lease and return it, or None where there is none."""
        lease = self._leases.pop(address, None)
        if lease is not None:
            self._by_client.pop((lease.client, lease.association), None)
            self._has_ended(address)
            self._counts[lease.client] -= 1
            if self._counts[lease.client] <= 0:
                del self._counts[lease.client]
        return lease

    def decline(self, address: IPv6Address, now: float) -> None:
        """Another host has an address: do not lend it for a while."""
        self.remove(address)
        self._declined.pop(address, None)  # so that what was declined last comes last
        self._declined[address] = now + DECLINE_TIME
        self._freed.pop(address, None)
        if len(self._declined) > 1024:
            self._has_ended(self._declined.popitem(last=False)[0])

    def expire(self, now: float) -> None:
        """End what has ended. All leases have the same time, so that those extended first end first."""
        while self._leases and (first := next(iter(self._leases.values()))).expires <= now:
            self.remove(first.address)
        while self._declined and next(iter(self._declined.values())) <= now:
            self._has_ended(self._declined.popitem(last=False)[0])
