"""`DnsServer`: answers for names of its own, by a function, or by other servers, over UDP and TCP.

Owns the sockets, the order in which answers are looked for, the cache of encoded answers, and the bounds. Messages are
in `wire`, records in `zone`, other servers in `forward`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from tcpip_wasm.addresses import Host
from tcpip_wasm.arguments import check_port
from tcpip_wasm.errors import NameResolutionError, StackError
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.names import Resolver
from tcpip_wasm.services.datagrams import open_datagrams
from tcpip_wasm.services.dns import wire
from tcpip_wasm.services.rate import RateLimit
from tcpip_wasm.services.service import Service
from tcpip_wasm.sockets import TcpServer, UdpTransport
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.services.dns.forward import Forwarder, Handler
    from tcpip_wasm.services.dns.records import Records
    from tcpip_wasm.services.dns.zone import Zone

_log: Final = logging.getLogger("tcpip_wasm.services")

MAX_TASKS: Final = 1024
"""Questions that wait for a function or another server."""

MAX_CONNECTIONS: Final = 128
"""Connections by TCP; further ones are closed at once."""

IDLE_TIMEOUT: Final = 10.0
"""Seconds for which a connection by TCP may be silent (RFC 7766, section 6.2.3)."""

ENCODED_SIZE: Final = 4096
"""Encoded answers that are kept."""


@dataclass(slots=True)
class DnsStatistics:
    """What a server counted.

    Attributes:
        udp_queries, tcp_queries: queries that arrived.
        malformed: messages that are none.
        limited: queries above a client's rate limit, which get no answer.
        dropped: queries without an answer because too many were under way.
        encoded_hits: answers from the cache of encoded ones.
        forwarded, forward_hits: questions to other servers, and answers from the cache of theirs.
        failed: answers with the code SERVFAIL.
        truncated: answers that had to be asked for again by TCP.
        connections_refused: connections above the limit.
    """

    udp_queries: int = 0
    tcp_queries: int = 0
    malformed: int = 0
    limited: int = 0
    dropped: int = 0
    encoded_hits: int = 0
    forwarded: int = 0
    forward_hits: int = 0
    failed: int = 0
    truncated: int = 0
    connections_refused: int = 0


class DnsServer(Service):
    """A DNS server; it needs the extra ``dns``.

    Args:
        stack: the stack.
        host: own address, a name of it, or None for all.
        port: own port, by UDP and TCP.
        records: by name: addresses, or text such as ``"MX 10 mail.lab.internal."``, one or several. ``"*.name"`` is
            for all names below that do not exist. Addresses have PTR records by themselves.
        handler: an async function of (name, type) for other names, called with text such as ``("a.example", "AAAA")``;
            it returns records as above, none for a name that has none of this type, or None for no such name.
        forward: a `Resolver`, whose servers are asked for everything else, or a function like `handler`. A resolver
            without servers is not asked, since it would ask its own stack.
        zones: names below which `forward` is not asked.
        ttl: seconds of records, and of denials.
        rate_limit: queries a second for each client's address; None sets no limit.

    Attributes:
        port: own port.

    Raises:
        ValueError, TypeError: a malformed argument.
        ImportError: dnspython is not installed.
    """

    def __init__(
        self,
        stack: NetworkStack,
        *,
        host: Host | None = None,
        port: int = 53,
        records: Mapping[str, Records] | None = None,
        handler: Handler | None = None,
        forward: Resolver | Handler | None = None,
        zones: Iterable[str] = (),
        ttl: int = 60,
        rate_limit: float | None = None,
    ) -> None:
        self._parts = parts_of(stack)
        super().__init__(self._parts.driver, max_tasks=MAX_TASKS)
        self._driver.check()
        self._stack = stack
        self._host = host
        self.port: int = check_port("port", port)
        if not 0 <= ttl < 1 << 31:
            raise ValueError(f"ttl: {ttl} is not within 0 to 2,147,483,647")
        self._texts, self._zone_of, forwarder_of = _load()
        self._ttl = ttl
        self._origins = tuple(zones)
        self._handler = handler
        self._forwarder: Forwarder | None = None
        self._forward: Handler | None = None
        if isinstance(forward, Resolver):
            self._forwarder = forwarder_of(forward, self._driver.loop.time)
        else:
            self._forward = forward
        self._limit = RateLimit(rate_limit)
        self._statistics = DnsStatistics()
        self._log = LogLimit(_log, self._driver.loop.time)
        self._encoded: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._zone: Zone
        self.set_records(records or {})
        self._transport: UdpTransport | None = None
        self._server: TcpServer | None = None
        self._connections = 0

    def __repr__(self) -> str:
        return f"<DnsServer on port {self.port}, {len(self._zone)} names>"

    def set_records(self, records: Mapping[str, Records]) -> None:
        """Replace the records as a whole.

        Raises:
            ValueError, TypeError: a malformed one; then nothing changes.
        """
        self._zone = self._zone_of(records, ttl=self._ttl, origins=self._origins)
        self._encoded.clear()

    def statistics(self) -> DnsStatistics:
        """Return what was counted so far."""
        forwarder = self._forwarder
        asked, hits = (forwarder.asked, forwarder.hits) if forwarder is not None else (0, 0)
        return replace(self._statistics, limited=self._limit.limited, forwarded=asked, forward_hits=hits)

    # --- Beginning and end ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        host = None if self._host is None else str(self._host)
        self._transport = await open_datagrams(self._parts, self._on_datagram, host, self.port)
        self.port = self._transport.get_extra_info("sockname")[1]
        self._server = await self._stack.start_server(self._serve_stream, host, self.port, limit=2048)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
            self._server.abort_clients()
        if self._forwarder is not None:
            self._forwarder.close()

    # --- Queries --------------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, source: tuple[Any, ...]) -> None:
        self._statistics.udp_queries += 1
        if not self._limit.allows(source[0], self._driver.loop.time()):
            return
        transport = self._transport
        assert transport is not None
        try:
            query = wire.parse_query(data)
        except wire.BadMessage as error:
            self._statistics.malformed += 1
            if error.answer is not None:
                transport.sendto(error.answer, source)
            return
        limit = query.limit(False)
        answer = self._answer_at_once(query, limit)
        if answer is not None:
            self._statistics.truncated += answer[2] & 2 != 0
            transport.sendto(answer, source)
        elif not self._spawn(lambda: self._answer_datagram(query, limit, transport, source)):
            self._statistics.dropped += 1

    async def _answer_datagram(
        self, query: wire.Query, limit: int, transport: UdpTransport, source: tuple[Any, ...]
    ) -> None:
        answer = await self._answer_later(query, limit)
        self._statistics.truncated += answer[2] & 2 != 0
        transport.sendto(answer, source)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS or self.closed:
            self._statistics.connections_refused += 1
            writer.transport.abort()
            return
        self._connections += 1
        try:
            with suppress(EOFError, OSError):
                while await self._answer_stream(reader, writer):
                    pass
        finally:
            self._connections -= 1
            writer.close()

    async def _answer_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one query of a connection; False ends it."""
        async with asyncio.timeout(IDLE_TIMEOUT):
            size = int.from_bytes(await reader.readexactly(2))
            if size > wire.MAX_QUERY:
                self._statistics.malformed += 1
                return False
            data = await reader.readexactly(size)
        self._statistics.tcp_queries += 1
        if not self._limit.allows(writer.get_extra_info("peername")[0], self._driver.loop.time()):
            return False
        try:
            query = wire.parse_query(data)
        except wire.BadMessage:
            self._statistics.malformed += 1
            return False
        limit = query.limit(True)
        answer = self._answer_at_once(query, limit)
        if answer is None:
            answer = await self._answer_later(query, limit)
        writer.write(len(answer).to_bytes(2) + answer)
        async with asyncio.timeout(IDLE_TIMEOUT):
            await writer.drain()
        return True

    # --- Answers --------------------------------------------------------------------------------------------------

    def _answer_at_once(self, query: wire.Query, limit: int) -> bytes | None:
        """Return the answer of what is known, or None where it has to be asked for."""
        key = query.question, query.flags, query.size, query.version, query.wants_dnssec, limit
        encoded = self._encoded.get(key)
        if encoded is not None:
            self._statistics.encoded_hits += 1
            self._encoded.move_to_end(key)
            return query.number.to_bytes(2) + encoded[2:]
        answer = self._answer_by_zone(query, limit)
        if answer is not None:
            self._encoded[key] = answer
            if len(self._encoded) > ENCODED_SIZE:
                self._encoded.popitem(last=False)
            return answer
        if self._handler is None and self._forwarder is not None:
            return self._forwarder.cached(query, limit)
        return None

    def _answer_by_zone(self, query: wire.Query, limit: int) -> bytes | None:
        if query.version:
            return self._build(query, limit, rcode=wire.BADVERS)
        if query.rdclass != wire.IN or query.rdtype in (wire.AXFR, wire.IXFR, wire.OPT):
            return self._build(query, limit, rcode=wire.REFUSED)
        labels = query.name
        found = self._zone.find(labels, query.rdtype)
        has_handler = self._handler is not None
        asks = has_handler or self._asks_others(labels)
        leads_away = found.alias is not None and query.rdtype in (wire.A, wire.AAAA)
        if leads_away and (has_handler or self._asks_others(found.alias or ())):
            return None
        if not found.exists and asks:
            return None
        rcode = wire.NOERROR if found.exists else wire.NXDOMAIN
        authorities = [found.denial] if found.denial is not None else []
        return self._build(query, limit, rcode=rcode, flags=wire.AA, answers=found.answers, authorities=authorities)

    def _asks_others(self, labels: tuple[bytes, ...]) -> bool:
        has_others = self._forward is not None or self._forwarder is not None
        return has_others and self._zone.origin_of(labels) is None

    def _build(self, query: wire.Query, limit: int, *, flags: int = 0, **content: Any) -> bytes:
        has_recursion = self._forward is not None or self._forwarder is not None
        return wire.build_answer(query, limit, flags=flags | (wire.RA if has_recursion else 0), **content)

    async def _answer_later(self, query: wire.Query, limit: int) -> bytes:
        """Return an answer by the handler or other servers; SERVFAIL where they fail."""
        try:
            return await self._ask(query, limit)
        except StackError:
            raise
        except NameResolutionError as error:
            self._log.log(logging.INFO, "a question was not answered: %s", error)
        except Exception as error:  # of the caller's function
            self._driver.report(error, f"{self!r}: the function for an answer failed")
        self._statistics.failed += 1
        return self._build(query, limit, rcode=wire.SERVFAIL)

    async def _ask(self, query: wire.Query, limit: int) -> bytes:
        labels = query.name
        found = self._zone.find(labels, query.rdtype)
        if found.exists:
            return await self._ask_alias(query, limit, found.answers, found.alias or labels)
        if self._handler is not None:
            answer = await self._call(self._handler, query, limit, wire.AA)
            if answer is not None:
                return answer
        if self._asks_others(labels):
            if self._forwarder is not None:
                cached = self._forwarder.cached(query, limit)
                return cached if cached is not None else await self._forwarder.answer(query, limit)
            assert self._forward is not None
            answer = await self._call(self._forward, query, limit, 0)
            if answer is not None:
                return answer
        denial = self._zone.denial(labels)
        return self._build(query, limit, rcode=wire.NXDOMAIN, flags=wire.AA, authorities=[denial])

    async def _call(self, function: Handler, query: wire.Query, limit: int, flags: int) -> bytes | None:
        """Return an answer from a caller's function, or None where it knows no such name."""
        texts = self._texts
        given = await _result(function(texts.name_text(query.name), texts.type_text(query.rdtype)))
        if given is None:
            return None
        answers = texts.parse_records(given, self._ttl, default=query.rdtype)
        fitting = [one for one in answers if one.rdtype in (query.rdtype, wire.CNAME) or query.rdtype == wire.ANY]
        authorities = [] if fitting else [self._zone.denial(query.name)]
        return self._build(query, limit, flags=flags, answers=fitting, authorities=authorities)

    async def _ask_alias(
        self, query: wire.Query, limit: int, answers: list[wire.Record], alias: tuple[bytes, ...]
    ) -> bytes:
        """Return own aliases with the addresses that others have for the name they lead to."""
        texts = self._texts
        name, rdtype = texts.name_text(alias), texts.type_text(query.rdtype)
        addresses: Records | None = None
        if self._handler is not None:
            addresses = await _result(self._handler(name, rdtype))
        if addresses is None and self._asks_others(alias):
            if self._forwarder is not None:
                addresses = await self._forwarder.addresses(name, 4 if query.rdtype == wire.A else 6)
            elif self._forward is not None:
                addresses = await _result(self._forward(name, rdtype))
        owner = wire.pack_name(alias)
        more = texts.parse_records(addresses or (), self._ttl, default=query.rdtype)
        fitting = [replace(one, owner=owner) for one in more if one.rdtype == query.rdtype]
        return self._build(query, limit, flags=wire.AA, answers=[*answers, *fitting])


async def _result(given: Any) -> Any:
    """Return what a caller's function returned, which need not be async."""
    return await given if isawaitable(given) else given


def _load() -> tuple[Any, Callable[..., Zone], Callable[..., Forwarder]]:
    """Import what needs dnspython."""
    try:
        texts = import_module("tcpip_wasm.services.dns.records")
        zone = import_module("tcpip_wasm.services.dns.zone")
        forward = import_module("tcpip_wasm.services.dns.forward")
    except ImportError as error:
        raise ImportError(f"a DNS server needs dnspython: pip install 'tcpip_wasm[dns]' ({error})") from None
    return texts, zone.Zone, forward.Forwarder
