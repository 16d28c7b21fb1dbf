"""What a stream reads from and writes to: `Source` and `Sink`, which sockets and interfaces implement.

Owns the contracts only; an implementation imports nothing else of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from tcpip_wasm.streams.readable import ReadableStream
    from tcpip_wasm.streams.writable import WritableStream

T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class EndOfStream(Exception):
    """Raised by a source when no chunk will follow. Readers return None for it."""


class Source(Protocol[T_co]):
    """What a `ReadableStream` reads from; at most one `wait_readable` waits at a time."""

    def read_nowait(self) -> T_co | None:
        """Take a chunk, or return None where there is none yet.

        Raises:
            EndOfStream: no chunk will follow.
            Exception: the stream failed. Both are final: each later call raises the same.
        """

    async def wait_readable(self) -> None:
        """Return once `read_nowait` has something new: a chunk, the end or a failure.

        It may return too early, or raise the failure itself. It takes no chunk: cancelling it loses none.
        """

    def cancel(self, reason: BaseException | None) -> None:
        """Give up what is buffered and what would follow, and wake a waiting `wait_readable`."""


class Sink(Protocol[T_contra]):
    """What a `WritableStream` writes to; at most one `wait_writable` waits at a time."""

    def write_nowait(self, chunk: T_contra, /) -> bool:
        """Take the whole chunk and return True, or take nothing of it and return False.

        A chunk of any size must be taken in the end, for instance once nothing else is buffered.

        Raises:
            Exception: the sink is closed or has failed; nothing was taken.
        """

    async def wait_writable(self) -> None:
        """Return once `write_nowait` takes a chunk or raises. It may return too early."""

    async def wait_closed(self) -> None:
        """Return when the sink has closed, for whatever reason; raise its error when it has failed."""

    async def close(self) -> None:
        """Begin to close at once, then wait until what was taken is flushed and the end is sent.

        Cancelled, the closing goes on; a second call waits for the same end.
        """

    def abort(self, reason: BaseException | None) -> None:
        """Drop what is buffered, fail now, and wake every waiting call. Without effect after the end."""


class StreamPair(Protocol[T_contra, T_co]):
    """What `pipe_through` accepts: chunks go into `writable` and come out of `readable`."""

    @property
    def writable(self) -> WritableStream[T_contra]: ...
    @property
    def readable(self) -> ReadableStream[T_co]: ...
