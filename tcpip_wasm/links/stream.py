"""Links over a byte stream in which each frame has its length before it: `StreamLink`.

The format is QEMU's (`-netdev stream`) and passt's: 32 bits of length, most significant byte first, and the frame.
Owns the stream's buffers and the socket. Must not know how the socket was connected.

A batch of frames costs one system call in each direction: frames leave from the stack's own buffer by `sendmsg`, and
are copied once on the way in, from the stream's buffer into the stack's.
"""

from __future__ import annotations

import errno
import socket
from functools import lru_cache
from struct import Struct
from typing import Final

from tcpip_wasm.engine import abi
from tcpip_wasm.links.link import FRAMES_PER_TRANSMIT, FrameInterface, Link, max_frame

_HEADER = abi.RECORD_HEADER_SIZE
_ALIGNMENT = abi.RECORD_HEADER_ALIGNMENT
_length_at = abi.RECORD_HEADER.unpack_from
_put_length = abi.RECORD_HEADER.pack_into

_PREFIX: Final = Struct(">I")
_PREFIX_SIZE: Final = _PREFIX.size

LONGEST: Final = 4096 + 65536
"""Bytes of the longest frame in a stream: the size of QEMU's own buffer (NET_BUFSIZE). A greater length means that the
stream does not carry frames, or that its reader has lost its place, which cannot be found again."""

READ_BYTES: Final = 256 * 1024
"""Bytes to read at once: some 170 frames of 1514 bytes, and at least three of the longest."""

_SHORT_OF_MEMORY: Final = frozenset({errno.ENOBUFS, errno.ENOMEM})
"""Errors after which the socket goes on. It stays writable, so that waiting would spin: the frames are lost."""

# Lengths repeat: most frames of a transfer are full ones or acknowledgements.
_prefix_of = lru_cache(maxsize=4096)(_PREFIX.pack)


