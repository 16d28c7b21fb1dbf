"""uvicorn and Starlette on one stack, httpx and aiohttp on another, all of them unmodified."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.kit.http import served
from tests.kit.stacks import pair, run, until
from tests.kit.tls import client_context
from tests.programs.clients import aiohttp_client, httpx_client

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@secure
@pytest.mark.parametrize(
    ("way", "http", "megabytes"), [("tap4", "httptools", 100), ("tap4", "h11", 10), ("tap6", "h11", 10)]
)
def test_httpx(tls: bool, way: str, http: str, megabytes: int, tmp_path: Path) -> None:
    if http == "httptools":
        pytest.importorskip("httptools", reason="httptools is not installed")

    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None, http=http) as url:
            with two.a.polyfill():
                await httpx_client(two.a, url, two.own, megabytes)

    run(main(), seconds=60)


@secure
@pytest.mark.parametrize(("way", "megabytes"), [("tap4", 100), ("tun6", 10)])
def test_aiohttp(tls: bool, way: str, megabytes: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None) as url:
            with two.a.polyfill():
                await aiohttp_client(two.a, url, two.own, megabytes)
            await until(lambda: two.a.stats().core.connections == two.a.stats().core.time_wait)

    run(main(), seconds=60)


@pytest.mark.parametrize(("tls", "count"), [(False, 1000), (True, 200)], ids=["plain", "tls"])
def test_a_thousand_connections(tls: bool, count: int, tmp_path: Path) -> None:
    """All of them open at once to one uvicorn, each with a request in flight; fewer with TLS, for its handshakes."""

    async def main() -> None:
        async with pair() as two, served(two, tmp_path if tls else None, backlog=255) as url:
            with two.a.polyfill():
                # Not httpx: its pool takes half a minute of processor time to open a thousand connections.
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

                    async def ask(number: int) -> str:
                        parameters = {"count": count, "number": number}
                        request = session.get(f"{url}/wait", params=parameters, ssl=client_context())
                        async with request as response:  # answers when all are in
                            return await response.text()

                    answers = await asyncio.gather(*[ask(number) for number in range(count)])
                    assert answers == [str(number) for number in range(count)]

    run(main(), seconds=100)
