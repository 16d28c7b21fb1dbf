"""What is seen at a point of a network: one frame, when and where, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tcpip_wasm.capture.link_types import ETHERNET

__all__ = ["NOT_DROPPED", "Observation"]

NOT_DROPPED: Final = frozenset({"corrupt", "delay", "duplicate", "jitter", "note", "reorder"})
"""First words of comments on frames that went on. Any other comment says why a frame did not."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A frame that passed a point of a network, or was dropped there.

    Attributes:
        time: seconds, virtual or since 1970-01-01 UTC.
        point: name of the link or interface.
        outgoing: the direction: what an interface sends, or what goes from the first end of a link to the second.
        frame: its bytes.
        comment: why it was dropped, such as ``loss``, or what else was done to it: see `dropped`.
        link_type: what the frame begins with, one of `link_types`.
        length: bytes that it had on the wire, if `frame` is not all of it.
    """

    time: float
    point: str
    outgoing: bool
    frame: bytes
    comment: str | None = None
    link_type: int = ETHERNET
    length: int | None = None

    @property
    def dropped(self) -> bool:
        """Whether the comment says that the frame went no further: it begins with none of `NOT_DROPPED`."""
        comment = self.comment
        return comment is not None and comment.partition(" ")[0].rstrip(":,;") not in NOT_DROPPED
