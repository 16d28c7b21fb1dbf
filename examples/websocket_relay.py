"""A network of guests that speak Ethernet over WebSockets, as v86 does in a page.

A stack has a bridge, and a relay at a port of the machine's loopback makes each guest that connects a port of the
bridge. Here two further stacks are the guests; v86 connects with the option

    relay_url: "ws://127.0.0.1:PORT/"

once the origin of its page is among the relay's `origins`. Each guest fetches a file from the stack, and the guests
ping each other. Needs websockets: pip install 'tcpip-wasm[websocket]'.
"""

from __future__ import annotations

import asyncio
import hashlib

from tcpip_wasm import create_stack
from tcpip_wasm.links import WebSocketRelay, bridge_port, connect_websocket

FILE = bytes(range(256)) * 4096


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(FILE)
    writer.close()


async def guest(url: str, address: str, other: str, met: asyncio.Barrier) -> None:
    async with await create_stack() as stack:
        card = await stack.create_tap_interface(ip=f"{address}/24")
        link = await connect_websocket(card, url, origin="http://localhost:8000")
        reader, writer = await stack.open_connection("10.0.0.1", 80)
        writer.write(b"file\n")
        digest = hashlib.sha256(await reader.read(-1))
        writer.close()
        assert digest.digest() == hashlib.sha256(FILE).digest()
        print(f"{address} has the file: {len(FILE):,} bytes")
        await met.wait()
        async with await stack.create_ping_session(other) as session:
            await session.ping()
        print(f"{address} reaches {other}")
        await met.wait()
        link.close()
        await link.wait_closed()


async def main() -> None:
    met = asyncio.Barrier(2)
    async with await create_stack() as stack:
        bridge = await stack.create_bridge_interface(ip="10.0.0.1/24")
        async with (
            await stack.start_server(serve, "10.0.0.1", 80),
            WebSocketRelay(bridge_port(stack, bridge), origins=["http://localhost:8000"]) as relay,
        ):
            await asyncio.gather(
                guest(relay.url, "10.0.0.2", "10.0.0.3", met), guest(relay.url, "10.0.0.3", "10.0.0.2", met)
            )


if __name__ == "__main__":
    asyncio.run(main())
