"""uvicorn with the application of all HTTP tests, on a stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.kit.stacks import Pair
from tests.kit.tls import certificate_files
from tests.programs.ports import HTTP
from tests.programs.servers import HttpServer


@asynccontextmanager
async def served(two: Pair, folder: Any = None, *, host: str | None = None, **options: Any) -> AsyncIterator[str]:
    """Run uvicorn on the second host within a polyfill, and yield the URL.

    Args:
        two: the hosts.
        folder: where certificates are written; given, it speaks TLS.
        host: the address to serve on; None is the host's own.
        options: of `uvicorn.Config`.
    """
    certificate = None if folder is None else certificate_files(str(folder))[1:]
    server = HttpServer(host or two.host, HTTP, certificate, **options)
    with two.b.polyfill():
        await server.begin()
    address = f"[{two.host}]" if ":" in two.host else two.host
    try:
        yield f"{'http' if folder is None else 'https'}://{address}:{HTTP}"
    finally:
        await server.end()
