"""`WeakHandler`: takes the events of a transport that nothing may use any more, without keeping it alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from tcpip_wasm.driver import Driver
from tcpip_wasm.errors import StackError

if TYPE_CHECKING:
    from tcpip_wasm.sockets.tcp.transport import TcpTransport


class WeakHandler:
    """Takes the events of a connection while its transport waits for a program that has paused reading.

    Args:
        transport: the connection's.
    """

    is_connection = True

    def __init__(self, transport: TcpTransport) -> None:
        self._transport = ref(transport)

    def _on_event(self, kind: int, value: int, payload: Any) -> None:
        """See `Handler`."""
        transport = self._transport()
        if transport is not None:
            transport._on_event(kind, value, payload)  # noqa: SLF001  not for users of handlers

    def _on_stack_gone(self, error: StackError) -> None:
        """See `Handler`."""
        transport = self._transport()
        if transport is not None:
            transport._on_stack_gone(error)  # noqa: SLF001  not for users of handlers

    def abort(self) -> None:
        """Reset the connection."""
        transport = self._transport()
        if transport is not None:
            transport.abort()


def abort_unused(driver: Driver, handle: int) -> None:
    """Reset a connection whose transport was freed.

    Args:
        driver: the stack's.
        handle: the connection's; without effect where another handler has it by now.
    """
    if driver.error is None and isinstance(driver.handlers.get(handle), WeakHandler):
        driver.handlers.pop(handle, None)
        driver.core.tcp_abort(handle)
        driver.wake()
