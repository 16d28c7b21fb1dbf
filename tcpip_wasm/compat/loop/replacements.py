"""`Replacements`: attributes of classes and modules that are replaced while at least one user needs it.

A method that is set on `socket.socket` also affects code that imported the class by ``from socket import socket``.
"""

from __future__ import annotations

import _socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

_INHERITED: Final = object()


class Replacements:
    """A set of attributes, replaced by the first `install` and restored by the last `uninstall`.

    Args:
        wanted: returns (class or module, name, value) of each attribute; the first `install` calls it.
    """

    def __init__(self, wanted: Callable[[], Iterable[tuple[Any, str, Any]]]) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._users = 0
        self._before: dict[str, tuple[Any, Any, Any]] = {}  # name -> owner, new value, former value

    def install(self) -> None:
        """Replace the attributes; each call needs one of `uninstall`."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self._before = {}
            for target, name, value in self._wanted():
                self._before[name] = target, value, vars(target).get(name, _INHERITED)
                setattr(target, name, value)

    def uninstall(self) -> None:
        """Restore the attributes at the last user's call. A value that another library has set since stays."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            for name, (target, value, before) in self._before.items():
                if vars(target).get(name) is not value:
                    continue
                if before is _INHERITED:
                    delattr(target, name)
                else:
                    setattr(target, name, before)

    def original(self, name: str) -> Any:
        """Return the former value, also after `uninstall`: a caller may hold the replacement."""
        _, _, before = self._before[name]
        return getattr(_socket.socket, name) if before is _INHERITED else before
