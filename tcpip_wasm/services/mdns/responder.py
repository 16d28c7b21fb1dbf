"""`MdnsResponder`: a host's name and services on its links, without a server (RFC 6762, RFC 6763).

Owns the states of its names: they are probed, then announced, then defended; and when answers are sent: known ones and
those that were sent within a second are left out, shared ones wait for other hosts' (sections 6 and 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.errors import NetworkError, StackError
from tcpip_wasm.interfaces import Interface, TapInterface
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.services.mdns import wire
from tcpip_wasm.services.mdns.names import Announced, ServiceLike
from tcpip_wasm.services.mdns.node import PORT, Link, MdnsNode
from tcpip_wasm.services.mdns.records import text_of
from tcpip_wasm.services.mdns.wire import Labels, Message, Question, Record
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.streams.locks import Signal

_log: Final = logging.getLogger("tcpip_wasm.services")

PROBES: Final = 3
PROBE_INTERVAL: Final = 0.25
"""Seconds between probes (section 8.1)."""

DEFER: Final = 1.0
"""Seconds to wait where another host probes for the same name at the same time and comes first (section 8.2)."""

MAX_CONFLICTS: Final = 15
SLOW_DOWN: Final = 5.0
"""Conflicts after which each further try waits for so many seconds (section 8.1)."""

ANNOUNCEMENTS: Final = 2
SHARED_DELAY: Final = (0.02, 0.12)
TRUNCATED_DELAY: Final = (0.4, 0.5)
"""Seconds to wait before shared answers, and for the rest of known ones (sections 6 and 7.2)."""

REPEAT: Final = 1.0
"""Seconds in which a record is sent to a link once (section 6)."""

MAX_PENDING: Final = 256
"""Answers that wait."""


class MdnsResponder(MdnsNode):
    """Announces a host and its services in ``.local``; ``async with`` begins when the names are this host's.

    While it runs, names in ``.local`` are looked up by multicast wherever the stack takes a host.

    Args:
        stack: the stack.
        name: the host's name, such as ``"printer"`` for ``printer.local``. Where another host has it, it becomes
            ``printer-2`` and so on, and a service's ``name (2)``.
        services: what the host offers: `MdnsService` objects, or tuples or mappings of their attributes.
        interfaces: taps and bridges to use; None takes all that there are at the start.

    Attributes:
        statistics: what it counted.

    Raises:
        ValueError, TypeError: a malformed argument; on entering, a stack without a tap.
    """

    def __init__(
        self,
        stack: NetworkStack,
        name: str,
        services: Iterable[ServiceLike] = (),
        *,
        interfaces: Iterable[Interface] | None = None,
    ) -> None:
        super().__init__(stack, interfaces)
        self._announced = Announced(name, services)
        self._is_ours = False  # the names were probed
        self._lost: set[Labels] = set()  # names that another host has
        self._must_wait = False  # another host's probe came first
        self._disturbed = Signal()
        self._claiming = False
        self._conflicts = 0
        self._sent: dict[tuple[int, Labels, int, bytes], float] = {}
        self._pending: set[asyncio.TimerHandle] = set()
        self._truncated: dict[tuple[Any, ...], list[Record]] = {}  # known answers by the host that goes on with them
        self._records = LogLimit(_log, self._driver.loop.time)

    def __repr__(self) -> str:
        return f"<MdnsResponder {self.host}>"

    @property
    def host(self) -> str:
        """The host's name, with ``.local``; it is another one than given where another host had that."""
        return text_of(self._announced.host)

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of the services."""
        return tuple(text_of(name) for name in self._announced.instances)

    # --- Beginning and end ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        await self._claim()
        self._spawn(self._announce_again)
        for interface in {link.interface.name: link.interface for link in self._links}.values():
            if isinstance(interface, TapInterface):
                self._spawn(lambda interface=interface: self._follow(interface))  # type: ignore[misc]

    def _close(self) -> None:
        for handle in self._pending:
            handle.cancel()
        if self._is_ours and self._driver.error is None:
            for link in self._links:
                goodbye = [replace(one, ttl=0) for one in self._announced.records(self._addresses_on(link))]
                self._send(Message(response=True, answers=goodbye), [link])
        super()._close()
        self._disturbed.fire()

    # --- Claiming names -------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        """Probe until all names are this host's, then announce them."""
        self._claiming, self._is_ours = True, False
        try:
            await asyncio.sleep(self._random.random() * PROBE_INTERVAL)
            while not await self._probe():
                if self._lost:
                    self._conflicts += 1
                    self.statistics.conflicts += 1
                    names = ", ".join(text_of(name) for name in sorted(self._lost))
                    self._announced.rename(self._lost)
                    self._records.log(logging.WARNING, "another host has %s: this one is %s", names, self.host)
                    if self._conflicts > MAX_CONFLICTS:
                        await asyncio.sleep(SLOW_DOWN)
                elif self._must_wait:
                    await asyncio.sleep(DEFER)
                if self.closed:
                    return
            self._is_ours = True
            self._announce()
        finally:
            self._claiming = False

    async def _probe(self) -> bool:
        """Probe once for all names; return whether no other host has one of them."""
        self._lost.clear()
        self._must_wait = False
        for _ in range(PROBES):
            for link in self._links:
                self._send(self._probe_message(link), [link])
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_INTERVAL):
                    await self._disturbed.wait()
            if self._lost or self._must_wait or self.closed:
                return False
        return True

    def _probe_message(self, link: Link) -> Message:
        names = {wire.lower(name) for name in self._announced.names}
        records = self._announced.records(self._addresses_on(link))
        proposed = [replace(one, unique=False) for one in records if wire.lower(one.name) in names]
        return Message(questions=[Question(name, wire.ANY) for name in self._announced.names], authorities=proposed)

    def _announce(self) -> None:
        for link in self._links:
            records = self._announced.records(self._addresses_on(link))
            self._multicast(link, records, [], again=True)

    async def _announce_again(self) -> None:
        for _ in range(ANNOUNCEMENTS - 1):
            await asyncio.sleep(1.0)
            if self._is_ours:
                self._announce()

    async def _follow(self, interface: TapInterface) -> None:
        """Announce the addresses of an interface when they change."""
        known = interface.addresses
        while not self.closed:
            try:
                await interface.wait_address_change(timeout=None)
            except StackError:
                raise
            except NetworkError:
                return  # the interface was removed
            if interface.addresses != known and self._is_ours:
                known = interface.addresses
                self._announce()

    # --- Conflicts ------------------------------------------------------------------------------------------------

    def _on_response(self, link: Link, message: Message) -> None:
        super()._on_response(link, message)
        for record in (*message.answers, *message.additionals):
            if record.ttl and record.rdtype not in (wire.PTR, wire.NSEC) and self._contradicts(record):
                self._lost.add(wire.lower(record.name))
        if not self._lost:
            return
        if self._claiming:
            self._disturbed.fire()
        elif self._is_ours:
            self._claiming = self._spawn(self._claim)

    def _contradicts(self, record: Record) -> bool:
        """Whether another host's record has a name of this host, and says something else (section 9)."""
        name = wire.lower(record.name)
        if name not in [wire.lower(one) for one in self._announced.names]:
            return False
        own = [one for link in self._links for one in self._announced.records(self._addresses_on(link))]
        same = [one for one in own if one.key == record.key]
        return bool(same) and not any(one.is_same(record) for one in same)

    def _compare_probes(self, link: Link, message: Message) -> None:
        """Compare another host's probe with this one's; the later one in order goes on (section 8.2)."""
        for name in map(wire.lower, self._announced.names):
            theirs = sorted(_order(one) for one in message.authorities if wire.lower(one.name) == name)
            records = self._announced.records(self._addresses_on(link))
            ours = sorted(_order(one) for one in records if wire.lower(one.name) == name)
            if theirs and ours < theirs:
                self._must_wait = True
                self._disturbed.fire()
                return

    # --- Answers --------------------------------------------------------------------------------------------------

    def _on_query(self, link: Link, message: Message, source: tuple[Any, ...]) -> None:
        if message.authorities and self._claiming:
            self._compare_probes(link, message)
        if not self._is_ours:
            return
        if source in self._truncated:  # known answers that an earlier query of this host had no room for
            known = self._truncated[source]
            known += message.answers[: wire.MAX_RECORDS - len(known)]
        addresses = self._addresses_on(link)
        answers: list[Record] = []
        for question in message.questions:
            answers += [one for one in self._announced.answers(question, addresses) if one not in answers]
        answers = _unknown(answers, message.answers)
        if not answers:
            return
        if source[1] != PORT:
            self._answer_legacy(link, message, answers, addresses, source)
            return
        if message.questions and all(question.unicast for question in message.questions):
            reply = Message(True, answers=answers, additionals=self._announced.additionals(answers, addresses))
            for packet in wire.split(reply):
                self._send_packet(link, packet, source)
        is_probe = bool(message.authorities)
        if message.truncated and source not in self._truncated and len(self._truncated) < MAX_PENDING:
            self._truncated[source] = []
            self._later(TRUNCATED_DELAY, lambda: self._answer_rest(link, answers, source))
        elif is_probe or all(one.unique for one in answers):
            self._multicast(link, answers, addresses, again=is_probe)
        else:
            self._later(SHARED_DELAY, lambda: self._multicast(link, answers, addresses))

    def _answer_rest(self, link: Link, answers: list[Record], source: tuple[Any, ...]) -> None:
        known = self._truncated.pop(source, [])
        self._multicast(link, _unknown(answers, known), self._addresses_on(link))

    def _answer_legacy(
        self, link: Link, message: Message, answers: list[Record], addresses: list[Address], source: tuple[Any, ...]
    ) -> None:
        """Answer a client that is no node of multicast DNS, as a server would (section 6.7)."""
        more = self._announced.additionals(answers, addresses)
        reply = Message(True, message.number, False, message.questions[:8], answers, [], more)
        packet = wire.build(reply, legacy=True)
        if len(packet) > wire.MAX_PACKET:
            packet = wire.build(replace(reply, additionals=[]), legacy=True)
        if len(packet) <= wire.MAX_MESSAGE:
            self._send_packet(link, packet, source)

    def _later(self, delay: tuple[float, float], answer: Any) -> None:
        if len(self._pending) >= MAX_PENDING:
            return  # the host asks again
        least, most = delay

        def call() -> None:
            self._pending.discard(handle)
            answer()

        handle = self._driver.loop.call_later(least + self._random.random() * (most - least), call)
        self._pending.add(handle)

    def _multicast(
        self, link: Link, answers: Sequence[Record], addresses: list[Address], *, again: bool = False
    ) -> None:
        """Send answers to a link, but for those that were sent there within a second."""
        now = self._driver.loop.time()
        number = self._links.index(link)
        keys = {(number, *one.key, one.data): one for one in answers}
        fresh = {key: one for key, one in keys.items() if again or now - self._sent.get(key, -REPEAT) >= REPEAT}
        if not fresh or self.closed:
            return
        if len(self._sent) > 4096:
            self._sent.clear()
        self._sent.update(dict.fromkeys(fresh, now))
        records = list(fresh.values())
        more = self._announced.additionals(records, addresses) if addresses else []
        self._send(Message(True, answers=records, additionals=more), [link])

    def _own_addresses(self, name: Labels, versions: Sequence[int]) -> tuple[Address, ...]:
        if not self._is_ours or name != wire.lower(self._announced.host):
            return ()
        found = [one for link in self._links for one in self._addresses_on(link) if one.version in versions]
        return tuple(dict.fromkeys(found))


def _order(record: Record) -> tuple[int, int, bytes]:
    return wire.IN, record.rdtype, record.data


def _unknown(answers: Iterable[Record], known: Sequence[Record]) -> list[Record]:
    """Return answers without those that a host knows for at least half of their time (section 7.1)."""
    return [one for one in answers if not any(k.is_same(one) and k.ttl >= one.ttl / 2 for k in known)]
