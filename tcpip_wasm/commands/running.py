"""Runs one command in an event loop: SIGINT and SIGTERM end it, an error is one line, and there is an exit status.

Must not know what the commands do.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

__all__ = ["run", "say"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

INTERRUPTED: Final = 130
"""The exit status after a signal that came before the command had begun or after it had ended, as shells give it."""


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command, and return its exit status.

    The first SIGINT or SIGTERM cancels it, which is how commands without an end of their own do end: the status is 0
    unless the command returns another.

    Args:
        work: the command.
    """
    try:
        return asyncio.run(_until_signal(work))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise  # of the standard output
    except (OSError, ValueError, ImportError) as error:
        print(f"tcpip-wasm: {_text(error)}", file=sys.stderr)
        return 1


def say(text: str, *, error: bool = False) -> None:
    """Print a line at once, also into a pipe.

    Args:
        text: the line.
        error: whether it goes to the standard error.
    """
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


async def _until_signal(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def interrupt() -> None:
        for number in _SIGNALS:  # a second one ends the process as it does any
            loop.remove_signal_handler(number)
        task.cancel()

    for number in _SIGNALS:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return 0


def _text(error: Exception) -> str:
    """Return the error as one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
