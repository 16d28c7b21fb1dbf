"""Existing asyncio programs over a virtual stack, unchanged.

    route      which destinations are the stack's
    loop       the event loop's network methods, replaced for a block of code
    placed     real sockets that stand for a connection of the stack, for `sock_connect` and its kin
    runner     `run`, which is `asyncio.run` with a stack's network
    thread     `StackThread`: stacks in a thread of their own, for code that blocks
    socket     the `socket` module's names over a stack; `patch` puts them in place for a block of code
    httpcore   a network backend for httpcore and httpx (extra ``httpcore``)
    aiohttp    a connector for aiohttp's client (extra ``aiohttp``)
    anyio      an anyio byte stream over a connection (extra ``anyio``)

The last three import the library they are for, and nothing here imports them.
"""

from tcpip_wasm.compat.loop import Polyfill, polyfill
from tcpip_wasm.compat.patch import polyfill_socket
from tcpip_wasm.compat.route import RouteLike
from tcpip_wasm.compat.runner import run
from tcpip_wasm.compat.thread import StackThread, VirtualHost

__all__ = ["Polyfill", "RouteLike", "StackThread", "VirtualHost", "polyfill", "polyfill_socket", "run"]
