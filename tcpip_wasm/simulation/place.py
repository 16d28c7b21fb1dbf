"""Context variables for the host and the service that code belongs to; tasks and callbacks inherit them.

`place` has one incarnation of a host, so that code which survives a crash cannot use the restarted host.
"""

from __future__ import annotations

import errno
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tcpip_wasm.errors import network_error
from tcpip_wasm.stack import NetworkStack

if TYPE_CHECKING:
    from tcpip_wasm.simulation.host import Host, Incarnation

place: ContextVar[Incarnation | None] = ContextVar("tcpip_wasm.simulation.place", default=None)
"""The incarnation of the host that the current code runs on, or None outside of all hosts."""


service: ContextVar[object | None] = ContextVar("tcpip_wasm.simulation.service", default=None)
"""The service of a host that the current code is part of, or None. Sockets and tasks that it opens end with it."""


def current_host() -> Host | None:
    """Return the host that the caller runs on; None for the scenario itself."""
    incarnation = place.get()
    return None if incarnation is None else incarnation.host


def current_stack() -> NetworkStack:
    """Return the stack of the host that the caller runs on.

    Raises:
        OSError: ``ENETDOWN`` outside of all hosts.
    """
    incarnation = place.get()
    if incarnation is None:
        raise network_error(errno.ENETDOWN, "no host: run this on one, with host.run() or host.start()")
    return incarnation.stack
