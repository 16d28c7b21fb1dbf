"""``tcpip-wasm relay``: an Ethernet network for guests that connect by WebSockets."""

from __future__ import annotations

import argparse
import asyncio

from tcpip_wasm.commands.running import say
from tcpip_wasm.stack import create_stack

__all__ = ["relay"]


async def relay(options: argparse.Namespace) -> int:
    """Pass frames between guests until cancelled.

    Raises:
        OSError: the port is taken, or the address is none of this machine.
        ImportError: WebSockets need a library that is not installed.
    """
    from tcpip_wasm.links import WebSocketRelay, bridge_port

    async with await create_stack() as stack:
        bridge = await stack.create_bridge_interface(ip=options.ip and str(options.ip), ipv6=False)
        async with WebSocketRelay(
            bridge_port(stack, bridge),
            host=options.host,
            port=options.port,
            origins=options.origin,
            max_guests=options.max_guests,
        ) as running:
            say(f"guests connect to {running.url}; Ctrl-C ends it")
            await asyncio.Event().wait()
    return 0
