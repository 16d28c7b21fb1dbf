"""Endpoints as callers write them and as the core has them, each translated once.

Owns two bounded caches, so that a datagram costs one look-up and no `ipaddress` object. How a host is read, and what an
interface is called, is the interface table's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tcpip_wasm.addresses import destination
from tcpip_wasm.arguments import check_port
from tcpip_wasm.engine import decode_endpoint, encode_endpoint
from tcpip_wasm.errors import NetworkError
from tcpip_wasm.interfaces.table import InterfaceTable

CACHE: Final = 1024
"""Endpoints that are remembered; a peer that sends from ever new ports must not fill the memory."""


class Endpoints:
    """Translates endpoints.

    Args:
        interfaces: the stack's, which read hosts and name scopes.
        explain: adds the cause to an error, see `RoutingTable.explained`.
    """

    def __init__(self, interfaces: InterfaceTable, explain: Callable[..., NetworkError] | None = None) -> None:
        self.interfaces: InterfaceTable = interfaces
        self._explain = explain
        self._encoded: dict[Any, bytes] = {}
        self._decoded: dict[bytes, tuple[Any, ...]] = {}

    def encode(self, address: Any) -> bytes:
        """Return the core's form of ``(host, port)`` or ``(host, port, flow, scope)``.

        Raises:
            ValueError: a malformed host, or a port that is not within 1 to 65535.
            TypeError: something else than such a tuple.
        """
        try:
            return self._encoded[address]
        except KeyError:
            pass
        except TypeError:
            address = tuple(address)
        if not isinstance(address, tuple) or len(address) not in (2, 4):
            raise TypeError(f"address must be (host, port) or (host, port, flow, scope), not {address!r}")
        host, port = address[:2]
        check_port("port", port, 1)
        ip, scope = self.interfaces.resolve(host)
        record = encode_endpoint(destination(ip), port, scope or (address[3] if len(address) == 4 else 0))
        if len(self._encoded) >= CACHE:
            self._encoded.clear()
        self._encoded[address] = record
        return record

    def explained(self, error: OSError, remote: bytes | None) -> OSError:
        """Return an error of a call with the cause that the routing table shows.

        Args:
            error: what the call raised.
            remote: the core's form of the destination, or None.
        """
        if self._explain is None or remote is None or not isinstance(error, NetworkError):
            return error
        address, _, scope = decode_endpoint(remote)
        return self._explain(error, address, scope)

    def is_name(self, host: Any) -> bool:
        """Whether a host is text, but no address."""
        # The last label of a name is no number (RFC 1123, section 2.1).
        return isinstance(host, str) and ":" not in host and not host.rpartition(".")[2].isdigit()

    def decode(self, record: bytes) -> tuple[Any, ...]:
        """Return ``(host, port)`` for IPv4 and ``(host, port, 0, scope)`` for IPv6, as asyncio has them.

        A link-local host ends in ``%`` and the name of its interface; `scope` is the interface's handle.
        """
        try:
            return self._decoded[record]
        except KeyError:
            pass
        address, port, scope = decode_endpoint(record)
        if address.version == 4:
            decoded: tuple[Any, ...] = (str(address), port)
        else:
            decoded = (self.interfaces.text(address, scope), port, 0, scope)
        if len(self._decoded) >= CACHE:
            self._decoded.clear()
        self._decoded[record] = decoded
        return decoded


def peer_text(transport: asyncio.BaseTransport) -> str:
    """Return the peer of a transport for a log record."""
    peer = transport.get_extra_info("peername")
    return "?" if peer is None else f"{peer[0]} port {peer[1]}"
