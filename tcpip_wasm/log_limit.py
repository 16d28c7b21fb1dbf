"""A rate limit for log records that a peer can cause.

A host on the link may advertise and withdraw a router a thousand times a second; the log must not grow with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Final

PERIOD: Final = 60.0
"""Seconds."""

BURST: Final = 20
"""Records in a period: enough for a host that is configured by DHCP and by eight routers."""


class LogLimit:
    """Passes records to a logger, at most `BURST` in each `PERIOD`, and logs how many were left out.

    Args:
        logger: the logger.
        clock: returns the time in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._began = -inf
        self._count = 0

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Log as `logging.Logger.log` does, within the limit."""
        if not self._logger.isEnabledFor(level):
            return
        now = self._clock()
        if now - self._began >= PERIOD:
            if self._count > BURST:
                self._logger.log(level, "%d records were left out", self._count - BURST)
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= BURST:
            self._logger.log(level, text, *arguments)
