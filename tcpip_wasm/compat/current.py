"""Whose network the socket stand-in uses: hosts, put in place and taken away like plates on a pile.

Owns that pile, which is the process's, as the real module's network is.
"""

from __future__ import annotations

import errno
import threading

from tcpip_wasm.compat.thread import VirtualHost, host_of
from tcpip_wasm.errors import network_error
from tcpip_wasm.stack import NetworkStack

_pile: list[VirtualHost] = []
_lock = threading.Lock()


def current_host() -> VirtualHost:
    """Return the host that new sockets belong to.

    Raises:
        OSError: ``ENETDOWN`` where there is none.
    """
    try:
        return _pile[-1]
    except IndexError:
        raise network_error(errno.ENETDOWN, "no virtual host: use polyfill_socket() or use()") from None


def use(target: NetworkStack | VirtualHost) -> VirtualHost:
    """Let new sockets belong to a host until `leave`.

    Raises:
        TypeError: neither a stack nor a host.
        StackError: the stack is gone.
    """
    host = host_of(target)
    if (error := host.stack._driver.error) is not None:
        raise error
    with _lock:
        _pile.append(host)
    return host


def leave(host: VirtualHost) -> None:
    """Take away what `use` returned.

    Raises:
        RuntimeError: another was put in place since, and is still there.
    """
    with _lock:
        if not _pile or _pile[-1] is not host:
            raise RuntimeError("another host was put in place since; leave that one first")
        _pile.pop()
