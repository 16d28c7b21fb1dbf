"""Converts the addresses that programs pass to sockets to numeric ones, with the real module's exceptions."""

from __future__ import annotations

import socket as real
from typing import Any

from tcpip_wasm.addresses import LOOPBACK, VERSIONS, with_scope, without_mapping
from tcpip_wasm.compat.blocking.call_arguments import check_flow
from tcpip_wasm.compat.blocking.thread import VirtualHost
from tcpip_wasm.errors import NameResolutionError
from tcpip_wasm.stack_parts import parts_of


def numeric_address(
    host: VirtualHost, family: int, kind: int, address: Any, call: str, passive: bool
) -> tuple[str, int]:
    """Return an address and a port. Names are looked up by the host's stack.

    Args:
        host: whose network it is.
        family, kind: of the socket.
        address: the program's argument.
        call: the name of the socket's method, for messages.
        passive: whether it is a local address; a remote address of all zeros means the loopback, as on Linux.

    Raises:
        TypeError, OverflowError: malformed.
        NameResolutionError: the name led to no address of the family.
    """
    name = real.AddressFamily(family).name
    if not isinstance(address, tuple):
        raise TypeError(f"{call}(): {name} address must be tuple, not {type(address).__name__}")
    if len(address) != 2 and not (family == real.AF_INET6 and 2 <= len(address) <= 4):
        raise TypeError(f"{call}(): {name} address must be a pair (host, port)")
    text, port = address[:2]
    if not isinstance(port, int):
        raise TypeError(f"{type(port).__name__!r} object cannot be interpreted as an integer")
    if not 0 <= port <= 65535:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    check_flow(call, address)
    if isinstance(text, (bytes, bytearray)):
        text = text.decode("ascii")
    if not isinstance(text, str):
        raise TypeError(f"str, bytes or bytearray expected, not {type(text).__name__}")
    (version,) = VERSIONS[family]
    if text == "":
        return ("" if passive else str(LOOPBACK[version])), port
    if text == "<broadcast>":
        text = "255.255.255.255"
    try:
        known = parts_of(host.stack).interfaces.parse(text)
    except ValueError as error:
        raise NameResolutionError(real.EAI_NONAME, str(error)) from None
    if known is None:
        found = host.call(host.stack.getaddrinfo(text, 0, family=family, type=kind))
        where = found[0][4]
        scope = where[3] if len(where) > 3 else 0
        return (f"{where[0]}%{scope}" if scope and "%" not in where[0] else where[0]), port
    ip, scope = known
    if ip.version != version:
        raise NameResolutionError(
            getattr(real, "EAI_ADDRFAMILY", real.EAI_NONAME), f"{text}: an address of another family"
        )
    if ip.is_unspecified:
        return ("" if passive else str(LOOPBACK[version])), port
    mapped = without_mapping(ip)
    if mapped is not ip:
        return str(mapped), port
    if not scope and len(address) == 4 and version == 6 and ip.is_link_local:
        scope = address[3]
    return with_scope(ip, scope), port
