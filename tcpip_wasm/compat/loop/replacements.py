"""`Replacements`: attributes of classes and modules that are replaced while at least one user needs that.

Set on `socket.socket` itself, a method also reaches code that took the class away by ``from socket import socket``.
"""

from __future__ import annotations

import _socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

_INHERITED: Final = object()


class Replacements:
    """A set of attributes, put in place by the first `install` and taken away by the last `uninstall`.

    Args:
        wanted: returns (class or module, name, value) of each; it is called by the first `install`.
    """

    def __init__(self, wanted: Callable[[], Iterable[tuple[Any, str, Any]]]) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._users = 0
        self._before: dict[str, tuple[Any, Any, Any]] = {}  # name -> where it is, what is set, what was set

    def install(self) -> None:
        """Put the attributes in place, once for each call of `uninstall` that follows."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self._before = {}
            for target, name, value in self._wanted():
                self._before[name] = target, value, vars(target).get(name, _INHERITED)
                setattr(target, name, value)

    def uninstall(self) -> None:
        """Restore what was there, where every other user has done so. What another library has set since stays."""
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
        """Return what is replaced, also after `uninstall`: a caller may have taken the replacement away."""
        _, _, before = self._before[name]
        return getattr(_socket.socket, name) if before is _INHERITED else before
