"""uvicorn and Starlette on one virtual host, httpx and aiohttp on another, all of them unmodified."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.compat.support import BLOCK, DIGEST, MEGABYTES, blocks, served
from tests.support_stacks import pair, run, until
from tests.support_tls import client_context

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@secure
@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("way", ["tap4", "tap6"])
def test_httpx(tls: bool, http: str, way: str, tmp_path: Path) -> None:
    if http == "httptools":
        pytest.importorskip("httptools", reason="httptools is not installed")

    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None, http=http) as url:
            with two.a.polyfill():
                async with httpx.AsyncClient(verify=client_context(), trust_env=False) as client:
                    for _ in range(20):
                        response = await client.get(url)
                        assert response.text == f"hello {two.own}"
                    # Kept alive: all over one connection, which the pool asks for signs of life each time.
                    assert two.a.stats().core.connections == 1
                    digest, size = hashlib.sha256(), 0
                    async with client.stream("GET", f"{url}/down") as response:
                        async for piece in response.aiter_raw():
                            digest.update(piece)
                            size += len(piece)
                    assert (size, digest.hexdigest()) == (MEGABYTES * len(BLOCK), DIGEST)
                    response = await client.post(f"{url}/up", content=blocks())
                    assert response.json() == {"sha256": DIGEST, "size": MEGABYTES * len(BLOCK)}
                    assert two.a.stats().core.connections == 1
                with pytest.raises(httpx.ConnectError):
                    await httpx.AsyncClient(verify=client_context(), trust_env=False).get(url.replace(":8000", ":81"))

    run(main())


@secure
@pytest.mark.parametrize("way", ["tap4", "tun6"])
def test_aiohttp(tls: bool, way: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(way) as two, served(two, tmp_path if tls else None) as url:
            with two.a.polyfill():
                async with aiohttp.ClientSession() as session:
                    ssl = client_context()
                    for _ in range(20):
                        async with session.get(url, ssl=ssl) as response:
                            assert await response.text() == f"hello {two.own}"
                    assert two.a.stats().core.connections == 1
                    digest = hashlib.sha256()
                    async with session.get(f"{url}/down", ssl=ssl) as response:
                        async for piece in response.content.iter_any():
                            digest.update(piece)
                    assert digest.hexdigest() == DIGEST
                    async with session.post(f"{url}/up", data=blocks(), ssl=ssl) as response:
                        assert await response.json() == {"sha256": DIGEST, "size": MEGABYTES * len(BLOCK)}
                    async with session.ws_connect(f"{url}/echo", ssl=ssl) as socket:
                        await socket.send_str("over a websocket")
                        assert await socket.receive_str() == "OVER A WEBSOCKET"
                    with pytest.raises(aiohttp.ClientConnectorError):
                        await session.get(url.replace(":8000", ":81"), ssl=ssl)
            await until(lambda: two.a.stats().core.connections == two.a.stats().core.time_wait)

    run(main())


def test_a_thousand_connections() -> None:
    """All of them open at once through one uvicorn, each with a request in flight."""
    count = 1000

    async def main() -> None:
        async with pair() as two, served(two, backlog=255) as url:
            with two.a.polyfill():
                # Not httpx: its pool takes half a minute of processor time to hand out a thousand connections.
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

                    async def ask(number: int) -> str:
                        parameters = {"count": count, "number": number}
                        async with session.get(f"{url}/wait", params=parameters) as response:  # answers when all are in
                            return await response.text()

                    answers = await asyncio.gather(*[ask(number) for number in range(count)])
                    assert answers == [str(number) for number in range(count)]

    run(main(), seconds=100)
