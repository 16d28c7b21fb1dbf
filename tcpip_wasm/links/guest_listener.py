"""`GuestListener`: accepts the connections of virtual machines, and makes a link of each.

Owns the listening socket, its file, and the list of links. Must not know how frames pass.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tcpip_wasm.links.guests import Attach, interface_of
from tcpip_wasm.links.link import FrameInterface, Link
from tcpip_wasm.links.transport_address import TransportAddress, unlink_unix

_log: Final = logging.getLogger("tcpip_wasm.links")

_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors after which a connection stays in the backlog, so that accepting again would spin."""

_RETRY_SECONDS: Final = 1.0
"""Until a listener without descriptors accepts again, as in asyncio."""


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
        self._guests: dict[asyncio.Task[None], Link | None] = {}
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = self._loop.create_task(self._accept())

    @property
    def links(self) -> tuple[Link, ...]:
        """The links of the guests that are connected now, in the order of their arrival."""
        return tuple(link for link in self._guests.values() if link is not None and not link.closed)

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
            if len(self._guests) >= self._max_guests:
                sock.close()
                _log.warning("%s: guest refused: %d are connected", self.address, self._max_guests)
                continue
            task = self._loop.create_task(self._serve(sock))
            self._guests[task] = None
            task.add_done_callback(self._guests.pop)

    async def _serve(self, sock: socket.socket) -> None:
        """Carry the frames of one guest until it goes."""
        task = asyncio.current_task()
        assert task is not None
        try:
            async with interface_of(self._attach) as interface:
                link = self._guests[task] = self._make_link(sock, interface)
                try:
                    await link.wait_closed()
                finally:
                    link.close()
        except Exception as problem:
            _log.warning("%s: guest refused: %s", self.address, problem)
        finally:
            sock.close()

    async def aclose(self) -> None:
        """Accept no more, and end the links of the guests that are connected. Idempotent."""
        accepting, self._task = self._task, None
        if accepting is None:
            return
        tasks = [accepting, *self._guests]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._sock.close()
        if self._path:
            unlink_unix(self._path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
