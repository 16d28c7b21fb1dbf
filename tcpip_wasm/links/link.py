"""The base of all links: `Link` carries records between an interface and a transport, which moves frames.

Owns the attachment to the interface, the loops over records, flow control both ways, the bound on what waits, the
counters and the end. A transport is a file descriptor, a socket, a WebSocket, a tunnel; it knows frames, and neither
records nor interfaces. What it can do decides what a subclass uses:

    a transport that is read when there is room     `fill`, with a function that reads one frame into a buffer
    a transport that hands frames over              `deliver`; `pause_reading` and `resume_reading` if it has flow
                                                    control, else frames above the bound are dropped and counted
    a transport that takes one frame                `send`, which raises `BlockingIOError` when it takes no more;
                                                    then `watch_writable`, and `resume` when it takes some again
    a transport that takes many frames at once      `send_records` replaced as a whole

An interface is what `FrameInterface` says, so that a link can be tested without a stack. This module must not know
what is in a frame.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from tcpip_wasm.engine import abi, record_size
from tcpip_wasm.interfaces import Port

_log: Final = logging.getLogger("tcpip_wasm.links")

# Bound to names of this module: the loops below run once for each frame.
_HEADER = abi.RECORD_HEADER_SIZE
_ALIGNMENT = abi.RECORD_HEADER_ALIGNMENT
_length_at = abi.RECORD_HEADER.unpack_from
_put_length = abi.RECORD_HEADER.pack_into

FRAMES_PER_WAKE: Final = 128
"""Frames that are read at once. A full batch of 1500-byte frames costs a kernel about half a millisecond, and the stack
as much again: short enough for timers beside a saturating transfer, long enough to make one iteration of the event loop
(some 30 µs) a small part."""

FRAMES_PER_TRANSMIT: Final = 256
"""Frames that are sent at once. The stack offers what its buffer holds, which may be thousands of bare
acknowledgements."""

QUEUE_BYTES: Final = 256 * 1024
"""Bytes of frames that were handed over and wait for room in the stack at most: as much as its own buffer has."""

ETHERNET_OVERHEAD: Final = 14 + 4
"""Bytes: the Ethernet header and one VLAN tag, neither of which the MTU counts."""

LOSES_FRAME: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM})
"""Errors by which only one frame is lost. EIO: the device is not up. EINVAL, EMSGSIZE: the other side takes no such
frame. ENOBUFS, ENOMEM: the kernel is short of memory, and does not report when it no longer is (a descriptor stays
writable), so that waiting would spin."""


UNREACHABLE: Final = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "EADDRNOTAVAIL"),
        *("EACCES", "EPERM"),  # a route of the kind `prohibit`, a packet filter
        *("ENOPROTOOPT", "EOPNOTSUPP", "ENONET", "EPROTO"),  # by ICMP, which any host can forge (RFC 5927)
    )
    if hasattr(errno, name)
)
"""Errors of a socket for datagrams by which its peer cannot be reached for now."""


class FrameInterface(Protocol):
    """What a link needs of an interface; see `Interface`."""

    @property
    def type(self) -> str: ...

    @property
    def mtu(self) -> int: ...

    def attach(self, port: Port, /) -> object: ...

    def detach(self) -> object: ...

    def receive_buffer(self) -> memoryview: ...

    def commit_received(self, nbytes: int, /) -> object: ...

    def call_when_room(self, callback: Callable[[], None], /) -> object: ...

    def resume_transmit(self) -> object: ...


@dataclass(slots=True)
class LinkCounters:
    """What a link carried and what it dropped. `received` is towards the stack, `sent` is away from it."""

    frames_received: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0
    receive_truncated: int = 0
    """Frames from outside that were longer than the interface takes, dropped whole."""
    receive_full: int = 0
    """Times the stack had no room for a frame. It waits, in the transport or in the link; nothing is lost by this."""
    receive_dropped: int = 0
    """Frames from outside that were dropped because too many waited for room in the stack."""
    send_waits: int = 0
    """Times the transport took no more and the stack had to wait for it."""
    send_dropped: int = 0
    """Frames of the stack that the transport refused for good."""


class Link:
    """Carries frames between an interface and a transport, for as long as both are there.

    Needs a running event loop. A link never closes what it was given: it belongs to the code that opened it, which
    closes the link first. Subclasses call `begin` when their transport is ready.

    Args:
        interface: the interface to serve; it must have no other link.
        max_frame: the longest frame to accept from outside, in bytes.
        send: used in place of the method `send`: where it is a C function, a frame costs no Python call.

    Attributes:
        counters: what passed and what was dropped.
        error: why the link has ended; None after `close`.
    """

    loses_frame: ClassVar[frozenset[int]] = LOSES_FRAME
    """Errors of the transport by which only one frame is lost; any other ends the link."""
    has_flow_control: ClassVar[bool] = False
    """Whether `pause_reading` stops a transport that hands frames over."""

    def __init__(
        self, interface: FrameInterface, *, max_frame: int, send: Callable[[memoryview], object] | None = None
    ) -> None:
        self.counters: LinkCounters = LinkCounters()
        self.error: Exception | None = None
        self._interface = interface
        self._max_frame = max_frame
        self._send: Callable[[memoryview], object] = send or self.send
        # A read that spills into this byte was longer than the frame's room, and is therefore truncated.
        self._spill = bytearray(1)
        self._arrived: deque[bytes] = deque()  # handed over, and not yet taken by the stack
        self._arrived_bytes = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    def begin(self) -> None:
        """Attach to the interface. What the constructor of a subclass has begun is released where that fails.

        Raises:
            OSError: ``EBUSY`` where something is attached already.
        """
        try:
            self._interface.attach(self)
        except BaseException:
            self._closed = True
            self.release()
            raise
        _log.debug("%r: link opened", self._interface)

    # --- What users call ------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True once the link carries nothing any more; `error` then is the reason, or None after `close()`."""
        return self._closed

    def close(self) -> None:
        """Stop carrying and leave the interface. Frames still in the stack's buffer stay there. Idempotent."""
        self.end(None)

    async def wait_closed(self) -> None:
        """Wait until the link has ended, by `close()` or because one side went away.

        Cancellation ends only the waiting; the link goes on.
        """
        await asyncio.shield(self._ended)

    # --- What a subclass implements -------------------------------------------------------------------------------

    def send(self, frame: memoryview, /) -> object:
        """Send one frame.

        Raises:
            BlockingIOError: the transport takes no more now; `watch_writable` follows.
            OSError: the frame is lost (`loses_frame`), or the transport is gone (any other).
        """
        raise NotImplementedError

    def watch_writable(self) -> None:
        """Have `resume` called when the transport takes frames again."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Frames that were handed over wait for room: stop reading, if the transport can."""

    def resume_reading(self) -> None:
        """All that was handed over is in the stack: go on reading."""

    def release(self) -> None:
        """The link has ended: call back no more. Called once."""

    # --- From the stack to the transport --------------------------------------------------------------------------

    def transmit(self, records: memoryview, /) -> int:
        """Send records; see `Port`. Fewer than all were taken where the transport takes no more for now, or where
        this was enough work for one call; `resume_transmit` of the interface follows."""
        return len(records) if self._closed else self.send_records(records)

    def send_records(self, records: memoryview) -> int:
        """Send whole records off the front, count them, and return how many bytes they had."""
        end = len(records)
        send, length_at, counters = self._send, _length_at, self.counters
        offset = frames = payload = dropped = 0
        while offset < end:
            if frames + dropped == FRAMES_PER_TRANSMIT:
                self._loop.call_soon(self.resume)
                break
            length: int = length_at(records, offset)[0]
            start = offset + _HEADER
            try:
                send(records[start : start + length])
            except BlockingIOError:
                counters.send_waits += 1
                self.watch_writable()
                break
            except OSError as problem:
                if problem.errno not in self.loses_frame:
                    # Not from inside the interface's own call: it is in the middle of its buffer.
                    self._loop.call_soon(self.end, problem)
                    offset = end
                    break
                dropped += 1
            else:
                frames += 1
                payload += length
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
        counters.frames_sent += frames
        counters.bytes_sent += payload
        counters.send_dropped += dropped
        return min(offset, end)

    def resume(self) -> None:
        """The transport takes frames again: send what waits in the stack."""
        if self._closed:
            return
        try:
            self._interface.resume_transmit()
        except OSError as problem:
            self.end(problem)

    # --- From the transport to the stack --------------------------------------------------------------------------

    def fill(self, read: Callable[[list[Any]], int], *, zero_is_end: bool = False) -> None:
        """Read frames into the stack's buffer, as many as it has room for, until nothing is left to read.

        One buffer a call: what it cannot hold stays in the transport, which calls again after the stack has run. That
        is also how a full stack holds back the outside.

        Args:
            read: reads one frame into a list of buffers, as `os.readv` does, and raises `BlockingIOError` where there
                is none.
            zero_is_end: a read of no bytes means that the peer has gone, not an empty frame.
        """
        try:
            view = self._interface.receive_buffer()
        except OSError as problem:
            self.end(problem)
            return
        room = len(view) - _HEADER
        if room <= 0:
            self.counters.receive_full += 1
            return
        put_length, spill = _put_length, self._spill
        limit = min(self._max_frame, room)
        last = room - limit
        offset = frames = payload = 0
        ended, ending = False, None
        for _ in range(FRAMES_PER_WAKE):
            start = offset + _HEADER
            try:
                length = read([view[start : start + limit], spill])
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno in self.loses_frame:
                    break
                ended, ending = True, problem
                break
            if length > limit:
                self.counters.receive_truncated += 1
                continue
            if length == 0:
                if zero_is_end:
                    ended = True
                    break
                continue
            put_length(view, offset, length)
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
            frames += 1
            payload += length
            if offset > last:
                break
        del view  # it is valid only until the next call into the stack
        self.counters.frames_received += frames
        self.counters.bytes_received += payload
        if offset:
            try:
                self._interface.commit_received(offset)
            except OSError as problem:
                ended, ending = True, problem
        if ended:
            self.end(ending)

    def deliver(self, frame: bytes | memoryview) -> None:
        """Hand the stack a frame that has arrived; where it has no room, the frame waits here.

        `pause_reading` is called with the first that waits, `resume_reading` when none does. What a transport without
        flow control hands over above `QUEUE_BYTES` is dropped and counted; one with flow control may still hand over
        what it had read before.
        """
        if self._closed or not frame:
            return
        if len(frame) > self._max_frame:
            self.counters.receive_truncated += 1
            return
        if not self._arrived and self._put(frame):
            return
        size = record_size(len(frame))
        if self._arrived_bytes + size > QUEUE_BYTES and not self.has_flow_control:
            self.counters.receive_dropped += 1
            return
        self._arrived.append(bytes(frame))
        self._arrived_bytes += size
        if len(self._arrived) == 1:
            self._interface.call_when_room(self._deliver_arrived)
            self.pause_reading()

    def _deliver_arrived(self) -> None:
        while self._arrived and not self._closed:
            if not self._put(self._arrived[0]):
                if not self._closed:
                    self._interface.call_when_room(self._deliver_arrived)
                return
            self._arrived_bytes -= record_size(len(self._arrived.popleft()))
        if not self._closed:
            self.resume_reading()

    def _put(self, frame: bytes | memoryview) -> bool:
        """Write one frame to the stack's buffer, or return False where it has no room."""
        size = record_size(len(frame))
        try:
            view = self._interface.receive_buffer()
            if len(view) < size:
                self.counters.receive_full += 1
                return False
            _put_length(view, 0, len(frame))
            view[_HEADER : _HEADER + len(frame)] = frame
            del view
            self._interface.commit_received(size)
        except OSError as problem:
            self.end(problem)
            return False
        self.counters.frames_received += 1
        self.counters.bytes_received += len(frame)
        return True

    # --- The end --------------------------------------------------------------------------------------------------

    def end(self, problem: Exception | None) -> None:
        """The transport is gone, or the link is to be closed: end it and leave the interface. Idempotent.

        Args:
            problem: what ended it, or None where that is how it should end.
        """
        if not self._closed:
            self._stop(problem)
            self._interface.detach()

    def detached(self, error: Exception | None, /) -> None:
        """The interface was removed, or its stack is gone: the link ends, with the stack's error if any."""
        self._stop(error)

    def _stop(self, problem: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self.error = problem
        self._arrived.clear()
        self._arrived_bytes = 0
        self.release()
        if not self._ended.done():
            self._ended.set_result(None)
        if problem is None:
            _log.debug("%r: link closed", self._interface)
        else:
            _log.warning("%r: link ended: %s", self._interface, problem)


def max_frame(kind: str, mtu: int) -> int:
    """Return the bytes of the longest frame of an interface or a device.

    Args:
        kind: ``"tap"`` or ``"tun"``.
        mtu: its MTU in bytes.
    """
    return mtu + ETHERNET_OVERHEAD if kind == "tap" else mtu
