"""An interface that finds its own addresses: SLAAC (RFC 4862), DHCP (RFC 2131), and the check for duplicates.

Waits for configuration, and stores an interface's lease, routers and name servers; every table is bounded. lwIP has the
protocols and their timers, and renews leases whether a call waits or not.

The reasons are in docs/explanation/addresses.md.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from math import inf
from typing import Final, Literal, overload

from tcpip_wasm.addresses import Address, IPInterface
from tcpip_wasm.arguments import check_timeout
from tcpip_wasm.engine import (
    INFINITE,
    abi,
    decode_address,
    decode_lease,
    dhcp_domain,
    dhcp_name_servers,
    dhcp_options,
    dhcp_search,
    parse_advertisement,
)
from tcpip_wasm.errors import NetworkError, StackError, network_error
from tcpip_wasm.interfaces.advertising import AdvertisingInterface
from tcpip_wasm.interfaces.interface import lost_frames
from tcpip_wasm.interfaces.interface_arguments import MIN_MTU6
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.streams.locks import Signal

__all__ = ["AutoconfiguredAddress", "Lease"]

_log: Final = logging.getLogger("tcpip_wasm.interfaces")

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds: three DHCP discoveries, or all router solicitations with time for an answer to each."""

MAX_ROUTERS: Final = 8
MAX_NAME_SERVERS: Final = 8

