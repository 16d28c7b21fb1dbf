"""The resolver: names to addresses and back, by asking DNS servers.

A stub resolver (RFC 1034, section 5.3.1): it asks servers that do the search. Owns the list of servers, the search
list, the cache, and the questions under way: one is shared among all who ask it, and their number is bounded. It is
handed sockets, a clock and a seed, and knows nothing of the stack it belongs to.

The reasons are in docs/explanation/names.md.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tcpip_wasm.addresses import VERSIONS, Address
from tcpip_wasm.errors import NameResolutionError, StackError
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.names.answer import Found, Outcome
from tcpip_wasm.names.cache import Cache
from tcpip_wasm.names.hostname import host_name
from tcpip_wasm.names.prng import Unpredictable
from tcpip_wasm.names.servers import DNS_PORT, OpenDatagram, OpenStream, Server, parse_servers
from tcpip_wasm.names.statistics import Counters, ResolverStatistics

if TYPE_CHECKING:
    from tcpip_wasm.names import wire
    from tcpip_wasm.names.query import Questions

_log: Final = logging.getLogger("tcpip_wasm.names")

DEFAULT_SERVER: Final = ("127.0.0.1", DNS_PORT)

LIFETIME: Final = 20.0
"""Seconds after which a query has failed, for any number of servers."""

RESOLUTION_DELAY: Final = 0.05
"""Seconds that IPv6 addresses may arrive after IPv4 addresses (RFC 8305, section 3)."""

MAX_SERVERS: Final = 8
"""Servers from one source; any host of an interface's network may announce any number."""

MAX_SOURCES: Final = 64
MAX_SEARCH: Final = 8
"""Names of the search list."""

MAX_CONCURRENT: Final = 64
"""Questions under way at a time; others wait."""

MAX_QUESTIONS: Final = 1024
"""Questions under way or waiting; beyond that they fail at once."""

CACHE_SIZE: Final = 1024
"""Answers and denials."""


class _Flight:
    """A question under way and how many wait for it."""

    def __init__(self, task: asyncio.Task[Outcome]) -> None:
        self.task = task
        self.waiting = 0


