"""Questions that a DNS server does not answer itself: to a caller's function, or to other servers, with a cache.

Owns the cache of what other servers answered, with the time that is left of it, and what one question under way means
for others that ask the same. It knows neither sockets nor zones.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from tcpip_wasm.addresses import SOCKET_FAMILIES, Address
from tcpip_wasm.errors import NameResolutionError
from tcpip_wasm.names import Resolver
from tcpip_wasm.names.cache import Cache
from tcpip_wasm.services.dns import records as texts
from tcpip_wasm.services.dns import wire

Handler = Callable[[str, str], Awaitable[texts.Records | None] | texts.Records | None]
"""Returns the records of (name, type); none of them for a name without records of this type, None for no such name."""

CACHE_SIZE: Final = 4096
"""Answers of other servers."""

MAX_TTL: Final = 86_400
"""Seconds for which an answer is kept at most."""

_Key = tuple[tuple[bytes, ...], int]


class Forwarder:
    """Forwards questions to the servers of a resolver.

    Args:
        resolver: asks.
        clock: the loop's time.

    Attributes:
        hits, asked: answers from the cache, and questions to other servers.
    """

    def __init__(self, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._clock = clock
        self._cache: Cache[tuple[wire.Forwarded, float]] = Cache(CACHE_SIZE, clock)
        self._asked: dict[_Key, asyncio.Future[wire.Forwarded]] = {}
        self.hits: int = 0
        self.asked: int = 0

    def cached(self, query: wire.Query, limit: int) -> bytes | None:
        """Return an answer from the cache, or None."""
        kept = self._cache.get((query.name, query.rdtype))
        if kept is None:
            return None
        self.hits += 1
        answer, since = kept
        return wire.build_forwarded(query, answer, int(self._clock() - since), limit)

    async def answer(self, query: wire.Query, limit: int) -> bytes:
        """Return the answer of another server.

        Raises:
            NameResolutionError: there is none.
        """
        key = query.name, query.rdtype
        pending = self._asked.get(key)
        if pending is None:
            pending = self._asked[key] = asyncio.ensure_future(self._ask(key))
            pending.add_done_callback(lambda done: self._done(key, done))
        answer = await asyncio.shield(pending)
        return wire.build_forwarded(query, answer, 0, limit)

    def _done(self, key: _Key, done: asyncio.Future[wire.Forwarded]) -> None:
        del self._asked[key]
        if not done.cancelled():
            done.exception()  # those who asked may be gone

    async def _ask(self, key: _Key) -> wire.Forwarded:
        self.asked += 1
        try:
            answer = wire.read_forwarded(await self._resolver.forward(*key))
        except wire.BadMessage as error:
            raise NameResolutionError(socket.EAI_AGAIN, f"an answer that cannot be read: {error}") from None
        self._cache.put(key, (answer, self._clock()), min(answer.ttl, MAX_TTL))
        return answer

    async def addresses(self, name: str, version: int) -> list[Address]:
        """Return the addresses of a name that an alias leads to, none where there are none.

        Raises:
            NameResolutionError: no server gave an answer.
        """
        try:
            return list((await self._resolver.addresses(name + ".", family=int(SOCKET_FAMILIES[version]))).addresses)
        except NameResolutionError as error:
            if error.errno == socket.EAI_NONAME:
                return []
            raise

    def close(self) -> None:
        """Cancel the questions under way."""
        for pending in list(self._asked.values()):
            pending.cancel()
