"""The host's TUN and TAP devices, and the loop that moves frames between a file descriptor and an interface.

Owns: opening a device (in any network namespace), the non-blocking descriptor, when it is read and written,
and the counters of what passed and what was dropped. One `read` or `write` of the descriptor is one frame,
which holds for Linux TUN/TAP without packet information and for datagram and seqpacket sockets alike.

Must not know: what is in a frame, how the stack stores it, or what a stack is. An interface is what
`FrameInterface` says; frames are read into and written out of the memory views it lends, so that no
frame is ever a Python object of its own.

A run of records is the unit both ways: a 32-bit little-endian length, the frame, and padding to a multiple of
four.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from tcpip_wasm.engine import abi

__all__ = [
    "DatagramSocketLink",
    "DescriptorLink",
    "FrameInterface",
    "HostDevice",
    "LinkCounters",
    "open_tuntap",
]

_log: Final = logging.getLogger("tcpip_wasm.links")

Kind = Literal["tap", "tun"]

# Bound to names of this module: the loops below run once for each frame.
_HEADER = abi.RECORD_HEADER_SIZE
_ALIGNMENT = abi.RECORD_HEADER_ALIGNMENT
_length_at = abi.RECORD_HEADER.unpack_from
_put_length = abi.RECORD_HEADER.pack_into

# A full batch of 1500-byte frames costs the kernel about half a millisecond, and the stack as much again:
# short enough for timers beside a saturating transfer, long enough to make one turn of the event loop (some
# 30 us) a small part.
_FRAMES_PER_WAKE = 128
# The same for the way out. The stack offers what its ring holds, which may be thousands of bare
# acknowledgements.
_FRAMES_PER_TRANSMIT = 256

# Ethernet header and one VLAN tag, neither of which the MTU counts.
_ETHERNET_OVERHEAD = 14 + 4

# Only this frame is lost; the link lives on. EIO: the device is not up. EINVAL, EMSGSIZE: the other side
# takes no such frame. ENOBUFS, ENOMEM: the kernel is short of memory, and nothing says when it no longer is
# (the descriptor stays writable), so waiting would spin. Losing a frame is what a wire does, and TCP knows
# how to live with it.
_LOSES_FRAME = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM})

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_IFF = {"tun": 0x0001, "tap": 0x0002}
_IFF_NO_PI = 0x1000
_IFNAMSIZ = 16


class FrameInterface(Protocol):
    """What a link asks of an interface."""

    @property
    def type(self) -> str: ...

    @property
    def mtu(self) -> int: ...

    def attach(self, port: DescriptorLink, /) -> object: ...

    def detach(self) -> object: ...

    def receive_buffer(self) -> memoryview: ...

    def commit_received(self, nbytes: int, /) -> object: ...

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
    """Wake-ups that found no room in the stack; the frames wait outside, nothing is lost here."""
    send_waits: int = 0
    """Times the descriptor took no more and the stack had to wait for it."""
    send_dropped: int = 0
    """Frames of the stack that the kernel refused for good."""


class DescriptorLink:
    """Moves frames between a non-blocking descriptor and an interface, for as long as both are there.

    Needs a running event loop that can watch descriptors. The link never closes the descriptor: it belongs to
    whoever opened it, who must close the link first.
    """

    def __init__(self, fd: int, interface: FrameInterface, *, max_frame: int, zero_is_end: bool = False) -> None:
        """Attach to the interface and begin to carry.

        Args:
            fd: a descriptor in non-blocking mode.
            interface: the interface to serve; it must have no other link.
            max_frame: the longest frame to accept from outside, in bytes.
            zero_is_end: a read of no bytes means that the peer has gone, not an empty frame.

        Raises:
            RuntimeError: no event loop is running.
        """
        self.counters: LinkCounters = LinkCounters()
        self.error: Exception | None = None
        self._fd = fd
        self._interface = interface
        self._max_frame = max_frame
        self._zero_is_end = zero_is_end
        # A read that spills into this byte was longer than the frame's room, and is therefore truncated.
        self._spill = bytearray(1)
        self._writing = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(fd, self._readable)
        try:
            interface.attach(self)
        except BaseException:
            self._loop.remove_reader(fd)
            raise
        _log.debug("%r: link opened", interface)

    @property
    def closed(self) -> bool:
        """True once the link carries nothing any more; `error` then says why, or is None after `close()`."""
        return self._closed

    def close(self) -> None:
        """Stop carrying and leave the interface. Frames still in the stack's ring stay there. Idempotent."""
        self._end(None)

    async def wait_closed(self) -> None:
        """Wait until the link has ended, by `close()` or because one side went away.

        Cancellation ends only the waiting; the link goes on.
        """
        await asyncio.shield(self._ended)

    # Called by the interface

    def transmit(self, batch: memoryview, /) -> int:
        """Write a run of records outside; returns the bytes of the whole records it consumed.

        Fewer than `len(batch)` means that the descriptor takes no more for now, or that this was enough work
        for one call; `interface.resume_transmit()` follows when there is a point in trying again.
        """
        end = len(batch)
        if self._closed:
            return end
        fd, write, length_at, counters = self._fd, os.write, _length_at, self.counters
        offset = frames = payload = dropped = 0
        while offset < end:
            if frames + dropped == _FRAMES_PER_TRANSMIT:
                self._loop.call_soon(self._resume)
                break
            length: int = length_at(batch, offset)[0]
            start = offset + _HEADER
            try:
                write(fd, batch[start : start + length])
            except BlockingIOError:
                counters.send_waits += 1
                self._writing = True
                self._loop.add_writer(fd, self._writable)
                break
            except OSError as problem:
                if problem.errno not in _LOSES_FRAME:
                    # Not from inside the interface's own call: it is in the middle of its ring.
                    self._loop.call_soon(self._end, problem)
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

    def detached(self, error: Exception | None) -> None:
        """The interface was removed, or its stack is gone: the link ends, with the stack's error if any."""
        self._stop(error)

    # Called by the event loop

    def _readable(self) -> None:
        # One buffer a wake-up: what it cannot hold stays in the descriptor, which then is still readable, and
        # the loop calls again after the stack has had its turn. That is also how a full stack holds back the
        # outside.
        try:
            view = self._interface.receive_buffer()
        except OSError as problem:
            self._end(problem)
            return
        room = len(view) - _HEADER
        if room <= 0:
            self.counters.receive_full += 1
            return
        fd, readv, put_length, spill = self._fd, os.readv, _put_length, self._spill
        limit = min(self._max_frame, room)
        last = room - limit
        offset = frames = payload = 0
        ending: OSError | None = None
        ended = False
        for _ in range(_FRAMES_PER_WAKE):
            start = offset + _HEADER
            try:
                length = readv(fd, [view[start : start + limit], spill])
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno in _LOSES_FRAME:
                    break
                ended, ending = True, problem
                break
            if length > limit:
                self.counters.receive_truncated += 1
                continue
            if length == 0:
                if self._zero_is_end:
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
            self._end(ending)

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._writing = False
        self._resume()

    def _resume(self) -> None:
        if self._closed:
            return
        try:
            self._interface.resume_transmit()
        except OSError as problem:
            self._end(problem)

    def _end(self, problem: OSError | None) -> None:
        if not self._closed:
            self._stop(problem)
            self._interface.detach()

    def _stop(self, problem: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self.error = problem
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        if not self._ended.done():
            self._ended.set_result(None)
        if problem is None:
            _log.debug("%r: link closed", self._interface)
        else:
            _log.warning("%r: link ended: %s", self._interface, problem)


class DatagramSocketLink(DescriptorLink):
    """Carries one frame a message over a connected AF_UNIX socket: a virtual machine's network card, for one.

    The link puts the socket into non-blocking mode and leaves closing it to its owner, who closes the link
    first.
    """

    def __init__(self, sock: socket.socket, interface: FrameInterface) -> None:
        """Args:
            sock: connected, of type SOCK_DGRAM or SOCK_SEQPACKET.
            interface: a tap interface for Ethernet frames, a tun interface for packets.

        Raises:
            ValueError: the socket is a byte stream, which has no frames.
        """
        if sock.type not in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            raise ValueError(f"sock: a datagram or seqpacket socket is needed, not {sock.type!r}")
        sock.setblocking(False)
        super().__init__(
            sock.fileno(),
            interface,
            max_frame=_max_frame(interface.type, interface.mtu),
            zero_is_end=sock.type == socket.SOCK_SEQPACKET,
        )


class HostDevice:
    """An open TUN or TAP device. It disappears from the host when it is closed, unless it was made
    persistent.

    Attributes:
        fd: the descriptor, non-blocking; one read or write is one frame.
        name: the device's name in its namespace.
        kind: "tap" (Ethernet frames) or "tun" (IP packets).
        mtu: what the device had when it was opened, in bytes.
    """

    def __init__(self, fd: int, name: str, kind: Kind, mtu: int) -> None:
        self.fd: int = fd
        self.name = name
        self.kind: Kind = kind
        self.mtu = mtu
        self._link: DescriptorLink | None = None

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self.fd >= 0:
            _warn(f"unclosed device {self.name}", ResourceWarning, source=self)

    def attach(self, interface: FrameInterface) -> DescriptorLink:
        """Join the device and an interface of the same kind; needs a running event loop.

        Raises:
            ValueError: the interface is of another kind, the device is closed, or has a link that still
            carries.
        """
        if self.fd < 0:
            raise ValueError(f"device {self.name} is closed")
        if self._link is not None and not self._link.closed:
            raise ValueError(f"device {self.name} is attached already")
        if interface.type != self.kind:
            raise ValueError(f"interface: a {self.kind} interface is needed, not {interface.type!r}")
        longest = _max_frame(self.kind, max(self.mtu, interface.mtu))
        self._link = DescriptorLink(self.fd, interface, max_frame=longest)
        return self._link

    def close(self) -> None:
        """End the link, if there is one, and close the device. Idempotent."""
        if self._link is not None:
            self._link.close()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __enter__(self) -> HostDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HostDevice {self.kind} {self.name} mtu={self.mtu} fd={self.fd}>"


def open_tuntap(
    name: str | None = None, *, kind: Kind = "tap", namespace: str | None = None, mtu: int | None = None
) -> HostDevice:
    """Open a TUN or TAP device of the host, making it if there is none of that name. Linux only; needs
    CAP_NET_ADMIN.

    The device comes without addresses and not up: that is the host's business (`ip addr`, `ip link`).

    Args:
        name: up to 15 bytes; the kernel picks one if None.
        kind: "tap" for Ethernet frames, "tun" for IP packets.
        namespace: the network namespace to put it into: a name that `ip netns` knows or the path of a
        namespace file.
            The descriptor works in the caller's namespace all the same.
        mtu: in bytes; None leaves what the device has (1500 if it is new).

    Raises:
        ValueError: the name or the kind is none.
        OSError: no such device or namespace, no permission, or the device is in use.
    """
    if kind not in _IFF:
        raise ValueError(f"kind: 'tap' or 'tun' is needed, not {kind!r}")
    encoded = (name or "").encode()
    if len(encoded) >= _IFNAMSIZ or b"/" in encoded or b"\0" in encoded:
        raise ValueError(f"name: up to {_IFNAMSIZ - 1} bytes without a slash are needed, not {name!r}")
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "TUN and TAP devices need Linux")
    if namespace is None:
        return _open_here(encoded, kind, mtu)
    return _in_namespace(namespace, lambda: _open_here(encoded, kind, mtu))


