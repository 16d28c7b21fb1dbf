"""`sendfile`: a file over a transport of a stack, with the arguments, results and errors of asyncio's `loop.sendfile`.

Owns the reading of the file and the pace at which it is written. asyncio's own fallback does this for its loops alone;
uvloop's raise `NotImplementedError`. There is no system call that could do it: the payload goes into the module's
memory.
"""

from __future__ import annotations

import asyncio
from asyncio import constants
from typing import Any, NoReturn

from tcpip_wasm.sockets.tcp.transport import TcpTransport
from tcpip_wasm.streams.locks import Signal


class _Pace(asyncio.Protocol):
    """Stands in place of a connection's protocol while a file is sent, so that the file waits where the peer is slow.

    Reading is paused meanwhile. The protocol is not called but for `connection_lost`; what it missed of pauses in
    writing it gets at the end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = self._paused = bool(transport._protocol_paused)  # noqa: SLF001  asyncio's transports have no public property of it
        self._changed = Signal()
        self._lost = False
        self._error: BaseException | None = None
        self.write = transport.write
        if isinstance(transport, TcpTransport):  # as asyncio's, which do not refuse it over TLS
            vars(transport)["write"] = _refuse_write
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait until the transport takes more.

        Raises:
            ConnectionError: the connection was closed; or the error that ended it.
        """
        closing = self._transport.is_closing()
        while self._paused and not self._lost and not closing:
            await self._changed.wait()
        if self._lost or closing:
            raise self._error or ConnectionError("the connection was closed while a file was sent")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._changed.fire()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost, self._error = True, exc
        self._changed.fire()
        self._protocol.connection_lost(exc)

    def end(self) -> None:
        """Put the protocol back."""
        if isinstance(self._transport, TcpTransport):
            del vars(self._transport)["write"]
        if self._lost:
            return
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        if self._paused and not self._was_paused:
            self._protocol.pause_writing()
        elif self._was_paused and not self._paused:
            self._protocol.resume_writing()


def _refuse_write(data: object) -> NoReturn:
    raise RuntimeError("unable to write; sendfile is in progress")


async def sendfile(
    loop: asyncio.AbstractEventLoop,
    transport: Any,
    file: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool = True,
) -> int:
    """Do what asyncio's `loop.sendfile` does, on any loop; see `NetworkStack.sendfile`."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    unsupported = constants._SendfileMode.UNSUPPORTED  # noqa: SLF001  asyncio marks transports by it, and has no public name
    if getattr(transport, "_sendfile_compatible", unsupported) is unsupported:
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    check_sendfile(file, offset, count)
    if not fallback:
        raise asyncio.SendfileNotAvailableError(
            f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
        )
    if isinstance(transport.get_protocol(), _Pace):
        raise RuntimeError(f"sendfile is in progress on transport {transport!r}")
    if hasattr(file, "seek"):
        file.seek(offset)
    sent, most = 0, constants.SENDFILE_FALLBACK_READBUFFER_SIZE
    pace = _Pace(loop, transport)
    try:
        await pace.drain()
        while count is None or sent < count:
            wanted = most if count is None else min(most, count - sent)
            data = await loop.run_in_executor(None, file.read, wanted)  # a disk may be slow
            if not data:
                break
            pace.write(data)
            await pace.drain()
            sent += len(data)
        return sent
    finally:
        pace.end()
        if hasattr(file, "seek"):
            file.seek(offset + sent)  # raises where the file was closed meanwhile


def check_sendfile(file: Any, offset: int, count: int | None) -> None:
    """Check arguments as asyncio's `loop.sock_sendfile` does.

    Raises:
        ValueError: a file in text mode, a negative offset, a count below 1.
        TypeError: an offset or a count that is no int.
    """
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")
