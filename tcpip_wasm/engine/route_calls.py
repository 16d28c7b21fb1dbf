"""The calls of a core that concern routing: the table, and whether packets for others are passed on."""

from __future__ import annotations

from tcpip_wasm.addresses import Address, Network
from tcpip_wasm.engine import abi
from tcpip_wasm.engine.calls import Calls


class RouteCalls:
    """Calls on the routing table of a core."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls.call
        self._put_scratch = calls.put_scratch

    def set_forwarding(self, enabled: bool) -> None:
        """Pass on what arrives for others, or drop it."""
        self._call("forwarding", enabled)

    def add(self, network: Network, via: Address | None, interface: int, metric: int) -> int:
        """Add a route, and return the handle of the interface that it leads out by.

        Args:
            network: the destinations.
            via: the gateway; None where they are on the interface's link.
            interface: handle, or 0 for the one whose network the gateway is in.
            metric: the lowest of equally long prefixes wins.

        Raises:
            OSError: ``EEXIST`` for a network and metric that are there, ``ENETUNREACH`` where the gateway is in no
                network of an interface, ``EINVAL`` where it is this stack, ``ENOSPC`` where the table is full.
        """
        gateway = via.packed if via is not None else b""
        self._put_scratch(abi.ROUTE_ADDRESSES.pack(network.network_address.packed, gateway))
        detail = f"route to {network}" + (f" via {via}" if via else "")
        return self._call(
            "route_add", network.version, network.prefixlen, interface, via is not None, metric, detail=detail
        )

    def remove(self, network: Network, metric: int) -> None:
        """Remove a route.

        Raises:
            OSError: ``ESRCH`` where there is none.
        """
        self._put_scratch(abi.ROUTE_ADDRESSES.pack(network.network_address.packed, b""))
        self._call("route_remove", network.version, network.prefixlen, metric, detail=f"route to {network}")
