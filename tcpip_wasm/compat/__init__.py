"""Existing programs over a virtual stack, unchanged. Those of asyncio:

    route      which destinations are the stack's
    loop       the event loop's network methods, replaced for a block of code
    placed     real sockets that stand for a connection of the stack, for `sock_connect` and its kin
    placed_datagrams   the same for UDP
    placed_listeners   the same for sockets that are bound or listen
    loop_sockets       the loop's methods for these
    direct     what programs do with sockets past the loop
    guard      refuses the machine's network in strict blocks
    replacements       attributes of classes and modules that are replaced for a time
    caller_datagrams   UDP sockets that the program binds itself, and gives options
    runner     `run`, which is `asyncio.run` with a stack's network

Existing programs that block:

    thread     `StackThread`: stacks in a thread of their own
    socket     the `socket` module's names over a stack
    patch      puts them in place for a block of code
    current    whose network they use
    sockets    their socket class; transfers, datagrams, options, tls and checks are parts of it
    channel    what stands between such a socket and the stack
    relay, listening   the stack's side of it
    addresses  addresses as such programs write them
    adapters   the stack's interfaces as the ``ifaddr`` package lists them
    trio       Trio's sockets, which keep the methods of the machine's

Adapters, which import the library that they are for, and which nothing here imports:

    httpcore   a network backend for httpcore and httpx (extra ``httpcore``)
    aiohttp    a connector for aiohttp's client (extra ``aiohttp``)
    anyio      an anyio byte stream over a connection (extra ``anyio``)
    extras     what they say where it is not installed

The reasons are in docs/explanation/existing-programs.md.
"""

from tcpip_wasm.compat.guard import MachineNetworkWarning, machine_network
from tcpip_wasm.compat.loop import Polyfill, polyfill
from tcpip_wasm.compat.patch import polyfill_socket
from tcpip_wasm.compat.route import RouteLike
from tcpip_wasm.compat.runner import run
from tcpip_wasm.compat.thread import StackThread, VirtualHost

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
