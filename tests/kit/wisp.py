"""A Wisp server over a stack with an echo server, and hand-made packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import WispServer
from tcpip_wasm.links.wisp_wire import CloseReason, PacketType, unpack, unpack_close

__all__ = ["BOUND", "closing", "received", "served"]

BOUND = 60.0
"""Time limit in seconds of what takes less than one."""


@asynccontextmanager
async def served(**options: object) -> AsyncIterator[tuple[NetworkStack, WispServer]]:
    """A Wisp server over a stack, which has an echo server on port 7 (TCP and UDP) of 127.0.0.1."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    class EchoDatagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data[::-1], addr)  # type: ignore[attr-defined]

    async with await create_stack(seed=1) as stack, await stack.start_server(echo, "127.0.0.1", 7):
        datagrams, _ = await stack.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 7))
        async with WispServer(stack, **options) as server:  # type: ignore[arg-type]
            yield stack, server
        datagrams.close()


async def received(client: ClientConnection) -> bytes:
    """Return the next message."""
    message = await asyncio.wait_for(client.recv(), BOUND)
    assert isinstance(message, bytes)
    return message


async def closing(client: ClientConnection, stream: int) -> CloseReason:
    """Return the reason of the next CLOSE of a stream."""
    while True:
        kind, number, body = unpack(await received(client))
        if kind is PacketType.CLOSE and number == stream:
            return unpack_close(body)
