"""The machine's name servers, to which `tcpip-wasm serve` forwards names that are not its own.

Owns which name servers the machine has, and how they are asked over the machine's network. Must not know guests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from tcpip_wasm.names import Resolver
from tcpip_wasm.names.servers import Server

__all__ = ["machine_resolver", "machine_servers"]

RESOLV_CONF: Final = Path("/etc/resolv.conf")

_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An answer comes from another address than that of zeros."""

MOST_SERVERS: Final = 3
"""Of the file, as the C library takes them: MAXNS of resolv.conf(5)."""


def machine_servers(path: Path = RESOLV_CONF) -> list[str]:
    """Return the name servers in a file as resolv.conf(5) describes it, in order; what is no address is left out.

    Args:
        path: the file.

    Raises:
        OSError: the file cannot be read, or names no server.
    """
    lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    named = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    servers = [_THIS_MACHINE.get(one, one) for one in named if _is_address(one)]
    if not servers:
        raise OSError(f"{path}: no name server is in it; --name-server names one")
    return servers[:MOST_SERVERS]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def machine_resolver(servers: Iterable[Server | str]) -> Resolver:
    """Return a resolver that asks these servers over the machine's network. A running event loop is needed.

    Args:
        servers: addresses, with a port or without.

    Raises:
        ValueError: a server is not an address.
    """
    loop = asyncio.get_running_loop()

    async def open_datagram(
        protocol_factory: Callable[[], asyncio.DatagramProtocol], server: Server, _source_port: int, /
    ) -> tuple[asyncio.DatagramTransport, Any]:
        # The kernel chooses a port that is free, and as hard to predict.
        return await loop.create_datagram_endpoint(protocol_factory, remote_addr=server)

    async def open_stream(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*server)

    return Resolver(
        open_datagram=open_datagram, open_stream=open_stream, clock=loop.time, seed=os.urandom(32), servers=servers
    )
