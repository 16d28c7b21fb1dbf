"""`MachineNetwork`: the machine's own network for clients that are not trusted, less what must not be reached.

Owns the addresses that are blocked. A name is resolved here once, and the connection goes to an address that was
checked.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

_NAT64: Final = ip_network("64:ff9b::/96")
"""Addresses that stand for IPv4 addresses (RFC 6052)."""


class MachineNetwork:
    """Opens connections of the machine, to global addresses alone unless more are allowed.

    Loopback, private, link-local (among them 169.254.169.254, where clouds keep their metadata), multicast and other
    special addresses are blocked.

    Args:
        allow: networks that may be reached though they are not global, such as ``"10.1.0.0/16"``.

    Raises:
        ValueError: a network is none.
    """

    def __init__(self, *, allow: Iterable[str | IPv4Network | IPv6Network] = ()) -> None:
        self._allow = [ip_network(each) for each in allow]

    def is_allowed(self, address: str) -> bool:
        """Whether an address may be reached."""
        where = ip_address(address.partition("%")[0])
        inner = _inner_address(where)
        if any(one in network for one in (where, inner) for network in self._allow if one.version == network.version):
            return True
        return where.is_global and inner.is_global and not where.is_multicast and not inner.is_multicast

    async def resolve(self, host: str, port: int, kind: socket.SocketKind) -> list[str]:
        """Return the addresses of a host that may be reached.

        Raises:
            PermissionError: it has none that may be reached.
            OSError: it has no address.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
        addresses = [str(entry[4][0]) for entry in found]
        allowed = [address for address in dict.fromkeys(addresses) if self.is_allowed(address)]
        if not allowed:
            raise PermissionError(errno.EACCES, f"{host!r} is not on the part of the network that may be reached")
        return allowed

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect by TCP; the addresses of a host are tried in turn. Raises what `resolve` raises, and OSError."""
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        for address in await self.resolve(host, port, socket.SOCK_STREAM):
            try:
                return await loop.create_connection(protocol_factory, address, port)
            except OSError as failed:
                problem = failed
        assert problem is not None
        raise problem

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], *, remote_addr: tuple[str, int]
    ) -> tuple[asyncio.DatagramTransport, Any]:
        """Exchange datagrams with one address. Raises what `resolve` raises, and OSError."""
        host, port = remote_addr
        address = (await self.resolve(host, port, socket.SOCK_DGRAM))[0]
        return await asyncio.get_running_loop().create_datagram_endpoint(protocol_factory, remote_addr=(address, port))


def _inner_address(where: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(where, IPv6Address):
        if where.ipv4_mapped is not None:
            return where.ipv4_mapped
        if where.sixtofour is not None:
            return where.sixtofour
        if where in _NAT64:
            return IPv4Address(int(where) & 0xFFFFFFFF)
    return where
