"""`TftpServer`: files of a folder for hosts that boot (RFC 1350, RFC 2347 to 2349, RFC 7440).

Owns the socket for requests and the transfers under way. What may be read is decided by `services.folder`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from tcpip_wasm.addresses import Host
from tcpip_wasm.arguments import check_int, check_port
from tcpip_wasm.errors import StackError
from tcpip_wasm.log_limit import LogLimit
from tcpip_wasm.services.datagrams import open_datagrams
from tcpip_wasm.services.folder import Folder
from tcpip_wasm.services.service import Service
from tcpip_wasm.services.tftp import wire
from tcpip_wasm.services.tftp.transfer import Transfer, TransferError, reader_of
from tcpip_wasm.sockets import UdpDatagram, UdpSocket, UdpTransport
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

_log: Final = logging.getLogger("tcpip_wasm.services")

MAX_TRANSFERS: Final = 256
"""Transfers at a time."""

MAX_PER_CLIENT: Final = 16
"""Transfers of one host at a time."""

MAX_FILE: Final = 1 << 30
"""Bytes of a file that a client writes."""


@dataclass(slots=True)
class TftpStatistics:
    """What a server counted.

    Attributes:
        requests: requests that arrived.
        malformed: packets that are none.
        dropped: requests above the bounds, and repeated ones.
        refused: requests that got an error.
        finished, failed: transfers.
        bytes_sent, bytes_received: of files.
        resent: times that packets were sent again.
    """

    requests: int = 0
    malformed: int = 0
    dropped: int = 0
    refused: int = 0
    finished: int = 0
    failed: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resent: int = 0


class TftpServer(Service):
    """A TFTP server.

    Args:
        stack: the stack.
        folder: what is served. Nothing outside of it can be read.
        host: own address, a name of it, or None for all.
        port: own port for requests.
        writable: whether clients may create files; those that exist are never changed.
        max_file: bytes of a file that a client may create.

    Attributes:
        statistics: what it counted.
        port: own port.

    Raises:
        ValueError, TypeError: a malformed argument.
        NotADirectoryError: the path is no folder.
    """

    def __init__(
        self,
        stack: NetworkStack,
        folder: str | os.PathLike[str],
        *,
        host: Host | None = None,
        port: int = 69,
        writable: bool = False,
        max_file: int = MAX_FILE,
    ) -> None:
        self._parts = parts_of(stack)
        super().__init__(self._parts.driver, max_tasks=MAX_TRANSFERS)
        self._driver.check()
        self._stack = stack
        self._folder = Folder(folder)
        self._host = None if host is None else str(host)
        self.port: int = check_port("port", port)
        self._writable = writable
        self._most = check_int("max_file", max_file, 0, 1 << 62)
        self.statistics: TftpStatistics = TftpStatistics()
        self._records = LogLimit(_log, self._driver.loop.time)
        self._clients: set[tuple[Any, ...]] = set()  # (host, port) of transfers under way
        self._hosts: Counter[str] = Counter()
        self._transport: UdpTransport | None = None

    def __repr__(self) -> str:
        return f"<TftpServer of {self._folder.root} on port {self.port}>"

    async def _open(self) -> None:
        self._transport = await open_datagrams(self._parts, self._on_datagram, self._host, self.port)
        self.port = self._transport.get_extra_info("sockname")[1]

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- Requests -------------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, source: tuple[Any, ...]) -> None:
        client = source[:2]
        try:
            request = wire.parse(data)
        except wire.BadPacket:
            self.statistics.malformed += 1
            return
        if not isinstance(request, wire.Request):
            self.statistics.malformed += 1  # never answered: two servers could go on for ever
            return
        self.statistics.requests += 1
        is_bounded = client not in self._clients and self._hosts[client[0]] < MAX_PER_CLIENT
        if not is_bounded or not self._spawn(lambda: self._serve(request, client)):
            self.statistics.dropped += 1
            if not self._hosts[client[0]]:
                del self._hosts[client[0]]
            return
        self._clients.add(client)
        self._hosts[client[0]] += 1

    async def _serve(self, request: wire.Request, client: tuple[Any, ...]) -> None:
        try:
            await self._transfer(request, client)
        finally:
            self._clients.discard(client)
            self._hosts[client[0]] -= 1
            if self._hosts[client[0]] <= 0:
                del self._hosts[client[0]]

    async def _transfer(self, request: wire.Request, client: tuple[Any, ...]) -> None:
        name = request.name.decode("utf-8", "replace")[:200]
        try:
            async with await self._stack.open_udp(self._host, remote=(client[0], client[1])) as udp:
                try:
                    await (self._receive if request.writes else self._send)(request, udp, client)
                    self.statistics.finished += 1
                    _log.debug("%s: %r is transferred", client[0], name)
                except (TransferError, OSError) as error:
                    if isinstance(error, StackError):
                        raise
                    code, text = _error_of(error)
                    self._records.log(logging.INFO, "%s: %r: %s", client[0], name, text)
                    if code is not None:
                        self.statistics.refused += 1
                        await udp.send(UdpDatagram(client[0], client[1], wire.build_error(code, text)))
                    self.statistics.failed += 1
        except StackError:
            raise
        except OSError as error:  # no socket, or no route
            self.statistics.failed += 1
            self._records.log(logging.INFO, "%s: %r: %s", client[0], name, error)

    async def _send(self, request: wire.Request, udp: UdpSocket, client: tuple[Any, ...]) -> None:
        descriptor = await asyncio.to_thread(self._folder.open, _names(request.name))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise TransferError(wire.NOT_FOUND, "not a file")
            read = reader_of(descriptor, request.netascii)
            agreed = wire.negotiate(request, None if request.netascii else status.st_size)
            transfer = Transfer(udp, client, agreed)
            try:
                await transfer.send_file(read)
            finally:
                self.statistics.bytes_sent += transfer.count
                self.statistics.resent += transfer.resent
        finally:
            os.close(descriptor)

    async def _receive(self, request: wire.Request, udp: UdpSocket, client: tuple[Any, ...]) -> None:
        if not self._writable:
            raise TransferError(wire.ACCESS, "read only")
        agreed = wire.negotiate(request, None)
        if int(agreed.accepted.get(b"tsize", b"0")) > self._most:
            raise TransferError(wire.FULL, "the file is too long")
        names = _names(request.name)
        descriptor = await asyncio.to_thread(self._folder.create, names)
        transfer = Transfer(udp, client, agreed)
        is_whole = False
        try:
            with os.fdopen(descriptor, "wb") as file:
                text = bytearray()

                def write(data: bytes) -> None:
                    if request.netascii:
                        text.extend(data)  # a line end may be in two blocks
                    else:
                        file.write(data)

                await transfer.receive_file(write, min(self._most, 1 << 24) if request.netascii else self._most)
                file.write(wire.from_netascii(bytes(text)))
                is_whole = True
        finally:
            self.statistics.bytes_received += transfer.count
            self.statistics.resent += transfer.resent
            if not is_whole:
                self._folder.remove(names)
        await transfer.dally()


def _names(name: bytes) -> list[bytes]:
    """Return the names of a path, which may begin with a slash."""
    return [part for part in name.split(b"/") if part]


def _error_of(error: TransferError | OSError) -> tuple[int | None, str]:
    """Return code and text for the client: nothing of the machine's paths."""
    if isinstance(error, TransferError):
        return error.code, str(error)
    if isinstance(error, FileNotFoundError):
        return wire.NOT_FOUND, "no such file"
    if isinstance(error, FileExistsError):
        return wire.EXISTS, "the file exists"
    if isinstance(error, PermissionError):
        return wire.ACCESS, "not permitted"
    return wire.UNDEFINED, error.strerror or "failed"
