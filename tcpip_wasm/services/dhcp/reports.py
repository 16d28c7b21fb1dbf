"""What a DHCP server reports: events, and counters."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(slots=True)
class DhcpStatistics:
    """What a server counted.

    Attributes:
        received: messages of clients.
        malformed: datagrams that are none.
        dropped: messages that got no reply because too many were under way, or their network has no pool.
        offers, acks, naks: replies.
        declined: addresses that clients found in use.
        conflicts: addresses that a probe found in use.
        exhausted: requests for which no address was left.
        reclaimed: leases that were taken from clients which no longer answer, for others.
    """

    received: int = 0
    malformed: int = 0
    dropped: int = 0
    offers: int = 0
    acks: int = 0
    naks: int = 0
    declined: int = 0
    conflicts: int = 0
    exhausted: int = 0
    reclaimed: int = 0


@dataclass(frozen=True, slots=True)
class DhcpEvent:
    """Something happened to an address.

    Attributes:
        kind: ``"offer"``, ``"lease"``, ``"renew"``, ``"nak"``, ``"release"``, ``"expire"``, ``"decline"``,
            ``"conflict"`` or ``"reclaim"``.
        address: the address.
        mac: the client's hardware address; of a conflict that of the client which would have got it.
        hostname: the client's name, or None.
        time: when, by the event loop's clock.
    """

    kind: str
    address: IPv4Address
    mac: str
    hostname: str | None
    time: float
