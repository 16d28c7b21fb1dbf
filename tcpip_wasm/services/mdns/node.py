"""A host's part in multicast DNS: sockets on the links of a stack, messages in and out, names looked up.

Owns the sockets, which are joined to the groups on each link, the cache, and the check that a message is of a host on
the link (RFC 6762, section 11). `responder` and `browser` are nodes.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from tcpip_wasm.addresses import Address, parse_address
from tcpip_wasm.errors import NameResolutionError, NetworkError
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.services.datagrams import open_datagrams
from tcpip_wasm.services.mdns import wire
from tcpip_wasm.services.mdns.cache import MdnsCache
from tcpip_wasm.services.mdns.records import address_of
from tcpip_wasm.services.mdns.wire import Labels, Message, Question, Record
from tcpip_wasm.services.service import Service
from tcpip_wasm.sockets import UdpTransport
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of
from tcpip_wasm.streams.locks import Signal

PORT: Final = 5353
GROUPS: Final = {4: "224.0.0.251", 6: "ff02::fb"}
UNSPECIFIED: Final = {4: "0.0.0.0", 6: "::"}

MAX_TASKS: Final = 64

RESOLVE_TIMEOUT: Final = 3.0
"""Seconds in which a host that has a name answers: queries are sent at 0, 1 and 2 seconds."""

SETTLE: Final = 0.1
"""Seconds after the first address of a name in which others are waited for."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the stack, by one IP version.

    Attributes:
        interface: the interface.
        version: 4 or 6.
        transport: a socket that is joined to the group there.
    """

    interface: Interface
    version: int
    transport: UdpTransport


@dataclass(slots=True)
class MdnsStatistics:
    """What a node counted.

    Attributes:
        received, sent: messages.
        malformed: datagrams that are none.
        off_link: messages that are not of a host on the link.
        conflicts: names that another host has.
    """

    received: int = 0
    sent: int = 0
    malformed: int = 0
    off_link: int = 0
    conflicts: int = 0


class MdnsNode(Service):
    """A node.

    Args:
        stack: the stack.
        interfaces: taps and bridges to use; None takes all that there are at the start.

    Attributes:
        statistics: what it counted.
    """

    def __init__(self, stack: NetworkStack, interfaces: Iterable[Interface] | None = None) -> None:
        self._parts = parts_of(stack)
        super().__init__(self._parts.driver, max_tasks=MAX_TASKS)
        self._driver.check()
        self._stack = stack
        self._wanted = None if interfaces is None else list(interfaces)
        self.statistics: MdnsStatistics = MdnsStatistics()
        self._cache = MdnsCache(self._driver.loop.time)
        self._news = Signal()
        self._links: list[Link] = []
        self._random = random.Random(repr([one.name for one in stack.interfaces]) + str(self._driver.core.random_mac()))

    # --- Beginning and end ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        interfaces = self._stack.interfaces if self._wanted is None else self._wanted
        for interface in interfaces:
            if interface.type not in ("tap", "bridge"):
                continue
            for version in (4, 6):
                if version == 4 or interface.mtu >= 1280:
                    await self._join(interface, version)
        if not self._links:
            raise ValueError("the stack has no tap and no bridge")
        self._parts.lookup.local.append(self)

    async def _join(self, interface: Interface, version: int) -> None:
        transport = await open_datagrams(
            self._parts,
            lambda data, source: self._on_datagram(link, data, source),
            UNSPECIFIED[version],
            PORT,
            multicast_interface=interface,
            multicast_ttl=255,
            ttl=255,
            reuse_port=True,
        )
        link = Link(interface, version, transport)
        self._links.append(link)
        transport.group(True, GROUPS[version], interface.handle)

    def _close(self) -> None:
        with suppress(ValueError):
            self._parts.lookup.local.remove(self)
        for link in self._links:
            link.transport.close()  # what was sent last still leaves
        self._news.fire()

    # --- Messages in ----------------------------------------------------------------------------------------------

    def _on_datagram(self, link: Link, data: bytes, source: tuple[Any, ...]) -> None:
        if self.closed:
            return
        if not self._is_on_link(link, source):
            self.statistics.off_link += 1
            return
        try:
            message = wire.parse(data)
        except wire.BadMessage:
            self.statistics.malformed += 1
            return
        self.statistics.received += 1
        if not message.response:
            self._on_query(link, message, source)
        elif source[1] == PORT:  # section 6
            self._on_response(link, message)

    def _is_on_link(self, link: Link, source: tuple[Any, ...]) -> bool:
        """Whether a message is of a host on this link: sockets receive those of all links."""
        host, _, scope = source[0].partition("%")
        if scope:
            return bool(scope == link.interface.name)
        address = parse_address(host)
        return any(address in one.network for one in link.interface.addresses if one.version == link.version)

    def _on_query(self, link: Link, message: Message, source: tuple[Any, ...]) -> None:
        """A query has arrived."""

    def _on_response(self, link: Link, message: Message) -> None:
        """A response has arrived."""
        news = False
        for record in (*message.answers, *message.additionals):
            if self._is_wanted(record):
                news = self._cache.put(record) or record.ttl == 0 or news
        if news:
            self._news.fire()

    def _is_wanted(self, record: Record) -> bool:
        """Whether to keep a record of another host."""
        return record.name[-1:] == (b"local",) or record.name[-1:] == (b"LOCAL",)

    # --- Messages out ---------------------------------------------------------------------------------------------

    def _send(self, message: Message, links: Iterable[Link] | None = None) -> None:
        """Send a message to the group."""
        for packet in wire.split(message):
            for link in self._links if links is None else links:
                self._send_packet(link, packet, (GROUPS[link.version], PORT))

    def _send_packet(self, link: Link, packet: bytes, to: tuple[Any, ...]) -> None:
        try:
            link.transport.sendto(packet, to)
            self.statistics.sent += 1
        except (NetworkError, ValueError):
            pass  # no address on this link yet

    def _ask(self, questions: Sequence[tuple[Labels, int]]) -> None:
        """Send questions, with the answers that are known (section 7.1)."""
        known = [record for name, rdtype in questions for record in self._cache.known(wire.lower(name), rdtype)]
        self._send(Message(questions=[Question(name, rdtype) for name, rdtype in questions], answers=known))

    # --- Names ----------------------------------------------------------------------------------------------------

    async def addresses(self, name: str, versions: Sequence[int] = (4, 6)) -> tuple[Address, ...]:
        """Return the addresses of a name in ``.local``.

        Args:
            name: such as ``"printer.local"``.
            versions: IP versions.

        Raises:
            NameResolutionError: no host on the links has this name.

        Cancelled, it leaves nothing behind.
        """
        labels = tuple(label.encode() for label in name.removesuffix(".").split("."))
        own = self._own_addresses(wire.lower(labels), versions)
        if own:
            return own
        rdtypes = [wire.A if version == 4 else wire.AAAA for version in versions]
        loop = self._driver.loop
        began, asked, settled = loop.time(), 0, None
        while not self.closed:
            found = self._found(wire.lower(labels), rdtypes)
            now = loop.time()
            if found and settled is None:
                settled = now + (SETTLE if asked else 0.0)
            if found and (settled is None or now >= settled or len({one.version for one in found}) == len(rdtypes)):
                return found
            if now >= began + RESOLVE_TIMEOUT:
                break
            if not found and now >= began + asked:
                self._ask([(labels, rdtype) for rdtype in rdtypes])
                asked += 1
            until = settled if found and settled is not None else min(began + asked, began + RESOLVE_TIMEOUT)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._news.wait()
        raise NameResolutionError(socket.EAI_NONAME, f"{name}: no host on the link has this name")

    def _found(self, name: Labels, rdtypes: Sequence[int]) -> tuple[Address, ...]:
        found = [address_of(one.record) for rdtype in rdtypes for one in self._cache.get(name, rdtype)]
        wide = [address for address in found if not address.is_link_local]
        return tuple(wide or found)  # link-local IPv6 addresses are of use only where there are no others

    def _own_addresses(self, name: Labels, versions: Sequence[int]) -> tuple[Address, ...]:
        """Return own addresses, if the name is this host's."""
        return ()

    def _addresses_on(self, link: Link) -> list[Address]:
        """Return this host's addresses on a link, of both versions."""
        addresses: list[Address] = [one.ip for one in link.interface.addresses]
        own = getattr(link.interface, "link_local", None)
        if isinstance(own, IPv6Address) and not any(isinstance(one, IPv6Address) for one in addresses):
            addresses.append(own)
        return [one for one in addresses if isinstance(one, (IPv4Address, IPv6Address)) and not one.is_loopback]
