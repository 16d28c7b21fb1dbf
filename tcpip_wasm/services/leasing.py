"""What the servers of DHCP and DHCPv6 have in common: an interface, sockets, leases, and how callers name addresses.

It knows neither protocol: messages, and which client gets which address, are the servers'.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, Protocol, TypeVar

from tcpip_wasm.interfaces import Interface
from tcpip_wasm.services.datagrams import Receive, open_datagrams
from tcpip_wasm.services.service import Service
from tcpip_wasm.sockets import UdpTransport
from tcpip_wasm.stack_parts import parts_of_interface

A = TypeVar("A", IPv4Address, IPv6Address)
L = TypeVar("L", covariant=True)
P = TypeVar("P")


class Leases(Protocol[L]):
    """A table of leases, as far as `LeasingServer` uses it."""

    def __len__(self) -> int: ...

    def leases(self, now: float, /) -> tuple[L, ...]: ...


class LeasingServer(Service, Generic[L]):
    """A server on one interface that lends addresses.

    Args:
        interface: the interface.
        max_tasks: see `Service`.
    """

    def __init__(self, interface: Interface, *, max_tasks: int) -> None:
        super().__init__(interface.driver, max_tasks=max_tasks)
        self._interface = interface
        self._parts = parts_of_interface(interface)
        self._transports: list[UdpTransport] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._interface.name}, {sum(map(len, self._tables()))} leases>"

    @property
    def leases(self) -> tuple[L, ...]:
        """The leases that have not ended, in the order of their addresses in each network."""
        now = self._now()
        return tuple(lease for table in self._tables() for lease in table.leases(now))

    def _tables(self) -> Iterable[Leases[L]]:
        """Return the tables of leases, one for each link that is served."""
        raise NotImplementedError

    def _now(self) -> float:
        """Return the event loop's time in seconds."""
        return self._driver.loop.time()

    async def _listen(self, receive: Receive, host: str, port: int, **options: Any) -> UdpTransport:
        """Open a socket that is closed with the server.

        Args:
            receive: called with each datagram.
            host, port: the own address.
            options: further arguments of `open_datagrams`.
        """
        transport = await open_datagrams(
            self._parts, receive, host, port, multicast_interface=self._interface, **options
        )
        self._transports.append(transport)
        return transport

    def _close(self) -> None:
        for transport in self._transports:
            transport.abort()


def address_of_kind(name: str, given: object, kind: type[A]) -> A:
    """Return an address that a caller gave as text or as an object.

    Args:
        name: the argument's, for the message.
        given: what the caller gave.
        kind: `IPv4Address` or `IPv6Address`.

    Raises:
        TypeError: neither text nor such an address.
        ValueError: the text is no such address.
    """
    if isinstance(given, kind):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{name} must be text or an {kind.__name__}, not {type(given).__name__}")
    try:
        return kind(given)
    except ValueError:
        raise ValueError(f"{name}: {given!r} is not an {kind.__name__[:4]} address") from None


def iterable_of(name: str, given: object, wanted: str) -> Iterable[object]:
    """Return what a caller gave, if it is iterable and neither text nor bytes.

    Args:
        name: the argument's, for the message.
        given: what the caller gave.
        wanted: what is accepted, for the message.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be {wanted}, not {given!r}")
    return given


def pools_of(given: object, pool: type[P], kind: type[A]) -> list[P]:
    """Return the pools that a caller named.

    Args:
        given: a pair of addresses, a pool, or several of them.
        pool: the class of pools, which takes a pair as its first two arguments.
        kind: of the addresses.

    Raises:
        TypeError: none of these.
    """
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(o, (str, kind)) for o in given)
    wanted = f"a pair of addresses, a {pool.__name__} or a list of them"
    ones = [given] if is_pair or isinstance(given, pool) else iterable_of("pool", given, wanted)
    pools = []
    for one in ones:
        if not isinstance(one, pool):
            if not isinstance(one, (tuple, list)) or len(one) != 2:
                raise TypeError(f"pool: {one!r} is no pair of addresses")
            one = pool(*one)
        pools.append(one)
    return pools
