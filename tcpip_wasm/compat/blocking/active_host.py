"""The virtual host whose network new sockets use: the last entry of a stack of active hosts.

Owns that list, which is global to the process, as the network of the real module is.
"""

from __future__ import annotations

import errno
import sys
import threading
from typing import Any

from tcpip_wasm.compat.blocking.thread import VirtualHost, host_of
from tcpip_wasm.compat.route import Route
from tcpip_wasm.errors import network_error
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

_hosts: list[tuple[VirtualHost, Route | None]] = []
_RESOLVER_MODULES = ("asyncio.base_events", "concurrent.futures.thread")
"""The modules that call the lookup when a loop resolves a name: on the loop, or as a whole job of its executor."""
_lock = threading.Lock()


def current_host() -> VirtualHost:
    """Return the host that new sockets belong to.

    Raises:
        OSError: ``ENETDOWN`` where no host is active.
    """
    try:
        return _hosts[-1][0]
    except IndexError:
        raise network_error(errno.ENETDOWN, "no virtual host: use polyfill_socket() or use()") from None


def current_route() -> Route | None:
    """Return the route that selects the current host's destinations; None selects all."""
    return _hosts[-1][1] if _hosts else None


def is_on_host_loop() -> bool:
    """Whether the caller runs on the current host's own loop. A blocking call there would wait for itself, so it uses
    the machine's network; a gateway relies on that."""
    return bool(_hosts) and _hosts[-1][0].is_inside


def is_lookup_of_own_loop() -> bool:
    """Whether the function that called the caller is the current host's own loop, or its executor, resolving a name."""
    if not _hosts:
        return False
    host = _hosts[-1][0]
    if host.is_inside:
        return True
    threads: Any = getattr(getattr(host.loop, "_default_executor", None), "_threads", ())
    # CPython documents this call in spite of its name.
    module = sys._getframe(2).f_globals.get("__name__")  # noqa: SLF001  documented
    return threading.current_thread() in threads and module in _RESOLVER_MODULES


def use(target: NetworkStack | VirtualHost, route: Route | None = None) -> VirtualHost:
    """Make a host the current one, which new sockets belong to, until `leave`.

    Args:
        target: a stack or a host.
        route: which destinations are the host's; the others are the machine's. None selects all.

    Raises:
        TypeError: neither a stack nor a host.
        StackError: the stack has ended.
    """
    host = host_of(target)
    if (error := parts_of(host.stack).driver.error) is not None:
        raise error
    with _lock:
        _hosts.append((host, route))
    return host


def leave(host: VirtualHost) -> None:
    """Deactivate the host that `use` returned.

    Raises:
        RuntimeError: another host was activated since, and is still active.
    """
    with _lock:
        if not _hosts or _hosts[-1][0] is not host:
            raise RuntimeError("another host was activated since; leave that one first")
        _hosts.pop()
