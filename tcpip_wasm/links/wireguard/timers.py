"""The timers of one peer (protocol paper, section 6): when something is to be done that no packet asks for.

Owns deadlines, in seconds of the clock that the caller passes; `inf` is a timer that does not run. What happens at a
deadline is `tunnel`'s.

    retransmit   an initiation had no response
    keepalive    data arrived, and nothing was sent since
    silence      data was sent, and nothing arrived since: the session may be gone at the other end
    persistent   the interval of `keepalive` in the peer's configuration
    erase        no session was made for so long that all keys are erased
"""

from __future__ import annotations

from math import inf
from typing import Final

from tcpip_wasm.links.wireguard.messages import (
    ERASE_AFTER,
    KEEPALIVE_TIMEOUT,
    REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT,
)

MAX_ATTEMPTS: Final = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)


class Timers:
    """The deadlines of one peer.

    Args:
        interval: seconds of the persistent keepalive; None has none.

    Attributes:
        attempts: initiations without response, beyond the first.
    """

    __slots__ = ("attempts", "erase", "interval", "keepalive", "more_data", "persistent", "retransmit", "silence")

    def __init__(self, interval: float | None) -> None:
        self.interval: float | None = interval
        self.attempts: int = 0
        self.more_data: bool = False
        self.retransmit: float = inf
        self.keepalive: float = inf
        self.silence: float = inf
        self.persistent: float = inf
        self.erase: float = inf

    def next(self) -> float:
        """Return the earliest deadline."""
        return min(self.retransmit, self.keepalive, self.silence, self.persistent, self.erase)

    def traversed(self, now: float) -> None:
        """An authenticated message of any kind was sent or has arrived."""
        if self.interval:
            self.persistent = now + self.interval

    def sent(self, now: float) -> None:
        """An authenticated message was sent."""
        self.keepalive = inf
        self.traversed(now)

    def sent_data(self, now: float, jitter: float) -> None:
        """A packet was sent."""
        self.sent(now)
        if self.silence == inf:
            self.silence = now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter

    def received(self, now: float) -> None:
        """An authenticated message has arrived."""
        self.silence = inf
        self.traversed(now)

    def received_data(self, now: float) -> None:
        """A packet has arrived."""
        self.received(now)
        if self.keepalive == inf:
            self.keepalive = now + KEEPALIVE_TIMEOUT
        else:
            self.more_data = True

    def initiated(self, now: float, jitter: float) -> None:
        """An initiation was sent."""
        self.sent(now)
        self.retransmit = now + REKEY_TIMEOUT + jitter

    def completed(self) -> None:
        """The other end has the session, too."""
        self.retransmit = inf
        self.attempts = 0

    def derived(self, now: float) -> None:
        """A session was made."""
        self.erase = now + ERASE_AFTER

    def stop(self) -> None:
        """Run none."""
        self.retransmit = self.keepalive = self.silence = self.persistent = self.erase = inf
