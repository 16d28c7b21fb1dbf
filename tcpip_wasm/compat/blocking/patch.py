"""`polyfill_socket`: a virtual host instead of the machine's network, for code that uses the `socket` module.

Owns the list of names of modules that are replaced, and restores them. Only names that use a network are replaced; the
standard library's functions in Python look the replaced names up at each call.
"""

from __future__ import annotations

import contextlib
import socket as real
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from tcpip_wasm.compat import socket as stand_in
from tcpip_wasm.compat.blocking import adapter_list
from tcpip_wasm.compat.blocking.active_host import leave, use
from tcpip_wasm.compat.blocking.adapter_list import ifaddr_module
from tcpip_wasm.compat.blocking.thread import VirtualHost
from tcpip_wasm.compat.blocking.tls_sockets import SSLSocket
from tcpip_wasm.compat.blocking.trio_sockets import HELPER, trio_sockets, with_own_methods
from tcpip_wasm.compat.loop.direct_calls import install, uninstall
from tcpip_wasm.compat.loop.guard import Guard
from tcpip_wasm.compat.route import Route, RouteLike
from tcpip_wasm.stack import NetworkStack

REPLACED: Final = (
    "SocketType",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "gethostname",
    "getnameinfo",
    "if_indextoname",
    "if_nameindex",
    "if_nametoindex",
    "sethostname",
    "socket",
    "socketpair",
)
"""Names of the `socket` module that are replaced."""


_REMEDY: Final = (
    "Use socket.socket of the socket module as it is inside the block, or wrap what is meant to reach the machine in "
    "machine_network()"
)


@contextlib.contextmanager
def strictly(allows: Callable[[str], bool] | None = None) -> Iterator[None]:
    """Refuse the machine's network in a block of code inside of `polyfill_socket`.

    Args:
        leaves: see `Guard`.
    """
    install()
    try:
        with Guard("polyfill_socket(strict=True)", _REMEDY, allows=allows):
            yield
    finally:
        uninstall()


@contextlib.contextmanager
def polyfill_socket(
    target: NetworkStack | VirtualHost, *, route: RouteLike = None, strict: bool = False
) -> Iterator[VirtualHost]:
    """Let the `socket` module's network be a stack's, in all threads, for a block of code.

    ``socket.socket``, and with it ``socket.create_connection``, ``http.client``, ``urllib.request``, ``socketserver``,
    ``smtplib`` and other code that blocks on sockets, use the stack; ``ssl`` contexts wrap its sockets. Sockets that
    were opened inside work after the block. Blocks nest: the innermost one's stack is used. ``AF_UNIX`` sockets stay
    the machine's. Code that imported the class before, by ``from socket import socket``, keeps the real class. Calls on
    the stack's own loop use the machine's network: the loop cannot wait for itself, and a gateway there needs that
    network.

    Args:
        target: a `StackThread`, or a stack whose loop runs in another thread than the code inside.
        route: which destinations are the stack's, see `NetworkStack.polyfill`; None is everything. Other destinations
            are the machine's. A socket belongs to either from its first `bind`, `connect` or `sendto` on.
        strict: whether calls that use the machine's network without the replaced names are refused with
            `MachineNetworkError`, in all threads, inside the block: sockets of classes that were imported before,
            ``_socket``, the machine's resolver, other programs. See `NetworkStack.polyfill`; `machine_network` exempts
            code.

    Yields:
        The host.

    Raises:
        ValueError, TypeError: something else, a malformed route.
        StackError: the stack is gone.
        RuntimeError: on leaving, where an inner block is still active.
    """
    taken = None if route is None else Route(route)
    allows = None if taken is None else lambda name: not taken.takes(name)
    host = use(target, taken)
    before: list[tuple[Any, str, Any]] = [(real, name, getattr(real, name)) for name in REPLACED]
    before.append((ssl.SSLContext, "sslsocket_class", ssl.SSLContext.sslsocket_class))
    trio = trio_sockets()
    if trio is not None:
        before.append((trio, HELPER, getattr(trio, HELPER)))
    ifaddr = ifaddr_module()
    if ifaddr is not None:
        before.append((ifaddr, "get_adapters", ifaddr.get_adapters))
        if ifaddr.get_adapters is not stand_in.get_adapters:
            adapter_list.machine_get_adapters = ifaddr.get_adapters
    try:
        for name in REPLACED:
            setattr(real, name, getattr(stand_in, name))
        ssl.SSLContext.sslsocket_class = SSLSocket
        if trio is not None:
            setattr(trio, HELPER, with_own_methods(getattr(trio, HELPER)))
        if ifaddr is not None:
            ifaddr.get_adapters = stand_in.get_adapters
        with strictly(allows) if strict else contextlib.nullcontext():
            yield host
    finally:
        leave(host)
        for owner, name, value in before:
            setattr(owner, name, value)
