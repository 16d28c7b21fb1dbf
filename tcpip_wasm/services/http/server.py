"""`HttpServer`: an ASGI application, or a folder of files, over a stack.

Owns what is served and how the server begins and ends; connections are in `connection`, files in `files`.
"""

from __future__ import annotations

import os
from importlib import import_module
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final

from tcpip_wasm.addresses import Host
from tcpip_wasm.arguments import check_int, check_port
from tcpip_wasm.services.folder import Folder
from tcpip_wasm.services.http.files import Files
from tcpip_wasm.services.http.lifespan import Lifespan
from tcpip_wasm.services.service import Service
from tcpip_wasm.sockets import TcpServer
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.services.http.connection import Connections

MAX_CONNECTIONS: Final = 1024


class HttpServer(Service):
    """An HTTP server; it needs the extra ``http``.

    Args:
        stack: the stack.
        application: an ASGI application, or the path of a folder whose files are served: with ranges, and lists of
            folders that have no ``index.html``. Nothing outside of the folder can be read.
        port: own port; 0 takes a free one.
        host: own address, a name of it, or None for all.
        ssl: a context, with which every connection uses TLS.
        listing: whether folders are listed.
        max_connections: connections at a time; further ones are reset.

    Attributes:
        port: own port.

    Connections that move nothing for 15 to 30 seconds while something is awaited from the peer are reset.

    Raises:
        ValueError, TypeError: a malformed argument.
        NotADirectoryError: the path is no folder.
        ImportError: uvicorn is not installed.
    """

    def __init__(
        self,
        stack: NetworkStack,
        application: Any,
        *,
        port: int = 80,
        host: Host | None = None,
        ssl: SSLContext | None = None,
        listing: bool = True,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__(parts_of(stack).driver, max_tasks=0)
        self._driver.check()
        self._stack = stack
        self._host = host
        self.port: int = check_port("port", port)
        if ssl is not None and not isinstance(ssl, SSLContext):
            raise TypeError(f"ssl must be an SSLContext or None, not {type(ssl).__name__}")
        self._ssl = ssl
        self._most = check_int("max_connections", max_connections, 1, 65535)
        self._lifespan: Lifespan | None = None
        if isinstance(application, (str, os.PathLike)):
            self._application: Any = Files(Folder(application), listing=listing)
        elif callable(application):
            self._application = application
            self._lifespan = Lifespan(application)
        else:
            raise TypeError(f"application must be an ASGI application or a folder, not {type(application).__name__}")
        try:
            self._make: Any = import_module("tcpip_wasm.services.http.connection").Connections
        except ImportError as error:
            raise ImportError(f"an HTTP server needs uvicorn: pip install 'tcpip_wasm[http]' ({error})") from None
        self._connections: Connections | None = None
        self._server: TcpServer | None = None

    def __repr__(self) -> str:
        return f"<HttpServer on port {self.port}>"

    @property
    def refused(self) -> int:
        """Connections that were reset because there were too many."""
        return self._connections.refused if self._connections is not None else 0

    async def aclose(self) -> None:
        """Stop serving, drop requests under way, and let the application shut down. Idempotent.

        Cancelled, it is closed all the same.
        """
        await super().aclose()
        if self._lifespan is not None:
            await self._lifespan.wait()

    async def _open(self) -> None:
        state: dict[str, Any] = {}
        if self._lifespan is not None:
            await self._lifespan.start()
            state = self._lifespan.state
        self._connections = self._make(self._application, state, self._driver.loop, self._most)
        self._server = await self._stack.create_server(
            self._connections.make,
            self._host,
            self.port,
            ssl=self._ssl,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._connections is not None:
            self._connections.close()
        if self._lifespan is not None:
            self._lifespan.stop()
