"""What a service reports while it runs: `EventSource`, an asynchronous iterator with a bounded queue a listener.

It knows neither services nor what an event is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar

from tcpip_wasm.streams.locks import Signal

Event = TypeVar("Event")

MAX_WAITING: Final = 1024
"""Events that wait for a listener at most; the oldest go first."""


class EventSource(Generic[Event]):
    """Hands events to those who iterate.

    Attributes:
        dropped: events that listeners missed because they did not keep up.
    """

    def __init__(self) -> None:
        self.dropped: int = 0
        self._queues: list[deque[Event]] = []
        self._changed = Signal()
        self._ended = False

    def put(self, event: Event) -> None:
        """Hand an event to all listeners."""
        for queue in self._queues:
            if len(queue) == queue.maxlen:
                self.dropped += 1
            queue.append(event)
        if self._queues:
            self._changed.fire()

    def end(self) -> None:
        """End all iterations, after the events that wait. Idempotent."""
        self._ended = True
        self._changed.fire()

    def listen(self) -> AsyncIterator[Event]:
        """Return an iterator over the events from now on."""
        queue: deque[Event] = deque(maxlen=MAX_WAITING)
        self._queues.append(queue)
        return self._iterate(queue)

    async def _iterate(self, queue: deque[Event]) -> AsyncIterator[Event]:
        try:
            while True:
                while queue:
                    yield queue.popleft()
                if self._ended:
                    return
                await self._changed.wait()
        finally:
            self._queues = [each for each in self._queues if each is not queue]
