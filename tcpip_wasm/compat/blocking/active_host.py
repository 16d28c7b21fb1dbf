"""Whose network the socket stand-in uses: hosts, put in place and taken away like plates on a pile.

Owns that pile, which is the process's, as the real module's network is.
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

_pile: list[tuple[VirtualHost, Route | None]] = []
_RESOLVING = ("asyncio.base_events", "concurrent.futures.thread")
"""Modules by which a loop has names looked up: in a thread of its executor, and that function is the whole job."""
_lock = threading.Lock()


def current_host() -> VirtualHost:
    """Return the host that new sockets belong to.

    Raises:
        OSError: ``ENETDOWN`` where there is none.
    """
    try:
        return _pile[-1][0]
    except IndexError:
        raise network_error(errno.ENETDOWN, "no virtual host: use polyfill_socket() or use()") from None


def current_route() -> Route | None:
    """Return which destinations are the current host's; None for all of them."""
    return _pile[-1][1] if _pile else None


def is_machines_own() -> bool:
    """Whether the caller is on the current host's own loop, where it cannot wait for itself: what it calls there is the
    machine's. A gateway is such a caller."""
    return bool(_pile) and _pile[-1][0].is_inside


def is_lookup_of_own_loop() -> bool:
    """Whether the caller's caller is the current host's own loop, or its executor, that looks a name up."""
    if not _pile:
        return False
    host = _pile[-1][0]
    if host.is_inside:
        return True
    threads: Any = getattr(getattr(host.loop, "_default_executor", None), "_threads", ())
    return threading.current_thread() in threads and sys._getframe(2).f_globals.get("__name__") in _RESOLVING  # noqa: SLF001  CPython's documented way, though its name begins so


def use(target: NetworkStack | VirtualHost, route: Route | None = None) -> VirtualHost:
    """Let new sockets belong to a host until `leave`.

    Args:
        target: a stack or a host.
        route: which destinations are the host's, others are the machine's; None for all.

    Raises:
        TypeError: neither a stack nor a host.
        StackError: the stack is gone.
    """
    host = host_of(target)
    if (error := parts_of(host.stack).driver.error) is not None:
        raise error
    with _lock:
        _pile.append((host, route))
    return host


def leave(host: VirtualHost) -> None:
    """Take away what `use` returned.

    Raises:
        RuntimeError: another was put in place since, and is still there.
    """
    with _lock:
        if not _pile or _pile[-1][0] is not host:
            raise RuntimeError("another host was put in place since; leave that one first")
        _pile.pop()
