"""``tcpip-wasm capture``: the frames of a link, in a pcapng file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from tcpip_wasm.capture.capture import Capture, capture
from tcpip_wasm.commands.outside import opened, until_end
from tcpip_wasm.commands.running import say
from tcpip_wasm.stack import create_stack

__all__ = ["record"]

_FLUSH_SECONDS = 0.25


async def record(options: argparse.Namespace) -> int:
    """Capture until cancelled, or until there are as many frames as wanted.

    Raises:
        OSError: the link or the file cannot be opened or written, or the link has ended.
    """
    to_pipe = str(options.file) == "-"
    async with await create_stack() as stack:
        # Without an address it answers nothing, so that the network is as it would be without the capture.
        ip = None if options.ip is None else str(options.ip)
        tap = await stack.create_tap_interface(ip=ip, ipv6=options.ip is not None and options.ip.version == 6)
        asyncio.get_running_loop().set_exception_handler(_report)
        # The link comes first: where it cannot be opened, a file of that name stays as it is.
        async with opened(options.link, tap) as link:
            with capture(tap, sys.stdout.buffer if to_pipe else options.file) as taken:
                try:
                    say(f"capturing {options.link.text}; Ctrl-C ends it", error=to_pipe)
                    await until_end({options.link.text: link}, _until_enough(taken, options.count))
                finally:
                    say(f"{options.file}: {taken.frames:,} frames", error=to_pipe)
        if taken.error is not None:
            raise taken.error
    return 0


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what the loop caught, except that the file cannot be written: `record` raises it."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def _until_enough(taken: Capture, count: int | None) -> None:
    """Write what was captured from time to time, so that a reader of the file sees it."""
    while not taken.closed and (count is None or taken.frames < count):
        await asyncio.sleep(_FLUSH_SECONDS)
        if not taken.closed:
            taken.flush()
