"""`MdnsBrowser`: the services of a type on the links of a stack (RFC 6763), as they come and go.

Owns when it asks: at once, then ever more rarely, and again before what it knows ends (RFC 6762, section 5.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.services.events import EventSource
from tcpip_wasm.services.mdns import records as make
from tcpip_wasm.services.mdns import wire
from tcpip_wasm.services.mdns.cache import Kept
from tcpip_wasm.services.mdns.node import MdnsNode
from tcpip_wasm.services.mdns.wire import Labels
from tcpip_wasm.stack import NetworkStack

FIRST_INTERVAL: Final = 1.0
MAX_INTERVAL: Final = 3600.0
"""Seconds between two queries."""

REFRESH: Final = 0.8
"""Part of a record's time after which it is asked for again."""

DETAIL_INTERVAL: Final = 1.0
DETAIL_ATTEMPTS: Final = 3
"""Queries for what is missing of a service, and seconds between them."""

MAX_INSTANCES: Final = 1024


@dataclass(frozen=True, slots=True)
class MdnsInstance:
    """A service on the link.

    Attributes:
        name: what people see.
        type: such as ``"_http._tcp"``.
        host: its host's name, such as ``printer.local``.
        port: its port.
        addresses: its host's.
        properties: of its TXT record; a key alone has the value None.
    """

    name: str
    type: str
    host: str
    port: int
    addresses: tuple[Address, ...]
    properties: Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class MdnsEvent:
    """A service came, changed or went.

    Attributes:
        kind: ``"added"``, ``"updated"`` or ``"removed"``.
        instance: the service, of one that went as it was.
    """

    kind: str
    instance: MdnsInstance


class MdnsBrowser(MdnsNode):
    """Finds services of a type.

    While it runs, names in ``.local`` are looked up by multicast wherever the stack takes a host.

    Args:
        stack: the stack.
        type: such as ``"_http._tcp"``.
        interfaces: taps and bridges to use; None takes all that there are at the start.

    Attributes:
        statistics: what it counted.
    """

    def __init__(
        self,
        stack: NetworkStack,
        type: str,  # noqa: A002  as the RFC calls it
        *,
        interfaces: Iterable[Interface] | None = None,
    ) -> None:
        super().__init__(stack, interfaces)
        self._type = make.type_labels(type)
        self._type_text = make.text_of(self._type[:2])
        self._instances: dict[Labels, MdnsInstance] = {}
        self._asked: dict[Labels, tuple[int, float]] = {}  # queries for details, and when the next one may follow
        self._events: EventSource[MdnsEvent] = EventSource()

    def __repr__(self) -> str:
        return f"<MdnsBrowser of {self._type_text}, {len(self._instances)} found>"

    @property
    def instances(self) -> tuple[MdnsInstance, ...]:
        """The services that are there now."""
        return tuple(self._instances.values())

    def events(self) -> AsyncIterator[MdnsEvent]:
        """Return an iterator over what happens from now on; `instances` has what was before."""
        return self._events.listen()

    async def _open(self) -> None:
        await super()._open()
        self._spawn(self._browse)

    def _close(self) -> None:
        super()._close()
        self._events.end()

    async def _browse(self) -> None:
        loop = self._driver.loop
        interval, query_at = FIRST_INTERVAL, loop.time() + self._random.uniform(0.02, 0.12)
        while not self.closed:
            now = loop.time()
            if now >= query_at:
                self._ask([(self._type, wire.PTR)])
                query_at = now + interval
                interval = min(interval * 2, MAX_INTERVAL)
            wake_at = min(query_at, self._evaluate(now))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(wake_at, now + 0.02)):
                    await self._news.wait()

    def _evaluate(self, now: float) -> float:
        """Report what changed, ask for what is missing, and return when to look again."""
        again = inf
        present: dict[Labels, MdnsInstance] = {}
        missing: list[tuple[Labels, int]] = []
        for pointer in self._cache.get(self._type, wire.PTR)[:MAX_INSTANCES]:
            try:
                name = wire.read_name(pointer.record.data)
            except wire.BadMessage:
                continue
            if wire.lower(name[1:]) != self._type:
                continue
            found, kept, wanted = self._details(name)
            if found is not None:
                present[wire.lower(name)] = found
            for one in (pointer, *kept):
                refresh = one.since + REFRESH * (one.until - one.since)
                if now >= refresh:
                    wanted.append((one.record.name, one.record.rdtype))
                again = min(again, refresh if now < refresh else one.until)
            if wanted:
                if self._may_ask(wire.lower(name), now):
                    missing += wanted
                again = min(again, now + DETAIL_INTERVAL)
        if missing:
            self._ask(list(dict.fromkeys(missing)))
        self._asked = {name: one for name, one in self._asked.items() if now < one[1] + 10 * DETAIL_INTERVAL}
        self._report(present)
        return again

    def _may_ask(self, name: Labels, now: float) -> bool:
        count, since = self._asked.get(name, (0, -inf))
        if now < since or count >= DETAIL_ATTEMPTS:
            return False
        self._asked[name] = count + 1, now + DETAIL_INTERVAL
        return True

    def _details(self, name: Labels) -> tuple[MdnsInstance | None, list[Kept], list[tuple[Labels, int]]]:
        """Return a service as far as it is known, the records that say so, and what is missing."""
        key = wire.lower(name)
        services, texts = self._cache.get(key, wire.SRV), self._cache.get(key, wire.TXT)
        kept = [*services, *texts]
        missing = [(name, rdtype) for rdtype, found in ((wire.SRV, services), (wire.TXT, texts)) if not found]
        if not services:
            return None, kept, missing
        port, host = make.service_of(services[-1].record)
        for rdtype in (wire.A, wire.AAAA):
            kept += self._cache.get(wire.lower(host), rdtype)
        addresses = self._found(wire.lower(host), (wire.A, wire.AAAA))
        if not addresses:
            return None, kept, [*missing, (host, wire.A), (host, wire.AAAA)]
        instance = MdnsInstance(
            name[0].decode("utf-8", "replace"),
            self._type_text,
            make.text_of(host),
            port,
            addresses,
            make.decode_properties(texts[-1].record.data) if texts else {},
        )
        return instance, kept, missing

    def _report(self, present: dict[Labels, MdnsInstance]) -> None:
        former, self._instances = self._instances, present
        for name, instance in present.items():
            if name not in former:
                self._events.put(MdnsEvent("added", instance))
            elif former[name] != instance:
                self._events.put(MdnsEvent("updated", instance))
        for name, instance in former.items():
            if name not in present:
                self._events.put(MdnsEvent("removed", instance))
