"""Traces: what was seen at the points of a network, as packets for a test to look at, and as one hash.

Owns `Observation`, which recorders of links and interfaces make, and `Trace`, which keeps them. It decodes a frame
when somebody looks at it, and not before.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tcpip_wasm.capture.link_types import ETHERNET

__all__ = ["Observation", "Trace"]

NOT_DROPPED: Final = frozenset({"corrupt", "delay", "duplicate", "jitter", "note", "reorder"})
"""First words of comments on frames that went on. Any other comment says why a frame did not."""

_HEAD = struct.Struct("<q?IIi")


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


class Trace:
    """A list of observations, the oldest first.

    Args:
        observations: what it begins with.
        limit: how many are kept at most, the latest; None keeps all. What is not kept is still part of the digest.

    Attributes:
        forgotten: how many are not kept any more.
    """

    def __init__(self, observations: Iterable[Observation] = (), *, limit: int | None = None) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None, not {limit}")
        self._limit = limit
        self._observations: deque[Observation] = deque()
        self._hash = hashlib.sha256(b"tcpip_wasm trace 1")  # of those that are not kept any more
        self.forgotten = 0
        for observation in observations:
            self.record(observation)

    def record(self, observation: Observation) -> None:
        """Add an observation."""
        self._observations.append(observation)
        if self._limit is not None and len(self._observations) > self._limit:
            self._hash.update(_encode(self._observations.popleft()))
            self.forgotten += 1

    __call__ = record

    def __len__(self) -> int:
        return len(self._observations)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What is kept."""
        return tuple(self._observations)

    def digest(self) -> str:
        """Return a SHA-256 of all observations in their order, in hexadecimal.

        It covers the time in whole nanoseconds, the point, the direction, the frame and the comment, so that two runs
        with the same digest did the same.
        """
        hashed = self._hash.copy()
        for observation in self._observations:
            hashed.update(_encode(observation))
        return hashed.hexdigest()


def _encode(observation: Observation) -> bytes:
    point, comment = observation.point.encode(), observation.comment
    remark = b"" if comment is None else comment.encode()
    head = _HEAD.pack(
        round(observation.time * 1e9),
        observation.outgoing,
        len(point),
        len(observation.frame),
        -1 if comment is None else len(remark),
    )
    return b"".join((head, point, observation.frame, remark))
