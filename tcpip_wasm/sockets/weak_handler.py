"""`WeakHandler`: takes the events of a transport that nothing may use any more, without keeping it alive."""

from __future__ import annotations

from typing import Any
from weakref import ref

from tcpip_wasm.driver import Driver, Handler
from tcpip_wasm.errors import StackError


class WeakHandler:
    """Takes the events of a connection while its transport waits for a program that has paused reading.

    Args:
        transport: the connection's.
    """

    is_connection = True

    def __init__(self, transport: Handler) -> None:
        self._transport = ref(transport)

    def _on_event(self, kind: int, value: int, payload: Any) -> None:
        """See `Handler`."""
        transport = self._transport()
        if transport is not None:
            transport._on_event(kind, value, payload)

    def _on_stack_gone(self, error: StackError) -> None:
        """See `Handler`."""
        transport = self._transport()
        if transport is not None:
            transport._on_stack_gone(error)


def abort_unused(driver: Driver, handle: int) -> None:
    """Reset a connection whose transport was freed.

    Args:
        driver: the stack's.
        handle: the connection's; without effect where another handler has it by now.
    """
    if driver.error is None and isinstance(driver.handlers.get(handle), WeakHandler):
        del driver.handlers[handle]
        driver.core.tcp_abort(handle)
        driver.wake()