_STATES: Final = {abi.ADDRESS_PREFERRED: "preferred", abi.ADDRESS_DEPRECATED: "deprecated"}


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a DHCP server lent.

    Attributes:
        address: with its netmask.
        router: the default router, or None.
        server: who lent it.
        name_servers: DNS servers.
        domain: the domain name of this network, or None.
        search: domains to look for short names in.
        renews, rebinds, expires: when lwIP sends a request to the server again, when to any server, and when the
            address is lost; times of the event loop's clock, infinity for never.
    """

    address: IPv4Interface
    router: IPv4Address | None
    server: IPv4Address
    name_servers: tuple[IPv4Address, ...]
    domain: str | None
    search: tuple[str, ...]
    renews: float
    rebinds: float
    expires: float


@dataclass(frozen=True, slots=True)
class AutoconfiguredAddress:
    """An IPv6 address made from what a router advertised.

    Attributes:
        address: with the length of its prefix.
        state: ``"preferred"``, or ``"deprecated"`` where new connections should not use it any more.
        preferred_until, valid_until: times of the event loop's clock, infinity for ever. Advertisements move them.
    """

    address: IPv6Interface
    state: str
    preferred_until: float
    valid_until: float


class ConfigurableInterface(AdvertisingInterface):
    """What an Ethernet interface can find out by itself."""

    addresses: tuple[IPInterface, ...]
    _lease: Lease | None = None
    _options: dict[int, bytes]
    _configuring = False
    _following = False
    _leasing = False

    def _prepare(self) -> None:
        self._options = {}
        self._records = LogLimit(_log, lambda: self.driver.loop.time())
        self._automatic: dict[IPv6Address, AutoconfiguredAddress] = {}
        self._states: dict[IPv6Address, int] = {}  # the latest state of each IPv6 address, also of unusable ones
        self._routers: dict[IPv6Address, float] = {}  # until when
        self._servers: dict[IPv6Address, float] = {}
        self._duplicates: list[IPv6Address] = []  # found while a call waits
        self._change_signal = Signal()

    # --- What is known ------------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease | None:
        """The lease as of its latest renewal, or None."""
        return self._lease

    @property
    def autoconfigured(self) -> tuple[AutoconfiguredAddress, ...]:
        """The addresses made from what routers advertise."""
        return tuple(self._automatic.values())

    @property
    def gateway(self) -> IPv4Address | None:
        """The default router of the lease, or None."""
        return self._lease.router if self._lease is not None else None

    @property
    def routers(self) -> tuple[Address, ...]:
        """The default routers: that of the lease, then those that advertise, by their link-local addresses."""
        leased = () if self.gateway is None else (self.gateway,)
        return (*leased, *self._living(self._routers))

    @property
    def name_servers(self) -> tuple[Address, ...]:
        """The name servers of the lease, then those that routers advertise (RFC 8106)."""
        leased = self._lease.name_servers if self._lease is not None else ()
        return (*leased, *self._living(self._servers))

    @property
    def search(self) -> tuple[str, ...]:
        """The domains of the lease: its search list, or its own domain."""
        if self._lease is None:
            return ()
        return self._lease.search or ((self._lease.domain,) if self._lease.domain else ())

    def _living(self, entries: dict[IPv6Address, float]) -> list[IPv6Address]:
        now = self.driver.loop.time()
        return [address for address, until in entries.items() if until > now]

    # --- Asking -------------------------------------------------------------------------------------------------

    @overload
    async def configure(
        self, *, dhcp: Literal[True], slaac: bool = False, dad: bool = False, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Lease: ...

    @overload
    async def configure(
        self, *, dhcp: bool = False, slaac: bool = False, dad: bool = False, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Lease | None: ...

    async def configure(
        self, *, dhcp: bool = False, slaac: bool = False, dad: bool = False, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Lease | None:
        """Find addresses for this interface, and return when they can be used.

        What was found is kept up to date from then on: a lease is renewed, lifetimes follow advertisements, and what
        ends is taken from `addresses`.

        Args:
            dhcp: get an IPv4 address, a router and name servers from a DHCP server. The interface must have no IPv4
                address. A server's address that another host answers for is declined (RFC 5227).
            slaac: make IPv6 addresses of the prefixes that routers advertise, and use these as default routers. The
                link-local address is checked for duplicates, too.
            dad: check the IPv6 addresses given at creation for duplicates, before they are used any further.
            timeout: seconds for all of it; None waits for ever.

        Returns:
            The lease with ``dhcp``, else None; see also `addresses`, `routers`, `name_servers`.

        Raises:
            TimeoutError: no server or router answered in time; what was begun by this call is stopped.
            OSError: ``EADDRNOTAVAIL`` where another host has the address: it is not used, and not among `addresses`
                any more. ``EADDRINUSE`` with ``dhcp`` where there is an IPv4 address, or a UDP socket has port 68.
                ``EBUSY`` while another call waits. ``ENODEV`` where the interface was removed.
            ValueError: nothing to do, a timeout that is not positive, or ``slaac`` with an MTU too small for IPv6.
            TypeError: a timeout that is no number.

        Cancelled, it stops what it began.
        """
        self._check_wanted(dhcp, slaac, dad, timeout)
        self.check()
        if self._configuring:
            raise NetworkError(errno.EBUSY, f"{self.name} is being configured already")
        begun: list[Callable[[], None]] = []
        self._configuring = True
        self._duplicates = []
        try:
            async with asyncio.timeout(timeout):
                await self._find_addresses(dhcp, slaac, dad, begun)
            begun.clear()
        except TimeoutError as error:
            if error.errno is None:
                why = lost_frames([self])
                raise network_error(errno.ETIMEDOUT, f"configure {self.name}{f': {why}' if why else ''}") from None
            raise
        finally:
            self._configuring = False
            if not self._removed:
                for undo in begun:
                    undo()
        return self._lease

    def _check_wanted(self, dhcp: bool, slaac: bool, dad: bool, timeout: float | None) -> None:
        """Check the arguments of `configure`."""
        check_timeout("timeout", timeout)
        if not (dhcp or slaac or dad):
            raise ValueError("configure: one of dhcp, slaac and dad must be true")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout: {timeout} is not more than 0")
        if slaac and not self.ipv6:
            raise ValueError(f"slaac: {self.name} was created with ipv6=False")
        if slaac and self.mtu < MIN_MTU6:
            raise ValueError(f"slaac: {self.name} has an MTU of {self.mtu}, and IPv6 needs {MIN_MTU6}")

    async def _find_addresses(self, dhcp: bool, slaac: bool, dad: bool, begun: list[Callable[[], None]]) -> None:
        """Begin what is wanted and wait for it; `begun` gets what undoes it."""
        if dad:
            self._check_own()
        if slaac and not self._following:
            self._follow_routers(True)
            begun.append(lambda: self._follow_routers(False))
        if dhcp and not self._leasing:
            self._lease_wanted(True)
            begun.append(lambda: self._lease_wanted(False))
        self.driver.wake()
        if dad:
            await self._until(self._own_are_checked)
            self._refuse_duplicates()
        if slaac:
            await self._until(self._has_global_address)
        if dhcp:
            await self._until(lambda: self._lease is not None)

    async def release(self) -> None:
        """Release what `configure` got: the lease, addresses made from advertisements, and routers.

        The server is notified if it can be reached at once. Without effect where there is nothing to release.

        Raises:
            OSError: ``ENODEV`` where the interface was removed.
        """
        self.check()
        if self._give_back():
            await asyncio.sleep(0)  # the stack is polled

    async def wait_address_change(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> tuple[IPInterface, ...]:
        """Return `addresses` after they, their states, the lease or the routers have changed.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: nothing changed.
            OSError: ``ENODEV`` where the interface was removed.
            ValueError, TypeError: a timeout that is no number.

        Cancelled, it leaves nothing behind.
        """
        check_timeout("timeout", timeout)
        self.check()
        try:
            async with asyncio.timeout(timeout):
                await self._change()
        except TimeoutError as error:
            if error.errno is None:
                raise network_error(errno.ETIMEDOUT, f"addresses of {self.name}") from None
            raise
        return self.addresses

    def _give_back_soon(self) -> bool:
        """Release what was lent, before the stack closes; True if there is something to be sent."""
        if self._removed:
            return False
        try:
            advertised = super()._give_back_soon()
            return self._give_back() or advertised
        except StackError:
            return False

    def _give_back(self) -> bool:
        had = self._leasing or self._following
        if self._leasing:
            self._lease_wanted(False)
        if self._following:
            self._follow_routers(False)
        if had:
            self.driver.wake()
        return had

    def _follow_routers(self, enabled: bool) -> None:
        self.driver.core.autoconfiguration.follow_routers(self.handle, enabled)
        self._following = enabled
        if not enabled:
            self._routers.clear()
            self._servers.clear()
            for address in list(self._automatic):
                self._forget(address)

    def _lease_wanted(self, wanted: bool) -> None:
        calls = self.driver.core.autoconfiguration
        if wanted:
            calls.start_dhcp(self.handle)
        else:
            calls.stop_dhcp(self.handle)
            if self._lease is not None:
                self._log(logging.INFO, "lease of %s released", self._lease.address)
            self._drop_lease()
        self._leasing = wanted

    def _check_own(self) -> None:
        for address in self._own():
            self._states[address] = abi.ADDRESS_TENTATIVE
            self.driver.core.autoconfiguration.check_address(self.handle, address)

    def _own(self) -> list[IPv6Address]:
        return [a.ip for a in self.addresses if isinstance(a, IPv6Interface) and a.ip not in self._automatic]

    def _own_are_checked(self) -> bool:
        return all(self._states.get(address) != abi.ADDRESS_TENTATIVE for address in self._own())

    def _refuse_duplicates(self) -> None:
        if self._duplicates:
            text = ", ".join(str(address) for address in self._duplicates)
            raise network_error(errno.EADDRNOTAVAIL, f"another host has {text}, which {self.name} does not use")

    def _has_global_address(self) -> bool:
        self._refuse_duplicates()
        return any(one.state == "preferred" for one in self._automatic.values())

    # --- Waiting ------------------------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change()

    async def _change(self) -> None:
        self.check()
        await self._change_signal.wait()
        self.check()

    def _changed(self) -> None:
        if self._on_name_servers is not None:
            self._on_name_servers(self)
        self._change_signal.fire()

    # --- Events -------------------------------------------------------------------------------------------------

    def _on_configuration_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that is about no frames."""
        if kind == abi.EVENT_ADDRESS:
            self._on_address(value, payload)
        elif kind == abi.EVENT_ROUTER_ADVERTISEMENT:
            self._on_advertisement(payload)
        elif kind == abi.EVENT_ROUTER_SOLICITATION:
            super()._on_configuration_event(kind, value, payload)
            return
        elif kind == abi.EVENT_LEASE_MESSAGE:
            self._options = dhcp_options(payload)
            return
        elif kind == abi.EVENT_LEASE:
            self._on_lease(payload)
        elif kind == abi.EVENT_LEASE_LOST:
            if self._lease is not None:
                self._log(logging.WARNING, "lease of %s from %s lost", self._lease.address, self._lease.server)
            self._drop_lease()
        self._changed()

    def _on_address(self, state: int, payload: bytes) -> None:
        report = decode_address(payload)
        address = report.address
        usable = state in _STATES
        if state == abi.ADDRESS_GONE:
            self._states.pop(address, None)
        else:
            self._states[address] = state
        if state == abi.ADDRESS_DUPLICATE:
            self._log(logging.WARNING, "duplicate address: another host has %s", address)
            if self._configuring:
                self._duplicates.append(address)
        if report.given:
            if state == abi.ADDRESS_DUPLICATE:
                self.addresses = tuple(one for one in self.addresses if one.ip != address)
                if not address.is_link_local:
                    self.driver.core.autoconfiguration.remove_address(self.handle, address)
        elif usable and self._following:
            full = IPv6Interface((address, 64))
            if address not in self._automatic:
                self._log(logging.INFO, "address %s made from an advertised prefix", full)
            self._automatic[address] = AutoconfiguredAddress(
                full, _STATES[state], self._until_time(report.preferred), self._until_time(report.valid)
            )
            self.addresses = (*(one for one in self.addresses if one.ip != address), full)
        else:
            self._forget(address)

    def _forget(self, address: IPv6Address) -> None:
        if self._automatic.pop(address, None) is not None:
            self._log(logging.INFO, "address %s ended", address)
            self.addresses = tuple(one for one in self.addresses if one.ip != address)

    def _on_advertisement(self, payload: bytes) -> None:
        if not self._following:
            return
        advertisement = parse_advertisement(payload[abi.ROUTER_ADVERTISEMENT_SIZE :])
        router = self._scoped(IPv6Address(payload[: abi.ROUTER_ADVERTISEMENT_SIZE]))
        before = list(self._routers)
        self._keep(self._routers, router, advertisement.lifetime, MAX_ROUTERS)
        self._log_routers(before)
        for server, seconds in advertisement.name_servers:
            self._keep(self._servers, self._scoped(server), seconds, MAX_NAME_SERVERS)

    def _keep(self, entries: dict[IPv6Address, float], address: IPv6Address, seconds: int, most: int) -> None:
        self._drop_ended(entries)
        if seconds == 0:
            entries.pop(address, None)
        elif address in entries or len(entries) < most:  # later ones wait until an earlier one ends
            entries[address] = self._until_time(seconds)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        self._records.log(level, f"%s: {text}", self.name, *arguments)

    def _drop_ended(self, entries: dict[IPv6Address, float]) -> None:
        now = self.driver.loop.time()
        for old in [old for old, until in entries.items() if until <= now]:
            del entries[old]

    def _log_routers(self, before: list[IPv6Address]) -> None:
        for router in before:
            if router not in self._routers:
                self._log(logging.WARNING, "router %s lost", router)
        for router in self._routers:
            if router not in before:
                self._log(logging.INFO, "router %s found", router)

    def _look(self) -> None:
        """Log which routers have ended. Their lifetimes wake nothing, so that it may be noticed late."""
        before = list(self._routers)
        self._drop_ended(self._routers)
        self._log_routers(before)

    def _scoped(self, address: IPv6Address) -> IPv6Address:
        return IPv6Address(f"{address}%{self.name}") if address.is_link_local else address

    def _until_time(self, seconds: int) -> float:
        return inf if seconds == INFINITE else self.driver.loop.time() + seconds

    def _on_lease(self, payload: bytes) -> None:
        report, options = decode_lease(payload), self._options
        before = self._lease
        self._drop_lease()
        self._lease = lease = Lease(
            report.address,
            report.router,
            report.server,
            dhcp_name_servers(options),
            dhcp_domain(options),
            dhcp_search(options),
            self._until_time(report.renewal),
            self._until_time(report.rebinding),
            self._until_time(report.seconds),
        )
        self.addresses = (*self.addresses, report.address)
        news = "renewed" if before is not None and before.address == lease.address else "gained"
        self._log(logging.INFO, "lease of %s from %s %s for %d s", lease.address, lease.server, news, report.seconds)

    def _drop_lease(self) -> None:
        if self._lease is not None:
            lost = self._lease.address
            self._lease = None
            self.addresses = tuple(one for one in self.addresses if one != lost)

    def _detach_all(self, error: Exception | None) -> None:
        super()._detach_all(error)
        self._lease = None
        self._servers.clear()
        self._changed()

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone; waiting calls raise its error."""
        super()._on_stack_gone(error)
        self._changed()
