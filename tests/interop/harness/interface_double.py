"""An interface without a stack: what a link delivers is kept, what it is given to send is handed over as
asked.

It keeps the contract of the real ones, views that expire included: a view is released at the next call, so
that a link which holds on to one fails here instead of reading another frame's bytes there.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from tcpip_wasm.links import DescriptorLink

__all__ = ["InterfaceDouble", "records"]


def records(*frames: bytes) -> bytes:
    """Lay frames out as a run of records."""
    return b"".join(struct.pack("<I", len(frame)) + frame + bytes(-len(frame) % 4) for frame in frames)


class InterfaceDouble:
    """Stands for a tap or tun interface of the given MTU.

    Attributes:
        received: the frames that the link delivered, in order.
        on_frame: called for each of them, if set.
        full: while True, the receive buffer has no room.
        on_full: called each time the link finds that out, if set.
        resumed: how often the link asked to be offered frames again.
    """

    def __init__(self, kind: str = "tap", mtu: int = 1500, *, buffer: int = 65536) -> None:
        self.type = kind
        self.mtu = mtu
        self.received: deque[bytes] = deque()
        self.on_frame: Callable[[bytes], None] | None = None
        self.full = False
        self.on_full: Callable[[], None] | None = None
        self.resumed = 0
        self.port: DescriptorLink | None = None
        self._memory = bytearray(buffer)
        self._view: memoryview | None = None
        self._outgoing = bytearray()

    def attach(self, port: DescriptorLink, /) -> None:
        assert self.port is None
        self.port = port

    def detach(self) -> None:
        self._expire()
        self.port = None

    def remove(self) -> None:
        """Detach, as an interface does that is removed from its stack."""
        port, self.port = self.port, None
        assert port is not None
        port.detached(None)

    def receive_buffer(self) -> memoryview:
        self._expire()
        if self.full and self.on_full is not None:
            self.on_full()
        self._view = memoryview(self._memory)[: 0 if self.full else len(self._memory)]
        return self._view

    def commit_received(self, nbytes: int, /) -> None:
        self._expire()
        offset = 0
        while offset < nbytes:
            length = struct.unpack_from("<I", self._memory, offset)[0]
            frame = bytes(self._memory[offset + 4 : offset + 4 + length])
            offset += 4 + length + -length % 4
            self.received.append(frame)
            if self.on_frame is not None:
                self.on_frame(frame)
        assert offset == nbytes

    def resume_transmit(self) -> None:
        self.resumed += 1
        self._expire()
        self._flush()

    def send(self, *frames: bytes) -> None:
        """Queue frames for the link and offer it all that is queued."""
        self._outgoing += records(*frames)
        self._flush()

    @property
    def unsent(self) -> int:
        """Bytes of records that the link has not taken yet."""
        return len(self._outgoing)

    def _flush(self) -> None:
        if self.port is not None and self._outgoing:
            with memoryview(bytes(self._outgoing)) as batch:
                taken = self.port.transmit(batch)
            assert taken % 4 == 0
            del self._outgoing[:taken]

    def _expire(self) -> None:
        if self._view is not None:
            self._view.release()
            self._view = None
