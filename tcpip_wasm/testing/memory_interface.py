"""`MemoryInterface`, an interface without a stack, and `check_port`: for tests of links and other ports.

The interface keeps the contract of real ones, including views that expire: a view of the receive buffer is released at
the next call, and records that were passed to `transmit` are overwritten after it, so that a port which keeps a view
raises or sends wrong bytes in the test.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tcpip_wasm.engine import split_records
from tcpip_wasm.interfaces import Port

__all__ = ["MemoryInterface", "check_port", "pack_records"]

_SMALLEST: Final = {"tap": 14, "tun": 20}
"""Bytes of the smallest frame: an Ethernet header, an IPv4 header."""


def pack_records(*frames: bytes) -> bytes:
    """Return frames as records: a length of 32 bits, the frame, and padding to a multiple of four bytes."""
    return b"".join(len(frame).to_bytes(4, "little") + frame + bytes(-len(frame) % 4) for frame in frames)


class MemoryInterface:
    """A TAP or TUN interface without a stack: it records the frames that a port delivers, and sends those of a test.

    Args:
        kind: ``"tap"`` or ``"tun"``.
        mtu: bytes of the largest IP packet.
        buffer: bytes of the receive buffer.

    Attributes:
        received: the frames that the port delivered, in order.
        on_frame: called with each of them, if set.
        full: while True, the receive buffer has no room; `make_room` ends that.
        on_full: called each time the port finds the buffer full, if set.
        resumed: how often the port called `resume_transmit`.
        port: the port that is attached, or None.
    """

    def __init__(self, kind: str = "tap", mtu: int = 1500, *, buffer: int = 65536) -> None:
        self.type = kind
        self.mtu = mtu
        self.received: deque[bytes] = deque()
        self.on_frame: Callable[[bytes], None] | None = None
        self.full: bool = False
        self.on_full: Callable[[], None] | None = None
        self.resumed: int = 0
        self.port: Port | None = None
        self._when_room: list[Callable[[], object]] = []
        self._memory = bytearray(buffer)
        self._view: memoryview | None = None
        self._outgoing = bytearray()

    def attach(self, port: Port, /) -> None:
        """Attach a port."""
        assert self.port is None, "a port is attached already"
        self.port = port

    def detach(self) -> None:
        """Detach the port, which calls this."""
        self._expire()
        self.port = None

    def remove(self) -> None:
        """Detach the port, as an interface does that is removed from its stack."""
        port, self.port = self.port, None
        assert port is not None, "no port is attached"
        port.detached(None)

    # --- Frames from the port -------------------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Return the receive buffer, empty while `full`; the view is valid until the next call."""
        self._expire()
        if self.full and self.on_full is not None:
            self.on_full()
        self._view = memoryview(self._memory)[: 0 if self.full else len(self._memory)]
        return self._view

    def commit_received(self, nbytes: int, /) -> None:
        """Receive the records in the first `nbytes` bytes of the buffer."""
        self._expire()
        frames = [bytes(frame) for frame in split_records(memoryview(self._memory)[:nbytes])]
        assert len(pack_records(*frames)) == nbytes, "the records do not end at the given length"
        for frame in frames:
            self.received.append(frame)
            if self.on_frame is not None:
                self.on_frame(frame)

    def call_when_room(self, callback: Callable[[], None], /) -> None:
        """Call back, once, at the next `make_room`."""
        self._when_room.append(callback)

    def make_room(self) -> None:
        """Give the receive buffer room again, and make the calls of `call_when_room`."""
        self.full = False
        waiting, self._when_room = self._when_room, []
        for callback in waiting:
            callback()

    # --- Frames to the port ---------------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        """Queue frames, and pass all queued frames to the port."""
        self._outgoing += pack_records(*frames)
        self._transmit()

    def resume_transmit(self) -> None:
        """Pass the queued frames to the port, which calls this."""
        self.resumed += 1
        self._expire()
        self._transmit()

    @property
    def unsent(self) -> int:
        """Bytes of records that the port has not accepted yet."""
        return len(self._outgoing)

    def _transmit(self) -> None:
        if self.port is None or not self._outgoing:
            return
        batch = bytearray(self._outgoing)
        ends = [0]
        for frame in split_records(memoryview(self._outgoing)):
            ends.append(ends[-1] + 4 + len(frame) + -len(frame) % 4)
            frame.release()
        accepted = self.port.transmit(memoryview(batch))
        assert accepted in ends, f"transmit() returned {accepted}, which is not the end of a record"
        batch[:] = b"\xff" * len(batch)
        del self._outgoing[:accepted]

    def _expire(self) -> None:
        if self._view is not None:
            self._view.release()
            self._view = None


def check_port(attach: Callable[[MemoryInterface], object], *, kind: str = "tap", mtu: int = 1500) -> None:
    """Check that a port accepts whole records of every length, and is detached when its interface is removed.

    Args:
        attach: attaches the port, or a link, to the interface.
        kind: ``"tap"`` or ``"tun"``.
        mtu: bytes of the largest IP packet.

    Raises:
        AssertionError: the port breaks the contract of `Port`.
    """
    interface = MemoryInterface(kind, mtu)
    attach(interface)
    assert interface.port is not None, "no port was attached"
    smallest = _SMALLEST[kind]
    largest = mtu + (14 if kind == "tap" else 0)
    for length in (*range(smallest, smallest + 4), largest):
        interface.send(bytes([length % 251]) * length)
    interface.send(*[bytes(smallest)] * 64)
    interface.remove()
