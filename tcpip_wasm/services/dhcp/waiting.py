"""Clients that asked for an address in vain: a forged one asks once, an honest one asks again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

RETRY_AGE: Final = 0.5
"""Seconds between a client's first request and one that counts as another."""

WAITING_TIME: Final = 120.0
"""Seconds for which a client is remembered."""

MAX_WAITING: Final = 16_384
"""Clients that are remembered; those that asked first are forgotten first."""


class Waiting:
    """Remembers clients."""

    def __init__(self) -> None:
        self._since: OrderedDict[bytes, float] = OrderedDict()

    def has_asked_before(self, identity: bytes, now: float) -> bool:
        """Whether a client has asked before; it is remembered if not."""
        since = self._since.get(identity)
        if since is not None and now - since <= WAITING_TIME:
            return now - since >= RETRY_AGE
        self._since[identity] = now
        self._since.move_to_end(identity)
        if len(self._since) > MAX_WAITING:
            self._since.popitem(last=False)
        return False

    def remove(self, identity: bytes) -> None:
        """A client got an address."""
        self._since.pop(identity, None)
