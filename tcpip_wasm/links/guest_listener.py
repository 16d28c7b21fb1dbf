"""`GuestListener`: accepts the connections of virtual machines, and makes a link of each.

Owns the listening socket, its file, and the list of links. Must not know how frames pass.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Final, Self

from tcpip_wasm.arguments import check_int
from tcpip_wasm.links.link import FrameInterface, Link
from tcpip_wasm.links.transport_address import TransportAddress, unlink_unix

_log: Final = logging.getLogger("tcpip_wasm.links")

Attach = Callable[[], FrameInterface | Awaitable[FrameInterface]]
"""Returns the interface for a guest that has connected, or a coroutine that does."""

_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors after which a connection stays in the backlog, so that accepting again would spin."""

_RETRY_SECONDS: Final = 1.0
"""Until a listener without descriptors accepts again, as in asyncio."""

_MOST_GUESTS: Final = 4096


class GuestListener:
    """Accepts virtual machines; `listen_qemu` and `listen_bess` make it. An asynchronous context manager.

    Attributes:
        address: where it listens, with the port that port 0 became.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: TransportAddress,
        attach: Attach,
        make_link: Callable[[socket.socket, FrameInterface], Link],
        max_guests: int,
    ) -> None:
        """Begin to accept. The socket belongs to the listener from now on.

        Args:
            sock: non-blocking, and listening.
            address: where.
            attach: is called for each guest; what it raises refuses the guest and is logged.
            make_link: makes the link of a connected socket, which belongs to the link then.
            max_guests: guests that are connected at most; more are refused.
        """
        self.address: str = str(address)
        self._sock = sock
        self._path = address.path
        self._attach = attach
        self._make_link = make_link
        self._max_guests = max_guests
        self._links: list[Link] = []
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = self._loop.create_task(self._accept())

    @property
    def links(self) -> tuple[Link, ...]:
        """The links of the guests that are connected now, in the order of their arrival."""
        self._links = [link for link in self._links if not link.closed]
        return tuple(self._links)

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._sock)
            except OSError as problem:
                if problem.errno not in _NO_DESCRIPTOR:
                    _log.warning("%s: accepts no more guests: %s", self.address, problem)
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                await self._accepted(sock)
            except Exception as problem:
                _log.warning("%s: guest refused: %s", self.address, problem)

    async def _accepted(self, sock: socket.socket) -> None:
        try:
            if len(self.links) >= self._max_guests:
                raise OSError(errno.EMFILE, f"{self._max_guests} guests are connected")
            interface = self._attach()
            if isawaitable(interface):
                interface = await interface
            self._links.append(self._make_link(sock, interface))
        except BaseException:
            sock.close()
            raise

    async def aclose(self) -> None:
        """Accept no more, and end the links of the guests that are connected. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._sock.close()
        if self._path:
            unlink_unix(self._path)
        for link in self.links:
            link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def check_guests(count: int) -> int:
    """Return a limit of guests. Raises what `check_int` raises."""
    return check_int("max_guests", count, 1, _MOST_GUESTS)
