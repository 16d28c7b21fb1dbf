"""A network backend for httpcore over a stack, for programs in which one client uses a stack, not the whole loop.

    pool = httpcore.AsyncConnectionPool(network_backend=StackBackend(stack))

Needs the extra ``httpcore``. Inside `NetworkStack.polyfill` httpcore and httpx need no adapter.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tcpip_wasm.compat.adapters.extras import extra
from tcpip_wasm.stack import NetworkStack

with extra("httpcore"):
    import httpcore

__all__ = ["StackBackend"]

LIMIT = 256 * 1024
"""Bytes that a response's reader buffers before it closes the receive window; httpcore reads chunks of 64 KiB."""


@contextmanager
def _mapped(timed_out: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timed_out(str(error)) from error
    except OSError as error:  # also ssl.SSLError
        raise failed(str(error)) from error


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _mapped(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()
        # TLS's close_notify is not waited for: a pool closes connections while a request is being cancelled.

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        transport = self._writer.transport
        if info == "is_readable":  # an idle connection is readable if the peer has closed it or sent unsolicited data
            return self._reader.at_eof() or transport.is_closing() or bool(getattr(self._reader, "_buffer", b""))
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return transport.get_extra_info(names.get(info, info))


class StackBackend(httpcore.AsyncNetworkBackend):
    """Connects over a stack.

    Args:
        stack: the stack that connects.
    """

    def __init__(self, stack: NetworkStack) -> None:
        self._stack = stack

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect; see httpcore. Raises its `ConnectTimeout` and `ConnectError`. Cancelled, it leaves nothing."""
        local = None if local_address is None else (local_address, 0)
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                reader, writer = await self._stack.open_connection(host, port, limit=LIMIT, local_addr=local)
            for option in socket_options or ():
                writer.get_extra_info("socket").setsockopt(*option)
        return _Stream(reader, writer)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raise `httpcore.ConnectError`: a stack has no Unix sockets."""
        raise httpcore.ConnectError("a virtual stack has no Unix sockets")

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await asyncio.sleep(seconds)
