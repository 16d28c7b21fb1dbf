"""Whether another host has an address already: an echo request before an offer (RFC 2131, section 3.1).

Owns the probes under way and what they found lately. A host that answers to ARP but not to an echo request, as many
firewalls have it, is found too: the interface is observed while a probe is under way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from ipaddress import IPv4Address
from typing import Any, Final

from tcpip_wasm.errors import StackError, TcpipError
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.sockets import PingSession
from tcpip_wasm.stack_parts import StackParts

MAX_PROBES: Final = 256
"""Probes under way at most: a classroom that is switched on needs 254."""

VALID: Final = 10.0
"""Seconds for which an address that no host has is not probed again."""

MAX_KNOWN: Final = 4096
"""Addresses whose result is remembered."""

_ARP: Final = b"\x08\x06"


class Prober:
    """Probes addresses on the link of an interface.

    Args:
        parts: those of the interface's stack.
        interface: by which the hosts are reached.
        seconds: for which to wait for an answer.
    """

    def __init__(self, parts: StackParts, interface: Interface, seconds: float) -> None:
        self._parts = parts
        self._interface = interface
        self._seconds = seconds
        self._under_way: dict[bytes, asyncio.Future[bool]] = {}
        self._silent: OrderedDict[IPv4Address, float] = OrderedDict()

    def is_full(self) -> bool:
        """Whether no further probe can begin now."""
        return len(self._under_way) >= MAX_PROBES

    def known_silent(self, address: IPv4Address) -> bool:
        """Whether a probe has found lately that no host has an address."""
        return self._silent.get(address, 0.0) > self._parts.driver.loop.time()

    async def is_taken(self, address: IPv4Address) -> bool:
        """Return whether a host answers for an address; after `seconds` none does.

        Cancelled, it leaves nothing behind.
        """
        if self._seconds <= 0 or self.known_silent(address):
            return False
        found = self._under_way.get(address.packed)
        if found is not None:
            return await asyncio.shield(found)
        found = self._under_way[address.packed] = self._parts.driver.loop.create_future()
        taken = True
        try:
            taken = await self._probe(address, found)
        finally:
            del self._under_way[address.packed]
            if not self._under_way:
                self._interface.unobserve(self)
            if not found.done():
                found.set_result(taken)
        if not taken:
            self._silent[address] = self._parts.driver.loop.time() + VALID
            self._silent.move_to_end(address)
            if len(self._silent) > MAX_KNOWN:
                self._silent.popitem(last=False)
        return taken

    async def _probe(self, address: IPv4Address, found: asyncio.Future[bool]) -> bool:
        self._interface.observe(self)
        try:
            session = PingSession(self._parts.driver, self._parts.routing, address, 0, ttl=64)
        except StackError:
            raise
        except TcpipError:
            return False  # no session is free: the probe is advice, not a condition
        async with session:
            echo = asyncio.ensure_future(session.ping(timeout=self._seconds))
            either: set[asyncio.Future[Any]] = {echo, found}
            try:
                await asyncio.wait(either, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
                if found.done():
                    return True
                return echo.done() and not echo.cancelled() and echo.exception() is None
            finally:
                echo.cancel()
                await asyncio.gather(echo, return_exceptions=True)

    def forget(self, address: IPv4Address) -> None:
        """An address got an owner: its next probe is a new one."""
        self._silent.pop(address, None)

    # --- An observer of the interface -----------------------------------------------------------------------------

    def observed(self, interface: Interface, outgoing: bool, frame: memoryview) -> None:
        """A frame passes: an ARP packet whose sender has a probed address (RFC 826) answers its probe."""
        if not outgoing and len(frame) >= 42 and bytes(frame[12:14]) == _ARP:
            found = self._under_way.get(bytes(frame[28:32]))
            if found is not None and not found.done():
                found.set_result(True)

    def unobserved(self, interface: Interface) -> None:
        """The interface is gone; the probe's end follows."""
