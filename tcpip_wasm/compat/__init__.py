"""Existing programs over a virtual stack, unchanged.

    loop      programs of asyncio: the event loop's network methods
    blocking  programs that block: the `socket` module's names, for code in other threads than the stack's
    adapters  one module for each client library
    route     which destinations are the stack's

Public modules, to be imported by name:

    socket    the `socket` module's names over a stack
    httpcore, aiohttp, anyio    the adapters, each with the extra of its name

The reasons are in docs/explanation/existing-programs.md.
"""

from tcpip_wasm.compat.blocking.patch import polyfill_socket
from tcpip_wasm.compat.blocking.thread import StackThread, VirtualHost
from tcpip_wasm.compat.loop.guard import MachineNetworkWarning, machine_network
from tcpip_wasm.compat.loop.polyfill import Polyfill, polyfill
from tcpip_wasm.compat.loop.runner import run
from tcpip_wasm.compat.route import RouteLike

__all__ = [
    "MachineNetworkWarning",
    "Polyfill",
    "RouteLike",
    "StackThread",
    "VirtualHost",
    "machine_network",
    "polyfill",
    "polyfill_socket",
    "run",
]
