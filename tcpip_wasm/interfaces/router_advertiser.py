"""The router's side of SLAAC: advertisements, periodic ones and answers to solicitations (RFC 4861, section 6.2).

Owns the times between them. What they say is written by the engine, and sent by the module.

The reasons are in docs/explanation/addresses.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.engine import INFINITE, build_advertisement
from tcpip_wasm.errors import NetworkError, StackError
from tcpip_wasm.interfaces.interface import Interface
from tcpip_wasm.interfaces.interface_arguments import MIN_MTU6

__all__ = ["RouterAdvertiser"]

INITIAL: Final = 3
"""Advertisements at the beginning, which follow one another within `INITIAL_INTERVAL` (RFC 4861, section 10)."""
INITIAL_INTERVAL: Final = 16.0
MIN_DELAY: Final = 3.0
"""Seconds between two advertisements at least, for any number of solicitations (RFC 4861, section 10)."""
ANSWER_DELAY: Final = 0.5
"""Seconds within which a solicitation is answered."""
MAX_PREFIXES: Final = 8
MAX_SERVERS: Final = 8
MAX_ROUTER_LIFETIME: Final = 9000


class RouterAdvertiser:
    """Advertises an interface's prefixes until it is closed; made by `TapInterface.advertise` and
    `BridgeInterface.advertise`.

    Attributes:
        sent: advertisements sent so far.
        closed: whether it has ended.
    """

    def __init__(
        self,
        interface: Interface,
        prefix: object,
        *,
        lifetime: int,
        preferred: int | None,
        router_lifetime: int,
        mtu: int | None,
        name_servers: object,
        interval: float,
        managed: bool = False,
        other: bool = False,
        autonomous: bool = True,
    ) -> None:
        self.sent: int = 0
        self.closed: bool = False
        self._interface = interface
        self._loop = interface.driver.loop
        self._prefixes = _prefixes(prefix)
        self._servers = _servers(name_servers)
        self._lifetime = check_int("lifetime", lifetime, 0, INFINITE)
        self._preferred = check_int("preferred", lifetime // 2 if preferred is None else preferred, 0, lifetime)
        self._router_lifetime = check_int("router_lifetime", router_lifetime, 0, MAX_ROUTER_LIFETIME)
        if interface.mtu < MIN_MTU6:
            raise ValueError(f"{interface.name} has an MTU of {interface.mtu}, and IPv6 needs {MIN_MTU6} (RFC 8200)")
        self._mtu = None if mtu is None else check_int("mtu", mtu, MIN_MTU6, interface.mtu)
        self._flags = {"managed": bool(managed), "other": bool(other), "autonomous": bool(autonomous)}
        if not isinstance(interval, (int, float)) or isinstance(interval, bool):
            raise TypeError(f"interval must be a number of seconds, not {type(interval).__name__}")
        if not 4 <= interval <= 1800:
            raise ValueError(f"interval: {interval} is not within 4 to 1800")
        self._interval = interval
        self._mac = bytes.fromhex(getattr(interface, "mac", "").replace(":", ""))
        self._random = random.Random(self._mac)  # spreads the routers of a link; nothing has to be secret
        self._timer: asyncio.TimerHandle | None = None
        self._latest = -MIN_DELAY
        interface.driver.core.autoconfiguration.hear_solicitations(interface.handle, True)
        self._send()

    async def close(self) -> None:
        """Advertise no more. Hosts stop using this router, by a last advertisement; their addresses stay.
        Idempotent."""
        self.stop()
        await asyncio.sleep(0)  # the stack is polled

    def stop(self) -> bool:
        """Do what `close` does, before the next poll; True if there is something to be sent."""
        if self.closed:
            return False
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._interface.check()
            self._transmit(0)  # RFC 4861, section 6.2.5
            self._interface.driver.core.autoconfiguration.hear_solicitations(self._interface.handle, False)
        except (NetworkError, StackError):
            return False
        return True

    def _on_solicitation(self) -> None:
        """A solicitation has arrived: answer soon, but no more often than allowed."""
        if not self.closed:
            self._at(max(self._loop.time() + self._random.random() * ANSWER_DELAY, self._latest + MIN_DELAY))

    def _at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._send)

    def _send(self) -> None:
        self._timer = None
        if self.closed:
            return
        try:
            self._interface.check()
        except (NetworkError, StackError):
            self.closed = True
            return
        try:
            self._transmit(self._router_lifetime)
            self.sent += 1
        except NetworkError:
            pass  # no link-local address, or no room now: the next one may leave
        now = self._latest = self._loop.time()
        wait = self._interval * (0.33 + 0.67 * self._random.random())
        if self.sent < INITIAL:
            wait = min(wait, INITIAL_INTERVAL)
        self._at(now + max(wait, MIN_DELAY))

    def _transmit(self, router_lifetime: int) -> None:
        message = build_advertisement(
            mac=self._mac,
            prefixes=self._prefixes,
            lifetime=self._lifetime,
            preferred=self._preferred,
            router_lifetime=router_lifetime,
            mtu=self._mtu,
            name_servers=self._servers,
            **self._flags,
        )
        self._interface.driver.core.autoconfiguration.advertise(self._interface.handle, message)
        self._interface.driver.wake()


def _list(name: str, given: object) -> list[object]:
    if isinstance(given, (str, IPv6Network, IPv6Address)):
        return [given]
    if isinstance(given, (bytes, int)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be text, an ipaddress object or a list of them, not {type(given).__name__}")
    return list(given)


def _prefixes(given: object) -> tuple[IPv6Network, ...]:
    prefixes = []
    for one in _list("prefix", given):
        try:
            prefix = one if isinstance(one, IPv6Network) else IPv6Network(str(one))
        except ValueError as error:
            raise ValueError(f"prefix: {error}") from None
        if prefix.prefixlen != 64 or prefix.is_multicast or prefix.is_link_local or prefix.is_loopback:
            raise ValueError(f"prefix: {prefix} is no /64 of which hosts could make addresses")
        prefixes.append(prefix)
    if len(prefixes) > MAX_PREFIXES:
        raise ValueError(f"prefix: {len(prefixes)} are more than {MAX_PREFIXES}")
    return tuple(prefixes)


def _servers(given: object) -> tuple[IPv6Address, ...]:
    servers = []
    for one in _list("name_servers", given):
        try:
            server = one if isinstance(one, IPv6Address) else IPv6Address(str(one))
        except ValueError as error:
            raise ValueError(f"name_servers: {error}") from None
        servers.append(server)
    if len(servers) > MAX_SERVERS:
        raise ValueError(f"name_servers: {len(servers)} are more than {MAX_SERVERS}")
    return tuple(servers)
