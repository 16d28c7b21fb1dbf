"""What is seen at a point of a network: one frame, when and where, and what became of it.

Owns the rule that holds for traces, files and pictures: a frame is there once for each link that it was sent on, at the
time at which it was sent, with its fate. What a link, or who is at its end, drops later is told of by that same
observation (`Observation.drop`), and not by a second one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcpip_wasm.capture.link_types import ETHERNET

__all__ = ["NOT_DROPPED", "Event", "Observation"]

NOT_DROPPED: Final = frozenset({"corrupt", "delay", "duplicate", "jitter", "note", "reorder"})
"""First words of comments on frames that went on. Any other comment says why a frame did not."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a network, such as a partition.

    Attributes:
        time: seconds, as those of an `Observation`.
        text: what happened, in one line.
    """

    time: float
    text: str

    def __str__(self) -> str:
        return f"{self.time:.6f} {self.text}"


@dataclass(slots=True)
class Observation:
    """A frame that passed a point of a network, or was dropped there.

    What is still under way may be dropped yet; otherwise nothing of it changes.

    Attributes:
        time: seconds, virtual or since 1970-01-01 UTC.
        point: name of the link or interface.
        outgoing: the direction: what an interface sends, or what goes from the first end of a link to the second.
        frame: its bytes.
        comment: why it was dropped, such as ``loss``, or what else was done to it: see `dropped`.
        link_type: what the frame begins with, one of `link_types`.
        length: bytes that it had on the wire, if `frame` is not all of it.
        dropped_at: seconds, if it was dropped later than it was seen: out of a queue, from a link that went down, or at
            the end of the link.
        under_way: whether it has neither arrived nor been dropped so far. Only links tell; elsewhere it is False.
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
        """Tell that it did not arrive after all, why, and when."""
        self.comment, self.dropped_at, self.under_way = cause, time, False

    @property
    def dropped(self) -> bool:
        """Whether the comment says that the frame went no further: it begins with none of `NOT_DROPPED`."""
        comment = self.comment
        return comment is not None and comment.partition(" ")[0].rstrip(":,;") not in NOT_DROPPED
