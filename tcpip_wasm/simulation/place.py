"""On which host code runs, and for which service: context variables, which tasks and callbacks inherit.

Owns the variables. `place` holds one life of a host, so that what outlives a crash never gets hold of the restarted
host.
"""

from __future__ import annotations

import errno
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tcpip_wasm.errors import network_error
from tcpip_wasm.stack import NetworkStack

if TYPE_CHECKING:
    from tcpip_wasm.simulation.host import Host, Life

place: ContextVar[Life | None] = ContextVar("tcpip_wasm.simulation.place", default=None)
"""The life of the host that the current code runs on, or None outside of all hosts."""


service: ContextVar[object | None] = ContextVar("tcpip_wasm.simulation.service", default=None)
"""The service of a host that the current code is part of, or None: what it opens ends with it."""


def current_host() -> Host | None:
    """Return the host that the caller runs on; None for the scenario itself."""
    life = place.get()
    return None if life is None else life.host


def current_stack() -> NetworkStack:
    """Return the stack of the host that the caller runs on.

    Raises:
        OSError: ``ENETDOWN`` outside of all hosts.
    """
    life = place.get()
    if life is None:
        raise network_error(errno.ENETDOWN, "no host: run this on one, with host.run() or host.start()")
    return life.stack
