"""Calls that a program makes on its sockets itself, bypassing the loop: `bind`, `listen`, `connect`, `sendto`.

Libraries bind and listen, and pass the socket to the loop afterwards. While a polyfill is active `socket.socket` has
the methods below in place of those that it inherits. In the thread of a polyfill's loop, and for an address that its
route takes, `bind` takes an address of the stack and `listen` listens there. Blocking calls cannot be served on the
stack's own loop: `connect` and `sendto` use the machine's network, with a warning, and so do calls in jobs of the
loop's executor. This module owns the methods, and decides which polyfill a call belongs to.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from tcpip_wasm.compat.loop.caller_sockets import CallerSocket
from tcpip_wasm.compat.loop.guard import INTERNET, REAL, is_permitted, refuse, warn
from tcpip_wasm.compat.loop.replacements import Replacements
from tcpip_wasm.compat.route import ANY_ADDRESS, host_text

if TYPE_CHECKING:
    from tcpip_wasm.compat.loop.polyfill import Polyfill

REMEDY: Final = (
    "await loop.sock_connect() or the like, run the program in another thread inside polyfill_socket(), leave the "
    "destination to the machine by route=, or use machine_network() where that is meant"
)
"""Advice in warnings of a call that uses the machine's network."""

active: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Polyfill]] = WeakKeyDictionary()
"""The polyfills of each loop, the innermost last."""


class _Job(threading.local):
    """The loop whose executor runs a job in this thread."""

    loop: asyncio.AbstractEventLoop | None = None


_job = _Job()


def mark_job(loop: asyncio.AbstractEventLoop, executor: Executor | None, function: Any) -> Any:
    """Return a function for an executor that records, while it runs, which loop its socket calls belong to."""
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return partial(_run_job, loop, function)
    return function


def _run_job(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *arguments: Any) -> Any:
    _job.loop = loop
    try:
        return function(*arguments)
    finally:
        _job.loop = None


def own_polyfills() -> list[Polyfill]:
    """Return the polyfills of the loop that the calling thread runs, or of an idle one that it created them for."""
    loop = asyncio._get_running_loop()  # noqa: SLF001  the only call that does not raise
    if loop is not None:
        return active.get(loop, [])
    thread = threading.get_ident()
    for one, polyfills in list(active.items()):
        if polyfills and polyfills[-1].thread == thread and not one.is_running():
            return polyfills
    return []


def polyfill_for(polyfills: list[Polyfill], host: str) -> Polyfill | None:
    """Return the innermost polyfill whose route takes a host."""
    return next((one for one in reversed(polyfills) if one.takes(host)), None)


def _host(address: Any) -> str | None:
    if not isinstance(address, tuple) or not address:
        return None
    return host_text(address[0])


def is_taken_by_loop(host: str) -> bool:
    """Whether a host is the stack's for the calling thread: one that runs a loop, or a job of a loop's executor."""
    polyfills = own_polyfills()
    if not polyfills and _job.loop is not None:
        polyfills = active.get(_job.loop, [])
    return polyfill_for(polyfills, host) is not None


def _warn(sock: Any, call: str, address: Any) -> None:
    if sock.family in INTERNET and not isinstance(sock, CallerSocket) and not is_permitted():
        host = _host(address)
        if host is not None and is_taken_by_loop(host or "localhost"):
            warn(f"socket.{call}({address!r})", host or "localhost", REMEDY)


def _bind(sock: Any, address: Any, /) -> None:
    host = _host(address)
    if sock.family in INTERNET and host is not None and not is_permitted():
        polyfill = polyfill_for(own_polyfills(), host or ANY_ADDRESS) if type(sock) in (REAL, CallerSocket) else None
        if polyfill is not None and sock.type in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            polyfill.bind_socket(sock, address)
            return
        _warn(sock, "bind", address)
    _replaced.original("bind")(sock, address)


def _listen(sock: Any, *backlog: Any) -> None:
    if not isinstance(sock, CallerSocket) and sock.family in INTERNET and not sock.getsockname()[1]:
        # An unbound socket listens on all addresses, at a port that the kernel chooses; that raises no audit event.
        if type(sock) is REAL and not is_permitted() and polyfill_for(own_polyfills(), ANY_ADDRESS):
            _bind(sock, ("" if sock.family == socket.AF_INET else "::", 0))
        else:
            refuse("socket.listen()", ANY_ADDRESS)
    if isinstance(sock, CallerSocket):
        sock.listen(*backlog)
        return
    _replaced.original("listen")(sock, *backlog)


def _connect(sock: Any, address: Any, /) -> None:
    _warn(sock, "connect", address)
    _replaced.original("connect")(sock, address)


def _connect_ex(sock: Any, address: Any, /) -> int:
    _warn(sock, "connect_ex", address)
    return int(_replaced.original("connect_ex")(sock, address))


def _sendto(sock: Any, data: Any, *arguments: Any) -> int:
    if arguments:
        _warn(sock, "sendto", arguments[-1])
    return int(_replaced.original("sendto")(sock, data, *arguments))


_METHODS: Final = {
    "bind": _bind,
    "listen": _listen,
    "connect": _connect,
    "connect_ex": _connect_ex,
    "sendto": _sendto,
}
_replaced = Replacements(lambda: [(REAL, name, method) for name, method in _METHODS.items()])
install: Callable[[], None] = _replaced.install
uninstall: Callable[[], None] = _replaced.uninstall
