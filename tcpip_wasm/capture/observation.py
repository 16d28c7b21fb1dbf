"""A frame at a point of a network: time, point, direction, and whether it was dropped.

Traces, files and figures follow one rule: a frame is there once for each link that it was sent on, at the time at which
it was sent. If the link or the receiver drops it later, that same observation is marked (`Observation.drop`); there is
no second one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcpip_wasm.capture.link_types import ETHERNET

__all__ = ["NOT_DROPPED", "Event", "Observation"]

NOT_DROPPED: Final = frozenset({"corrupt", "delay", "duplicate", "jitter", "mark", "note", "reorder"})
"""First words of comments on frames that were not dropped. Any other comment is the cause of a drop."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a network, such as a partition.

    Attributes:
        time: seconds, as in an `Observation`.
        text: a description, in one line.
    """

    time: float
    text: str

    def __str__(self) -> str:
        return f"{self.time:.6f} {self.text}"


@dataclass(slots=True)
class Observation:
    """A frame that passed a point of a network, or was dropped there.

    Only `drop` and `mark` change it, while the frame is under way.

    Attributes:
        time: seconds, virtual or since 1970-01-01 UTC.
        point: name of the link or interface.
        outgoing: the direction: True for a frame that an interface sends, or that goes from the first end of a link to
            the second.
        frame: its bytes.
        comment: why it was dropped, such as ``loss``, or how it was changed: see `dropped`.
        link_type: the type of its first header, one of `link_types`.
        length: bytes that it had on the wire, if `frame` has fewer.
        dropped_at: seconds, if it was dropped later than it was observed: from a queue, on a link that went down, or at
            the end of the link.
        under_way: whether it has neither arrived nor been dropped. Only links set it; elsewhere it is False.
    """

    time: float
    point: str
    outgoing: bool
    frame: bytes
    comment: str | None = None
    link_type: int = ETHERNET
    length: int | None = None
    dropped_at: float | None = None
    under_way: bool = field(default=False, compare=False, repr=False)

    def drop(self, cause: str, time: float) -> None:
        """Mark it as dropped later, with cause and time."""
        self.comment, self.dropped_at, self.under_way = cause, time, False

    def mark(self, frame: bytes) -> None:
        """Note that a queue has marked it instead of dropping it (RFC 3168).

        Args:
            frame: its bytes with the mark.
        """
        self.frame = frame
        self.comment = "mark" if self.comment is None else f"{self.comment}, mark"

    @property
    def dropped(self) -> bool:
        """Whether it was dropped: its comment begins with none of `NOT_DROPPED`."""
        comment = self.comment
        return comment is not None and comment.partition(" ")[0].rstrip(":,;") not in NOT_DROPPED
