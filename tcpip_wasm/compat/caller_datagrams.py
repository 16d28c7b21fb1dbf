"""UDP sockets that a program opens itself, binds, and gives options, before it hands them to a loop with a polyfill.

Libraries for multicast do so: `bind`, `setsockopt` to join, then ``create_datagram_endpoint(sock=…)``. While a polyfill
is active `socket.socket` has methods here in place of those that it inherits. In the loop's own thread `bind` to an
address that the route takes opens the stack's socket, for which the caller's stands from then on; options that are set
before that are kept for it. Everywhere else, and for other sockets, the methods are the machine's.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from tcpip_wasm.arguments import check_port
from tcpip_wasm.compat.adapters import adapters_of, ifaddr_module
from tcpip_wasm.compat.placed import PlacedSocket
from tcpip_wasm.compat.placed_datagrams import DatagramEnd, is_datagrams
from tcpip_wasm.compat.route import ANY_ADDRESS
from tcpip_wasm.errors import NameResolutionError, network_error
from tcpip_wasm.sockets import options
from tcpip_wasm.sockets.options import Values

_REAL: Final = socket.socket
_recorded: WeakKeyDictionary[socket.socket, Values] = WeakKeyDictionary()
_lock = threading.Lock()
_users = 0
_replaced: dict[str, Any] = {}
_active: Mapping[asyncio.AbstractEventLoop, list[Any]] = {}
_ifaddr: Any = None
_machine_adapters: Callable[..., Any] | None = None


def _polyfills() -> list[Any]:
    """Return the polyfills of the loop that the calling thread runs, the innermost first."""
    loop = asyncio._get_running_loop()
    return [] if loop is None else list(reversed(_active.get(loop, [])))


def _taking(host: str) -> Any:
    return next((one for one in _polyfills() if one._route.takes(host)), None)


def _end_of(sock: Any) -> DatagramEnd | None:
    """Return what a socket stands for, if that is a UDP socket of a stack."""
    for one in _polyfills():
        end = one._placed.find(sock)
        if isinstance(end, DatagramEnd):
            return end
    return None


def _is_candidate(sock: Any) -> bool:
    return type(sock) in (_REAL, PlacedSocket) and is_datagrams(sock) and bool(_polyfills())


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that need not wait.

    Raises:
        NameResolutionError: it would have to, for a name server.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise NameResolutionError(socket.EAI_AGAIN, "bind() to a name that a server has to be asked for: use an address")


def bind_datagrams(polyfill: Any, sock: Any, address: tuple[Any, ...]) -> DatagramEnd:
    """Let a socket stand for a new one of the stack, with an own address and the options that were set.

    Raises:
        OSError: ``EINVAL`` where it stands for one already; what `NetworkStack.create_datagram_endpoint` raises.
    """
    if polyfill._placed.find(sock) is not None:
        raise network_error(errno.EINVAL, "the socket is bound already")
    values = _recorded.get(sock) or Values(int(sock.type), int(sock.family))
    host, port = address[:2]
    check_port("port", port)
    host = bytes(host).decode("ascii") if isinstance(host, (bytes, bytearray)) else str(host)
    family = int(sock.family)
    if family == socket.AF_INET6 and host in ("", "::") and not values.flag(options.V6_ONLY):
        family, host = 0, ""  # IPv4, too
    elif host == "":
        host = "0.0.0.0" if family == socket.AF_INET else "::"
    elif len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{address[3]}"
    stack = polyfill.stack
    local, _ = _at_once(stack._lookup.pair((host, port), None, family))
    opened = stack._udp.endpoint(DatagramEnd, local, None, family, values.for_core(), values.share())
    transport, end = _at_once(opened)
    transport.get_extra_info("socket").__dict__["values"] = values
    polyfill._placed.put(sock, end)
    assert isinstance(end, DatagramEnd)
    return end


def give_options(sock: Any, end: DatagramEnd) -> None:
    """Give the stack's socket the options that were set on a caller's before it stood for that."""
    values = _recorded.get(sock)
    if values is not None:
        for option, value in values.for_core().items():
            end.transport.set_option(option, value)


# --- The methods ------------------------------------------------------------------------------------------------------


def _bind(sock: Any, address: Any, /) -> None:
    if isinstance(address, tuple) and len(address) >= 2 and _is_candidate(sock):
        host = address[0].decode("ascii", "replace") if isinstance(address[0], (bytes, bytearray)) else str(address[0])
        polyfill = _taking(host or ANY_ADDRESS)
        if polyfill is not None:
            bind_datagrams(polyfill, sock, address)
            return
    _machine("bind")(sock, address)


def _setsockopt(sock: Any, level: int, name: int, value: Any, *length: int) -> None:
    if not _is_candidate(sock):
        _machine("setsockopt")(sock, level, name, value, *length)
        return
    end = _end_of(sock)
    key = level, name
    if end is None and (key in options.GROUPS or key == options.GROUP_INTERFACE):
        polyfill = _taking(_of_group(key, value))
        end = None if polyfill is None else bind_datagrams(polyfill, sock, ("", 0))
    if end is not None:
        end.transport.get_extra_info("socket").setsockopt(level, name, value, *length)
        return
    with suppress(OSError):  # what a stack lacks, the machine may have: it may be the machine's socket
        _recorded.setdefault(sock, Values(int(sock.type), int(sock.family))).write(key, value)
    _machine("setsockopt")(sock, level, name, value, *length)


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
    return _machine("getsockopt")(sock, *arguments)


def _get_adapters(include_unconfigured: bool = False) -> Any:
    polyfill = _taking(ANY_ADDRESS)
    if polyfill is not None:
        return adapters_of(polyfill.stack, include_unconfigured)
    assert _machine_adapters is not None
    return _machine_adapters(include_unconfigured)


_METHODS: Final = {"bind": _bind, "setsockopt": _setsockopt, "getsockopt": _getsockopt}


def _machine(name: str) -> Any:
    return _replaced.get(name) or getattr(_socket.socket, name)


def install(active: Mapping[asyncio.AbstractEventLoop, list[Any]]) -> None:
    """Put the methods in place, once for each call of `uninstall` that follows.

    Args:
        active: the polyfills of each loop, the innermost last.
    """
    global _users, _active, _ifaddr, _machine_adapters
    with _lock:
        _users += 1
        if _users > 1:
            return
        _active = active
        _replaced.update({name: vars(_REAL)[name] for name in _METHODS if name in vars(_REAL)})
        for name, method in _METHODS.items():
            setattr(_REAL, name, method)
        _ifaddr = ifaddr_module()
        if _ifaddr is not None:
            _machine_adapters, _ifaddr.get_adapters = _ifaddr.get_adapters, _get_adapters


def uninstall() -> None:
    """Take them away again, where every other user has done so."""
    global _users
    with _lock:
        _users -= 1
        if _users > 0:
            return
        for name, method in _METHODS.items():
            if vars(_REAL).get(name) is not method:
                continue  # another library's by now
            if name in _replaced:
                setattr(_REAL, name, _replaced[name])
            else:
                delattr(_REAL, name)
        _replaced.clear()
        if _ifaddr is not None and _ifaddr.get_adapters is _get_adapters:
            _ifaddr.get_adapters = _machine_adapters
