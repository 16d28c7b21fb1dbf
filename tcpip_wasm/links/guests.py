"""The interfaces of guests that connect: what `attach` returns, and ports of a bridge.

Owns how an interface is obtained for a guest and what happens to it afterwards. Must not know transports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from typing import Final, TypeAlias

from tcpip_wasm.arguments import check_int
from tcpip_wasm.interfaces import BridgeInterface
from tcpip_wasm.links.link import FrameInterface
from tcpip_wasm.stack import NetworkStack

__all__ = ["Attach", "bridge_port"]

Attach: TypeAlias = Callable[
    [], "FrameInterface | Awaitable[FrameInterface] | AbstractAsyncContextManager[FrameInterface]"
]
"""Is called for a guest that has connected. It returns the interface for it, or a coroutine that does, or an
asynchronous context manager that yields it and is left when the guest has gone."""

MOST_GUESTS: Final = 4096


def check_guests(count: int) -> int:
    """Return a limit of guests. Raises what `check_int` raises."""
    return check_int("max_guests", count, 1, MOST_GUESTS)


@asynccontextmanager
async def interface_of(attach: Attach) -> AsyncIterator[FrameInterface]:
    """Obtain the interface for a guest, and leave its context manager, if it has one, with this one."""
    attached = attach()
    if isinstance(attached, AbstractAsyncContextManager):
        async with attached as interface:
            yield interface
    elif isawaitable(attached):
        yield await attached
    else:
        yield attached


def bridge_port(
    stack: NetworkStack, bridge: BridgeInterface
) -> Callable[[], AbstractAsyncContextManager[FrameInterface]]:
    """Return an `attach` by which each guest is a port of a bridge, so that guests reach the stack and each other.

    Args:
        stack: the bridge's stack.
        bridge: the bridge.
    """

    @asynccontextmanager
    async def attach() -> AsyncIterator[FrameInterface]:
        tap = await stack.create_tap_interface(mtu=bridge.mtu)
        try:
            await bridge.add_port(tap)
            yield tap
        finally:
            if not stack.closed:
                await stack.remove_interface(tap)

    return attach
