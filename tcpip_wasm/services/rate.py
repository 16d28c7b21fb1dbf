"""A rate limit for each client: `RateLimit`, token buckets in a table of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_CLIENTS: Final = 4096
"""Clients that are remembered; one that was forgotten begins anew."""


class RateLimit:
    """Counts what clients send.

    Args:
        rate: requests a second for each client, or None for no limit.

    Attributes:
        limited: requests that were above the limit.
    """

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"rate_limit: {rate} is not more than 0")
        self.limited: int = 0
        self._rate = rate
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and since when

    def allows(self, client: str, now: float) -> bool:
        """Whether a client may have another request answered now. A second's worth may come at once."""
        rate = self._rate
        if rate is None:
            return True
        tokens, since = self._tokens.get(client, (max(rate, 1.0), now))
        tokens = min(tokens + (now - since) * rate, max(rate, 1.0))
        allowed = tokens >= 1
        self._tokens[client] = (tokens - 1 if allowed else tokens, now)
        self._tokens.move_to_end(client)
        if len(self._tokens) > MAX_CLIENTS:
            self._tokens.popitem(last=False)
        self.limited += not allowed
        return allowed
