"""Just enough HTTP to move a file: a server's handler and a client, over any asyncio stream pair.

The peers' own programs (curl, Python's http.server, busybox) are at the other end, so this is as small as
HTTP/1.0 lets it be: one request a connection, a Content-Length, and the end of the stream.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .payload import Payload

__all__ = ["Download", "download", "file_server"]

# At this size asyncio's reader delivers data without the allocator mapping and unmapping pages for each
# chunk.
_CHUNK = 65536


@dataclass(frozen=True)
class Download:
    """What came: the body's length in bytes, its SHA-256, and how long it took from request to end in
    seconds."""

    length: int
    sha256: str
    seconds: float

    @property
    def gigabits_per_second(self) -> float:
        return self.length * 8 / self.seconds / 1e9


def file_server(
    payload: Payload,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A handler for `start_server` that answers every request with the payload and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(payload.data)}\r\n\r\n".encode())
            view = memoryview(payload.data)
            for offset in range(0, len(view), _CHUNK):
                writer.write(view[offset : offset + _CHUNK])
                await writer.drain()
        finally:
            writer.close()

    return serve


async def download(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> Download:
    """Fetch a file over a fresh connection, and close it.

    Raises:
        ValueError: the answer is not a 200, or the body is shorter or longer than announced.
    """
    started = asyncio.get_running_loop().time()
    writer.write(f"GET {path} HTTP/1.0\r\nHost: peer\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *fields = head.split("\r\n")
    if status.split(" ", 2)[1] != "200":
        raise ValueError(f"the server answered {status!r}")
    lengths = [
        value for name, _, value in (field.partition(":") for field in fields) if name.lower() == "content-length"
    ]
    digest, length = hashlib.sha256(), 0
    while chunk := await reader.read(_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    seconds = asyncio.get_running_loop().time() - started
    writer.close()
    await writer.wait_closed()
    if [int(value) for value in lengths] != [length]:
        raise ValueError(f"{length} bytes came, announced were {lengths}")
    return Download(length, digest.hexdigest(), seconds)
