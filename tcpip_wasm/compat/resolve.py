"""What needs no server to be looked up: numeric hosts, ``localhost``, service names."""

from __future__ import annotations

import socket
from typing import Any, Final

from tcpip_wasm.compat.route import literal

_KINDS: Final = ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP))
_LOCAL: Final = ("127.0.0.1", "::1")
_ANY: Final = ("0.0.0.0", "::")


def port_number(port: Any) -> int:
    """Return a port that was given as a number, as digits, as the name of a service, or not at all.

    Raises:
        socket.gaierror: no such service.
    """
    if port is None or port == "":
        return 0
    if isinstance(port, (bytes, bytearray)):
        port = port.decode("ascii")
    if not isinstance(port, str):
        return port  # type: ignore[no-any-return]  # the stack checks it
    if port.isdecimal():
        return int(port)
    try:
        return socket.getservbyname(port, "tcp")  # a local table, no network
    except OSError:
        raise socket.gaierror(socket.EAI_SERVICE, f"no service named {port!r}") from None


def numeric_addresses(
    host: str | None, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    """Return what `socket.getaddrinfo` returns for a host that is an address, ``localhost`` or None.

    Raises:
        socket.gaierror: it is another name.
    """
    number = port_number(port)
    if host is None:
        hosts: tuple[str, ...] = _ANY if flags & socket.AI_PASSIVE else _LOCAL
    elif host.lower().rstrip(".") == "localhost":
        hosts = _LOCAL
    elif literal(host) is not None:
        hosts = (host.strip("[]"),)
    else:
        raise socket.gaierror(socket.EAI_NONAME, f"the virtual stack has no name server to ask for {host!r}")
    found: list[tuple[Any, ...]] = []
    for one in hosts:
        own = socket.AF_INET6 if ":" in one else socket.AF_INET
        if family not in (0, own):
            continue
        name, _, scope = one.partition("%")
        sockaddr = (one, number) if own == socket.AF_INET else (name, number, 0, int(scope) if scope.isdecimal() else 0)
        if scope and not scope.isdecimal():
            sockaddr = (one, number, 0, 0)
        for each, protocol in _KINDS:
            if kind in (0, each) and proto in (0, protocol):
                found.append((own, each, protocol, "", sockaddr))
    if not found:
        raise socket.gaierror(socket.EAI_FAMILY, f"{host!r} has no address of that family and type")
    return found


def numeric_name(sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
    """Return what `socket.getnameinfo` returns where no name is known.

    Raises:
        socket.gaierror: the flags want a name.
    """
    if flags & socket.NI_NAMEREQD:
        raise socket.gaierror(socket.EAI_NONAME, f"the virtual stack has no name server to ask for {sockaddr[0]!r}")
    return str(sockaddr[0]), str(sockaddr[1])
