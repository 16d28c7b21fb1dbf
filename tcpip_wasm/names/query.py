"""One question from its first server to its end: retries, other servers, CNAMEs, and what is worth remembering.

An answer is remembered for the question that was asked and for nothing else that it may contain, so that a server
cannot add names that were not queried.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from tcpip_wasm.errors import NameResolutionError, StackError
from tcpip_wasm.names import wire
from tcpip_wasm.names.answer import Outcome
from tcpip_wasm.names.cache import Cache
from tcpip_wasm.names.servers import Server
from tcpip_wasm.names.statistics import Counters
from tcpip_wasm.names.transaction import Exchange

_log: Final = logging.getLogger("tcpip_wasm.names")

ROUNDS: Final = (1.0, 2.0, 4.0)
"""Seconds to wait for a server in each round over all servers."""

MAX_CHAIN: Final = 16
"""CNAMEs from a name to its addresses."""

MAX_ADDRESSES: Final = 256
"""Addresses of one name; further ones are left out."""

MAX_TTL: Final = 86_400
"""Seconds for which an answer is remembered at most."""

MAX_NEGATIVE_TTL: Final = 3 * 3600
"""Seconds for which a denial is remembered at most (RFC 2308, section 5)."""


class Questions:
    """Asks questions to their end.

    Args:
        exchange: queries one server.
        servers: returns the servers to query now.
        has_servers: returns whether any of these was configured, or learned by an interface.
        cache: keeps outcomes by (name, type).
        counters: counts.
    """

    def __init__(
        self,
        exchange: Exchange,
        servers: Callable[[], list[Server]],
        has_servers: Callable[[], bool],
        cache: Cache[Outcome],
        counters: Counters,
    ) -> None:
        self._exchange = exchange
        self._servers = servers
        self._has_servers = has_servers
        self._cache = cache
        self._counters = counters

    async def end(self, name: wire.Name, rdtype: int) -> Outcome:
        """Ask, follow CNAMEs from answer to answer, remember how it ended, and return that.

        Raises:
            NameResolutionError: no server gave an answer, or only a loop of CNAMEs.
            StackError: the stack is gone.
        """
        current, ttl = name, MAX_TTL
        seen = {name}
        while True:
            response = await self._ask_servers(current, rdtype)
            asked = current
            aliases = {r.owner: r for r in response.answers if r.rdtype == wire.CNAME}
            while current in aliases:
                alias = aliases[current]
                current, ttl = cast(wire.Name, alias.value), min(ttl, alias.ttl)
                if current in seen or len(seen) > MAX_CHAIN:
                    raise NameResolutionError(socket.EAI_AGAIN, f"{name}: a loop of CNAMEs, or too many")
                seen.add(current)
            found = [r for r in response.answers if r.rdtype == rdtype and r.owner == current]
            if found:
                ttl = min([ttl, *(record.ttl for record in found)])
                values = tuple(dict.fromkeys(record.value for record in found))[:MAX_ADDRESSES]
                outcome = Outcome(values, current.to_text(omit_final_dot=True).lower())
                self._cache.put((name, rdtype), outcome, ttl)
                return outcome
            if response.rcode == wire.NXDOMAIN or response.denial is not None or current == asked:
                return self._deny(name, current, rdtype, response, ttl)

    async def forward(self, name: wire.Name, rdtype: int) -> bytes:
        """Ask, and return the whole message of the first server that answers; nothing is remembered.

        Raises: what `end` raises.
        """
        return (await self._ask_servers(name, rdtype)).whole

    def _deny(self, name: wire.Name, current: wire.Name, rdtype: int, response: wire.Response, ttl: int) -> Outcome:
        """There is no such name, or nothing of this type: cache that, for as long as the answer allows."""
        is_gone = response.rcode == wire.NXDOMAIN
        text = f"{name}: no such name" if is_gone else f"{name}: the name has no such record"
        outcome = Outcome(error=socket.EAI_NONAME, text=text)
        if response.denial is not None and current.is_subdomain(response.denial[0]):
            # RFC 2308, section 5, and RFC 8020 would let NXDOMAIN deny every type and every longer name. Servers exist
            # that send it where the name has no record of this type alone (RFC 4074, section 4.2).
            self._cache.put((name, rdtype), outcome, min(ttl, response.denial[1], MAX_NEGATIVE_TTL))
        return outcome

    async def _ask_servers(self, name: wire.Name, rdtype: int) -> wire.Response:
        """Query one server after the other, each several times, until one answers."""
        counters = self._counters
        servers = self._servers()
        reasons: dict[Server, str] = {}
        for seconds in ROUNDS:
            for server in list(servers):
                try:
                    response = await self._exchange.ask(server, name, rdtype, seconds)
                except StackError:
                    raise
                except TimeoutError:
                    counters.timed_out += 1
                    reasons[server] = "no answer"
                    _log.debug("%s: no answer from %s port %d within %g s", name, *server, seconds)
                    continue
                except OSError as error:
                    counters.unreachable += 1
                    reasons[server] = error.strerror or str(error)
                else:
                    if response.rcode in (wire.NOERROR, wire.NXDOMAIN):
                        return response
                    counters.refused += 1
                    reasons[server] = f"code {response.rcode}"
                _log.debug("%s: %s port %d: %s", name, *server, reasons[server])
                servers.remove(server)  # it refused: another query would not help
        answers = ", ".join(f"{host} port {port}: {reason}" for (host, port), reason in reasons.items())
        if self._has_servers():
            text = f"{name}: no name server gave an answer ({answers})"
        else:
            text = (
                f"{name}: it is not in the hosts table, and the stack has no name server: assign stack.name_servers, "
                f"or add the name to stack.hosts (asked for lack of another: {answers})"
            )
        raise NameResolutionError(socket.EAI_AGAIN, text)
