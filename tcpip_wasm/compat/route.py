"""Which destinations go to the stack: networks, name patterns, or a predicate.

Knows text and addresses, and nothing of stacks or loops.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from tcpip_wasm.addresses import Address, Network, without_mapping

RouteLike = Callable[[str], bool] | Iterable[str | Network] | str | None
"""What `route=` accepts: a predicate on hosts, networks and name patterns, one of them, or None for everything."""

ANY_ADDRESS: Final = "0.0.0.0"
"""The host that a predicate receives where a program names none, to listen on all addresses."""

MAX_LEARNT: Final = 4096
"""How many addresses of names are remembered; the oldest is forgotten first."""

_PATTERN: Final = re.compile(r"[\w*?\[\]!.-]+")


def host_text(host: Any) -> str:
    """Return a host as text: ``""`` for None; bytes that are not ASCII are replaced, and match nothing."""
    if isinstance(host, (bytes, bytearray)):
        return bytes(host).decode("ascii", "replace")
    return "" if host is None else str(host)


def literal(host: str) -> Address | None:
    """Return a host that is an address as that address, an IPv4-mapped IPv6 one as IPv4; None for a name."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return without_mapping(address)


class Route:
    """Decides which hosts are the stack's.

    Args:
        chosen: see `RouteLike`. A pattern is matched against a whole name, without regard to case: ``*`` is any text.

    Raises:
        ValueError: an entry is neither a network nor a pattern of names.
        TypeError: an entry is of another type.
    """

    def __init__(self, chosen: RouteLike = None) -> None:
        self._predicate = chosen if callable(chosen) else None
        self._everything = chosen is None
        self._networks: list[Network] = []
        self._patterns: list[str] = []
        self._learnt: OrderedDict[str, None] = OrderedDict()
        if chosen is None or callable(chosen):
            return
        for entry in [chosen] if isinstance(chosen, str) else chosen:
            self._add(entry)

    def _add(self, entry: str | Network) -> None:
        if isinstance(entry, (IPv4Network, IPv6Network)):
            self._networks.append(entry)
            return
        if not isinstance(entry, str):
            raise TypeError(f"route: {entry!r} is neither text nor an ipaddress network")
        try:
            self._networks.append(ip_network(entry))
        except ValueError:
            if "/" in entry or not _PATTERN.fullmatch(entry):
                raise ValueError(f"route: {entry!r} is neither a network nor a pattern of names") from None
            self._patterns.append(entry.lower().rstrip("."))

    @property
    def takes_everything(self) -> bool:
        """Whether every destination is the stack's."""
        return self._everything

    def takes(self, host: str) -> bool:
        """Return whether a host, an address or a name, is the stack's."""
        if self._everything:
            return True
        if host in self._learnt:
            return True
        if self._predicate is not None:
            return bool(self._predicate(host))
        address = literal(host)
        if address is not None:
            return any(address in network for network in self._networks if network.version == address.version)
        name = host.lower().rstrip(".")
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def learn(self, address: str) -> None:
        """Remember an address that the stack resolved a name to: programs resolve first, then connect."""
        if not self._everything:
            self._learnt[address] = None
            self._learnt.move_to_end(address)
            if len(self._learnt) > MAX_LEARNT:
                self._learnt.popitem(last=False)
