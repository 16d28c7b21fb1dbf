"""tcpip_wasm: a complete virtual TCP/IP host inside a Python process.

lwIP, compiled to one WebAssembly module that imports nothing, is driven from asyncio. The layers, each of which imports
only from those before it (`stack.polyfill` alone hands over to compat, when it is called):

    addresses    the types of IP addresses, and their text
    arguments    numbers that callers write, checked
    log_limit    a limit on log records
    errors       the exception tree
    engine       the module, its memory and calls, and the sans-I/O core
    streams      readable and writable streams
    driver       polls cores on an event loop
    interfaces   loopback, tun, tap, bridge, cables; DHCP, SLAAC, routes
    names        hosts table, resolver, getaddrinfo
    sockets      TCP and UDP as asyncio transports and as streams, TLS, ping
    stack_parts  what a stack consists of, for the packages above it
    stack        `NetworkStack`, the facade
    compat       existing asyncio programs and libraries over a stack
    capture      what passes an interface, as pcapng files and as packets for a test
    simulation   networks of hosts in virtual time
    testing      what the pytest plugin does, which is the module `pytest_tcpip_wasm`
    services     servers over a stack, for the hosts that reach it
    links        what is outside of the process: devices of the machine's kernel, sockets of virtual machines
    commands     what ``tcpip-wasm`` does with links: serve, ping, capture, relay
    cli          the command ``tcpip-wasm``

Start with `create_stack`.
"""

import logging as _logging

from tcpip_wasm import errors as _errors
from tcpip_wasm.errors import *  # noqa: F403
from tcpip_wasm.interfaces import (
    AutoconfiguredAddress,
    BridgeInterface,
    Cable,
    Interface,
    InterfaceStatistics,
    Lease,
    LoopbackInterface,
    Observer,
    Port,
    Route,
    RouterAdvertiser,
    TapInterface,
    TunInterface,
    connect,
)
from tcpip_wasm.names import HostsTable, Resolver, ResolverStatistics
from tcpip_wasm.sockets import (
    PingReply,
    PingSession,
    TcpConnection,
    TcpListener,
    TcpServer,
    TcpTransport,
    UdpDatagram,
    UdpSocket,
    UdpTransport,
)
from tcpip_wasm.stack import NetworkStack, StackStatistics, create_stack
from tcpip_wasm.streams import (
    ReadableStream,
    ReadableStreamReader,
    TransformStream,
    WritableStream,
    WritableStreamWriter,
)

__version__ = "0.1.0"

# Without a handler, logging would print warnings to the standard error output.
_logging.getLogger(__name__).addHandler(_logging.NullHandler())

__all__ = [
    "AutoconfiguredAddress",
    "BridgeInterface",
    "Cable",
    "HostsTable",
    "Interface",
    "InterfaceStatistics",
    "Lease",
    "LoopbackInterface",
    "NetworkStack",
    "Observer",
    "PingReply",
    "PingSession",
    "Port",
    "ReadableStream",
    "ReadableStreamReader",
    "Resolver",
    "ResolverStatistics",
    "Route",
    "RouterAdvertiser",
    "StackStatistics",
    "TapInterface",
    "TcpConnection",
    "TcpListener",
    "TcpServer",
    "TcpTransport",
    "TransformStream",
    "TunInterface",
    "UdpDatagram",
    "UdpSocket",
    "UdpTransport",
    "WritableStream",
    "WritableStreamWriter",
    "connect",
    "create_stack",
    *_errors.__all__,
]
