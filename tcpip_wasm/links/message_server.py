"""`MessageServer`: the base of servers that accept WebSockets.

Owns the listening socket, the address and which pages may connect. What is done with a connection is the subclass's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from websockets.server import ServerProtocol

from tcpip_wasm.arguments import check_port
from tcpip_wasm.links.message_socket import MessageSocket


class MessageServer:
    """Accepts WebSockets from entering to leaving. An asynchronous context manager.

    Args:
        host: the address to listen at.
        port: 0 picks a free one.
        origins: of pages whose scripts may connect, or regular expressions that match whole origins. Programs that send
            no Origin may always.
        ssl: serves ``wss`` with it.
        max_size: bytes of the longest message that is read.

    Raises:
        ValueError: the port is none.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        origins: Iterable[str | re.Pattern[str]],
        ssl: ssl.SSLContext | None,
        max_size: int,
    ) -> None:
        self._host = host
        self._port = check_port("port", port)
        self._origins: list[Any] = [None, *origins]
        self._ssl = ssl
        self._max_size = max_size
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens at."""
        if self._server is not None and self._server.sockets:
            self._port = int(self._server.sockets[0].getsockname()[1])
        return self._port

    @property
    def url(self) -> str:
        """What clients connect to; it ends in a slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._ssl else 'ws'}://{host}:{self.port}/"

    def protocol(self, **options: Any) -> ServerProtocol:
        """Return the library's side of a connection.

        Args:
            options: further ones of `ServerProtocol`.
        """
        return ServerProtocol(origins=self._origins, max_size=self._max_size, **options)

    def accepted(self) -> MessageSocket:
        """Return what serves a connection that was accepted."""
        raise NotImplementedError

    async def end_connections(self) -> None:
        """End the connections that are open."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Accept no more, and end the connections that are open. Idempotent."""
        server = self._server
        if server is not None:
            self._port = self.port
            self._server = None
            server.close()
            await self.end_connections()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            self.accepted, self._host, self._port, ssl=self._ssl
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
