"""Calls of one instance by name, with their errors as exceptions: `Calls`, which the protocols' calls are made of.

Owns the areas through which arguments longer than a number enter the module: the scratch area for addresses and the
staging area for payload. Owns also when timers run before a call, see `Calls.advance`. It knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.error_codes import error_for
from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.engine.port import Trap
from tcpip_wasm.errors import StackError


def no_clock() -> float:
    """Return a time before all timers."""
    return -inf


class Calls:
    """Calls into an instance.

    Args:
        instance: the instance.
        control: byte offset of the module's control block.
        on_trap: called with the trap of a call; returns the error to raise.

    Attributes:
        instance: as given.
        clock: what time it is, for calls that look at what timers change. The driver assigns it; without one they see
            the state of the latest `Core.poll`.
        stale: the time from which timers may have changed what such calls look at; see `advance`.
    """

    def __init__(self, instance: Instance, control: int, on_trap: Callable[[Trap], StackError]) -> None:
        self.instance = instance
        self.clock: Callable[[], float] = no_clock
        self.stale: float = 0.0
        self._on_trap = on_trap
        self._advance = instance.calls["advance"]
        self._scratch = instance.words[control // 4 + abi.CONTROL_SCRATCH]
        self._staging = control // 4 + abi.CONTROL_STAGING  # the area moves when it grows

    def advance(self) -> None:
        """Run the timers that are due by `clock`, so that the next call sees the state of now.

        A stack that waits for nothing is not polled, and its tables age without it: a port is free after TIME-WAIT, a
        router's lifetime ends. Every call does this where the clock has passed `stale`, the next tick of any timer.
        What a tick sends or announces is for the next `Core.poll`, which is due then anyway.

        Raises:
            StackError: the stack is closed, or its module trapped now or before.
        """
        if self.instance.death is not None:
            raise self.instance.death
        try:
            self.stale = self._advance(self.clock())
        except Trap as error:
            raise self._on_trap(error) from error

    def call(
        self,
        name: str,
        *arguments: float,
        detail: str | Callable[[], str] = "",
        accept: int = 0,
        current: bool = True,
    ) -> int:
        """Make a call of the ABI.

        Args:
            name: the export's, without its prefix.
            *arguments: as its signature has them.
            detail: what the call is about, for its error; a function where formatting costs something.
            accept: an error code that is returned and not raised.
            current: whether timers that are due run before. False for calls that read nothing that timers change, or
                have the time among their arguments.

        Raises:
            OSError: what the error code means.
            StackError: the stack is closed, or its module trapped now or before.
        """
        instance = self.instance
        if instance.death is not None:
            raise instance.death
        if current and self.clock() >= self.stale:
            self.advance()
        try:
            result = instance.calls[name](*arguments)
        except Trap as error:
            raise self._on_trap(error) from error
        if result < 0 and result != accept:
            raise error_for(result, detail if isinstance(detail, str) else detail())
        return result

    def trapped(self, trap: Trap) -> StackError:
        """Record the trap of a call that was made without this object, and return the error to raise."""
        return self._on_trap(trap)

    def put_scratch(self, data: bytes) -> None:
        """Write what a call reads from the scratch area: an address or a few of them."""
        instance = self.instance
        if instance.death is not None:
            raise instance.death
        start = self._scratch
        instance.memory[start : start + len(data)] = data

    def scratch(self, size: int) -> bytes:
        """Return what a call has written to the scratch area."""
        return bytes(self.instance.memory[self._scratch : self._scratch + size])

    def put_staging(self, data: bytes | memoryview, scratch: bytes | None = None) -> None:
        """Write the payload that a call of UDP, ICMP or autoconfiguration sends, and perhaps the scratch area."""
        instance = self.instance
        if instance.death is not None:
            raise instance.death
        if scratch is not None:  # here, and not by `put_scratch`, because each datagram would pay for that call
            start = self._scratch
            instance.memory[start : start + len(scratch)] = scratch
        start = instance.words[self._staging]
        try:
            instance.memory[start : start + len(data)] = data
        except ValueError:  # the area lies beyond the end that memory had when the view was taken
            instance.refresh()
            instance.memory[start : start + len(data)] = data
