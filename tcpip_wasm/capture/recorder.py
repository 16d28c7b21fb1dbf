"""Recorders: they write the observations of several points into one pcapng file.

Owns the numbers of the interfaces in the file, and the handling of write errors: a full disk must not affect the
caller, so an error ends the recording, is reported once, and is not raised.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Final

from tcpip_wasm.capture.link_types import ETHERNET
from tcpip_wasm.capture.observation import Event, Observation
from tcpip_wasm.capture.pcapng import PcapngWriter

__all__ = ["Recorder"]

DROPPED: Final = "dropped: "
"""Prefix of the comment of a dropped frame in a file."""

NOTE: Final = "note: "
"""Prefix of another program's comment when it is read, so that it is not taken for the cause of a drop."""

_LATE = re.compile(r"(.*) \(at ([0-9]+\.[0-9]{9}) s\)", re.DOTALL)


class Recorder:
    """Writes observations into a pcapng file. It is called with each of them.

    A frame under way is written when it has arrived or was dropped, and later ones wait for that: the file has all
    frames in the order in which they were sent, with the cause of each drop.

    Args:
        file: a path, which is overwritten, or a file open for writing bytes, which stays open.
        snaplen: most bytes that are kept of each frame; 0 keeps all.
        comment: a comment on the whole capture.
        on_error: called once with the error that ended the recording.

    Attributes:
        frames: how many were written.
        error: why the recording ended before it was closed, or None.

    Raises:
        OSError: the file cannot be opened.
        ValueError: a negative `snaplen`.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        snaplen: int = 0,
        comment: str | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._writer = PcapngWriter(file, snaplen=snaplen, comment=comment)
        self._numbers: dict[tuple[str, int], int] = {}
        self._on_error = on_error
        self._held: deque[Observation | Event] = deque()  # queued behind the first, which is under way
        self.frames: int = 0
        self.error: Exception | None = None

    @property
    def closed(self) -> bool:
        """Whether the recording has ended."""
        return self._writer.closed

    def record(self, observation: Observation) -> None:
        """Write an observation, once it has arrived or was dropped. Without effect once closed."""
        self._take(observation)

    def event(self, event: Event) -> None:
        """Write an event, in order with the frames. Without effect once closed."""
        self._take(event)

    def _take(self, item: Observation | Event) -> None:
        held = self._held
        if self._writer.closed:
            held.clear()
        elif held or (isinstance(item, Observation) and item.under_way):
            held.append(item)
            while held and not (isinstance(held[0], Observation) and held[0].under_way):
                self._put(held.popleft())
        else:
            self._put(item)

    def _put(self, observation: Observation | Event) -> None:
        if isinstance(observation, Event):
            try:
                if not self._writer.closed:
                    self._writer.write_event(round(observation.time * 1e9), observation.text)
            except Exception as error:
                self._fail(error)
            return
        self.write(
            observation.point,
            observation.link_type,
            round(observation.time * 1e9),
            observation.frame,
            observation.outgoing,
            _comment_of(observation),
            observation.length,
        )

    __call__ = record

    def write(
        self,
        point: str,
        link_type: int,
        time: int,
        frame: bytes | memoryview,
        outgoing: bool,
        comment: str | None = None,
        length: int | None = None,
    ) -> None:
        """Write a frame; the arguments are those of `Observation`, but the time is in nanoseconds."""
        writer = self._writer
        if writer.closed:
            return
        try:
            number = self._numbers.get((point, link_type))
            if number is None:
                number = self._numbers[point, link_type] = writer.add_interface(point, link_type)
            writer.write(number, time, frame, outgoing=outgoing, comment=comment, length=length)
            self.frames += 1
        except Exception as error:
            self._fail(error)

    def describe(self, point: str, link_type: int = ETHERNET, mac: bytes | None = None) -> None:
        """Add a point to the file before its first frame, with its MAC address. Without effect if it was added."""
        if self._writer.closed or (point, link_type) in self._numbers:
            return
        try:
            self._numbers[point, link_type] = self._writer.add_interface(point, link_type, mac=mac)
        except Exception as error:
            self._fail(error)

    def flush(self) -> None:
        """Flush the file."""
        try:
            self._writer.flush()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Write the queued observations, and close the file if it was opened here. Idempotent.

        Frames that are under way then are written without a comment.
        """
        while self._held:
            self._put(self._held.popleft())
        try:
            self._writer.close()
        except Exception as error:
            self._fail(error)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._writer.abandon()
            if self._on_error is not None:
                self._on_error(error)


def _comment_of(observation: Observation) -> str | None:
    comment = observation.comment
    if comment is None or not observation.dropped:
        return None if comment is None else comment.removeprefix(NOTE)
    later = "" if observation.dropped_at is None else f" (at {observation.dropped_at:.9f} s)"
    return f"{DROPPED}{comment}{later}"


def cause_of(comment: str) -> tuple[str, float | None]:
    """Return why a frame was dropped, and when if that was later, from the text after `DROPPED` in a file."""
    found = _LATE.fullmatch(comment)
    return (found[1], float(found[2])) if found else (comment, None)
