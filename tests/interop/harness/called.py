"""`CalledProgram`: a peer as a process that takes calls as lines of JSON, and answers each with one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["CalledProgram", "called_program"]

_END_SECONDS = 10.0
_LONGEST_LINE = 1 << 20


class CalledProgram:
    """A running program; see `js/tests/peers/lines.mjs`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def result(self, *, seconds: float = 60.0) -> Any:
        """Wait for the next line.

        Raises:
            RuntimeError: the program ended; what it wrote to standard error is in the test's output.
            TimeoutError: no line came within `seconds`.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program ended with {await self._process.wait()}")
        return json.loads(line)

    async def call(self, name: str, /, *, seconds: float = 60.0, **arguments: Any) -> Any:
        """Call a function of the program, and return its result; see `result` for errors."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
        return await self.result(seconds=seconds)


@asynccontextmanager
async def called_program(command: Sequence[str]) -> AsyncIterator[CalledProgram]:
    """Run a program, which ends with its input when the context is left."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_LINE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield CalledProgram(process)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.stdout.read()
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
