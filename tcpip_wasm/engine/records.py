"""The buffers through which frames enter and leave an interface, in the module's memory.

Frames lie there as *records*: the ABI's `RECORD_HEADER`, the frame, padding up to the next record. It makes no calls
into the module.

The reasons are in docs/explanation/boundary.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.instance import Instance

_length_at: Final = abi.RECORD_HEADER.unpack_from
_LENGTH_WORD: Final = abi.RECORD_HEADER_LENGTH_OFFSET // 4


class _Gone:
    """Replaces the instance of a removed interface: its last block, and a buffer whose contents are ignored."""

    copies: bool = False

    def __init__(self, block: memoryview) -> None:
        self.memory = memoryview(bytearray(block.nbytes + abi.RECEIVE_CAPACITY))
        self.words = self.memory.cast("I")
        self.words[: len(block)] = block


class FrameBuffers:
    """The two buffers through which frames enter and leave an interface.

    Both hold records, and what leaves one stack enters another as it is. Views are valid until the next call into the
    stack.
    """

    def __init__(self, instance: Instance, handle: int, block: int) -> None:
        self._instance: Instance | _Gone = instance
        self._block = block
        self._receive_length = block + abi.BLOCK_RECEIVE_LENGTH
        self._transmit_length = block + abi.BLOCK_TRANSMIT_LENGTH
        self._unwritten: bytearray | None = None  # where slices of memory are copies: what `receive_view` has given out
        self.find_buffers()
        self.handle = handle

    def find_buffers(self) -> None:
        """Read where the buffers are. They do not move while the interface exists; only a loopback's are exchanged,
        unless it is observed."""
        words, block = self._instance.words, self._block
        self._receive_start = words[block + abi.BLOCK_RECEIVE_BUFFER]
        self._transmit_start = words[block + abi.BLOCK_TRANSMIT_BUFFER]

    @property
    def transmit_length(self) -> int:
        """Bytes of records that wait to be sent."""
        return self._instance.words[self._transmit_length]

    def transmit_view(self) -> memoryview:
        """Return the records that wait to be sent."""
        start = self._transmit_start
        return self._instance.memory[start : start + self._instance.words[self._transmit_length]]

    def transmitted(self, count: int) -> None:
        """Take so many bytes of whole records off the front of the transmit buffer."""
        words = self._instance.words
        length = words[self._transmit_length]
        if count < length:
            start, memory = self._transmit_start, self._instance.memory
            memory[start : start + length - count] = memory[start + count : start + length]
        words[self._transmit_length] = length - count

    @property
    def receive_length(self) -> int:
        """Bytes of records that wait to be taken in by `Core.poll`."""
        return self._instance.words[self._receive_length]

    def receive_view(self) -> memoryview:
        """Return the free space behind the records that wait, at most the buffer's capacity."""
        start = self._receive_start
        used = self._instance.words[self._receive_length]
        if self._instance.copies:
            if self._unwritten is None:
                self._unwritten = bytearray(abi.RECEIVE_CAPACITY)
            return memoryview(self._unwritten)[: abi.RECEIVE_CAPACITY - used]
        return self._instance.memory[start + used : start + abi.RECEIVE_CAPACITY]

    def received(self, count: int) -> None:
        """Add so many bytes of whole records, just written to `receive_view`."""
        words = self._instance.words
        used = words[self._receive_length]
        if self._unwritten is not None and self._instance.copies:
            start = self._receive_start + used
            self._instance.memory[start : start + count] = memoryview(self._unwritten)[:count]
        words[self._receive_length] = used + count

    def move_to(self, other: FrameBuffers) -> bool:
        """Move all that waits to be sent into another interface's receive buffer; return False if it does not fit now.

        Args:
            other: the buffers of an interface of this or another stack.
        """
        instance, far = self._instance, other._instance
        words, at = far.words, other._receive_length
        # Not the length in an event: since then, a callback may have sent more.
        length = instance.words[self._transmit_length]
        used = words[at]
        end = used + length
        if end > abi.RECEIVE_CAPACITY:
            return False
        start, source = other._receive_start, self._transmit_start
        far.memory[start + used : start + end] = instance.memory[source : source + length]
        words[at] = end
        instance.words[self._transmit_length] = 0
        return True

    def receive_frame(self, frame: bytes) -> bool:
        """Append one frame and return True, or return False if it does not fit now."""
        words = self._instance.words
        used = words[self._receive_length]
        length = len(frame)
        end = used + record_size(length)
        if end > abi.RECEIVE_CAPACITY:
            return False
        start = self._receive_start + used
        words[start // 4 + _LENGTH_WORD] = length
        memory = self._instance.memory
        memory[start + abi.RECORD_HEADER_SIZE : start + abi.RECORD_HEADER_SIZE + length] = frame
        words[self._receive_length] = end
        return True

    def close(self) -> None:
        """The interface is about to be removed: keep its counters, and release its memory, which will be used again."""
        self._instance = _Gone(self._instance.words[self._block : self._block + abi.BLOCK_WORDS])
        words = self._instance.words
        words[abi.BLOCK_RECEIVE_LENGTH] = words[abi.BLOCK_TRANSMIT_LENGTH] = 0
        self._block = 0
        self._receive_start = self._transmit_start = 4 * abi.BLOCK_WORDS
        self._receive_length = abi.BLOCK_RECEIVE_LENGTH
        self._transmit_length = abi.BLOCK_TRANSMIT_LENGTH

    def counters(self) -> tuple[int, int, int, int, int, int]:
        """Return frames received, frames transmitted, and frames dropped: malformed, refused by a full buffer,
        addressed to another station, too long for a port of a bridge."""
        first = self._block + abi.BLOCK_RECEIVED_FRAMES
        received, transmitted, malformed, full, foreign, long = self._instance.words[first : first + 6]
        return received, transmitted, malformed, full, foreign, long


def record_size(length: int) -> int:
    """Return the bytes that a frame of so many bytes takes as a record."""
    return (abi.RECORD_HEADER_SIZE + length + abi.RECORD_HEADER_ALIGNMENT - 1) & -abi.RECORD_HEADER_ALIGNMENT


def split_records(records: memoryview) -> Iterator[memoryview]:
    """Yield the frames of a run of records, as views into it."""
    at, end = 0, len(records)
    while at < end:
        (length,) = _length_at(records, at)
        start = at + abi.RECORD_HEADER_SIZE
        yield records[start : start + length]
        at += record_size(length)