class Resolver:
    """A stub resolver. `NetworkStack.resolver` is the one of a stack.

    Args:
        open_datagram, open_stream: open sockets to a server, see `names.servers`.
        clock: the time in seconds.
        seed: bytes from which ids and ports derive.
        servers: (address, port) pairs to query; none means the stack's own loopback, port 53.
        cache_size: answers and denials that are remembered.

    Attributes:
        ndots: names with at least so many dots are queried as they are before the search list is tried.
        asks_itself: whether the stack's own loopback is asked where no server is known; if not, names then fail at
        once.
    """

    def __init__(
        self,
        *,
        open_datagram: OpenDatagram,
        open_stream: OpenStream,
        clock: Callable[[], float],
        seed: bytes,
        servers: Iterable[Server | str] = (),
        cache_size: int = CACHE_SIZE,
    ) -> None:
        self._open = open_datagram, open_stream
        self._numbers = Unpredictable(seed, b"tcpip_wasm names")
        self._cache: Cache[Outcome] = Cache(cache_size, clock)
        self._flights: dict[tuple[wire.Name, int], _Flight] = {}
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._own = parse_servers(servers)
        self._learned: dict[object, tuple[list[Server], list[str]]] = {}
        self._search: list[str] = []
        self.ndots = 1
        self.asks_itself = True
        self._questions: Questions | None = None  # once something was asked
        self._counters = Counters()
        self._records = LogLimit(_log, clock)
        self._wire: Any = None

    def __repr__(self) -> str:
        return f"<Resolver of {self.servers}>"

    # --- Servers and search names --------------------------------------------------------------------------------

    @property
    def servers(self) -> list[Server]:
        """The servers to query: those that were set, then those learned by interfaces, else the stack's loopback.

        To be assigned to as a whole: (address, port) pairs, or addresses alone for port 53.
        """
        learned = [server for servers, _ in self._learned.values() for server in servers]
        return list(dict.fromkeys(self._own + learned)) or [DEFAULT_SERVER]

    @servers.setter
    def servers(self, servers: Iterable[Server | str]) -> None:
        self._own = parse_servers(servers)

    @property
    def search(self) -> list[str]:
        """Names that are appended to those that are not complete: those set, then those learned."""
        learned = [name for _, names in self._learned.values() for name in names]
        return list(dict.fromkeys(self._search + learned))[:MAX_SEARCH]

    @search.setter
    def search(self, names: Iterable[str]) -> None:
        self._search = _search(names)

    def learn(self, source: object, servers: Iterable[Server | str], search: Iterable[str] = ()) -> None:
        """Take servers and search names from an interface, in place of those before.

        Args:
            source: whatever identifies the interface, and the protocol by which it learned; hashable.
            servers: the first eight are taken.
            search: names for the search list; the first eight are taken.

        Raises:
            ValueError, TypeError: one of them is malformed; then nothing changes. Also too many sources.
        """
        taken = parse_servers(servers)[:MAX_SERVERS], _search(search)[:MAX_SEARCH]
        if source not in self._learned and len(self._learned) >= MAX_SOURCES:
            raise ValueError(f"source: {source!r} is one more than {MAX_SOURCES}")
        if self._learned.get(source) != taken:
            servers_text = ", ".join(f"{host} port {port}" for host, port in taken[0])
            search_text = ", ".join(taken[1]) or "empty"
            self._records.log(logging.INFO, "%s: name servers %s, search list %s", source, servers_text, search_text)
        self._learned[source] = taken

    def forget(self, source: object) -> None:
        """Forget what a source announced; without effect if that is nothing."""
        if self._learned.pop(source, None) is not None:
            self._records.log(logging.INFO, "%s: no name servers any more", source)

    def flush(self) -> None:
        """Forget all answers and denials."""
        self._cache.clear()

    def statistics(self) -> ResolverStatistics:
        """Return what was counted so far."""
        return ResolverStatistics(
            **asdict(self._counters),
            cached=len(self._cache),
            evicted=self._cache.evicted,
            under_way=len(self._flights),
        )

    # --- Lookups --------------------------------------------------------------------------------------------------

    async def addresses(self, host: str, *, family: int = 0, impatient: bool = False) -> Found:
        """Return the addresses of a name.

        Args:
            host: a name; with a dot at its end it is complete, otherwise the search list is tried.
            family: ``socket.AF_INET``, ``socket.AF_INET6``, or 0 for both.
            impatient: whether to go without IPv6 addresses that come much later than IPv4 addresses.

        Raises:
            NameResolutionError: ``EAI_NONAME`` where there is no such name, or no such address of it; ``EAI_AGAIN``
                where no server gave an answer; ``EAI_FAIL`` where dnspython is not installed.
            ValueError: the name is malformed.
            StackError: the stack is gone.

        Cancelled, it leaves no question and no socket behind.
        """
        self._check_servers(host)
        wire = self._load(host)
        types = tuple(wire.ADDRESS_TYPES[version] for version in reversed(VERSIONS[family]))
        missing: NameResolutionError | None = None
        for name in self._candidates(host):
            try:
                return await self._find(name, types, impatient)
            except NameResolutionError as error:
                if error.errno != socket.EAI_NONAME:
                    raise  # trying on could find another host of that name
                missing = missing or error
        raise missing or NameResolutionError(socket.EAI_NONAME, f"{host}: no such name")

    async def names(self, address: Address) -> tuple[str, ...]:
        """Return the names that an address has by PTR records; raises as `addresses` does."""
        self._check_servers(str(address))
        wire = self._load(str(address))
        question = wire.name_of(address.reverse_pointer)
        found = (await self._ask(question, wire.PTR)).check().values
        names = []
        for one in found:
            try:
                names.append(host_name(one.to_text(omit_final_dot=True)))
            except ValueError:
                continue  # the owner of the address may write anything there
        if not names:
            raise NameResolutionError(socket.EAI_NONAME, f"{address}: no name")
        return tuple(names)

    async def forward(self, labels: Sequence[bytes], rdtype: int) -> bytes:
        """Ask the servers on behalf of another host, and return the whole answer as it arrived, checked to be one.

        Neither the search list nor the cache is used, and not the stack's own loopback: a server on this stack may be
        what asks.

        Args:
            labels: of the name, without the empty one at its end.
            rdtype: number of the type of the records.

        Raises:
            NameResolutionError: no server gave an answer, or there is no server.
            StackError: the stack is gone.
        """
        text = b".".join(labels).decode("ascii", "replace")
        if not self._has_servers():
            raise NameResolutionError(socket.EAI_AGAIN, f"{text}: no name server to forward to")
        wire = self._load(text)
        assert self._questions is not None
        try:
            async with asyncio.timeout(LIFETIME), self._slots:
                return await self._questions.forward(wire.Name([*labels, b""]), rdtype)
        except TimeoutError:
            raise NameResolutionError(socket.EAI_AGAIN, f"{text}: no server answered in time") from None

    def _check_servers(self, host: str) -> None:
        if not (self.asks_itself or self._has_servers()):
            raise NameResolutionError(socket.EAI_NONAME, f"{host}: no such name, and no name server to ask")

    def _has_servers(self) -> bool:
        return bool(self._own) or any(servers for servers, _ in self._learned.values())

    def _load(self, host: str) -> Any:
        """Import the wire format, when it is needed first."""
        if self._wire is None:
            try:
                wire = import_module("tcpip_wasm.names.wire")
            except ImportError as error:
                raise NameResolutionError(
                    socket.EAI_FAIL,
                    f"{host}: it is not in the hosts table, and asking a DNS server needs dnspython: "
                    f"pip install 'tcpip_wasm[dns]' ({error})",
                ) from None
            from tcpip_wasm.names.query import Questions
            from tcpip_wasm.names.transaction import Exchange

            exchange = Exchange(*self._open, self._numbers, self._counters)
            self._questions = Questions(exchange, lambda: self.servers, self._has_servers, self._cache, self._counters)
            self._wire = wire
        return self._wire

    def _candidates(self, host: str) -> list[wire.Name]:
        name = host_name(host)
        if host.endswith("."):
            texts = [name]
        else:
            searched = [f"{name}.{suffix}" for suffix in self.search]
            texts = [name, *searched] if name.count(".") >= self.ndots else [*searched, name]
        names = []
        for text in texts:
            try:
                names.append(self._wire.name_of(host_name(text)))
            except ValueError:
                continue  # too long with this suffix
        return names

    async def _find(self, name: wire.Name, types: Sequence[int], impatient: bool) -> Found:
        """Ask for all types at once, and return what came together."""
        outcomes = [self._cached(name, one) for one in types]
        if None not in outcomes:
            self._counters.cache_hits += len(types)
        else:
            tasks = [asyncio.create_task(self._ask(name, one)) for one in types]
            try:
                await self._wait(tasks, impatient)
                outcomes = [task.result() if task.done() else None for task in tasks]
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        ended = [outcome for outcome in outcomes if outcome is not None]
        good = [outcome for outcome in ended if not outcome.failed]
        if not good:
            worst = max(ended, key=lambda o: (o.stack_error is not None, o.error != socket.EAI_NONAME))
            worst.check()
        addresses = tuple(dict.fromkeys(value for outcome in good for value in outcome.values))
        return Found(addresses, good[0].canonical)

    async def _wait(self, tasks: list[asyncio.Task[Outcome]], impatient: bool) -> None:
        pending = set(tasks)
        while pending:
            ipv4 = tasks[-1]
            late = impatient and ipv4.done() and bool(ipv4.result().values)
            done, pending = await asyncio.wait(
                pending,
                timeout=RESOLUTION_DELAY if late else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if late and not done:
                return

    def _cached(self, name: wire.Name, rdtype: int) -> Outcome | None:
        return self._cache.get((name, rdtype))

    async def _ask(self, name: wire.Name, rdtype: int) -> Outcome:
        """Return how a query ends, which all callers of the same query share."""
        outcome = self._cached(name, rdtype)
        if outcome is not None:
            self._counters.cache_hits += 1
            return outcome
        key = name, rdtype
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= MAX_QUESTIONS:
                return Outcome(error=socket.EAI_AGAIN, text=f"{name}: too many questions under way")
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fly(name, rdtype)))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if not flight.task.done():
                    flight.task.cancel()
                    await asyncio.gather(flight.task, return_exceptions=True)

    async def _fly(self, name: wire.Name, rdtype: int) -> Outcome:
        assert self._questions is not None
        try:
            async with asyncio.timeout(LIFETIME), self._slots:
                return await self._questions.end(name, rdtype)
        except TimeoutError:
            return Outcome(error=socket.EAI_AGAIN, text=f"{name}: no server answered in time")
        except NameResolutionError as error:
            return Outcome(error=error.errno or socket.EAI_AGAIN, text=str(error.strerror))
        except StackError as error:
            return Outcome(stack_error=error)


def _search(given: Iterable[str]) -> list[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"search must be a list of names, not {type(given).__name__}")
    return [host_name(one) for one in given]
