"""Queues of a channel: frames that wait for its transmitter, with a bound.

Decides which frame is sent next and which are dropped; knows nothing of loops and timers. The caller passes the time,
in whole nanoseconds. `DropTail` and `CoDel` are settings; each creates a queue of its kind.

The reasons are in docs/explanation/simulated-links.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Final, Generic, Protocol, TypeVar

from tcpip_wasm.arguments import check_int
from tcpip_wasm.simulation.links.loss import check_number

DEFAULT_PACKETS: Final = 1000
"""Default length of a queue in frames, that of an interface of Linux (``txqueuelen``)."""

MOST_PACKETS: Final = 1_000_000
MOST_BYTES: Final = 2**30


class Sized(Protocol):
    """An element of a queue."""

    @property
    def size(self) -> int:
        """Bytes of the frame."""


T = TypeVar("T", bound=Sized)


def never(_: object) -> bool:
    """Return False: no frame can be marked."""
    return False


class Queue(Generic[T]):
    """A queue that drops frames that arrive while it is full. The bytes count whole frames, link header included.

    Attributes:
        bytes: of the frames in the queue.
        decides_late: whether `pop` may drop frames; then it has to be called at the time at which each is sent.
    """

    decides_late = False

    def __init__(self, packets: int, most_bytes: int) -> None:
        self._packets = packets
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[int, T]] = deque()
        self.bytes: int = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, now: int, frame: T) -> bool:
        """Append a frame, or return False where there is no room for it."""
        if len(self._waiting) >= self._packets or self.bytes + frame.size > self._most_bytes:
            return False
        self._waiting.append((now, frame))
        self.bytes += frame.size
        return True

    def pop(self, now: int, drop: Callable[[T], None], mark: Callable[[T], bool] = never) -> T | None:
        """Return the next frame, or None where the queue is empty.

        Args:
            now: nanoseconds.
            drop: called with frames that are dropped.
            mark: called with a frame that is to be marked instead; returns whether it was.
        """
        if not self._waiting:
            return None
        return self._take()[1]

    def passed(self, frame: T) -> None:
        """Note that a frame was sent at once, with the queue empty and the transmitter idle."""

    def clear(self) -> list[T]:
        """Empty the queue, and return its frames, oldest first."""
        frames = [frame for _, frame in self._waiting]
        self._waiting.clear()
        self.bytes = 0
        return frames

    def _take(self) -> tuple[int, T]:
        entry = self._waiting.popleft()
        self.bytes -= entry[1].size
        return entry


class CoDelQueue(Queue[T]):
    """A queue that drops from its head after all frames of an interval have waited longer than a target.

    RFC 8289, section 5: the names of its pseudocode are kept, so that the two can be read side by side. With `ecn` it
    marks a frame that can be marked, and does not drop it, as Linux's does.
    """

    decides_late = True

    def __init__(self, packets: int, most_bytes: int, target: int, interval: int, ecn: bool = False) -> None:
        super().__init__(packets, most_bytes)
        self._ecn = ecn
        self._target = target
        self._interval = interval
        self._max_packet = 0  # "maxpacket_": the largest frame so far
        self._first_above_time = 0  # when dropping may begin; 0: the waiting time is below the target
        self._dropping = False
        self._drop_next = 0
        self._count = 0  # drops since dropping began
        self._last_count = 0

    def push(self, now: int, frame: T) -> bool:
        """Append a frame, or return False where there is no room for it."""
        self._max_packet = max(self._max_packet, frame.size)
        return super().push(now, frame)

    def passed(self, frame: T) -> None:
        """Note that a frame did not wait, which is below the target."""
        self._max_packet = max(self._max_packet, frame.size)
        self._first_above_time = 0
        self._dropping = False

    def pop(self, now: int, drop: Callable[[T], None], mark: Callable[[T], bool] = never) -> T | None:
        """See `Queue.pop`."""
        if not self._ecn:
            mark = never
        frame, ok_to_drop = self._dequeue(now)
        if self._dropping:
            if not ok_to_drop:
                self._dropping = False
            while self._dropping and now >= self._drop_next:
                assert frame is not None
                self._count += 1
                if mark(frame):
                    self._drop_next = self._control_law(self._drop_next)
                    break
                drop(frame)
                frame, ok_to_drop = self._dequeue(now)
                if ok_to_drop:
                    self._drop_next = self._control_law(self._drop_next)
                else:
                    self._dropping = False
        elif ok_to_drop:
            assert frame is not None
            if not mark(frame):
                drop(frame)
                frame, ok_to_drop = self._dequeue(now)
            self._dropping = True
            # Dropping that ended recently resumes at the rate that it had then.
            delta = self._count - self._last_count
            self._count = delta if delta > 1 and now - self._drop_next < 16 * self._interval else 1
            self._drop_next = self._control_law(now)
            self._last_count = self._count
        return frame

    def _dequeue(self, now: int) -> tuple[T | None, bool]:
        """Return the oldest frame, and whether it may be dropped ("dodequeue")."""
        if not self._waiting:
            self._first_above_time = 0
            return None, False
        since, frame = self._take()
        if now - since < self._target or self.bytes <= self._max_packet:
            self._first_above_time = 0
            return frame, False
        if self._first_above_time == 0:
            self._first_above_time = now + self._interval
            return frame, False
        return frame, now >= self._first_above_time

    def _control_law(self, time: int) -> int:
        # IEEE 754 defines division and square root exactly, so that the result is the same on every machine.
        return time + round(self._interval / sqrt(self._count))


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTail:
    """A queue that drops frames that arrive while it is full.

    Args:
        packets: most frames in the queue; with 0 a frame that arrives while the transmitter is busy is dropped. A stack
            often sends two frames at the same instant, which need room for one: with a retransmission it also probes
            its neighbour (RFC 4861, section 7.3), and if the second frame is dropped each time, TCP times out. So use 0
            only for frames that do not come from a stack.
        bytes: most bytes in the queue, link headers included.

    Raises:
        TypeError, ValueError: one of them is not an integer, or out of range.
    """

    packets: int = DEFAULT_PACKETS
    bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        check_int("DropTail.packets", self.packets, 0, MOST_PACKETS)
        check_int("DropTail.bytes", self.bytes, 0, MOST_BYTES)

    def make(self) -> Queue[T]:
        """Return an empty queue of this kind."""
        return Queue(self.packets, self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoDel:
    """A queue that keeps waiting times short (RFC 8289): it drops from its head, and arriving frames while it is full.

    Args:
        target: acceptable standing queue delay in seconds.
        interval: seconds for which all frames must wait longer before one is dropped; at least a round-trip time.
        packets: most frames in the queue.
        bytes: most bytes in the queue, link headers included.
        ecn: whether packets whose sender understands it are marked instead of dropped (RFC 3168); see ``ecn`` of
            `create_stack`. A full queue drops them all the same.

    Raises:
        TypeError, ValueError: one of them is not a number, or out of range.
    """

    target: float = 0.005
    interval: float = 0.1
    packets: int = DEFAULT_PACKETS
    bytes: int = MOST_BYTES
    ecn: bool = False

    def __post_init__(self) -> None:
        check_number("CoDel.target", self.target, 0.0, 3600.0)
        check_number("CoDel.interval", self.interval, 0.0, 3600.0, below=True)
        check_int("CoDel.packets", self.packets, 0, MOST_PACKETS)
        check_int("CoDel.bytes", self.bytes, 0, MOST_BYTES)

    def make(self) -> Queue[T]:
        """Return an empty queue of this kind."""
        return CoDelQueue(
            self.packets, self.bytes, round(self.target * 1e9), round(self.interval * 1e9), bool(self.ecn)
        )
