"""`http_client`: httpx over a stack, without a change of the loop's network.

Owns the way from httpx to httpcore, whose pool connects by `compat.httpcore`. Proxies of the machine's environment are
not used: they are not in the stack's network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

from tcpip_wasm.stack import NetworkStack

if TYPE_CHECKING:
    import httpx


def http_client(stack: NetworkStack, *, verify: SSLContext | bool = True, **options: Any) -> httpx.AsyncClient:
    """Return an `httpx.AsyncClient` whose connections are the stack's; it needs the extra ``http``.

    Args:
        stack: the stack that connects; names are looked up by it.
        verify: a context for TLS, True for the default one, False to verify no certificate.
        options: further ones of `httpx.AsyncClient`, such as ``base_url`` and ``timeout``.

    Raises:
        ImportError: httpx is not installed.
        TypeError: an option that makes connections of its own.
    """
    try:
        import httpcore
        import httpx

        from tcpip_wasm.compat.httpcore import StackBackend
    except ImportError as error:
        raise ImportError(f"an HTTP client needs httpx: pip install 'tcpip_wasm[http]' ({error})") from None

    for name in ("transport", "proxy", "mounts", "http2"):
        if name in options:
            raise TypeError(f"{name}: not an option of a client over a stack")
    limits = options.pop("limits", None) or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    pool = httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(verify=verify, trust_env=False),
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        network_backend=StackBackend(stack),
    )

    @contextmanager
    def mapped() -> Iterator[None]:
        """Raise httpx's exception for httpcore's, which has the same name."""
        try:
            yield
        except Exception as error:
            kind = getattr(httpx, type(error).__name__, None)
            if kind is None or not type(error).__module__.startswith("httpcore"):
                raise
            raise kind(str(error)) from error

    class Stream(httpx.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            with mapped():
                async for part in self._stream:
                    yield part

        async def aclose(self) -> None:
            with mapped():
                await self._stream.aclose()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url
            asked = httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
            with mapped():
                answer = await pool.handle_async_request(asked)
            return httpx.Response(
                answer.status, headers=answer.headers, stream=Stream(answer.stream), extensions=answer.extensions
            )

        async def aclose(self) -> None:
            await pool.aclose()

    return httpx.AsyncClient(transport=Transport(), trust_env=False, **options)
