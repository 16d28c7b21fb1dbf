"""A connector for aiohttp's client over a stack, for programs in which one session uses a stack, not the whole loop.

    session = aiohttp.ClientSession(connector=StackConnector(stack))

Needs the extra ``aiohttp``. Inside `NetworkStack.polyfill` aiohttp needs no adapter. aiohttp has no public interface
for a transport of the connector's own; this replaces the one method that its `TCPConnector` connects by.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, cast

from tcpip_wasm.compat.adapters.extras import extra
from tcpip_wasm.stack import NetworkStack

with extra("aiohttp"):
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["StackConnector", "StackResolver"]


class StackResolver(AbstractResolver):
    """Resolves names by a stack's resolver.

    Args:
        stack: the stack whose resolver is used.
    """

    def __init__(self, stack: NetworkStack) -> None:
        self._stack = stack

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises `OSError` where there is none."""
        infos = await self._stack.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host,
                host=str(sockaddr[0]),
                port=port,
                family=own,
                proto=proto,
                flags=int(socket.AI_NUMERICHOST | socket.AI_NUMERICSERV),
            )
            for own, _, proto, _, sockaddr in infos
        ]

    async def close(self) -> None:
        """Nothing to close."""


class StackConnector(aiohttp.TCPConnector):
    """Connects over a stack.

    Args:
        stack: the stack that connects.
        options: of `aiohttp.TCPConnector`.
    """

    def __init__(self, stack: NetworkStack, **options: Any) -> None:
        options.setdefault("resolver", StackResolver(stack))
        super().__init__(**options)
        self._stack = stack

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[tuple[Any, ...]],
        req: Any,
        timeout: aiohttp.ClientTimeout,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> Any:
        errors: list[OSError] = []
        key = req.connection_key
        try:
            async with asyncio.timeout(timeout.sock_connect):
                for info in addr_infos:
                    host, port = info[4][:2]
                    try:
                        return await self._stack.create_connection(args[0], host, port, **kwargs)
                    except ssl.SSLCertVerificationError as error:
                        raise aiohttp.ClientConnectorCertificateError(key, error) from error
                    except ssl.SSLError as error:
                        raise aiohttp.ClientConnectorSSLError(key, error) from error
                    except OSError as error:
                        errors.append(error)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {req.url}") from error
        raise cast(Any, client_error)(key, errors[0]) from errors[0]
