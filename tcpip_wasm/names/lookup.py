"""Hosts as programs write them: an address, a name in the hosts table, or a name to query.

Owns the order in which a name's addresses are returned, and the form of `socket.getaddrinfo`'s results. Service names
come from a built-in list, not from the machine's ``/etc/services``.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, Protocol, cast

from tcpip_wasm.addresses import (
    LOOPBACK,
    SOCKET_FAMILIES,
    UNSPECIFIED,
    VERSIONS,
    Address,
    Endpoint,
    Host,
    c_text,
    destination,
    with_scope,
)
from tcpip_wasm.arguments import check_port
from tcpip_wasm.errors import MalformedHostError, NameResolutionError
from tcpip_wasm.interfaces.table import InterfaceTable, plain_endpoint
from tcpip_wasm.names.address_selection import Candidate, interleave, sort_addresses
from tcpip_wasm.names.answer import Found
from tcpip_wasm.names.hostname import host_name, is_local
from tcpip_wasm.names.hosts import HostsTable
from tcpip_wasm.names.resolver import Resolver

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]

LOCALHOST: Final = tuple(LOOPBACK.values())
"""IPv4 comes first, unlike RFC 6724: a UDP sender does not try the next address, and most servers listen on IPv4."""

SERVICES: Final = dict(
    [
        *[("echo", 7), ("discard", 9), ("ftp", 21), ("ssh", 22), ("telnet", 23), ("smtp", 25), ("domain", 53)],
        *[("http", 80), ("pop3", 110), ("ntp", 123), ("imap", 143), ("snmp", 161), ("ldap", 389), ("https", 443)],
    ]
)
_SERVICE_NAMES: Final = {port: name for name, port in SERVICES.items()}

_KINDS: Final = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
)


class LocalNames(Protocol):
    """Finds names below ``.local`` without a server (RFC 6762, section 3)."""

    def addresses(self, name: str, versions: Sequence[int], /) -> Awaitable[tuple[Address, ...]]:
        """Return the addresses of a name; raises NameResolutionError where no host has it."""


class Lookup:
    """Turns what callers write for a host into addresses, for one stack.

    Args:
        hosts: its hosts table.
        resolver: queries name servers.
        interfaces: its interfaces, which have own addresses and are the scopes of link-local ones.

    Attributes:
        local: find names below ``.local``, the first before the others; without one, servers are asked for these, too.
    """

    def __init__(self, hosts: HostsTable, resolver: Resolver, interfaces: InterfaceTable) -> None:
        self.hosts = hosts
        self.resolver = resolver
        self._interfaces = interfaces
        self.local: list[LocalNames] = []

    # --- Hosts ----------------------------------------------------------------------------------------------------

    async def endpoints(
        self, host: Host, *, family: int = 0, flags: int = 0, impatient: bool = False
    ) -> list[Endpoint]:
        """Return the addresses of a host with their scopes, those to try first at the front.

        An address is returned at once, without a loop iteration or a query. A name is looked up.

        Raises: what `InterfaceTable.parse` and `Resolver.addresses` raise; ValueError also for an address of another
            family.
        """
        numeric = self._interfaces.parse(host)
        if numeric is not None:
            if numeric[0].version not in VERSIONS[family]:
                raise MalformedHostError(f"host: {host!s} is an address of another family")
            return [plain_endpoint(numeric)]
        if flags & socket.AI_NUMERICHOST:
            raise NameResolutionError(socket.EAI_NONAME, f"{host}: not an IP address")
        found = await self._find(cast(str, host), family, impatient)
        return [plain_endpoint(endpoint) for endpoint in self._scoped(found)]

    async def first(self, host: str, family: int = 0) -> str:
        """Return the first address of a name, with its scope, as text. Raises what `endpoints` raises."""
        return with_scope(*(await self.endpoints(host, family=family))[0])

    async def pair(self, local: Any, remote: Any, family: int = 0) -> tuple[Any, Any]:
        """Return the (host, port) tuples of a socket's two ends with addresses in place of names, of one family.

        Other values, and numeric addresses, are returned unchanged: opening the socket reports what is wrong with them.
        Raises what `endpoints` raises.
        """
        names = [self._is_name(end) for end in (local, remote)]
        if names[0]:
            family_of_remote = 0 if names[1] or not remote else self._family(remote[0])
            local = (await self.first(local[0], family or family_of_remote), *local[1:])
        if names[1]:
            wanted = family or (self._family(local[0]) if local else 0)
            remote = (await self.first(remote[0], wanted), *remote[1:])
        return local, remote

    def _is_name(self, end: Any) -> bool:
        if not isinstance(end, (tuple, list)) or not end or not isinstance(end[0], str) or end[0] in ("", "*"):
            return False
        return self._interfaces.parse(end[0]) is None

    def _family(self, host: Any) -> int:
        if host in (None, "", "*"):
            return 0
        numeric = self._interfaces.parse(host)
        return 0 if numeric is None else int(SOCKET_FAMILIES[plain_endpoint(numeric)[0].version])

    async def candidates(
        self,
        host: Host | tuple[Host, ...],
        local_addr: tuple[Host, int] | None = None,
        *,
        family: int = 0,
        flags: int = 0,
        delay: float | None = None,
        turns: int | None = None,
    ) -> list[Candidate]:
        """Return the addresses of a peer in the order in which to try them, each with an own address that fits.

        Args:
            host: the peer, or several addresses of it.
            local_addr: own host and port.
            family, flags: see `endpoints`.
            delay, turns: ``happy_eyeballs_delay`` and ``interleave`` of asyncio.

        Raises: what `endpoints` raises; ValueError also where no own address fits.
        """
        if isinstance(host, tuple):
            remotes = [self._interfaces.resolve(one) for one in host]
        else:
            remotes = await self.endpoints(host, family=family, flags=flags, impatient=delay is not None)
        remotes = [(destination(address), scope) for address, scope in remotes]
        if turns is None:
            turns = 0 if delay is None else 1
        if turns and len(remotes) > 1:
            scopes = dict(remotes)
            remotes = [(address, scopes[address]) for address in interleave([a for a, _ in remotes], turns)]
        if local_addr is None:
            return [Candidate(remote, scope) for remote, scope in remotes]
        locals_ = await self.endpoints(local_addr[0], flags=flags)
        own = {local.version: (local, scope) for local, scope in reversed(locals_)}
        fitting = [(remote, scope) for remote, scope in remotes if remote.version in own]
        if not fitting:
            raise ValueError(f"local_addr: {local_addr[0]} and {host} are of different families")
        candidates = []
        for remote, scope in fitting:
            local, local_scope = own[remote.version]
            candidates.append(Candidate(remote, scope or local_scope, local, local_addr[1]))
        return candidates

    async def listening(self, host: Host | Iterable[Host] | None) -> list[tuple[Address | None, int]]:
        """Return the addresses to listen on, each with the handle of its scope or 0; None among them is all of them.

        Raises: what `endpoints` raises.
        """
        hosts: list[Any] = [host] if isinstance(host, str) or not isinstance(host, Iterable) else list(host)
        addresses: list[tuple[Address | None, int]] = []
        for one in hosts:
            addresses += [(None, 0)] if one in (None, "", "*") else await self.endpoints(one)
        return list(dict.fromkeys(addresses))

    async def _find(self, host: str, family: int, impatient: bool = False) -> Found:
        name, own, versions = host_name(host), self._interfaces.own_addresses(), VERSIONS[family]
        if name in self.hosts:
            found = Found(self.hosts[name], self.hosts.canonical(name))
        elif is_local(name):
            # Only what this stack has; where it has neither, the attempt's error reports what is wrong.
            has = tuple(a for a in LOCALHOST if any(a in one.network for one in own))
            return _of(Found(has or LOCALHOST[:1], name), versions, host)
        elif self.local and name.endswith(".local"):
            found = Found(await self.local[0].addresses(name, versions), name)
        else:
            found = await self.resolver.addresses(host, family=family, impatient=impatient)
        return _of(Found(tuple(sort_addresses(found.addresses, own)), found.canonical), versions, host)

    def _scoped(self, found: Found) -> list[Endpoint]:
        return [self._interfaces.parse(address) or (address, 0) for address in found.addresses]

    # --- What the socket module calls them ------------------------------------------------------------------------

    async def getaddrinfo(
        self, host: Host | bytes | None, port: int | str | bytes | None, family: int, kind: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        """As `asyncio.loop.getaddrinfo`; `NetworkStack.getaddrinfo` has what differs."""
        if family not in VERSIONS:
            raise NameResolutionError(socket.EAI_FAMILY, f"ai_family not supported: {family}")
        kinds = [one for one in _KINDS if (not kind or one[0] == kind) and (not proto or one[1] == proto)]
        if not kinds:
            raise NameResolutionError(socket.EAI_SOCKTYPE, f"ai_socktype not supported: {kind} with protocol {proto}")
        if host is None and port is None:
            raise NameResolutionError(socket.EAI_NONAME, "Name or service not known: neither host nor port")
        number = port_number(port, flags)
        canonical, endpoints = await self._info_endpoints(host, family, flags)
        infos: list[AddressInfo] = []
        for address, scope in endpoints:
            where: tuple[Any, ...] = (c_text(address), number)
            if address.version == 6:
                where += (0, scope)
            for one, protocol in kinds:
                infos.append((SOCKET_FAMILIES[address.version], one, protocol, canonical, where))
                canonical = ""  # it stands in the first entry alone
        return infos

    async def _info_endpoints(self, host: Host | bytes | None, family: int, flags: int) -> tuple[str, list[Endpoint]]:
        """Return the canonical name, if that was wanted, and addresses with their scopes."""
        versions = VERSIONS[family]
        if isinstance(host, (bytes, bytearray)):
            host = host.decode("ascii")
        if host is None or host == "":
            own = UNSPECIFIED if flags & socket.AI_PASSIVE else LOOPBACK
            return "", [(own[version], 0) for version in versions]
        numeric = self._interfaces.parse(host)
        wants_canonical = bool(flags & socket.AI_CANONNAME)
        if numeric is not None:
            if numeric[0].version not in versions:
                raise NameResolutionError(
                    getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME), f"{host}: an address of another family"
                )
            return str(host) if wants_canonical else "", [numeric]
        assert isinstance(host, str)
        if flags & socket.AI_NUMERICHOST:
            raise NameResolutionError(socket.EAI_NONAME, f"Name or service not known: {host!r} is not numeric")
        found = await self._find(host, family)
        return found.canonical if wants_canonical else "", self._scoped(found)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """As `asyncio.loop.getnameinfo`; `NetworkStack.getnameinfo` has what differs."""
        if not isinstance(sockaddr, tuple) or not 2 <= len(sockaddr) <= 4:
            raise TypeError("sockaddr must be a tuple of 2 to 4 items")
        host, port = sockaddr[:2]
        check_port("sockaddr: port", port)
        numeric = self._interfaces.parse(host)
        if numeric is None:
            raise NameResolutionError(socket.EAI_NONAME, f"sockaddr: {host!r} is not an IP address")
        address = numeric[0]
        service = None if flags & socket.NI_NUMERICSERV else _SERVICE_NAMES.get(port)
        name = str(address)
        scope = numeric[1] or (sockaddr[3] if len(sockaddr) == 4 else 0)
        if scope and (address.is_link_local or address.is_multicast):
            name = self._interfaces.text(address, scope)
        if not flags & socket.NI_NUMERICHOST:
            try:
                name = await self._name_of(address)
            except NameResolutionError:
                if flags & socket.NI_NAMEREQD:
                    raise
        return name, service or str(port)

    async def _name_of(self, address: Address) -> str:
        known = self.hosts.names_of(address)
        if known:
            return known[0]
        if address.is_loopback:
            return "localhost"
        return (await self.resolver.names(address))[0]


def _of(found: Found, versions: tuple[int, ...], host: str) -> Found:
    addresses = tuple(a for a in found.addresses if a.version in versions)
    if not addresses:
        raise NameResolutionError(socket.EAI_NONAME, f"{host}: the name has no address of this family")
    return Found(addresses, found.canonical)


def port_number(port: int | str | bytes | None, flags: int = 0) -> int:
    """Return a port that was given as a number, as digits, as the name of a service, or not at all.

    Raises:
        NameResolutionError: no such service, or its name in spite of ``AI_NUMERICSERV``.
        ValueError, TypeError: no port.
    """
    if port is None or port == "" or port == b"":
        return 0
    if isinstance(port, (bytes, bytearray)):
        port = port.decode("ascii")
    if isinstance(port, str):
        if port.isdecimal() and port.isascii():
            port = int(port)
        elif port.lower() in SERVICES and not flags & socket.AI_NUMERICSERV:
            port = SERVICES[port.lower()]
        else:
            raise NameResolutionError(socket.EAI_SERVICE, f"Servname not supported: {port!r}")
    return check_port("port", port)
