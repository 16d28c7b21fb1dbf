"""UDP sockets that a program opens, binds and sets options on, before it passes them to a loop with a polyfill.

Libraries for multicast do so: `bind`, `setsockopt` to join, then ``create_datagram_endpoint(sock=…)``. `bind` to an
address that the route takes opens the stack's socket, which the caller's socket represents from then on (see
`direct_calls`). While a polyfill is active `socket.socket` has the option methods below in place of those that it
inherits: options that are set before `bind` are kept for the stack's socket, and joining a group before `bind` binds
the socket. In other threads than the loop's, and for other sockets, the methods are the machine's.
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
from tcpip_wasm.compat.loop.caller_datagrams import DatagramEndpoint, is_datagrams
from tcpip_wasm.compat.loop.caller_sockets import CallerSocket, run_without_waiting
from tcpip_wasm.compat.loop.direct_calls import own_polyfills, polyfill_for
from tcpip_wasm.compat.loop.guard import REAL, is_permitted
from tcpip_wasm.compat.loop.replacements import Replacements
from tcpip_wasm.compat.route import ANY_ADDRESS, host_text
from tcpip_wasm.sockets import options
from tcpip_wasm.sockets.options import Values
from tcpip_wasm.stack_parts import parts_of

if TYPE_CHECKING:
    from tcpip_wasm.compat.loop.caller_sockets import CallerSockets
    from tcpip_wasm.stack import NetworkStack

_recorded: WeakKeyDictionary[socket.socket, Values] = WeakKeyDictionary()


def _endpoint_of(sock: Any) -> DatagramEndpoint | None:
    """Return the UDP socket of a stack that a caller's socket represents, or None."""
    for one in own_polyfills():
        endpoint = one._caller_sockets.find(sock)  # noqa: SLF001  the table of a polyfill is for this package alone
        if isinstance(endpoint, DatagramEndpoint):
            return endpoint
    return None


def _is_candidate(sock: Any) -> bool:
    return type(sock) in (REAL, CallerSocket) and is_datagrams(sock) and bool(own_polyfills())


def bind_datagrams(stack: NetworkStack, table: CallerSockets, sock: Any, address: tuple[Any, ...]) -> DatagramEndpoint:
    """Open a UDP socket of the stack for a caller's socket to represent, with its address and the options set so far.

    Args:
        stack: the stack.
        table: the table that records it.
        sock: the caller's; it represents nothing yet.
        address: the argument of `bind`.

    Raises:
        OSError: what `NetworkStack.create_datagram_endpoint` raises; `NameResolutionError` for a name that needs a name
            server.
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
    local, _ = run_without_waiting(parts_of(stack).lookup.pair((host, port), None, family))
    made = partial(DatagramEndpoint, stack.loop)
    transport, endpoint = run_without_waiting(
        parts_of(stack).udp.endpoint(made, local, None, family, values.for_core(), values.share())
    )
    transport.get_extra_info("socket").__dict__["values"] = values
    table.put(sock, endpoint)
    assert isinstance(endpoint, DatagramEndpoint)
    return endpoint


def apply_options(sock: Any, endpoint: DatagramEndpoint) -> None:
    """Set on the stack's socket the options that were set on the caller's before it represented that."""
    values = _recorded.get(sock)
    if values is not None:
        for option, value in values.for_core().items():
            endpoint.transport.set_option(option, value)


# --- The methods ------------------------------------------------------------------------------------------------------


def _setsockopt(sock: Any, level: int, name: int, value: Any, *length: int) -> None:
    if not _is_candidate(sock):
        _replaced.original("setsockopt")(sock, level, name, value, *length)
        return
    endpoint = _endpoint_of(sock)
    key = level, name
    if endpoint is None and (key in options.GROUPS or key == options.GROUP_INTERFACE):
        polyfill = None if is_permitted() else polyfill_for(own_polyfills(), _of_group(key, value))
        endpoint = None if polyfill is None else bind_datagrams(polyfill.stack, polyfill._caller_sockets, sock, ("", 0))  # noqa: SLF001  the table of a polyfill is for this package alone
    if endpoint is not None:
        endpoint.transport.get_extra_info("socket").setsockopt(level, name, value, *length)
        return
    with suppress(OSError):  # an option that a stack lacks may still be valid: the socket may be the machine's
        _recorded.setdefault(sock, Values(int(sock.type), int(sock.family))).write(key, value)
    _replaced.original("setsockopt")(sock, level, name, value, *length)


def _of_group(key: options.Key, value: Any) -> str:
    """Return the group that is joined or left, or the address of the interface that is chosen for groups."""
    if key in options.GROUPS:
        return options.group(key[0], value)[0]
    address = options.group_interface(value)[0]
    return ANY_ADDRESS if address == bytes(4) else socket.inet_ntoa(address)


def _getsockopt(sock: Any, *arguments: int) -> Any:
    endpoint = _endpoint_of(sock) if _is_candidate(sock) else None
    if endpoint is not None:
        return endpoint.transport.get_extra_info("socket").getsockopt(*arguments)
    return _replaced.original("getsockopt")(sock, *arguments)


def _get_adapters(include_unconfigured: bool = False) -> Any:
    polyfill = None if is_permitted() else polyfill_for(own_polyfills(), ANY_ADDRESS)
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
