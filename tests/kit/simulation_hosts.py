"""For tests of hosts: a minimal server and client, and small topologies."""

from __future__ import annotations

import asyncio
from typing import Any

from tcpip_wasm.simulation import Host, Network


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line in upper case."""
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


async def serve_upper(port: int = 7) -> None:
    """Serve until cancelled."""
    async with await asyncio.start_server(upper, port=port) as server:
        await server.serve_forever()


async def ask(host: str, port: int = 7, question: bytes = b"question\n") -> bytes:
    """Return the answer to one line."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(question)
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


def two(network: Network, **settings: Any) -> tuple[Host, Host]:
    """Return hosts ``a`` and ``b`` on a link."""
    a, b = network.host("a"), network.host("b")
    network.link(a, b, **{"delay": 0.01} | settings)
    return a, b


async def echoed(network: Network, content: bytes, *, loss: float) -> bytes:
    """Return the echo of host ``b``, which answers at the end of the data, over a link with loss."""
    a, b = two(network, bandwidth=1e7, loss=loss)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(-1))
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(echo, port=7) as server:
            await server.serve_forever()

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("b", 7)
        writer.write(content)
        writer.write_eof()
        answer = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return answer

    b.start(serve)
    return await a.run(client())


def star(network: Network, count: int, **settings: Any) -> list[Host]:
    """Return hosts ``h0``, ``h1`` and so on, on a switch."""
    network.switch("switch")
    hosts = [network.host(f"h{number}") for number in range(count)]
    for host in hosts:
        network.link(host, "switch", **{"delay": 0.005} | settings)
    return hosts
