"""The routing table of a stack, as users have it: what was added, and what the addresses of interfaces imply.

The module decides by a table of its own; this is its list with names. Owns the reading of networks and gateways.

The reasons are in docs/explanation/bridges-routers.md.
"""

from __future__ import annotations

import errno
import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final

from tcpip_wasm.addresses import Address, Host, Network, address_of, without_scope
from tcpip_wasm.arguments import check_int
from tcpip_wasm.driver import Driver
from tcpip_wasm.errors import IcmpError, NetworkError, network_error
from tcpip_wasm.interfaces.interface import MOST_NAMED, Interface, check_interface, lost_frames
from tcpip_wasm.interfaces.table import InterfaceTable

MAX_METRIC: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a network.

    Attributes:
        network: the destinations; ``0.0.0.0/0`` or ``::/0`` is the default.
        via: the gateway, or None where the network is on the interface's link.
        interface: what packets leave by.
        metric: the lowest of equally long prefixes wins.
        connected: whether an address of the interface implies it.
    """

    network: Network
    via: Address | None
    interface: Interface
    metric: int = 0
    connected: bool = False


class RoutingTable:
    """The routes of a stack.

    Args:
        driver: drives the stack's core.
        interfaces: the stack's interfaces.
    """

    def __init__(self, driver: Driver, interfaces: InterfaceTable) -> None:
        self._driver = driver
        self.interfaces: InterfaceTable = interfaces
        self._added: list[Route] = []

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that addresses imply first, then those that were added, as they were."""
        return (
            *(
                Route(address.network, None, interface, connected=True)
                for interface in self.interfaces
                for address in interface.addresses
                if address.network.prefixlen < address.max_prefixlen
            ),
            *self._added,
        )

    def add(
        self,
        network: str | Network,
        via: Host | None,
        interface: Interface | None,
        metric: int,
    ) -> Route:
        """Add a route: see `NetworkStack.add_route`."""
        self._driver.check()
        destination = _network(network)
        gateway, interface = self._gateway(via, destination, interface)
        if interface is not None:
            self._check_interface(interface)
        elif gateway is None:
            raise ValueError(f"route to {destination}: it needs via, an interface or both")
        elif gateway.is_link_local and gateway.version == 6:
            raise ValueError(f"via: {gateway} is link-local, and needs an interface")
        check_int("metric", metric, 0, MAX_METRIC)
        if gateway is not None and self.interfaces.is_own(gateway):
            raise ValueError(f"via: {gateway} is an address of this host")
        handle = self._driver.core.routes.add(destination, gateway, interface.handle if interface else 0, metric)
        leaves_by = self.interfaces.by_handle(handle)
        assert leaves_by is not None
        route = Route(destination, gateway, leaves_by, metric)
        self._added.append(route)
        return route

    def remove(
        self,
        network: str | Network,
        via: Host | None,
        interface: Interface | None,
        metric: int | None,
    ) -> None:
        """Remove a route: see `NetworkStack.remove_route`."""
        self._driver.check()
        destination = _network(network)
        gateway, interface = self._gateway(via, destination, interface)
        if metric is not None:
            check_int("metric", metric, 0, MAX_METRIC)
        fitting = [
            route
            for route in self._added
            if route.network == destination
            and (gateway is None or route.via == gateway)
            and (interface is None or route.interface is interface)
            and (metric is None or route.metric == metric)
        ]
        if not fitting:
            raise network_error(errno.ESRCH, f"route to {destination}")
        route = min(fitting, key=lambda one: one.metric)
        self._driver.core.routes.remove(route.network, route.metric)
        self._added.remove(route)

    def forget(self, interface: Interface) -> None:
        """The interface is gone, and the module has dropped its routes."""
        self._added = [route for route in self._added if route.interface is not interface]

    def check(self, remote: Address, port: int, scope: int) -> None:
        """Raise where a connect would leave by a dead end, and wait for answers that cannot come.

        Routers that were advertised stand in no table here: what has no other route is not looked at.

        Args:
            remote, port: where it is to lead.
            scope: handle of the interface that a link-local address belongs to, or 0.

        Raises:
            OSError: ``ENETUNREACH``.
        """
        for interface in self.interfaces:  # every connect passes here
            if interface._dead_end is not None:  # noqa: SLF001  for this package alone: interfaces are public
                break
        else:
            return
        if self.interfaces.is_own(remote):
            return
        way = self._way(remote, scope)
        if way is not None and way._dead_end is not None:  # noqa: SLF001  for this package alone: interfaces are public
            raise network_error(errno.ENETUNREACH, f"connect to {remote}:{port}: {way._dead_end}")  # noqa: SLF001  for this package alone: interfaces are public

    def _way(self, remote: Address, scope: int) -> Interface | None:
        """Return the interface that packets for an address leave by, or None where this table has no route."""
        if scope:
            return self.interfaces.by_handle(scope)
        fitting = [route for route in self.routes if remote in route.network]
        best = max(fitting, key=lambda one: (one.network.prefixlen, one.connected, -one.metric), default=None)
        return best.interface if best is not None else None

    def explained(self, error: NetworkError, remote: Address | None, scope: int = 0) -> NetworkError:
        """Return an error of a call with the cause that this table shows.

        The text of ``ENETUNREACH`` gets that a link-local address needs a scope, or which networks there are; that of
        a time-out, that nothing is attached to the interface by which packets left.

        Args:
            error: what the call raised.
            remote: where it was to lead; None for a name.
            scope: handle of the interface that a link-local address belongs to, or 0.
        """
        if isinstance(error, IcmpError):
            return error  # it names the host that has answered
        lacks_scope = remote is not None and remote.version == 6 and remote.is_link_local and not scope
        if error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH):
            way = None if remote is None else self._way(remote, scope)
            why = lost_frames([way] if way is not None else self.interfaces)
            if lacks_scope and all(interface.type == "loopback" for interface in self.interfaces):
                why = self._scope_needed(remote)
            return error if why is None else type(error)(error.errno, f"{error.strerror}: {why}")
        if error.errno != errno.ENETUNREACH or remote is None:
            return error
        if lacks_scope:
            return NetworkError(error.errno, f"{error.strerror}: {self._scope_needed(remote)}")
        if any(remote in route.network for route in self.routes):
            return error  # something else, or a broadcast
        known = [
            f"{interface.name} has {address}"
            for interface in self.interfaces
            for address in interface.addresses
            if interface.type != "loopback" and address.version == remote.version
        ]
        more = [f"and {len(known) - MOST_NAMED} more"] if len(known) > MOST_NAMED else []
        why = ", ".join(known[:MOST_NAMED] + more) or f"no interface has an IPv{remote.version} address"
        return NetworkError(error.errno, f"{error.strerror}: no route, {why}")

    def _scope_needed(self, remote: object) -> str:
        # RFC 4007, section 6: such an address names no host without the zone in which it is valid.
        names = [interface.name for interface in self.interfaces if interface.type != "loopback"]
        if not names:
            return f"{remote} is link-local, and the stack has no interface but its loopback"
        more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
        return (
            f"{remote} is link-local and needs the interface as its scope, such as {remote}%{names[0]}; "
            f"the stack has {', '.join(names[:MOST_NAMED] + more)}"
        )

    def _gateway(
        self,
        via: Host | None,
        network: Network,
        interface: Interface | None,
    ) -> tuple[Address | None, Interface | None]:
        """Return the gateway and the interface, which the scope of a link-local gateway may name."""
        if via is None:
            return None, interface
        gateway = address_of("via", via)
        if gateway.version != network.version:
            raise ValueError(f"via: {gateway} and {network} are of different families")
        if gateway.is_multicast or gateway.is_unspecified or gateway.is_loopback:
            raise ValueError(f"via: {gateway} is not the address of a neighbour")
        if isinstance(gateway, IPv6Address) and gateway.scope_id is not None:
            scope = self.interfaces.by_scope(gateway.scope_id)
            if scope is None or interface not in (None, scope):
                raise ValueError(f"via: {gateway} names no interface of this stack, or another than {interface!r}")
            return without_scope(gateway), scope
        return gateway, interface

    def _check_interface(self, interface: Interface) -> None:
        check_interface("interface", interface, self._driver)


def _network(network: str | Network) -> Network:
    if isinstance(network, (IPv4Network, IPv6Network)):
        return network
    if not isinstance(network, str):
        raise TypeError(f"network must be text or a network object, not {type(network).__name__}")
    try:
        return ipaddress.ip_network(network)
    except ValueError as error:
        raise ValueError(f"network: {error}") from None
