"""Connections of the HTTP server: uvicorn's protocol, with an end for peers that are silent or slow.

The only module that imports uvicorn. Owns what one connection may cost: the time for a request's head and body and for
taking an answer, the number of connections, and the number of log records that peers can cause.
"""

from __future__ import annotations

import asyncio
import logging
import time
from importlib.util import find_spec
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tcpip_wasm.log_limit import BURST, PERIOD
from tcpip_wasm.services.http.ranges import http_date

CHECK_INTERVAL: Final = 15.0
"""Seconds: a peer that has moved nothing between two checks, and of which something is awaited, is disconnected."""

KEEP_ALIVE: Final = 5
"""Seconds for which a connection waits for another request."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's head at most."""

_log: Final = logging.getLogger("tcpip_wasm.services.http")


class _Limit(logging.Filter):
    """Passes as many records as `LogLimit` does."""

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._began >= PERIOD:
            self._began, self._count = record.created, 0
        self._count += 1
        return self._count <= BURST


_log.addFilter(_Limit())


class Connections:
    """What the connections of one server share.

    Args:
        application: an ASGI application.
        state: of its lifespan.
        loop: the event loop.
        most: connections at a time.

    Attributes:
        refused: connections above that number, which are reset.
    """

    def __init__(self, application: Any, state: dict[str, Any], loop: asyncio.AbstractEventLoop, most: int) -> None:
        sockets = "websockets-sansio" if find_spec("websockets") is not None else "none"
        self.config: Config = Config(
            application,
            log_config=None,
            access_log=False,
            http=H11Protocol,
            ws=sockets,
            lifespan="off",
            interface="asgi3",
            timeout_keep_alive=KEEP_ALIVE,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        self.config.load()
        self.shared: ServerState = ServerState()
        self.state = state
        self.loop = loop
        self.most = most
        self.refused: int = 0

    def make(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self)

    def close(self) -> None:
        """End all connections: those without a request under way in order, others at once."""
        for connection in list(self.shared.connections):
            transport = connection.transport
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and cycle.response_complete and transport is not None:
                transport.close()
            elif transport is not None:
                transport.abort()
        for task in list(self.shared.tasks):
            task.cancel()


class _Connection(H11Protocol):
    def __init__(self, owner: Connections) -> None:
        super().__init__(owner.config, owner.shared, owner.state, owner.loop)
        self.logger = _log
        self._owner = owner
        self._received = 0
        self._seen: tuple[Any, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._owner.most:
            self._owner.refused += 1
            transport.abort()
            return
        self._timer = self.loop.call_later(CHECK_INTERVAL, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += 1
        self.server_state.default_headers = [(b"date", http_date(time.time()).encode())]
        super().data_received(data)

    def _check(self) -> None:
        """End the connection if the peer has moved nothing of what is awaited from it since the last check."""
        waiting = self.transport.get_write_buffer_size()
        cycle = self.cycle
        is_idle = cycle is None or cycle.response_complete
        # Bytes of a head do not count, only whole heads: one byte now and then would keep a connection for ever.
        receives_head = self.conn.their_state is h11.IDLE and is_idle and not waiting
        receives_body = self.conn.their_state is h11.SEND_BODY and not is_idle and not waiting
        moved = id(cycle) if receives_head else self._received if receives_body else waiting
        seen = receives_head, receives_body, moved
        if seen == self._seen and (receives_head or receives_body or waiting):
            self.transport.abort()
            return
        self._seen = seen
        self._timer = self.loop.call_later(CHECK_INTERVAL, self._check)
