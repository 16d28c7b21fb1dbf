"""What a question travels by, and to whom: the types of what the resolver is handed, and the reading of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final, Protocol

from tcpip_wasm.arguments import check_port

Server = tuple[str, int]
"""Address as text, and port."""

DNS_PORT: Final = 53


class OpenDatagram(Protocol):
    """Opens an endpoint from which datagrams go to a server, as `loop.create_datagram_endpoint` does."""

    def __call__(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], server: Server, source_port: int, /
    ) -> Awaitable[tuple[asyncio.DatagramTransport, Any]]: ...


OpenStream = Callable[[Server], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a connection to a server, as `asyncio.open_connection` does."""


def parse_servers(given: Iterable[Server | str]) -> list[Server]:
    """Return servers from (address, port) pairs, or from addresses alone for port 53; doubles are left out.

    Raises:
        ValueError, TypeError: one of them is malformed.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"name servers must be a list of (address, port) pairs, not {type(given).__name__}")
    return list(dict.fromkeys(_server(one) for one in given))


def _server(given: Server | str) -> Server:
    if isinstance(given, str):
        given = given, DNS_PORT
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"name server: {given!r} is no (address, port) pair")
    host, port = given
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"name server: {host!r} is not an IP address") from None
    return str(address), check_port("name server: port", port, 1)
