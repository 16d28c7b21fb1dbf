"""The end of a stack's connections: what was accepted leaves first, and then each peer is notified.

Owns which connections a closing stack waits for, and for how long. These are the ones that the program has closed or
half-closed: their data and their FIN are to be acknowledged. Connections that the program still holds go on
meanwhile, and nothing waits for them, since more may follow at any time. At the end all that is not delivered is reset.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from tcpip_wasm.driver import Driver
from tcpip_wasm.errors import StackError
from tcpip_wasm.sockets.tcp.transport import TcpTransport

LONGEST: Final = 86400.0
"""Seconds: loops have no timer for an infinite time. TCP gives each connection up long before."""


def _finishes(transport: Any) -> bool:
    """Whether a transport has yet to hand to the core what it accepted before the program closed it."""
    if not isinstance(transport, TcpTransport) or transport.is_local:
        return False
    if transport.is_finishing:
        return True
    protocol = transport.get_protocol()
    if not isinstance(protocol, SSLProtocol):
        return False
    secure: Any = protocol._app_transport  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    return secure is not None and secure.is_closing()


class _Undelivered:
    """Returns, at each call, whether something is yet to be delivered."""

    def __init__(self, driver: Driver, attached: Callable[[], bool]) -> None:
        self._driver = driver
        self._attached = attached
        self._found: list[Any] = []  # by the latest look at all transports, which may be many

    def __call__(self) -> bool:
        driver = self._driver
        if driver.error is not None or not self._attached():
            return False
        if driver.core.tcp_undelivered():
            return True
        self._found = [one for one in self._found if _finishes(one)]
        if not self._found:
            self._found = [one for one in driver.handlers.values() if _finishes(one)]
        return bool(self._found)


async def drain(driver: Driver, seconds: float, attached: Callable[[], bool]) -> None:
    """Wait until the peers have acknowledged all that the program has closed, or the stack is gone.

    Args:
        driver: the stack's.
        seconds: how long at most, by the loop's clock.
        attached: whether anything takes the frames that leave; where nothing does, nothing can be delivered.

    It does not wait at all, not even for the next loop iteration, where nothing is to be delivered.
    """
    undelivered = _Undelivered(driver, attached)
    if not undelivered():
        return
    done: asyncio.Future[None] = driver.loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def look() -> None:
        if not undelivered():
            finish()

    driver.watch(look)
    timer = driver.loop.call_later(min(seconds, LONGEST), finish)
    try:
        await done
    finally:
        timer.cancel()
        driver.unwatch(look)


def end_connections(driver: Driver, error: StackError) -> bool:
    """End all connections of a stack that goes on for a moment, or ends now.

    A connection of which something is not delivered is reset; of another the peer receives FIN, as from a process that
    ends.

    Args:
        driver: the stack's.
        error: what pending calls on the connections raise.

    Returns:
        Whether frames of it wait in the interfaces.
    """
    if driver.error is not None:
        return False
    ended = 0
    with suppress(StackError):  # it traps: then nothing more leaves
        ended = driver.core.tcp_end()
    for handler in [one for one in driver.handlers.values() if getattr(one, "is_connection", False)]:
        handler._on_stack_gone(error)  # noqa: SLF001  not for users of handlers
    return ended > 0
