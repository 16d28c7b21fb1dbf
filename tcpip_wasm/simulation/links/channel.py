"""One direction of a link: a queue, a transmitter, and the frames under way.

Decides when frames arrive, and which are dropped. Time is that of an event loop, virtual or real, in whole nanoseconds,
and one timer is armed for the next event. Every random choice is drawn from the channel's own random stream, in the
order in which frames are sent, so that it depends on these frames and the settings alone.

The reasons are in docs/explanation/simulated-links.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Final

from tcpip_wasm.capture.link_types import ETHERNET, RAW
from tcpip_wasm.capture.trace import Observation
from tcpip_wasm.simulation.links.loss import loss_of
from tcpip_wasm.simulation.links.marks import marked
from tcpip_wasm.simulation.links.queue import Queue
from tcpip_wasm.simulation.links.settings import LinkSettings

__all__ = ["Channel", "ChannelStatistics", "LinkSettings"]

MOST_UNDER_WAY: Final = 2**28
"""Most bytes under way, so that a loop of switches does not use all memory: 10 Gbit/s for 0.2 s."""

FRAME_COST: Final = 256
"""Bytes that a frame under way counts for in addition to its length."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counters of a channel.

    Attributes:
        frames, bytes: frames that were passed to `Channel.send`, and their bytes.
        delivered, delivered_bytes: frames that arrived at the other end, copies included, accepted there or not.
        dropped: frames that will not arrive, by cause: ``queue`` (it was full), ``codel``, ``loss``, ``mtu``, ``down``,
            ``flight`` (too much under way), and causes that were given to `Channel.cut`.
        duplicated, reordered, corrupted: frames that were duplicated, reordered, corrupted.
        waiting, waiting_bytes: frames in the queue now.
        under_way: frames that were sent and have not arrived.
        marked: frames that the queue has marked instead of dropping them (RFC 3168).
    """

    frames: int
    bytes: int
    delivered: int
    delivered_bytes: int
    dropped: dict[str, int]
    duplicated: int
    reordered: int
    corrupted: int
    waiting: int
    waiting_bytes: int
    under_way: int
    marked: int = 0


class _Frame:
    """A frame in a channel, and what was drawn for it."""

    __slots__ = ("copies", "data", "extra", "late", "seen", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.copies = 1  # how many arrive
        self.extra = 0  # nanoseconds of additional delay
        self.late = False  # whether later frames may overtake it
        self.seen: Observation | None = None


class Channel:
    """One direction of a link.

    Args:
        loop: the loop whose time it uses.
        settings: its parameters.
        random: its own stream of random numbers.
        deliver: called with each frame that arrives; returns None, or why the frame is dropped there.
        observe: called with each frame that is sent, as an `Observation`, with a comment where it is dropped or
            changed. A frame that is dropped later is marked by `Observation.drop`.
        point: the link's name, for the observer.
        outgoing: the direction, for the observer.
        header: bytes of a frame before its IP packet: 14 for Ethernet, 0 for packets without a link layer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: LinkSettings,
        random: Random,
        deliver: Callable[[bytes], str | None],
        observe: Callable[[Observation], None] | None = None,
        *,
        point: str = "",
        outgoing: bool = True,
        header: int = 14,
    ) -> None:
        self._loop = loop
        self._random = random
        self._deliver = deliver
        self._observe = observe
        self._point = point
        self._outgoing = outgoing
        self._header = header
        self._context = copy_context()  # a frame is delivered in this context, not in that of the task which sent it
        self._up = True
        self._free_at = 0  # when the transmitter has finished sending
        self._last_arrival = 0
        self._under_way: list[tuple[int, int, _Frame]] = []  # a heap, by time and order
        self._under_way_bytes = 0
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._frames = self._bytes = self._delivered = self._delivered_bytes = 0
        self._duplicated = self._reordered = self._corrupted = self._marked = 0
        self._dropped: dict[str, int] = {}
        self._queue: Queue[_Frame] = settings.queue.make()
        self._settings = settings
        self._lost = self._loss_of(settings)
        self._apply(settings)

    def _now(self) -> int:
        return round(self._loop.time() * 1e9)

    # --- What may change ------------------------------------------------------------------------------------------

    @property
    def settings(self) -> LinkSettings:
        """Its parameters. May be assigned at any time.

        Frames that were sent before keep their arrival time. Waiting frames are sent with the new bandwidth and delay,
        and move into a new queue as far as that has room. A shorter delay does not let frames overtake others.
        """
        return self._settings

    @settings.setter
    def settings(self, settings: LinkSettings) -> None:
        if not isinstance(settings, LinkSettings):
            raise TypeError(f"settings must be LinkSettings, not {type(settings).__name__}")
        now = self._now()
        self._serve(now)
        if settings.queue != self._settings.queue:
            waiting = self._queue.clear()
            self._queue = settings.queue.make()
            for frame in waiting:
                if not self._queue.push(now, frame):
                    self._drop_late(frame, "queue")
        self._apply(settings)
        self._arm()

    def _apply(self, settings: LinkSettings) -> None:
        if settings.loss != self._settings.loss:  # a burst does not end because a delay was changed
            self._lost = self._loss_of(settings)
        self._settings = settings
        self._nanoseconds = 8e9 / settings.bandwidth if settings.bandwidth is not None else 0.0  # of a byte
        self._delay = round(settings.delay * 1e9)
        self._jitter = settings.jitter * 1e9
        self._damages = bool(settings.duplicate or settings.reorder or settings.corrupt)

    def _loss_of(self, settings: LinkSettings) -> Callable[[], bool] | None:
        return None if settings.loss == 0 else loss_of(settings.loss, self._random)

    @property
    def up(self) -> bool:
        """Whether it carries frames. Setting it to False drops waiting frames and those under way."""
        return self._up

    @up.setter
    def up(self, up: bool) -> None:
        if up:
            self._up = True
        else:
            self.cut()

    def cut(self, cause: str = "down") -> None:
        """Drop frames until `up` is set, including those that wait or are under way, with a cause."""
        self._cause = cause
        if not self._up:
            return
        self._up = False
        self._serve(self._now())
        waiting = self._queue.clear()
        under_way = [entry[2] for entry in sorted(self._under_way)]
        self._under_way.clear()
        self._under_way_bytes = 0
        self._free_at = self._last_arrival = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for frame in under_way + waiting:
            self._drop_late(frame, cause)

    _cause = "down"

    def statistics(self) -> ChannelStatistics:
        """Return the counters."""
        self._serve(self._now())
        return ChannelStatistics(
            self._frames,
            self._bytes,
            self._delivered,
            self._delivered_bytes,
            dict(self._dropped),
            self._duplicated,
            self._reordered,
            self._corrupted,
            len(self._queue),
            self._queue.bytes,
            len(self._under_way),
            self._marked,
        )

    # --- Frames ---------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send a frame: it is transmitted, queued, or dropped and counted."""
        self._frames += 1
        self._bytes += len(frame)
        settings = self._settings
        if not self._up:
            self._drop(frame, self._cause)
            return
        if settings.mtu is not None and len(frame) - self._header > settings.mtu:
            self._drop(frame, "mtu")
            return
        now = self._now()
        self._serve(now)
        entry = _Frame(frame)
        queue = self._queue
        if self._free_at <= now and not queue:
            queue.passed(entry)
            self._decide(entry)
            self._transmit(now, entry)
        elif queue.push(now, entry):
            self._decide(entry)
        else:
            self._drop(frame, "queue")
            return
        self._arm()

    def _decide(self, frame: _Frame) -> None:
        """Draw a frame's loss, delay and corruption, and pass it to the observer."""
        comment: str | None = None
        if self._lost is not None and self._lost():
            frame.copies = 0
            comment = "loss"
            self._dropped["loss"] = self._dropped.get("loss", 0) + 1
        else:
            if self._damages:
                comment = self._damage(frame)
            if self._jitter:
                frame.extra += round(self._jitter * self._random.random())
        if self._observe is not None:
            frame.seen = self._note(frame.data, comment, frame.copies > 0)

    def _damage(self, frame: _Frame) -> str | None:
        settings, draw = self._settings, self._random.random
        comments = []
        if settings.corrupt and draw() < settings.corrupt and frame.size:
            bit = int(draw() * frame.size * 8)
            damaged = bytearray(frame.data)
            damaged[bit >> 3] ^= 1 << (bit & 7)
            frame.data = bytes(damaged)
            self._corrupted += 1
            comments.append("corrupt")
        if settings.duplicate and draw() < settings.duplicate:
            frame.copies = 2
            self._duplicated += 1
            comments.append("duplicate")
        if settings.reorder and draw() < settings.reorder:
            frame.late = True
            frame.extra = round(settings.reorder_delay * 1e9)
            self._reordered += 1
            comments.append("reorder")
        return ", ".join(comments) or None

    def _drop(self, frame: bytes, cause: str) -> None:
        self._dropped[cause] = self._dropped.get(cause, 0) + 1
        if self._observe is not None:
            self._note(frame, cause)

    def _note(self, frame: bytes, comment: str | None, under_way: bool = False) -> Observation:
        assert self._observe is not None
        time, link_type = self._loop.time(), ETHERNET if self._header else RAW
        seen = Observation(time, self._point, self._outgoing, frame, comment, link_type, under_way=under_way)
        self._observe(seen)
        return seen

    def _drop_late(self, frame: _Frame, cause: str = "codel") -> None:
        if frame.copies:  # else it is counted as lost already
            self._dropped[cause] = self._dropped.get(cause, 0) + 1
            if frame.seen is not None:
                frame.seen.drop(cause, self._loop.time())

    def _mark(self, frame: _Frame) -> bool:
        """Mark a frame in the queue, and return True; or return False where its sender does not understand marks."""
        data = marked(frame.data, self._header)
        if data is None:
            return False
        if frame.copies:  # else it is counted as lost already
            self._marked += 1
            frame.data = data
            if frame.seen is not None:
                frame.seen.mark(data)
        return True

    def _serve(self, now: int) -> None:
        """Let the transmitter take from the queue the frames that it has sent by now."""
        queue = self._queue
        while queue and self._free_at <= now:
            at = self._free_at
            frame = queue.pop(at, self._drop_late, self._mark)
            if frame is None:
                break
            self._transmit(at, frame)

    def _transmit(self, at: int, frame: _Frame) -> None:
        self._free_at = at + round((frame.size + self._settings.overhead) * self._nanoseconds)
        if not frame.copies:
            return
        if self._under_way_bytes > MOST_UNDER_WAY:
            self._drop_late(frame, "flight")
            return
        arrival = self._free_at + self._delay + frame.extra
        if not frame.late:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        self._number += 1
        self._under_way_bytes += frame.size + FRAME_COST
        heappush(self._under_way, (arrival, self._number, frame))

    def _arm(self) -> None:
        """Arm the timer for the next event, unless it fires no later."""
        under_way, queue = self._under_way, self._queue
        if queue:
            # A waiting frame does not arrive before that; a queue that drops late needs each frame taken at its time.
            due = self._free_at if queue.decides_late else self._free_at + self._delay
            if under_way and under_way[0][0] < due:
                due = under_way[0][0]
        elif under_way:
            due = under_way[0][0]
        else:
            return
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due / 1e9, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        now = max(self._now(), self._due)  # a loop may be early by its clock's resolution
        try:
            self._serve(now)
            under_way = self._under_way
            while under_way and under_way[0][0] <= now:
                frame = heappop(under_way)[2]
                self._under_way_bytes -= frame.size + FRAME_COST
                seen = frame.seen
                if seen is not None:
                    seen.under_way = False
                for _ in range(frame.copies):
                    self._delivered += 1
                    self._delivered_bytes += frame.size
                    cause = self._deliver(frame.data)
                    if cause is not None and seen is not None:
                        seen.drop(cause, self._loop.time())
        finally:
            self._arm()
