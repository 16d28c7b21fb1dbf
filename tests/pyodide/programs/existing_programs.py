"""asyncio's own functions under the polyfill, and an ASGI application that answers an httpx client.

Pyodide's loop raises NotImplementedError for all of them. The libraries lie in /packages.
"""

import asyncio
import sys
from typing import Any

sys.path.insert(0, "/packages")

import httpx
import uvicorn

from tcpip_wasm import NetworkStack, connect, create_stack


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-path", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": body[::-1]})


async def streams(alice: NetworkStack, bob: NetworkStack) -> None:
    try:
        await asyncio.open_connection("10.0.0.2", 8000)
    except NotImplementedError:
        print("without a polyfill: NotImplementedError")
    with bob.polyfill():
        server = await asyncio.start_server(upper, "0.0.0.0", 8000)
    with alice.polyfill():
        reader, writer = await asyncio.open_connection("10.0.0.2", 8000)
        try:
            await asyncio.open_connection("10.0.0.2", 8001)
        except ConnectionRefusedError:
            print("refused")
    writer.write(b"hello")
    writer.write_eof()
    print((await reader.read()).decode())
    writer.close()
    await writer.wait_closed()
    server.close()


async def web(alice: NetworkStack, bob: NetworkStack) -> None:
    options = {"http": "h11", "ws": "none", "lifespan": "off", "log_level": "warning"}
    server = uvicorn.Server(uvicorn.Config(application, host="10.0.0.2", port=80, **options))  # type: ignore[arg-type]
    with bob.polyfill():
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.001)
    with alice.polyfill():
        async with httpx.AsyncClient() as client:
            content = bytes(range(256)) * 1000
            answer = await client.post("http://10.0.0.2/some/path", content=content)
            assert answer.content == content[::-1]
            print(answer.status_code, answer.headers["x-path"])
    server.should_exit = True
    await serving


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(await alice.create_tap_interface(ip="10.0.0.1/24"), await bob.create_tap_interface(ip="10.0.0.2/24"))
        await streams(alice, bob)
        await web(alice, bob)


asyncio.run(main())
