"""Trio's sockets inside `polyfill_socket`: they call the methods that `socket.socket` had when trio was imported.

Trio keeps these functions, and calls them with a socket: of one of a stack they would use the local pair behind it.
While the block lasts a method of the socket's own class is called instead. This knows one private name of trio's, and
changes nothing where there is none.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from tcpip_wasm.compat.blocking.transfers import Transfers

HELPER: Final = "_nonblocking_helper"
"""The method of trio's socket type through which all calls go that may have to wait."""


def trio_sockets() -> Any:
    """Return trio's socket type, or None where trio is not imported or has another one."""
    kind = getattr(sys.modules.get("trio._socket"), "_SocketType", None)
    return kind if callable(getattr(kind, HELPER, None)) else None


def with_own_methods(helper: Any) -> Any:
    """Return the helper that calls the method of that name of the socket's own class."""

    async def own(self: Any, wait: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(self._sock, Transfers):
            function = getattr(type(self._sock), getattr(function, "__name__", ""), function)
        return await helper(self, wait, function, *arguments, **options)

    return own
