"""The networks that are compared: the kernel's loopback, two stacks on a cable, one stack's own loopback.

All of them have the same two methods, with asyncio's own stream classes, so that a measure is written once.
Both ends always run on the one event loop of the benchmark.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal, Protocol

from tcpip_wasm import NetworkStack, connect, create_stack

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Network(Protocol):
    """A network with one server."""

    async def start_server(self, serve: Serve, *, backlog: int = 255) -> asyncio.AbstractServer:
        """Serve on a free port, to which `open_connection` then connects."""

    async def open_connection(self) -> Streams:
        """Connect to the server."""


Place = Callable[[], AbstractAsyncContextManager[Network]]


class KernelLoopback:
    """asyncio's own sockets over 127.0.0.1: the reference of all comparisons."""

    def __init__(self) -> None:
        self._port = 0

    async def start_server(self, serve: Serve, *, backlog: int = 255) -> asyncio.AbstractServer:
        """See `Network`."""
        server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET, backlog=backlog)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def open_connection(self) -> Streams:
        """See `Network`."""
        return await asyncio.open_connection("127.0.0.1", self._port)


class VirtualNetwork:
    """A client and a server, each on a stack; for a stack's loopback both are the same.

    Args:
        client: the stack that connects.
        server: the stack that serves.
        host: the server's address, as the client sees it.
    """

    def __init__(self, client: NetworkStack, server: NetworkStack, host: str) -> None:
        self.client = client
        self.server = server
        self.host = host
        self._port = 0

    async def start_server(self, serve: Serve, *, backlog: int = 255) -> asyncio.AbstractServer:
        """See `Network`."""
        server = await self.server.start_server(serve, self.host, 0, backlog=backlog)
        self._port = server.port
        return server

    async def open_connection(self) -> Streams:
        """See `Network`."""
        return await self.client.open_connection(self.host, self._port)


@asynccontextmanager
async def kernel_loopback() -> AsyncIterator[Network]:
    """The kernel's loopback."""
    yield KernelLoopback()


@asynccontextmanager
async def two_stacks(
    kind: Literal["tap", "tun"] = "tap", *, mtu: int = 1500, checksums: bool = True
) -> AsyncIterator[VirtualNetwork]:
    """Two new stacks, connected by a cable."""
    async with await create_stack() as client, await create_stack() as server:
        ends = []
        for stack, ip in ((client, "10.0.0.1/24"), (server, "10.0.0.2/24")):
            create = stack.create_tap_interface if kind == "tap" else stack.create_tun_interface
            ends.append(await create(ip=ip, mtu=mtu, checksums=checksums))
        connect(ends[0], ends[1])
        yield VirtualNetwork(client, server, "10.0.0.2")


@asynccontextmanager
async def stack_loopback() -> AsyncIterator[VirtualNetwork]:
    """One new stack, which connects to itself."""
    async with await create_stack() as stack:
        yield VirtualNetwork(stack, stack, "127.0.0.1")


@asynccontextmanager
async def through_a_bridge() -> AsyncIterator[VirtualNetwork]:
    """Two new stacks, each connected by a cable to a third one with a bridge."""
    async with await create_stack() as client, await create_stack() as server, await create_stack() as middle:
        ports = [await middle.create_tap_interface() for _ in range(2)]
        await middle.create_bridge_interface(ports)
        for stack, ip, port in ((client, "10.0.0.1/24", ports[0]), (server, "10.0.0.2/24", ports[1])):
            connect(await stack.create_tap_interface(ip=ip), port)
        yield VirtualNetwork(client, server, "10.0.0.2")


@asynccontextmanager
async def through_a_router() -> AsyncIterator[VirtualNetwork]:
    """Two new stacks on networks of their own, and a third one that forwards between them."""
    async with await create_stack() as client, await create_stack() as server, await create_stack() as middle:
        middle.forwarding = True
        for stack, number in ((client, 1), (server, 2)):
            connect(
                await stack.create_tap_interface(ip=f"10.{number}.0.2/24"),
                await middle.create_tap_interface(ip=f"10.{number}.0.1/24"),
            )
            stack.add_route("0.0.0.0/0", via=f"10.{number}.0.1")
        yield VirtualNetwork(client, server, "10.2.0.2")


PLACES: Final[dict[str, Place]] = {
    "asyncio over the kernel's loopback": kernel_loopback,
    "tap cable": two_stacks,
    "a stack's own loopback": stack_loopback,
}
"""The networks on which small exchanges are compared; the first is the reference."""
