"""Two hosts inside this process: one serves a file over HTTP, the other fetches it.

Each host is a TCP/IP stack, lwIP in WebAssembly. A virtual Ethernet cable connects them; no socket, no device
and no privilege of this machine is used. The received file is compared by SHA-256.

    python examples/demo.py [megabytes]
"""

import asyncio
import hashlib
import random
import sys
from statistics import median
from time import perf_counter

from tcpip_wasm import NetworkStack, connect, create_stack

SERVER, CLIENT = "192.168.1.1", "192.168.1.2"
HTTP, ECHO = 80, 7


def make_file(megabytes: int) -> bytes:
    source = random.Random(1)
    return b"".join(source.randbytes(1_000_000) for _ in range(megabytes))


async def serve(host: NetworkStack, file: bytes) -> None:
    """Start a small HTTP server and an echo service on a host."""

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        found = request.startswith(b"GET /file ")
        body = memoryview(file if found else b"")
        writer.write(f"HTTP/1.0 {'200 OK' if found else '404 Not Found'}\r\n".encode())
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), 65536):
            writer.write(body[at : at + 65536])
            await writer.drain()
        writer.close()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    await host.start_server(http, SERVER, HTTP)
    await host.start_server(echo, SERVER, ECHO)


async def round_trip(host: NetworkStack) -> float:
    """Send one byte and receive its echo a thousand times; return the median in microseconds."""
    reader, writer = await host.open_connection(SERVER, ECHO)
    times = []
    for _ in range(1000):
        started = perf_counter()
        writer.write(b"?")
        await reader.readexactly(1)
        times.append((perf_counter() - started) * 1e6)
    writer.close()
    return median(times)


async def fetch(host: NetworkStack) -> tuple[str, int, float]:
    """Fetch the file; return its SHA-256, its size in bytes, and the seconds it took."""
    reader, writer = await host.open_connection(SERVER, HTTP)
    digest, size = hashlib.sha256(), 0
    started = perf_counter()
    writer.write(b"GET /file HTTP/1.0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    while chunk := await reader.read(65536):
        digest.update(chunk)
        size += len(chunk)
    seconds = perf_counter() - started
    writer.close()
    if not head.startswith(b"HTTP/1.0 200 "):
        raise SystemExit(f"the server answered {head!r}")
    return digest.hexdigest(), size, seconds


def print_layers(name: str, host: NetworkStack) -> None:
    stats = host.stats()
    core, tap = stats.core, stats.interfaces["tap0"]
    dropped = tap.malformed + tap.unheard + core.checksum_errors + core.protocol_drops
    print(f"{name}:")
    print(f"  TCP       {core.tcp_segments_out:,} segments sent, {core.tcp_segments_in:,} received, "
          f"{core.tcp_retransmissions} retransmitted")  # fmt: skip
    print(f"  Ethernet  {tap.frames_out:,} frames sent, {tap.frames_in:,} received, {dropped} dropped, "
          f"{tap.transmit_full} delayed by a full buffer")  # fmt: skip
    print(f"  module    {core.memory / 2**20:.1f} MiB of memory, polled {stats.turns:,} times: "
          f"{(tap.frames_out + tap.frames_in) / stats.turns:.0f} frames at a time")  # fmt: skip


async def main(megabytes: int) -> None:
    file = make_file(megabytes)
    async with await create_stack() as server, await create_stack() as client:
        tap = await server.create_tap_interface(ip=f"{SERVER}/24")
        connect(tap, await client.create_tap_interface(ip=f"{CLIENT}/24"))
        await serve(server, file)
        print(f"{CLIENT} and {SERVER}: two TCP/IP stacks in one process, joined by a virtual cable")
        print(f"round trip of one byte: {await round_trip(client):.0f} µs")
        digest, size, seconds = await fetch(client)
        if digest != hashlib.sha256(file).hexdigest():
            raise SystemExit("the received file differs from the one that was served")
        print(f"GET http://{SERVER}/file: {size / 1e6:.0f} MB in {seconds:.2f} s, "
              f"{size * 8 / seconds / 1e9:.2f} Gbit/s with SHA-256")  # fmt: skip
        print(f"same SHA-256 at both ends: {digest}")
        print_layers(f"client {CLIENT}", client)
        print_layers(f"server {SERVER}", server)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 64))
