"""A progress line on a terminal; on other streams nothing is written."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from typing import Final, TextIO

_INTERVAL: Final = 0.1
"""Seconds between two updates of the line."""

_ERASE: Final = "\r\x1b[K"


class ProgressLine:
    """A line on a terminal that is overwritten at each update.

    Args:
        total: the number of seeds; None if it is unknown.
        stream: the stream; the default is the standard error output.
        shown: whether the line is shown; None shows it on a terminal only.
    """

    def __init__(self, total: int | None, *, stream: TextIO | None = None, shown: bool | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self.shown = self._stream.isatty() if shown is None else shown
        self._began = monotonic()
        self._next = 0.0

    def update(self, done: int, failed: int) -> None:
        """Update the numbers of seeds that are done and that have failed."""
        now = monotonic()
        if not self.shown or now < self._next:
            return
        self._next = now + _INTERVAL
        taken = now - self._began
        rate = done / taken if taken > 0 else 0.0
        text = f"{done:,}" if self._total is None else f"{done:,} of {self._total:,}"
        text += f" seeds, {failed:,} failed, {rate:,.0f}/s"
        width = shutil.get_terminal_size().columns - 1
        if self._total:
            if rate > 0:
                text += f", {_clock((self._total - done) / rate)} left"
            room = min(width - len(text) - 3, 40)
            if room >= 8:
                full = room * done // self._total
                text = f"[{'=' * full}{' ' * (room - full)}] {text}"
        self._write(_ERASE + text[:width])

    def write_above(self, text: str) -> None:
        """Write a text above the line."""
        if self.shown:
            self._write(f"{_ERASE}{text}\n")
            self._next = 0.0

    def close(self) -> None:
        """Erase the line."""
        if self.shown:
            self._write(_ERASE)
            self.shown = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal was closed; the sweep goes on
            self.shown = False


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
