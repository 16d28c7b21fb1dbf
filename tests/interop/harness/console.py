"""`Console`: what a guest prints, line by line."""

from __future__ import annotations

import asyncio
from collections import deque


class Console:
    """The lines that a guest prints.

    Args:
        output: the guest's output.
    """

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output
        self._recent: deque[str] = deque(maxlen=60)

    async def line(self, prefix: str, timeout: float) -> str:
        """Wait for the guest to print a line that begins with `prefix`; returns the rest of it.

        Lines before it are passed over.

        Raises:
            RuntimeError: it did not come within `timeout` seconds, or the guest ended; the message holds the
            console.
        """
        try:
            async with asyncio.timeout(timeout):
                while raw := await self._output.readline():
                    text = raw.decode(errors="replace").rstrip()
                    self._recent.append(text)
                    if text.startswith(prefix):
                        return text.removeprefix(prefix).strip()
                reason = "the guest ended"
        except TimeoutError:
            reason = f"{timeout} seconds were not enough"
        raise RuntimeError(f"no line {prefix!r} on the console: {reason}\n" + "\n".join(self._recent))

    async def rest(self) -> str:
        """Read to the end of the output, once the guest has ended, and return the last lines."""
        while raw := await self._output.readline():
            self._recent.append(raw.decode(errors="replace").rstrip())
        return "\n".join(self._recent)

    async def explain(self, failure: Exception) -> None:
        """Add what the guest, which has ended, printed last to an exception as a note, unless it has that already."""
        if (printed := await self.rest()) not in str(failure):
            failure.add_note(f"a guest's console:\n{printed}")
