"""UDP sockets that a program opens itself, binds, and gives options, before it hands them to a loop with a polyfill.

Libraries for multicast do so: `bind`, `setsockopt` to join, then ``create_datagram_endpoint(sock=…)``. `bind` to an
address that the route takes opens the stack's socket, for which the caller's stands from then on (see `direct`). While
a polyfill is active `socket.socket` has the methods for options below in place of those that it inherits: what is set
before `bind` is kept for the stack's socket, and a group that is joined before binds it. In other threads than that of
the loop, and for other sockets, the methods are the machine's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from tcpip_wasm.arguments import check_port
from tcpip_wasm.compat.blocking.adapter_list import adapters_of, ifaddr_module
from tcpip_wasm.compat.loop.caller_datagrams import DatagramEnd, is_datagrams
from tcpip_wasm.compat.loop.caller_sockets import PlacedSocket, at_once
from tcpip_wasm.compat.loop.direct_calls import own_polyfills, taking
from tcpip_wasm.compat.loop.guard import REAL, is_permitted
from tcpip_wasm.compat.loop.replacements import Replacements
from tcpip_wasm.compat.route import ANY_ADDRESS, host_text
from tcpip_wasm.sockets import options
from tcpip_wasm.sockets.options import Values
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.compat.loop.caller_sockets import PlacedSockets
    from tcpip_wasm.stack import NetworkStack

_recorded: WeakKeyDictionary[socket.socket, Values] = WeakKeyDictionary()


def _end_of(sock: Any) -> DatagramEnd | None:
    """Return what a socket stands for, if that is a UDP socket of a stack."""
    for one in own_polyfills():
        end = one._placed.find(sock)  # noqa: SLF001  the table of a polyfill is for this package alone
        if isinstance(end, DatagramEnd):
            return end
    return None


def _is_candidate(sock: Any) -> bool:
    return type(sock) in (REAL, PlacedSocket) and is_datagrams(sock) and bool(own_polyfills())


def bind_datagrams(stack: NetworkStack, table: PlacedSockets, sock: Any, address: tuple[Any, ...]) -> DatagramEnd:
    """Let a socket stand for a new one of the stack, with an own address and the options that were set.

    Args:
        stack: the stack.
        table: where that is noted.
        sock: the caller's; it stands for nothing yet.
        address: what the program has given.

    Raises:
        OSError: what `NetworkStack.create_datagram_endpoint` raises; `NameResolutionError` for a name that a server has
            to be asked for.
    """
    values = _recorded.get(sock) or Values(int(sock.type), int(sock.family))
    host, port = address[:2]
    check_port("port", port)
    host = host_text(host)
    family = int(sock.family)
    if family == socket.AF_INET6 and host in ("", "::") and not values.flag(options.V6_ONLY):
        family, host = 0, ""  # IPv4, too
    elif host == "":
        host = "0.0.0.0" if family == socket.AF_INET else "::"
    elif len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{address[3]}"
    local, _ = at_once(parts_of(stack).lookup.pair((host, port), None, family))
    made = partial(DatagramEnd, stack.loop)
    transport, end = at_once(parts_of(stack).udp.endpoint(made, local, None, family, values.for_core(), values.share()))
    transport.get_extra_info("socket").__dict__["values"] = values
    table.put(sock, end)
    assert isinstance(end, DatagramEnd)
    return end


def give_options(sock: Any, end: DatagramEnd) -> None:
    """Give the stack's socket the options that were set on a caller's before it stood for that."""
    values = _recorded.get(sock)
    if values is not None:
        for option, value in values.for_core().items():
            end.transport.set_option(option, value)


# --- The methods ------------------------------------------------------------------------------------------------------


def _setsockopt(sock: Any, level: int, name: int, value: Any, *length: int) -> None:
    if not _is_candidate(sock):
        _replaced.original("setsockopt")(sock, level, name, value, *length)
        return
    end = _end_of(sock)
    key = level, name
    if end is None and (key in options.GROUPS or key == options.GROUP_INTERFACE):
        polyfill = None if is_permitted() else taking(own_polyfills(), _of_group(key, value))
        end = None if polyfill is None else bind_datagrams(polyfill.stack, polyfill._placed, sock, ("", 0))  # noqa: SLF001  the table of a polyfill is for this package alone
    if end is not None:
        end.transport.get_extra_info("socket").setsockopt(level, name, value, *length)
        return
    with suppress(OSError):  # what a stack lacks, the machine may have: it may be the machine's socket
        _recorded.setdefault(sock, Values(int(sock.type), int(sock.family))).write(key, value)
    _replaced.original("setsockopt")(sock, level, name, value, *length)


def _of_group(key: options.Key, value: Any) -> str:
    """Return the group that is joined or left, or the own address of the interface for groups."""
    if key in options.GROUPS:
        return options.group(key[0], value)[0]
    address = options.group_interface(value)[0]
    return ANY_ADDRESS if address == bytes(4) else socket.inet_ntoa(address)


def _getsockopt(sock: Any, *arguments: int) -> Any:
    end = _end_of(sock) if _is_candidate(sock) else None
    if end is not None:
        return end.transport.get_extra_info("socket").getsockopt(*arguments)
    return _replaced.original("getsockopt")(sock, *arguments)


def _get_adapters(include_unconfigured: bool = False) -> Any:
    polyfill = None if is_permitted() else taking(own_polyfills(), ANY_ADDRESS)
    if polyfill is not None:
        return adapters_of(polyfill.stack, include_unconfigured)
    return _replaced.original("get_adapters")(include_unconfigured)


def _wanted() -> Iterator[tuple[Any, str, Any]]:
    yield REAL, "setsockopt", _setsockopt
    yield REAL, "getsockopt", _getsockopt
    ifaddr = ifaddr_module()
    if ifaddr is not None:
        yield ifaddr, "get_adapters", _get_adapters


_replaced: Final = Replacements(_wanted)
install: Callable[[], None] = _replaced.install
uninstall: Callable[[], None] = _replaced.uninstall
