"""The states of streams: `Reading` and `Writing`, which a stream and its one user work on together.

Owns the lock, the one chunk that a pipe returned, and what follows an end. Readers, writers, pipes and tees are handed
a state and never look into a stream; the streams and their users are public classes, and the states are not.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from tcpip_wasm.errors import StreamClosedError, StreamLockedError
from tcpip_wasm.streams.protocols import EndOfStream, Sink, Source

T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class StreamState:
    """What both directions have in common: the lock.

    Args:
        name: of the stream's class, for messages.

    Attributes:
        owner: the reader or writer that has the stream for itself, or None.
    """

    __slots__ = ("_name", "owner")

    def __init__(self, name: str) -> None:
        self._name = name
        self.owner: object = None

    def check_unlocked(self) -> None:
        """Raise `StreamLockedError` where the stream has a user."""
        if self.owner is not None:
            raise StreamLockedError(f"this {self._name} is locked by another user of it")


class Reading(StreamState, Generic[T]):
    """The state of a readable.

    Args:
        name: see `StreamState`.
        source: where the chunks come from.

    Attributes:
        source: as given.
        held: a chunk that a pipe took and its sink refused: the next one to be read.
    """

    __slots__ = ("_ended", "held", "source")

    def __init__(self, name: str, source: Source[T]) -> None:
        super().__init__(name)
        self.source: Source[T] = source
        self.held: T | None = None
        self._ended = False

    def take(self) -> T | None:
        """`Source.read_nowait`, after the chunk that a pipe returned and not past a cancellation."""
        if self._ended:
            raise EndOfStream
        if self.held is not None:
            chunk, self.held = self.held, None
            return chunk
        return self.source.read_nowait()

    def cancel(self, reason: BaseException | None) -> None:
        """End the stream and stop its source. Idempotent."""
        if not self._ended:
            self._ended = True
            self.held = None
            self.source.cancel(reason)


class Writing(StreamState, Generic[T]):
    """The state of a writable.

    Args:
        name: see `StreamState`.
        sink: where the chunks go.

    Attributes:
        sink: as given.
    """

    __slots__ = ("_aborted", "_closed", "_reason", "sink")

    def __init__(self, name: str, sink: Sink[T]) -> None:
        super().__init__(name)
        self.sink: Sink[T] = sink
        self._closed = False
        self._aborted = False
        self._reason: BaseException | None = None

    def put(self, chunk: T) -> bool:
        """`Sink.write_nowait`, but not past a close or an abort."""
        if self._closed:
            self._refuse()
        return self.sink.write_nowait(chunk)

    async def close(self) -> None:
        """Close the sink, which waits until it has sent everything."""
        if self._aborted:
            self._refuse()
        self._closed = True
        await self.sink.close()

    def abort(self, reason: BaseException | None) -> None:
        """End the stream at once. Idempotent."""
        if not self._aborted:
            self._closed = self._aborted = True
            self._reason = reason
            self.sink.abort(reason)

    def _refuse(self) -> None:
        state = "aborted" if self._aborted else "closed"
        raise StreamClosedError(f"this {self._name} was {state}") from self._reason


class HasState(Protocol[S_co]):
    """A stream, or a reader or writer of one. That of a reader or writer that has released its lock is None."""

    @property
    def _state(self) -> S_co | None: ...


def state_of(user: HasState[S_co]) -> S_co:
    """Return the state of a stream, or of the stream that a reader or writer has locked.

    Raises:
        StreamLockedError: the reader or writer has released its lock.
    """
    state = user._state  # noqa: SLF001  this function is what other modules of the package use instead
    if state is None:
        raise StreamLockedError(f"this {type(user).__name__} has released its lock")
    return state
