"""Programs on virtual hosts: uvicorn with a Starlette application, and what the tests of libraries share."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.support import payload
from tests.support_stacks import Pair
from tests.support_tls import certificate_files

MEGABYTES: Final = int(os.environ.get("TCPIP_WASM_MEGABYTES", "10"))
"""Size of a large body; 100 is what the full proof takes."""

BLOCK: Final = payload(1_000_000)
DIGEST: Final = hashlib.sha256(BLOCK * MEGABYTES).hexdigest()


async def blocks() -> AsyncIterator[bytes]:
    """Yield the large body in blocks."""
    for _ in range(MEGABYTES):
        yield BLOCK


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.client.host if request.client else '?'}")


async def _down(request: Request) -> Response:
    return StreamingResponse(blocks(), media_type="application/octet-stream")


async def _up(request: Request) -> Response:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})


async def _wait(request: Request) -> Response:
    """Answer once as many requests as asked for are in flight."""
    state = request.app.state
    state.waiting = getattr(state, "waiting", 0) + 1
    if not hasattr(state, "all_here"):
        state.all_here = asyncio.Event()
    if state.waiting >= int(request.query_params["count"]):
        state.all_here.set()
    await state.all_here.wait()
    return PlainTextResponse(request.query_params["number"])


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


def application() -> Starlette:
    """Return the application that every HTTP test talks to."""
    routes = [
        Route("/", _hello),
        Route("/down", _down),
        Route("/up", _up, methods=["POST"]),
        Route("/wait", _wait),
        WebSocketRoute("/echo", _echo),
    ]
    return Starlette(routes=routes)


class _Server(uvicorn.Server):
    """uvicorn's own, but signals stay pytest's."""

    def install_signal_handlers(self) -> None:
        return None


@asynccontextmanager
async def served(two: Pair, folder: Any = None, *, host: str | None = None, **options: Any) -> AsyncIterator[str]:
    """Run uvicorn on the second host within a polyfill, and yield the URL.

    Args:
        two: the hosts.
        folder: where certificates are written; given, it speaks TLS.
        host: the address to serve on; None is the host's own.
        options: of `uvicorn.Config`.
    """
    if folder is not None:
        _, options["ssl_certfile"], options["ssl_keyfile"] = certificate_files(str(folder))
    options |= {"lifespan": "off", "log_config": None, "ws": "websockets-sansio"}
    config = uvicorn.Config(application(), host=host or two.host, port=8000, **options)
    server = _Server(config)
    with two.b.polyfill():
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), task.result()
            await asyncio.sleep(0.001)
    address = f"[{two.host}]" if ":" in two.host else two.host
    try:
        yield f"{'http' if folder is None else 'https'}://{address}:8000"
    finally:
        server.should_exit = True
        await task
