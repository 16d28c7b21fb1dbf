"""A stack that serves a folder of files and an ASGI application, and a client on another stack that fetches both.

It needs uvicorn and httpx: pip install 'tcpip_wasm[http]'. curl on a guest gets the same: see docs/how-to/services.md.
"""

import asyncio
import hashlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tcpip_wasm import connect, create_stack
from tcpip_wasm.services import HttpServer, http_client

try:
    import httpx  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    print(f"{error}: pip install 'tcpip_wasm[http]'")
    sys.exit(77)


async def greet(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path: an ASGI application without a framework."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": f"good day, {scope['path'][1:]}".encode()})


async def main(folder: str, content: bytes) -> None:
    async with await create_stack() as host, await create_stack() as guest:
        connect(
            await host.create_tap_interface(ip="10.0.0.1/24"),
            await guest.create_tap_interface(ip="10.0.0.2/24"),
        )
        guest.hosts["files.lab"] = "10.0.0.1"
        async with HttpServer(host, folder), HttpServer(host, greet, port=8080), http_client(guest) as client:
            answer = await client.get("http://files.lab/image.bin")
            same = hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()
            print(f"{len(answer.content):,} bytes, {'the same' if same else 'other ones'}")
            part = await client.get("http://files.lab/image.bin", headers={"range": "bytes=1000000-1000999"})
            print(part.status_code, part.headers["content-range"], part.content == content[1_000_000:1_001_000])
            print((await client.get("http://files.lab/../etc/passwd")).status_code)
            print((await client.get("http://files.lab:8080/Alice")).text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as served:
        image = random.Random(1).randbytes(5_000_000)
        Path(served, "image.bin").write_bytes(image)
        asyncio.run(main(served, image))
