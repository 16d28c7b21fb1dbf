"""TLS over a transport, by asyncio's own `SSLProtocol`, with asyncio's arguments and errors.

Owns the reading of ``ssl=`` and its kin, and the putting of an `SSLProtocol` between a `TcpTransport` and a protocol.
`SSLProtocol` is private to asyncio and the same in 3.11 to 3.13; uvloop's loops have none that takes another's
transport, so asyncio's is used on every loop.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass
from typing import Any, Final, cast

from tcpip_wasm.sockets.payload import HIGH_WATER, ViewProtocol
from tcpip_wasm.sockets.tcp.stream_reader import take_unread

READ_SIZE: Final = 4 * (5 + 16384 + 1 + 16)
"""Bytes: four full records of TLS 1.3 without padding, each a header, text, one byte for its type, and a tag (RFC 8446,
section 5.2)."""


class TlsProtocol(SSLProtocol, ViewProtocol):
    """asyncio's `SSLProtocol`, with less memory in use at a time, so that more of it stays in the processor's cache.

    asyncio's reads 256 KiB at once into a buffer of its own, and pauses the writer at 512 KiB. Here ciphertext
    is read where it lies, 64 KiB at once, and writers are held back at what is asyncio's default for other transports.
    """

    max_size = READ_SIZE
    # asyncio's, which its stubs do not have. `buffer_updated` reads the view; `get_buffer` makes the buffer where
    # it is needed, in TLS within TLS.
    _ssl_buffer: bytearray
    _ssl_buffer_view: memoryview

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ssl_buffer = bytearray()
        self._ssl_buffer_view = memoryview(self._ssl_buffer)
        cast(Any, self)._app_transport.set_write_buffer_limits(HIGH_WATER)  # noqa: SLF001  asyncio's streams and TLS have no public way to it

    def _set_app_protocol(self, app_protocol: asyncio.BaseProtocol) -> None:
        """Hand plain text to another protocol; see `TcpTransport.set_protocol` of TLS that begins within this one."""
        before = getattr(self, "_app_protocol", None)
        if before is not None and isinstance(app_protocol, SSLProtocol):
            cast(Any, app_protocol)._incoming.write(take_unread(before))  # noqa: SLF001  asyncio's streams and TLS have no public way to it
        super()._set_app_protocol(app_protocol)

    def view_received(self, data: memoryview) -> int:
        """Decrypt what has arrived, up to four records at once."""
        count = min(len(data), READ_SIZE)
        buffer, self._ssl_buffer_view = self._ssl_buffer_view, data
        try:
            self.buffer_updated(count)
        finally:
            self._ssl_buffer_view = buffer
        return count


@dataclass(frozen=True, slots=True)
class Tls:
    """What one side of a TLS connection needs.

    Attributes:
        context: certificates and rules; None makes asyncio's default for clients.
        server_side: whether this side is the server.
        server_hostname: whom a client expects; ``""`` checks no name.
        handshake_timeout: seconds; None is asyncio's minute.
        shutdown_timeout: seconds; None is asyncio's half minute.
    """

    context: ssl_module.SSLContext | None
    server_side: bool
    server_hostname: str | None = None
    handshake_timeout: float | None = None
    shutdown_timeout: float | None = None

    def wrap(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        made: bool = False,
    ) -> TlsProtocol:
        """Return the protocol to give to a transport, in place of the one that shall receive plain text.

        Args:
            loop: the transport's loop.
            protocol: receives plain text.
            waiter: is done once the handshake is, or fails as it did.
            made: whether `protocol` had its `connection_made` already.
        """
        return TlsProtocol(
            loop,
            cast(asyncio.Protocol, protocol),
            cast(ssl_module.SSLContext, self.context),
            cast("asyncio.Future[Any]", waiter),
            self.server_side,
            self.server_hostname,
            not made,
            cast(Any, self.handshake_timeout),
            cast(Any, self.shutdown_timeout),
        )


def discard(wrapper: TlsProtocol) -> None:
    """Mark that a wrapper will get no transport: its own would warn that it was not closed."""
    cast(Any, wrapper)._app_transport._closed = True  # noqa: SLF001  asyncio's streams and TLS have no public way to it


async def secured(wrapper: TlsProtocol, waiter: asyncio.Future[None]) -> asyncio.Transport:
    """Wait for the handshake, and return the transport of plain text. Failed or cancelled, the connection is reset."""
    transport = cast(Any, wrapper)._app_transport  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    try:
        await waiter
    except BaseException:
        transport.close()  # within a handshake, that resets the connection
        raise
    return cast(asyncio.Transport, transport)


def _only_with_ssl(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is only meaningful with ssl")


def client_tls(
    ssl: Any,
    host: Any = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Tls | None:
    """Read the arguments of `create_connection`; None is a connection without TLS.

    Args:
        ssl: None or False, True for a default context, or a context.
        host: what is connected to, which is the server's name unless another is given.
        server_hostname: the name in the server's certificate.
        ssl_handshake_timeout: seconds.
        ssl_shutdown_timeout: seconds.

    Raises:
        ValueError: an argument that needs `ssl` without it, or no name for the server.
        TypeError: `ssl` is something else.
    """
    if ssl is None or ssl is False:
        _only_with_ssl(
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        return None
    if ssl is not True and not isinstance(ssl, ssl_module.SSLContext):
        raise TypeError(f"ssl must be an SSLContext, a bool or None, not {type(ssl).__name__}")
    if server_hostname is None:
        if not host or isinstance(host, tuple):
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = str(host)
    context = None if ssl is True else ssl
    return Tls(context, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)


def server_tls(
    ssl: Any, ssl_handshake_timeout: float | None = None, ssl_shutdown_timeout: float | None = None
) -> Tls | None:
    """Read the arguments of `create_server`; None is a server without TLS. Arguments and errors as `client_tls`."""
    if ssl is None:
        _only_with_ssl(ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout)
        return None
    if not isinstance(ssl, ssl_module.SSLContext):
        raise TypeError("ssl argument must be an SSLContext or None")
    return Tls(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)


async def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl_module.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Do what asyncio's `loop.start_tls` does, on any loop; see `NetworkStack.start_tls`."""
    if not isinstance(sslcontext, ssl_module.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    waiter: asyncio.Future[None] = loop.create_future()
    tls = Tls(sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
    wrapper = tls.wrap(loop, protocol, waiter, made=True)
    transport.pause_reading()  # what arrives before the new protocol is in place is for it
    transport.set_protocol(wrapper)
    begin = loop.call_soon(wrapper.connection_made, transport)
    resume = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        begin.cancel()
        resume.cancel()
        raise
    return cast(asyncio.Transport, cast(Any, wrapper)._app_transport)  # noqa: SLF001  asyncio's streams and TLS have no public way to it


class _TlsLoop:
    """A loop whose `start_tls` takes our transports: for `StreamWriter.start_tls`, which calls the loop it was
    given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def start_tls(self, *arguments: Any, **options: Any) -> asyncio.Transport:
        """See `start_tls`."""
        return await start_tls(self._loop, *arguments, **options)


def loop_for_streams(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Return the loop for stream objects: itself where its `start_tls` takes any transport, as asyncio's does."""
    if isinstance(loop, asyncio.BaseEventLoop):
        return loop
    return cast(asyncio.AbstractEventLoop, _TlsLoop(loop))
