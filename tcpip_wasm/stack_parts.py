"""What a `NetworkStack` consists of: `StackParts`, for the stack itself and for the packages above it.

Owns how the parts are joined. They are no part of the public API: the stack's methods are; `parts_of` is for this
package's adapters, which open sockets on behalf of programs that never see a stack, and for services.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, ref

from tcpip_wasm.addresses import UNSPECIFIED
from tcpip_wasm.driver import Driver
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.interfaces.drops import DropLog
from tcpip_wasm.interfaces.routing_table import RoutingTable
from tcpip_wasm.interfaces.table import InterfaceTable
from tcpip_wasm.names import HostsTable, Resolver
from tcpip_wasm.names.lookup import Lookup
from tcpip_wasm.names.servers import OpenStream, Server
from tcpip_wasm.sockets.tcp.open_tcp import TcpOpener
from tcpip_wasm.sockets.udp.open_udp import UdpOpener, udp_options


class StackParts:
    """The parts of one stack.

    Args:
        driver: drives the stack's core.
        seed: bytes from which the resolver's ids and ports derive; None takes them from the operating system.
        name_servers: (address, port) pairs; none means the stack's own loopback, port 53.
        open_stream: opens a TCP connection to a name server.
        congestion: the ABI's number of the algorithm that controls congestion.
        ecn: whether connects ask for explicit congestion notification.

    Attributes:
        driver: as given.
        interfaces: the interfaces by name, handle and address.
        routing: the routing table.
        resolver: sends DNS queries.
        lookup: hosts table and resolver together.
        tcp, udp: open sockets.
        drops: logs what is dropped.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        seed: bytes | None,
        name_servers: Iterable[Server | str],
        open_stream: OpenStream,
        congestion: int = 0,
        ecn: bool = False,
    ) -> None:
        self.driver = driver
        self.interfaces: InterfaceTable = InterfaceTable()
        self.resolver: Resolver = Resolver(
            open_datagram=self._open_datagram,
            open_stream=open_stream,
            clock=driver.loop.time,
            seed=seed or os.urandom(16),
            servers=name_servers,
        )
        self.lookup: Lookup = Lookup(HostsTable(), self.resolver, self.interfaces)
        self.routing: RoutingTable = RoutingTable(driver, self.interfaces)
        self.tcp: TcpOpener = TcpOpener(driver, self.routing, congestion, ecn)
        self.udp: UdpOpener = UdpOpener(driver, self.routing, self.lookup)
        self.drops: DropLog = DropLog(driver, self.interfaces)
        driver.monitor = self.drops
        _parts[driver] = ref(self)

    async def _open_datagram(
        self, factory: Callable[[], asyncio.DatagramProtocol], server: Server, source_port: int, /
    ) -> tuple[asyncio.DatagramTransport, Any]:
        """Open a UDP socket for a query of the resolver."""
        local = str(UNSPECIFIED[6 if ":" in server[0] else 4]), source_port
        return await self.udp.endpoint(factory, local, server, 0, udp_options(self.driver))

    def learn_name_servers(self, interface: Interface) -> None:
        """Hand the name servers of an interface, which DHCP or a router gave, to the resolver; none forgets them."""
        servers = [str(server) for server in interface.name_servers]
        if not servers:
            self.resolver.forget(interface.name)
            return
        with suppress(ValueError):  # a search domain that came by the wire and is no name: then the servers alone
            self.resolver.learn(interface.name, servers, interface.search)
            return
        self.resolver.learn(interface.name, servers)


_parts: Final[WeakKeyDictionary[Driver, ref[StackParts]]] = WeakKeyDictionary()
"""The parts by driver, for what is given an interface alone. Parts hold their driver: held from here, none would go."""


def parts_of_interface(interface: Interface) -> StackParts:
    """Return the parts of the stack that an interface belongs to.

    Raises:
        StackError: the stack is gone.
    """
    interface.driver.check()
    parts = _parts[interface.driver]()
    assert parts is not None, "a stack holds its parts"
    return parts


class HasParts(Protocol):
    """A `NetworkStack`, which this module lies below."""

    _parts: StackParts


def parts_of(stack: HasParts) -> StackParts:
    """Return the parts of a stack."""
    return stack._parts  # noqa: SLF001  this function is what other modules use instead
