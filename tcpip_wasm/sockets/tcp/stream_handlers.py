"""What becomes of the handlers of `start_server` when the program itself closes their stack.

A handler's read or write raises `StackClosedError` then, so that it does not take what it has received for all that
was sent. asyncio reports each exception that a handler does not catch; but this one is no fault of the handler, and a
server with many connections would print as many tracebacks at its end. `abort_clients`, which hands up an end of the
data, is as quiet.

The reasons are in docs/explanation/event-loop.md.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from typing import Any

from tcpip_wasm.errors import StackClosedError


class _QuietLoop:
    """A loop that reports anything but the end of the stack."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As the loop's, but for what `StackClosedError` alone is to blame for."""
        if not _is_the_end(context.get("exception")):
            self._loop.call_exception_handler(context)


def _is_the_end(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_the_end(one) for one in error.exceptions)
    return isinstance(error, StackClosedError)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def expect_the_end(protocol: asyncio.BaseProtocol, error: StackClosedError) -> None:
    """Let the handler of a connection end by `StackClosedError` unreported.

    asyncio reports it by the loop that the protocol of the connection holds, when the handler's task is done. Changing
    that only now costs nothing before, and neither hides the handler behind another coroutine nor changes its task.

    The reader has the error at once. A handler that was about to continue would otherwise find the transport closed
    before `connection_lost` is called, and its `drain` would raise asyncio's own `ConnectionResetError`.

    Args:
        protocol: of a connection whose stack is being closed; without effect if it is not asyncio's for a handler.
        error: what the handler's reads and writes raise.
    """
    while isinstance(protocol, SSLProtocol):
        protocol = protocol._app_protocol  # noqa: SLF001  asyncio's streams and TLS have no public way to it
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        handler: Any = protocol
        # What `wait_closed` waits for: asyncio retrieves its exception when the protocol is freed, which may be too
        # late where both are part of one cycle, as the tracebacks of handlers make them.
        handler._closed.add_done_callback(_retrieve)  # noqa: SLF001  asyncio's streams and TLS have no public way to it
        if handler._client_connected_cb is not None:  # noqa: SLF001  asyncio's streams and TLS have no public way to it
            handler._loop = _QuietLoop(handler._loop)  # noqa: SLF001  asyncio's streams and TLS have no public way to it
            if handler._stream_reader is not None:  # noqa: SLF001  asyncio's streams and TLS have no public way to it
                handler._stream_reader.set_exception(error)  # noqa: SLF001  asyncio's streams and TLS have no public way to it
