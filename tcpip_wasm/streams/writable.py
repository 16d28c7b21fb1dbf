"""`WritableStream` and its writer: chunks reach the sink in order, and none after a close or an abort."""

from __future__ import annotations

from typing import Generic, TypeVar

from tcpip_wasm.errors import StreamClosedError
from tcpip_wasm.streams.locks import Lockable, LockOwner
from tcpip_wasm.streams.protocols import Sink

T_contra = TypeVar("T_contra", contravariant=True)


class WritableStream(Lockable, Generic[T_contra]):
    """Takes chunks from one producer at a time.

    Args:
        sink: where the chunks go.
    """

    __slots__ = ("_aborted", "_closed", "_reason", "_sink")

    def __init__(self, sink: Sink[T_contra]) -> None:
        super().__init__()
        self._sink = sink
        self._closed = False
        self._aborted = False
        self._reason: BaseException | None = None

    def get_writer(self) -> WritableStreamWriter[T_contra]:
        """Lock the stream and return its writer.

        Raises:
            StreamLockedError: somebody else writes to this stream.
        """
        return WritableStreamWriter(self)

    def _put(self, chunk: T_contra) -> bool:
        """`Sink.write_nowait`, but not past a close or an abort."""
        if self._closed:
            self._refuse()
        return self._sink.write_nowait(chunk)

    async def _close(self) -> None:
        if self._aborted:
            self._refuse()
        self._closed = True
        await self._sink.close()

    def _abort(self, reason: BaseException | None) -> None:
        if not self._aborted:
            self._closed = self._aborted = True
            self._reason = reason
            self._sink.abort(reason)

    def _refuse(self) -> None:
        state = "aborted" if self._aborted else "closed"
        raise StreamClosedError(f"this WritableStream was {state}") from self._reason


class WritableStreamWriter(LockOwner[WritableStream[T_contra]], Generic[T_contra]):
    """The one writer of a locked `WritableStream`. Releasing its lock does not close the stream."""

    __slots__ = ()

    async def write(self, chunk: T_contra) -> None:
        """Wait until the sink has accepted the chunk. Cancelled, it has accepted all of it or nothing.

        Raises:
            StreamClosedError: the stream was closed or aborted.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        stream = self._stream or self._released()
        if not self._turns.waiting and stream._put(chunk):
            return
        async with self._turns:
            while not stream._put(chunk):
                await stream._sink.wait_writable()

    async def close(self) -> None:
        """Wait for the writes before this one, then until the sink has sent everything and the end.

        Cancelled while earlier writes wait, nothing has happened; later, the closing goes on. A second call
        waits for the same end.

        Raises:
            StreamClosedError: the stream was aborted, so not everything was sent.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        stream = self._stream or self._released()
        async with self._turns:
            await stream._close()

    async def abort(self, reason: BaseException | None = None) -> None:
        """End the stream at once: what the sink still buffers is dropped, waiting and later writes fail.

        Args:
            reason: handed to the sink, and the `__cause__` of what later writes raise.

        Raises:
            StreamLockedError: this writer has released its lock.
        """
        (self._stream or self._released())._abort(reason)

    async def wait_closed(self) -> None:
        """Wait until the sink has closed, whoever closed it. Cancelled, it leaves nothing behind.

        Raises:
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        await (self._stream or self._released())._sink.wait_closed()
