"""`DhcpServer`: lends addresses to the hosts on an interface's link, and behind relays (RFC 2131).

Owns the socket, what each message causes, and when a lease is taken from a client that is silent. Requests are read and
replies written by `wire`, addresses chosen by `table` and probed by `probe`.

Replies to clients without an address are broadcast: the stack has no way to send to an address that no ARP can resolve
yet (section 4.1 allows it). The socket has the interface's address, so that broadcasts of other links do not reach it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from math import inf
from pathlib import Path
from typing import Any, Final

from tcpip_wasm.interfaces import Interface
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.services.dhcp import settings, wire
from tcpip_wasm.services.dhcp.lease_file import read_leases, write_leases
from tcpip_wasm.services.dhcp.probe import Prober
from tcpip_wasm.services.dhcp.replies import Replies
from tcpip_wasm.services.dhcp.reports import DhcpEvent, DhcpStatistics
from tcpip_wasm.services.dhcp.table import DhcpLease, LeaseTable, Pool
from tcpip_wasm.services.dhcp.waiting import Waiting
from tcpip_wasm.services.events import EventSource
from tcpip_wasm.services.leasing import LeasingServer, address_of_kind

_log: Final = logging.getLogger("tcpip_wasm.services")

MAX_TASKS: Final = 512
"""Offers that wait for a probe."""

MAX_CANDIDATES: Final = 8
"""Addresses that are probed for one request."""

MIN_SILENCE: Final = 5.0
"""Seconds after which a client may be asked whether it uses its lease."""

SAVE_DELAY: Final = 1.0
"""Seconds within which changes are written to the file together."""

_NONE: Final = IPv4Address(0)
_BROADCAST: Final = "255.255.255.255"


class DhcpServer(LeasingServer[DhcpLease]):
    """A DHCP server on one interface; ``async with DhcpServer(tap, pool=…) as dhcp:`` serves until the block's end.

    Args:
        interface: a tap or a bridge with an IPv4 address; its network is that of the clients.
        pool: the first and the last address to lend, a `DhcpPool`, or a list of these.
        lease_time: seconds of a lease, 10 at least; infinity for ever.
        router: the clients' default router, or None.
        name_servers: DNS servers for the clients.
        domain: the clients' domain.
        search: domains in which clients look for short names.
        reservations: addresses by hardware address, for these clients alone.
        boot_file: what clients boot: a path or URL, paths by architecture (option 93; None for others), or a function
            of the `DhcpRequest` that returns one or None.
        boot_server: name or address of the TFTP server; None is this stack, where there is a boot file.
        options: further options by number, as text or bytes; they are sent to all clients.
        probe: seconds to wait for another host that answers for an address before it is offered; 0 sends no probe.
        authoritative: whether this is the network's only server: then a client with an address of unknown origin
            keeps it if it is free, and is refused at once if not. False leaves both to other servers.
        reclaim: whether, where no address is left, the lease of a client that no longer answers goes to one that asks
            again.
        lease_file: where leases are kept, or None. It is read at the start.

    Attributes:
        statistics: what it counted.

    Raises:
        ValueError, TypeError: a malformed argument.
        StackError: the stack is gone.
    """

    def __init__(
        self,
        interface: Interface,
        *,
        pool: settings.Pools = (),
        lease_time: float = 3600.0,
        router: str | IPv4Address | None = None,
        name_servers: Iterable[str | IPv4Address] = (),
        domain: str | None = None,
        search: Iterable[str] = (),
        reservations: Mapping[str, str | IPv4Address] | None = None,
        boot_file: settings.BootFile = None,
        boot_server: str | IPv4Address | None = None,
        options: Mapping[int, settings.OptionValue] | None = None,
        probe: float = 0.5,
        authoritative: bool = True,
        reclaim: bool = True,
        lease_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._own: IPv4Interface = settings.interface_network(interface)
        super().__init__(interface, max_tasks=MAX_TASKS)
        gateway = None if router is None else address_of_kind("router", router, IPv4Address)
        self._pools = settings.parse_pools(pool, self._own, gateway)
        if not lease_time >= settings.MIN_LEASE:
            raise ValueError(f"lease_time: {lease_time} is not {settings.MIN_LEASE:g} seconds at least")
        self._lease_time = float(lease_time)
        reserved = settings.parse_reservations(reservations or {})
        excluded = frozenset(
            [self._own.ip, *([gateway] if gateway else []), *(p.router for p in self._pools if p.router)]
        )
        if any(address in excluded for address in reserved.values()):
            raise ValueError("reservations: one is the server's or the router's own address")
        self._table = LeaseTable(self._pools, reserved, excluded)
        self._replies = Replies(
            self._own.ip,
            self._pools,
            self._lease_time,
            {**settings.common_options(name_servers, domain, search), **settings.parse_options(options or {})},
            boot_file,
            None if boot_server is None else str(boot_server),
            self._driver.report,
        )
        if not 0 <= probe <= 60:
            raise ValueError(f"probe: {probe} is not within 0 to 60 seconds")
        self._prober = Prober(self._parts, interface, probe)
        self._authoritative = authoritative
        self._reclaim = reclaim
        self._file = None if lease_file is None else Path(lease_file)
        self.statistics: DhcpStatistics = DhcpStatistics()
        self._events: EventSource[DhcpEvent] = EventSource()
        self._records = LogLimit(_log, self._now)
        self._busy: set[bytes] = set()  # clients for which an address is probed
        self._waiting = Waiting()
        self._timer: Any = None
        self._save_timer: Any = None

    def _tables(self) -> tuple[LeaseTable]:
        return (self._table,)

    def events(self) -> AsyncIterator[DhcpEvent]:
        """Return an iterator over what happens from now on; a listener that is late by 1,024 events misses some."""
        return self._events.listen()

    # --- Beginning and end ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._file is not None:
            for lease in read_leases(self._file, self._now()):
                pool = next((p for p in self._pools if lease.address in p.network), None)
                if pool is not None and self._table.may_have(lease.address, lease.identity, lease.mac, pool):
                    self._table.grant(lease)
            self._arm()
        await self._listen(self._on_datagram, str(self._own.ip), wire.SERVER_PORT, broadcast=True)

    def _close(self) -> None:
        super()._close()
        for timer in (self._timer, self._save_timer):
            if timer is not None:
                timer.cancel()
        if self._save_timer is not None:
            self._save()
        self._events.end()

    # --- Messages -------------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, source: tuple[Any, ...]) -> None:
        try:
            request = wire.parse_request(data)
        except wire.BadMessage:
            self.statistics.malformed += 1
            return
        self.statistics.received += 1
        pools = self._pools_for(request)
        if not pools:
            self.statistics.dropped += 1
            return
        if request.kind == wire.DISCOVER:
            if request.identity in self._busy or not self._spawn(lambda: self._discover(request, pools)):
                self.statistics.dropped += 1
        elif request.kind == wire.REQUEST:
            self._request(request, pools)
        elif request.kind == wire.INFORM:
            self._inform(request, pools[0], source)
        elif request.kind == wire.DECLINE:
            self._decline(request)
        elif source[0] == str(request.client):  # a release comes from the address itself: section 4.4.6
            self._release(request)

    def _pools_for(self, request: wire.Request) -> list[Pool]:
        """Return the pools of the client's network: its relay's, that of its own address, else the interface's."""
        link = request.relay if request.relay != _NONE else request.client
        network = next((pool.network for pool in self._pools if link in pool.network), None)
        if network is None and request.relay == _NONE:
            network = self._own.network
        return [pool for pool in self._pools if pool.network == network]

    async def _discover(self, request: wire.Request, pools: list[Pool]) -> None:
        self._busy.add(request.identity)
        patient = False
        try:
            address = await self._find(request, pools, patient=False)
            if address is None:
                patient = self._waiting.has_asked_before(request.identity, self._now())
            if address is None and patient:
                address = await self._find(request, pools, patient=True)
            if address is None and patient and self._reclaim:
                address = await self._take_silent(request, pools)
        finally:
            self._busy.discard(request.identity)
        if address is None:
            self.statistics.exhausted += 1
            self._records.log(logging.WARNING, "%s: no address is left for %s", self._interface.name, request.mac)
            return
        self._waiting.remove(request.identity)
        if not self._table.offer(address, request.identity, self._now(), patient=patient):
            return  # another client has requested it meanwhile: this one asks again
        self.statistics.offers += 1
        self._report("offer", address, request)
        self._send(request, self._replies.make(wire.OFFER, request, address), _NONE)

    async def _find(self, request: wire.Request, pools: list[Pool], *, patient: bool) -> IPv4Address | None:
        """Return an address for a client that no other host has."""
        for pool in pools:
            for _ in range(MAX_CANDIDATES):
                address = self._table.choose(
                    request.identity, request.mac, request.requested, pool, self._now(), patient=patient
                )
                if address is None:
                    break
                lease = self._table.lease_of(request.identity)
                if lease is not None and lease.address == address:
                    return address  # its own: no conflict with itself
                if self._prober.is_full() and not self._prober.known_silent(address):
                    self._table.put_back(address)
                    return None
                if not await self._prober.is_taken(address):
                    return address
                self.statistics.conflicts += 1
                self._report("conflict", address, request)
                self._records.log(logging.WARNING, "another host has %s, which is not lent", address)
                self._table.decline(address, self._now())
        return None

    async def _take_silent(self, request: wire.Request, pools: list[Pool]) -> IPv4Address | None:
        """Take the lease of a client that no longer answers, as forged ones do not."""
        now = self._now()
        for pool in pools:
            for _ in range(MAX_CANDIDATES):
                lease = self._table.oldest_silent(pool, now, MIN_SILENCE)
                if lease is None or self._prober.is_full():
                    break
                # So that another client's search takes the next one, and this one comes last if its client answers.
                self._table.grant(replace(lease, renewed=self._now()))
                self._prober.forget(lease.address)
                if await self._prober.is_taken(lease.address) or self._table.lease_of(lease.identity) is None:
                    continue
                self._table.release(lease.address)
                self.statistics.reclaimed += 1
                self._report("reclaim", lease.address, lease)
                chosen = self._table.choose(request.identity, request.mac, lease.address, pool, self._now())
                if chosen is not None:
                    return chosen
        return None

    def _request(self, request: wire.Request, pools: list[Pool]) -> None:
        """Grant or refuse an address (section 4.3.2)."""
        table = self._table
        table.expire(self._now())
        server = request.server
        if server is not None and server != self._own.ip:
            table.reject_offer(request.identity)
            return
        address = request.requested if request.client == _NONE else request.client
        if address is None or request.identity in self._busy:
            self.statistics.dropped += 1
            return
        known = table.holds(request.identity, address)
        # Without record of the client, and not chosen by it, another server may have lent the address.
        if server is None and not known and not self._authoritative:
            return
        fits = any(table.may_have(address, request.identity, request.mac, pool) for pool in pools)
        if not fits or address not in pools[0].network:
            self.statistics.naks += 1
            self._report("nak", address, request)
            self._send(request, wire.Reply(wire.NAK, options={wire.MESSAGE: b"this address is not yours"}), _NONE)
            return
        self._lend(address, request)

    def _lend(self, address: IPv4Address, request: wire.Request) -> None:
        now = self._now()
        former = self._table.lease_of(request.identity)
        renewed = former is not None and former.address == address
        ends = now + self._lease_time
        lease = DhcpLease(address, request.mac, request.hostname, ends, request.identity, now)
        self._table.grant(lease)
        self._prober.forget(address)
        self.statistics.acks += 1
        self._report("renew" if renewed else "lease", address, lease)
        _log.debug("%s: %s has %s", self._interface.name, request.mac, address)
        self._changed()
        self._send(request, self._replies.make(wire.ACK, request, address), request.client)

    def _inform(self, request: wire.Request, pool: Pool, source: tuple[Any, ...]) -> None:
        """The client has an address of its own, and wants the options alone (section 4.3.5)."""
        if request.client == _NONE or source[0] != str(request.client):
            self.statistics.dropped += 1
            return
        self.statistics.acks += 1
        reply = self._replies.make(wire.ACK, request, None, pool)
        self._send(replace(request, relay=_NONE), reply, request.client)

    def _decline(self, request: wire.Request) -> None:
        address = request.requested
        if address is None or request.server != self._own.ip or not self._table.holds(request.identity, address):
            self.statistics.dropped += 1
            return
        self.statistics.declined += 1
        self._table.decline(address, self._now())
        self._records.log(logging.WARNING, "%s found another host with %s", request.mac, address)
        self._report("decline", address, request)
        self._changed()

    def _release(self, request: wire.Request) -> None:
        lease = self._table.lease_of(request.identity)
        if lease is not None and lease.address == request.client:
            self._table.release(lease.address)
            self._report("release", lease.address, lease)
            self._changed()

    # --- Replies --------------------------------------------------------------------------------------------------

    def _send(self, request: wire.Request, reply: wire.Reply, to: IPv4Address) -> None:
        """Send a reply: to the relay, to the client's address, or to all (section 4.1)."""
        (transport,) = self._transports
        data = wire.build_reply(request, reply, self._own.ip)
        if request.relay != _NONE:
            transport.sendto(data, (str(request.relay), wire.SERVER_PORT))
        elif to != _NONE and reply.kind == wire.ACK:
            transport.sendto(data, (str(to), wire.CLIENT_PORT))
        else:
            transport.sendto(data, (_BROADCAST, wire.CLIENT_PORT))
        if reply.kind == wire.OFFER:
            return
        self._arm()

    # --- Time -----------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Have `_expire` called when the next lease ends."""
        when = self._table.next_end()
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._driver.loop.call_at(when, self._expire) if when < inf else None

    def _expire(self) -> None:
        self._timer = None
        ended = self._table.expire(self._now())
        for lease in ended:
            self._report("expire", lease.address, lease)
        if ended:
            self._changed()
        self._arm()

    def _changed(self) -> None:
        if self._file is not None and self._save_timer is None:
            self._save_timer = self._driver.loop.call_later(SAVE_DELAY, self._save)

    def _save(self) -> None:
        self._save_timer = None
        assert self._file is not None
        try:
            write_leases(self._file, self.leases, self._now())
        except OSError as error:
            self._records.log(logging.ERROR, "the file of leases cannot be written: %s", error)

    def _report(self, kind: str, address: IPv4Address, client: wire.Request | DhcpLease) -> None:
        event = DhcpEvent(kind, address, client.mac, client.hostname, self._now())
        self._events.put(event)
