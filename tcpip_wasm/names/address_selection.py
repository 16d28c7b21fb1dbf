"""Which address of a name to try first: a small part of RFC 6724, and the interleaving of RFC 8305, section 4.

Pure functions of addresses. What is left of RFC 6724: destinations that a host can reach come before those it cannot
(rule 1), smaller problems of scope are not looked at, and IPv6 comes before IPv4 (rule 6, by the default table).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tcpip_wasm.addresses import Address, IPInterface


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address to try.

    Attributes:
        remote: address of the peer.
        scope: handle of the interface that it belongs to, or 0.
        local: own address, or None.
        local_port: own port, or 0.
    """

    remote: Address
    scope: int = 0
    local: Address | None = None
    local_port: int = 0


def is_reachable(address: Address, own: Iterable[IPInterface]) -> bool:
    """Whether a host with these addresses has one from which this destination could be reached.

    It shares a network with the destination, or both are of a family and of more than local scope: then a router may
    know the way.
    """
    wide = not (address.is_loopback or address.is_link_local)
    for one in own:
        if one.version != address.version:
            continue
        if address in one.network or (wide and not one.ip.is_loopback and not one.ip.is_link_local):
            return True
    # Each interface has a link-local address of its own, which is not among those it was given.
    return address.version == 6 and address.is_link_local


def sort_addresses(addresses: Sequence[Address], own: Sequence[IPInterface]) -> list[Address]:
    """Return addresses in the order in which to try them; among equals, the order given stays."""
    return sorted(addresses, key=lambda address: (not is_reachable(address, own), -address.version))


def interleave(addresses: Sequence[Address], first_count: int = 1) -> list[Address]:
    """Return addresses with the families alternating, so that a family which does not work costs one delay.

    Args:
        addresses: in the order of preference.
        first_count: how many of the first address's family come before they alternate.
    """
    if not addresses:
        return []
    first = [a for a in addresses if a.version == addresses[0].version]
    other = [a for a in addresses if a.version != addresses[0].version]
    mixed, first = first[: first_count - 1], first[first_count - 1 :]
    for at in range(max(len(first), len(other))):
        mixed += first[at : at + 1] + other[at : at + 1]
    return mixed
