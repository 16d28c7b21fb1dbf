"""UDP for services: a socket whose datagrams go to a function.

It knows no protocol above UDP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tcpip_wasm.engine import abi
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.sockets import UdpTransport
from tcpip_wasm.sockets.udp.open_udp import udp_options
from tcpip_wasm.stack_parts import StackParts

Receive = Callable[[bytes, tuple[Any, ...]], None]
"""Takes a datagram and its source."""


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._receive(data, addr)

    def error_received(self, exc: Exception) -> None:
        """A reply did not arrive, or too many wait: the client asks again."""


async def open_datagrams(
    parts: StackParts,
    receive: Receive,
    host: str | None,
    port: int,
    *,
    broadcast: bool = False,
    multicast_interface: Interface | None = None,
    multicast_ttl: int = 1,
    ttl: int = 64,
    reuse_port: bool = False,
) -> UdpTransport:
    """Open a socket.

    Args:
        parts: those of the stack.
        receive: takes datagrams; it must not raise.
        host: own address, a name of it, or None for all.
        port: own port.
        broadcast, multicast_interface, multicast_ttl, ttl, reuse_port: see `NetworkStack.open_udp`.

    Raises: what `NetworkStack.open_udp` raises.
    """
    options = udp_options(parts.driver, broadcast, ttl, multicast_ttl, multicast_interface)
    share = abi.SHARE_PORT if reuse_port else 0
    local, _ = await parts.lookup.pair((host, port), None)
    transport, _ = await parts.udp.endpoint(lambda: _Protocol(receive), local, None, 0, options, share)
    return transport