def _max_frame(kind: str, mtu: int) -> int:
    return mtu + _ETHERNET_OVERHEAD if kind == "tap" else mtu


def _open_here(name: bytes, kind: Kind, mtu: int | None) -> HostDevice:
    # Imported here because the module does not exist on every platform on which a stack runs.
    import fcntl

    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name, _IFF[kind] | _IFF_NO_PI))
        actual = answer[:_IFNAMSIZ].rstrip(b"\0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            if mtu is not None:
                fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", actual, mtu))
            answer = fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16si20x", actual, 0))
        return HostDevice(fd, actual.decode(), kind, struct.unpack_from("i", answer, _IFNAMSIZ)[0])
    except BaseException:
        os.close(fd)
        raise


def _in_namespace(namespace: str, action: Callable[[], HostDevice]) -> HostDevice:
    # A thread of its own, because setns moves the calling thread and the way back may be forbidden. ctypes,
    # because os.setns came with Python 3.12.
    setns = ctypes.CDLL(None, use_errno=True).setns
    path = namespace if "/" in namespace else f"/run/netns/{namespace}"
    done: list[HostDevice] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if setns(fd, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), path)
            finally:
                os.close(fd)
            done.append(action())
        except BaseException as problem:
            failed.append(problem)

    thread = threading.Thread(target=run, name="tcpip_wasm-namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
