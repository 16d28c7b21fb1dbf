"""Servers and a client for tests of polyfills, and a count of connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tcpip_wasm import NetworkStack


def held(stack: NetworkStack) -> int:
    """Return how many connections a stack has that are not over."""
    figures = stack.stats().core
    return figures.connections - figures.time_wait


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(host: str, port: int, **options: Any) -> bytes:
    """Return the answer of a server of `upper`."""
    reader, writer = await asyncio.open_connection(host, port, **options)
    writer.write(b"question\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


@asynccontextmanager
async def kernel_server() -> AsyncIterator[int]:
    """Serve on the machine's loopback, answers begin with ``kernel``, and yield the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"kernel " + await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1]
