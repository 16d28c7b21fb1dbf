"""Existing programs: HTTP requests per second, and bulk over TLS, on stacks and on the kernel's loopback.

The same uvicorn and the same client, unmodified, on one loop; over a stack they run inside its polyfill.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any, Final

from benchmarks.bulk import rate
from benchmarks.networks import PLACES, KernelLoopback, Place, VirtualNetwork
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, alternate, compared

GROUP: Final = "programs"
BOUND: Final = 300.0
ANSWER: Final = b"x" * 1024
NEEDED: Final = ("aiohttp", "httpx", "starlette", "trustme", "uvicorn")
_REFERENCE: Final = next(iter(PLACES))


def what_is_missing() -> str | None:
    """Return the missing requirements, or None."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"it needs {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class _Ends:
    """The stacks of client and server, if any, and the server's address."""

    client: Callable[[], AbstractContextManager[Any]]
    server: Callable[[], AbstractContextManager[Any]]
    host: str


@asynccontextmanager
async def _ends(place: Place) -> AsyncIterator[_Ends]:
    async with place() as network:
        if isinstance(network, VirtualNetwork):
            yield _Ends(network.client.polyfill, network.server.polyfill, network.host)
        else:
            assert isinstance(network, KernelLoopback)
            yield _Ends(nullcontext, nullcontext, "127.0.0.1")


@asynccontextmanager
async def _uvicorn(ends: _Ends) -> AsyncIterator[str]:
    """Serve one answer of 1 KiB, and yield its URL."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Any) -> Response:
        return Response(ANSWER, media_type="application/octet-stream")

    application = Starlette(routes=[Route("/", answer)])
    with ends.server():
        config = uvicorn.Config(application, host=ends.host, port=0, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://{ends.host}:{port}/"
    server.should_exit = True
    await task


async def requests(place: Place, client: str, count: int) -> float:
    """Return requests per second of one client over one persistent connection.

    Raises:
        ValueError: an answer was wrong.
    """
    async with _ends(place) as ends, asyncio.timeout(BOUND), _uvicorn(ends) as url:
        with ends.client():
            if client == "httpx":
                import httpx

                async with httpx.AsyncClient(trust_env=False) as session:

                    async def get() -> bytes:
                        return (await session.get(url)).content

                    return await _timed(get, count)
            import aiohttp

            async with aiohttp.ClientSession() as session_:

                async def fetch() -> bytes:
                    async with session_.get(url) as response:
                        return await response.read()

                return await _timed(fetch, count)


async def _timed(get: Callable[[], Any], count: int) -> float:
    for _ in range(20):
        await get()
    started = perf_counter()
    for _ in range(count):
        if await get() != ANSWER:
            raise ValueError("an answer was wrong")
    return count / (perf_counter() - started)


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import trustme

    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("server.test").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def tls_bulk(place: Place, size: int) -> float:
    """Return the Gbit/s of one transfer over TLS, every byte checked."""
    server_side, client_side = _contexts()
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            check, started = Check(), perf_counter()
            while chunk := await reader.read(READ):
                check.take(chunk)
            check.finish(size)
            done.set_result(perf_counter() - started)
        except (OSError, ValueError) as error:
            done.set_exception(error)
        writer.close()

    async with _ends(place) as ends, asyncio.timeout(BOUND):
        with ends.server():
            server = await asyncio.start_server(serve, ends.host, 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        with ends.client():
            _, writer = await asyncio.open_connection(ends.host, port, ssl=client_side, server_hostname="server.test")
        for data in writes(size):
            writer.write(data)
            await writer.drain()
        writer.close()
        seconds = await done
        await writer.wait_closed()
        server.close()
    return rate(size, seconds)


async def measure(count: int, size: int, rounds: int) -> list[Measure]:
    """Compare requests per second of two clients, and bulk over TLS.

    Args:
        count: requests of each a round.
        size: bytes of one transfer over TLS.
        rounds: how often each is measured, alternately.
    """
    reason = what_is_missing()
    if reason is not None:
        return [Measure(GROUP, "HTTP and TLS", None, "", note=f"skipped: {reason}")]
    goal = Goal(0.8)
    tap = "tap cable"
    measures = []
    for client in ("httpx", "aiohttp"):
        figures = await alternate(
            {name: partial(requests, place, client, count) for name, place in PLACES.items()}, rounds
        )
        measures += [
            compared(
                GROUP,
                f"uvicorn and {client}, {name}",
                "requests/s",
                figures[name],
                figures[_REFERENCE],
                goal if name == tap else None,
            )
            for name in PLACES
            if name != _REFERENCE
        ]
    bulk = await alternate({name: partial(tls_bulk, place, size) for name, place in PLACES.items()}, rounds)
    measures += [
        compared(GROUP, f"bulk over TLS, {name}", "Gbit/s", bulk[name], bulk[_REFERENCE], goal if name == tap else None)
        for name in PLACES
        if name != _REFERENCE
    ]
    return measures
