"""The beginning and the end of an ASGI application: the lifespan protocol, which applications may leave out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

SHUTDOWN_TIMEOUT: Final = 10.0
"""Seconds that an application has to shut down."""


class Lifespan:
    """Runs the lifespan of an application.

    Args:
        application: an ASGI application.

    Attributes:
        state: what the application keeps for its requests.
    """

    def __init__(self, application: Any) -> None:
        self.state: dict[str, Any] = {}
        self._application = application
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the application.

        Raises:
            RuntimeError: the application reports that it cannot start.

        Cancelled, the application is stopped.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run())
        try:
            await asyncio.shield(self._started)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let the application shut down."""
        self._messages.put_nowait({"type": "lifespan.shutdown"})

    async def wait(self) -> None:
        """Wait until the application has shut down, at most `SHUTDOWN_TIMEOUT`."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=SHUTDOWN_TIMEOUT)
            self._task.cancel()

    async def _run(self) -> None:
        assert self._started is not None
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        # An application without a lifespan raises, or returns (ASGI, lifespan protocol).
        with suppress(Exception):
            await self._application(scope, self._messages.get, self._send)
        if not self._started.done():
            self._started.set_result(None)

    async def _send(self, message: dict[str, Any]) -> None:
        started = self._started
        assert started is not None
        if message["type"] == "lifespan.startup.complete" and not started.done():
            started.set_result(None)
        elif message["type"] == "lifespan.startup.failed" and not started.done():
            started.set_exception(RuntimeError(f"the application did not start: {message.get('message', '')}"))
