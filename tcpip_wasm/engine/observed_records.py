"""Buffers of an interface with an observer: they report the records that pass, and else do what all buffers do.

Owns the change between the two. Buffers change their class and stay the same object, so that references to them stay
valid, and buffers without an observer run no line more.

The reasons are in docs/explanation/captures.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.records import FrameBuffers

__all__ = ["observe", "unobserve"]

Record = Callable[[bool, memoryview], None]
"""Takes whether the frames leave, and their records, which are valid during the call. It must not raise."""


def observe(buffers: FrameBuffers, record: Record) -> None:
    """Have an interface's buffers report what passes.

    Args:
        buffers: those of the interface. Those of a loopback are to be moved to themselves from now on.
        record: called with the records that leave, and with those that enter.
    """
    buffers.__class__ = _ObservedBuffers
    assert isinstance(buffers, _ObservedBuffers)
    buffers.record = record
    buffers.mark_observed(True)
    buffers.find_buffers()


def unobserve(buffers: FrameBuffers) -> None:
    """Undo `observe`. Without effect on buffers without an observer."""
    if isinstance(buffers, _ObservedBuffers):
        buffers.mark_observed(False)
        del buffers.record
        plain: Any = buffers  # to a class with less in it is what a type checker would not allow
        plain.__class__ = FrameBuffers


class _ObservedBuffers(FrameBuffers):
    # `record` may undo `observe`, and with it the class: what is called after it is named in full.
    record: Record

    def mark_observed(self, observed: bool) -> None:
        self._instance.words[self._block + abi.BLOCK_OBSERVED] = observed

    def transmitted(self, count: int) -> None:
        if count:
            self.record(True, self.transmit_view()[:count])
        FrameBuffers.transmitted(self, count)

    def move_to(self, other: FrameBuffers) -> bool:
        records = self.transmit_view()
        if not super().move_to(other):
            return False
        if len(records):  # they are still there, though they count no more
            self.record(True, records)
            if other is not self and isinstance(other, _ObservedBuffers):
                other.record(False, records)
        return True

    def received(self, count: int) -> None:
        if count:
            self.record(False, self.receive_view()[:count])
        FrameBuffers.received(self, count)

    def receive_frame(self, frame: bytes) -> bool:
        before = self.receive_length
        if not super().receive_frame(frame):
            return False
        start = self._receive_start
        self.record(False, self._instance.memory[start + before : start + self.receive_length])
        return True
