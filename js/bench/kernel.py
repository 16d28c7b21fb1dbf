"""The reference of the JavaScript benchmarks: asyncio's streams over the kernel's loopback, one line of JSON a request.

Reads lines `bulk BYTES`, `echo COUNT` and `connects COUNT` from standard input, and writes the figure: bit/s, the
median round trip in seconds, connections a second. Only the standard library is needed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from statistics import median
from time import perf_counter

WRITE = 65536
BLOCK = bytes(i * 7 + (i >> 8) & 0xFF for i in range(WRITE))
TWICE = BLOCK + BLOCK


async def bulk(size: int) -> float:
    """Send so many bytes in writes of 64 KiB, and compare what arrives."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = 0
        while data := await reader.read(WRITE):
            if not TWICE.startswith(data, got % WRITE):  # one comparison of memory
                raise ValueError("the data differs")
            got += len(data)
        writer.close()
        done.set_result(perf_counter())

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    started = perf_counter()
    for _ in range(size // WRITE):
        writer.write(BLOCK)
        await writer.drain()
    writer.close()
    seconds = await done - started
    server.close()
    return size * 8 / seconds


async def echo(count: int) -> float:
    """Send single bytes to and fro, and return the median round trip."""
    served: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(WRITE):
            writer.write(data)
        writer.close()
        served.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    times = []
    for number in range(count):
        data = bytes([number & 0xFF])
        started = perf_counter()
        writer.write(data)
        if await reader.read(WRITE) != data:
            raise ValueError("the data differs")
        times.append(perf_counter() - started)
    writer.close()
    await served
    server.close()
    return median(times)


async def connects(count: int) -> float:
    """Open and close connections one after the other: each gets a byte when it has ended its direction."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(b"x")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    started = perf_counter()
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*address)
        writer.write_eof()
        if await reader.read() != b"x":
            raise ValueError("the data differs")
        writer.close()
        await writer.wait_closed()
    seconds = perf_counter() - started
    server.close()
    return count / seconds


def main() -> None:
    """Answer requests until standard input ends."""
    calls = {"bulk": bulk, "echo": echo, "connects": connects}
    for line in sys.stdin:
        name, argument = line.split()
        print(json.dumps(asyncio.run(calls[name](int(argument)))), flush=True)


if __name__ == "__main__":
    main()
