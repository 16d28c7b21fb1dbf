"""`Guard`: a block of code in which the machine's network, its resolver and other programs are refused.

This module owns the process's one audit hook (PEP 578), which is installed at the first use and stays, since Python
cannot remove one, and `machine_network`, which exempts a block of code. It knows which destination each audit event
has, and nothing of loops and stacks.

The following raise no audit event, so a guard cannot refuse them: C extensions that open sockets themselves (the core
of grpcio, libpq, libcurl, pycares; libuv below uvloop, whose loop's methods a polyfill replaces instead), functions of
C libraries that ctypes calls, the start of a process by multiprocessing's spawn and forkserver, and traffic on sockets
that were connected before the block.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final
from weakref import WeakSet

from tcpip_wasm.compat.route import ANY_ADDRESS, host_text, literal
from tcpip_wasm.errors import MachineNetworkError

REAL: Final = socket.socket
"""The class itself; `polyfill_socket` replaces it in the module `socket`."""

_LOCAL: Final = tuple(getattr(socket, name) for name in ("AF_UNIX", "AF_ALG") if hasattr(socket, name))
"""Families of sockets that use no network."""

INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
"""The families of internet sockets."""
_FLAGS: Final = getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0)

NETWORKING_EXTENSIONS: Final = {"grpc._cython.cygrpc": ("AioChannel", "AioServer", "Channel", "Server")}
"""Extension modules that open sockets in C -> the classes whose constructors do so."""

_permitted: ContextVar[bool] = ContextVar("tcpip_wasm.compat.machine_network", default=False)
_permitted_threads: WeakSet[threading.Thread] = WeakSet()
_guards: tuple[Guard, ...] = ()
_lock = threading.Lock()
_installed = False


class MachineNetworkWarning(RuntimeWarning):
    """A call inside a polyfill uses the machine's network, although its destination is the stack's."""


class Guard:
    """Refuses calls while it is entered as a context manager; several may be active, each with its own rules.

    Args:
        block: the block's name in error messages, such as ``polyfill(strict=True)``.
        remedy: the advice in error messages.
        allows: returns whether a host, an address or a name, may be reached; None allows none.
        programs: whether starting another program is refused, too.
        everywhere: True guards all threads of the process; False the thread that enters, and those that it starts
            inside, directly or by another thread.
    """

    def __init__(
        self,
        block: str,
        remedy: str,
        *,
        allows: Callable[[str], bool] | None = None,
        programs: bool = True,
        everywhere: bool = True,
    ) -> None:
        self._block = block
        self._remedy = remedy
        self._allows = allows
        self._programs = programs
        self._everywhere = everywhere
        self.threads: WeakSet[threading.Thread] = WeakSet()

    def __enter__(self) -> Guard:
        global _guards
        _install()
        _hook_thread_start(1)
        self.threads.add(threading.current_thread())
        with _lock:
            _guards = (*_guards, self)
        return self

    def __exit__(self, *_: object) -> None:
        global _guards
        with _lock:
            _guards = tuple(one for one in _guards if one is not self)
        _hook_thread_start(-1)

    @property
    def covers_caller(self) -> bool:
        """Whether the calling thread is guarded."""
        return self._everywhere or threading.current_thread() in self.threads

    def check(self, call: str, host: str | None) -> None:
        """Refuse a call.

        Args:
            call: the call, as text.
            host: the destination; None is a network as a whole, ``""`` another program.

        Raises:
            MachineNetworkError: it is not allowed.
        """
        if host == "":
            if not self._programs:
                return
            reason = "start another program, which has the machine's network"
        elif host is not None and self._allows is not None and self._allows(host):
            return
        else:
            reason = "reach the machine's network"
        text = f"{call} would {reason}; {self._block} refuses it. {self._remedy}"
        raise MachineNetworkError(errno.EPERM, text, call)


def is_permitted() -> bool:
    """Return whether the caller runs inside `machine_network`."""
    return _permitted.get() or threading.current_thread() in _permitted_threads


def refuse(call: str, host: str | None) -> None:
    """Refuse a call that raises no audit event, where a guard is active. Arguments and errors as `Guard.check`."""
    for guard in _guards:
        if guard.covers_caller and not is_permitted():
            guard.check(call, host)


@contextmanager
def machine_network() -> Iterator[None]:
    """Let the code of a block use the machine's network inside of strict blocks, without refusals and warnings.

    It applies to the calling thread's context (for a coroutine: its task and those that it starts) and to threads that
    are started inside. A socket that is bound inside is the machine's, and so is a server that is created with it;
    other calls of the loop that a polyfill serves are served as before.
    """
    _hook_thread_start(1)
    token = _permitted.set(True)
    try:
        yield
    finally:
        _permitted.reset(token)
        _hook_thread_start(-1)


def _install() -> None:
    global _installed
    with _lock:
        if not _installed:
            sys.addaudithook(_audit)
            _installed = True


def _audit(event: str, arguments: Any) -> None:
    destination_of = _DESTINATIONS.get(event)
    if destination_of is not None and _guards:
        host = destination_of(arguments)
        if host is not _NO_NETWORK:
            refuse(f"{event}({_describe_arguments(event, arguments)})", host)


_thread_start = threading.Thread.start
_hook_users = 0
_hooked = False


def _start(thread: threading.Thread) -> None:
    """Start a thread that is guarded, or exempt, as its parent is. CPython 3.11 raises no audit event for it."""
    if is_permitted():
        _permitted_threads.add(thread)
    for guard in _guards:
        if guard.covers_caller:
            guard.threads.add(thread)
    _thread_start(thread)


def _hook_thread_start(more: int) -> None:
    """Replace `threading.Thread.start` while at least one block is active.

    Args:
        more: 1 for a block that begins, -1 for one that ends.
    """
    global _hook_users, _hooked, _thread_start
    with _lock:
        _hook_users += more
        if _hook_users == 1 and more == 1 and not _hooked:
            _thread_start = threading.Thread.start
            threading.Thread.start = _start  # type: ignore[assignment,method-assign]
            _hooked = True
        elif _hook_users == 0 and threading.Thread.start is _start:  # else another library wraps it, and it stays
            threading.Thread.start = _thread_start  # type: ignore[method-assign]
            _hooked = False


# --- Destinations of events: a host, None for a network as a whole, "" for another program, or no network -------------

_NO_NETWORK: Final[Any] = object()


def _describe_arguments(event: str, arguments: Any) -> str:
    """Return the arguments of a call that describe its destination."""
    if event == "socket.__new__":
        family, kind = arguments[1:3]
        return f"family {family}, type {kind}"
    return repr(arguments[1] if event in _WITH_SOCKET else arguments[0])


def _created_socket(arguments: Any) -> Any:
    sock, family, kind = arguments[:3]
    family = socket.AF_INET if family == -1 else family
    kind = socket.SOCK_STREAM if kind == -1 else kind & ~_FLAGS
    if family in _LOCAL:
        return _NO_NETWORK
    # Later events show what such a socket does; `listen`, which raises none, is a method that a polyfill replaces.
    harmless = isinstance(sock, REAL) and family in INTERNET and kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return _NO_NETWORK if harmless else None


def _addressed(arguments: Any) -> Any:
    sock, address = arguments[:2]
    if sock.family in _LOCAL or address is None:
        return _NO_NETWORK
    return _host(address)


def _bound(arguments: Any) -> Any:
    host = _addressed(arguments)
    return ANY_ADDRESS if host == "localhost" and not arguments[1][0] else host


def _host(address: Any) -> Any:
    if not isinstance(address, tuple) or not address:
        return None
    return host_text(address[0]) or "localhost"


def _looked_up(arguments: Any) -> Any:
    name = arguments[0]
    if not (text := host_text(name)) or text == "<broadcast>" or literal(text) is not None:
        return _NO_NETWORK
    return text


def _reverse(arguments: Any) -> Any:
    return _host(arguments[0]) if isinstance(arguments[0], tuple) else host_text(arguments[0])


def _program(_: Any) -> Any:
    return ""


def _host_name_of_machine(_: Any) -> Any:
    return None


_WITH_SOCKET: Final = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
_DESTINATIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "socket.__new__": _created_socket,
    **dict.fromkeys(_WITH_SOCKET, _addressed),
    "socket.bind": _bound,
    "socket.getaddrinfo": _looked_up,
    "socket.gethostbyname": _looked_up,
    "socket.gethostbyaddr": _reverse,
    "socket.getnameinfo": _reverse,
    "socket.sethostname": _host_name_of_machine,
    **dict.fromkeys(
        ("os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn", "subprocess.Popen"),
        _program,
    ),
}


# --- Extensions that raise no audit event -----------------------------------------------------------------------------


def watch_extensions(applies: Callable[[], bool]) -> Callable[[], None]:
    """Replace the classes of `NETWORKING_EXTENSIONS` by subclasses whose constructors refuse or warn.

    Args:
        applies: returns whether the calling thread is concerned.

    Returns:
        A function that restores them. Modules that are imported later are not watched.
    """
    replaced: list[tuple[ModuleType, str, Any, Any]] = []
    for name, classes in NETWORKING_EXTENSIONS.items():
        module = sys.modules.get(name)
        for one in classes:
            original = getattr(module, one, None)
            if module is not None and isinstance(original, type):
                watched = _watched(original, f"{name.partition('.')[0]}: {one}", applies)
                setattr(module, one, watched)
                replaced.append((module, one, original, watched))

    def restore() -> None:
        for module, one, original, watched in replaced:
            if getattr(module, one) is watched:
                setattr(module, one, original)

    return restore


def _watched(original: Any, call: str, applies: Callable[[], bool]) -> Any:
    def new(_: Any, *arguments: Any, **options: Any) -> Any:
        if applies() and not is_permitted():
            warn(call, None, "it opens sockets in C, which a polyfill cannot replace")
        return original(*arguments, **options)

    return type(original.__name__, (original,), {"__new__": new})


def warn(call: str, host: str | None, why: str) -> None:
    """Refuse a call that would use the machine's network for a destination of the stack; without a guard, warn.

    Args:
        call, host: as for `Guard.check`.
        why: the advice in the warning.
    """
    refuse(call, host)
    text = f"{call} uses the machine's network instead of the stack: {why}"
    warnings.warn(text, MachineNetworkWarning, stacklevel=4)
