"""`WritableStream` and its writer: chunks reach the sink in order, and none after a close or an abort."""

from __future__ import annotations

from typing import Generic, TypeVar

from tcpip_wasm.streams.locks import Lockable, LockOwner
from tcpip_wasm.streams.protocols import Sink
from tcpip_wasm.streams.state import Writing, state_of

T_contra = TypeVar("T_contra", contravariant=True)


class WritableStream(Lockable[Writing[T_contra]], Generic[T_contra]):
    """Takes chunks from one producer at a time.

    Args:
        sink: where the chunks go.
    """

    __slots__ = ()

    def __init__(self, sink: Sink[T_contra]) -> None:
        super().__init__(Writing(type(self).__name__, sink))

    def get_writer(self) -> WritableStreamWriter[T_contra]:
        """Lock the stream and return its writer.

        Raises:
            StreamLockedError: another writer has this stream.
        """
        return WritableStreamWriter(self)


class WritableStreamWriter(LockOwner[Writing[T_contra]], Generic[T_contra]):
    """The one writer of a locked `WritableStream`. Releasing its lock does not close the stream."""

    __slots__ = ()

    def __init__(self, stream: WritableStream[T_contra]) -> None:
        super().__init__(state_of(stream))

    async def write(self, chunk: T_contra) -> None:
        """Wait until the sink has accepted the chunk. Cancelled, it has accepted all of it or nothing.

        Raises:
            StreamClosedError: the stream was closed or aborted.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        state = self._state or state_of(self)
        if not self._queue.waiting and state.put(chunk):
            return
        async with self._queue:
            while not state.put(chunk):
                await state.sink.wait_writable()

    async def close(self) -> None:
        """Wait for the writes before this one, then until the sink has sent everything and the end.

        Cancelled while earlier writes wait, nothing has happened; later, the closing goes on. A second call
        waits for the same end.

        Raises:
            StreamClosedError: the stream was aborted, so not everything was sent.
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        state = self._state or state_of(self)
        async with self._queue:
            await state.close()

    async def abort(self, reason: BaseException | None = None) -> None:
        """End the stream at once: what the sink still buffers is dropped, waiting and later writes fail.

        Args:
            reason: handed to the sink, and the `__cause__` of what later writes raise.

        Raises:
            StreamLockedError: this writer has released its lock.
        """
        state_of(self).abort(reason)

    async def wait_closed(self) -> None:
        """Wait until the sink has closed, for whatever reason. Cancelled, it leaves nothing behind.

        Raises:
            StreamLockedError: this writer has released its lock.
            Exception: what the sink failed with.
        """
        await state_of(self).sink.wait_closed()