class StreamLink(Link):
    """Carries frames over a connected stream socket, which belongs to the link: it is closed at the link's end.

    Needs a running event loop that can watch descriptors.
    """

    has_flow_control = True

    def __init__(self, sock: socket.socket, interface: FrameInterface) -> None:
        """Attach to the interface and begin to carry.

        Args:
            sock: connected, of type ``SOCK_STREAM``; a descriptor that another process handed over is one after
                ``socket.socket(fileno=fd)``.
            interface: a tap for Ethernet frames, a tun for packets; it must have no other link.

        Raises:
            ValueError: the socket is no stream.
            OSError: ``EBUSY`` where something is attached to the interface.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"sock: a stream socket is needed, not {sock.type!r}")
        super().__init__(interface, max_frame=max_frame(interface.type, interface.mtu))
        self._sock: socket.socket | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._first = self._last = 0  # where the unread bytes begin and end in the buffer
        self._rest = memoryview(b"")  # of a frame that the socket took in part
        self._skip = 0  # bytes left of a frame that is too long
        self._reading = self._writing = False
        self._use(sock)
        self.begin()

    # --- The socket -----------------------------------------------------------------------------------------------

    def _use(self, sock: socket.socket) -> None:
        """Carry over this socket from now on; a new one begins with a whole frame in each direction."""
        sock.setblocking(False)
        self._sock = sock
        self._first = self._last = self._skip = 0
        self._rest = memoryview(b"")
        self._watch(reading=True)

    def _drop(self) -> None:
        """Close the socket, if there is one."""
        if self._sock is not None:
            self._watch(reading=False, writing=False)
            self._sock.close()
            self._sock = None

    def _watch(self, *, reading: bool | None = None, writing: bool | None = None) -> None:
        assert self._sock is not None
        if reading is not None and reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._sock, self._readable)
            else:
                self._loop.remove_reader(self._sock)
        if writing is not None and writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._sock, self._writable)
            else:
                self._loop.remove_writer(self._sock)

    def lost(self, problem: Exception | None) -> None:
        """The other side has closed the stream, or it failed: the link ends. A subclass may connect anew instead."""
        self.end(problem)

    def release(self) -> None:
        """Close the socket."""
        self._drop()

    # --- From the stack to the socket -----------------------------------------------------------------------------

    def send_records(self, records: memoryview) -> int:
        """Send records by one system call. A frame that leaves in part counts as sent; its rest leaves first."""
        sock, counters = self._sock, self.counters
        if sock is None:
            return len(records)
        if self._rest:
            return 0
        prefix_of, length_at = _prefix_of, _length_at
        buffers: list[bytes | memoryview] = []
        offset, end, total = 0, len(records), 0
        for _ in range(FRAMES_PER_TRANSMIT):
            if offset >= end:
                break
            length: int = length_at(records, offset)[0]
            start = offset + _HEADER
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
            total += _PREFIX_SIZE + length
            buffers += (prefix_of(length), records[start : start + length])
        frames = len(buffers) // 2
        try:
            sent = sock.sendmsg(buffers)
        except BlockingIOError:
            counters.send_waits += 1
            self._watch(writing=True)
            return 0
        except OSError as problem:
            if problem.errno in _SHORT_OF_MEMORY:
                counters.send_dropped += frames
                return min(offset, end)
            # Not from inside the interface's own call: it is in the middle of its buffer.
            self._loop.call_soon(self._failed, sock, problem)
            return end
        if sent < total:
            counters.send_waits += 1
            self._watch(writing=True)
            offset, frames = self._keep_rest(records, sent)
            total = sent + len(self._rest)
        elif offset < end:
            self._loop.call_soon(self.resume)
        counters.frames_sent += frames
        counters.bytes_sent += total - _PREFIX_SIZE * frames
        return min(offset, end)

    def _keep_rest(self, records: memoryview, sent: int) -> tuple[int, int]:
        """Keep what is left of the frame that the socket took in part, and return where the next record begins, and
        how many frames have left at least in part."""
        offset = frames = 0
        while sent > 0:
            length: int = _length_at(records, offset)[0]
            start = offset + _HEADER
            if sent < _PREFIX_SIZE + length:
                self._rest = memoryview(_prefix_of(length) + bytes(records[start : start + length]))[sent:]
            sent -= _PREFIX_SIZE + length
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
            frames += 1
        return offset, frames

    def _writable(self) -> None:
        sock = self._sock
        assert sock is not None
        if self._rest:
            try:
                self._rest = self._rest[sock.send(self._rest) :]
            except BlockingIOError:
                return
            except OSError as problem:
                self._failed(sock, problem)
                return
            if self._rest:
                return
        self._watch(writing=False)
        self.resume()

    def _failed(self, sock: socket.socket | None, problem: OSError) -> None:
        if not self.closed and self._sock is sock:
            self.lost(problem)

    # --- From the socket to the stack -----------------------------------------------------------------------------

    def _readable(self) -> None:
        sock = self._sock
        assert sock is not None
        try:
            count = sock.recv_into(self._buffer[self._last :])
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if count == 0:
            self.lost(None)
            return
        self._last += count
        self._take()

    def _take(self) -> None:
        """Move the frames that the buffer holds whole into the stack; without room there, reading pauses."""
        if self.closed or self._sock is None:
            return
        try:
            more = True
            while more:
                more = self._take_batch(self._interface.receive_buffer())
        except OSError as problem:
            self.end(problem)
            return
        if self.closed or self._sock is None:
            return
        rest = self._last - self._first
        if self._first and rest < self._first:
            self._buffer[:rest] = self._buffer[self._first : self._last]
            self._first, self._last = 0, rest

    def _take_batch(self, view: memoryview) -> bool:
        """Fill the stack's buffer; return whether it was full and may have room again after the stack has run."""
        source, first, last = self._buffer, self._first, self._last
        put_length, prefix_at, limit = _put_length, _PREFIX.unpack_from, self._max_frame
        room, offset, frames, payload = len(view), 0, 0, 0
        full, wrong = False, 0
        while True:
            if self._skip:
                step = min(self._skip, last - first)
                self._skip -= step
                first += step
            if last - first < _PREFIX_SIZE:
                break
            length: int = prefix_at(source, first)[0]
            begin = first + _PREFIX_SIZE
            if length > limit or length == 0:
                if length > LONGEST:
                    wrong = length
                    break
                self.counters.receive_truncated += length > 0
                self._skip = length
                first = begin
                continue
            stop = begin + length
            if stop > last:
                break
            start = offset + _HEADER
            if start + length > room:
                full = True
                break
            put_length(view, offset, length)
            view[start : start + length] = source[begin:stop]
            offset = (start + length + _ALIGNMENT - 1) & -_ALIGNMENT
            frames += 1
            payload += length
            first = stop
        del view  # it is valid only until the next call into the stack
        self._first = first
        self.counters.frames_received += frames
        self.counters.bytes_received += payload
        if offset:
            self._interface.commit_received(min(offset, room))
        if wrong:
            self._lost_its_place(wrong)
            return False
        if full and not offset:
            self.counters.receive_full += 1
            self._pause()
            return False
        return full

    def _pause(self) -> None:
        self._watch(reading=False)
        self._interface.call_when_room(self._go_on)

    def _go_on(self) -> None:
        if self.closed or self._sock is None:
            return
        self._watch(reading=True)
        self._take()

    def _lost_its_place(self, length: int) -> None:
        problem = OSError(errno.EPROTO, f"a frame of {length} bytes was announced; the longest has {LONGEST}")
        self._loop.call_soon(self._failed, self._sock, problem)
        self._watch(reading=False)
