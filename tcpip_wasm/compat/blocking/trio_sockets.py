"""Trio's sockets inside `polyfill_socket`: they call the methods that `socket.socket` had when trio was imported.

Trio keeps these functions, and calls them with a socket: with one of a stack they would use its local pair. Inside the
block the method of the socket's own class is called instead. This module uses one private name of trio's, and changes
nothing where trio lacks it.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from tcpip_wasm.compat.blocking.transfers import Transfers

HELPER: Final = "_nonblocking_helper"
"""The method of trio's socket type that all calls use which may wait."""


def trio_sockets() -> Any:
    """Return trio's socket type, or None where trio is not imported or its type lacks that method."""
    kind = getattr(sys.modules.get("trio._socket"), "_SocketType", None)
    return kind if callable(getattr(kind, HELPER, None)) else None


def with_own_methods(helper: Any) -> Any:
    """Return a helper that calls the method of the same name of the socket's own class."""

    async def own(self: Any, wait: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(self._sock, Transfers):
            function = getattr(type(self._sock), getattr(function, "__name__", ""), function)
        return await helper(self, wait, function, *arguments, **options)

    return own
