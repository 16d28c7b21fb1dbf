"""The TUN and TAP devices of a Linux machine: `open_tuntap` and `HostDevice`.

Owns how a device is opened, in any network namespace, and its descriptor. How frames pass is `descriptor`'s.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, TypeVar

from tcpip_wasm.links.descriptor import DescriptorLink
from tcpip_wasm.links.link import FrameInterface, max_frame

__all__ = ["HostDevice", "open_tuntap"]

Kind = Literal["tap", "tun"]
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_IFF = {"tun": 0x0001, "tap": 0x0002}
_IFF_NO_PI = 0x1000
_IFNAMSIZ = 16


class HostDevice:
    """An open TUN or TAP device. It disappears from the machine when it is closed, unless it was made
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
        longest = max_frame(self.kind, max(self.mtu, interface.mtu))
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
    """Open a TUN or TAP device of the machine, making it if there is none of that name. Linux only; needs
    CAP_NET_ADMIN.

    The device comes without addresses and not up: the caller sets them (`ip addr`, `ip link`).

    Args:
        name: up to 15 bytes; the kernel picks one if None.
        kind: "tap" for Ethernet frames, "tun" for IP packets.
        namespace: the network namespace to put it into: a name that `ip netns` knows or the path of a namespace file.
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
    return in_namespace(namespace, lambda: _open_here(encoded, kind, mtu))


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


def in_namespace(namespace: str, action: Callable[[], T]) -> T:
    """Return what a function returns that runs in a network namespace.

    Args:
        namespace: a name that `ip netns` knows or the path of a namespace file.
        action: called in a thread of its own; a socket or device that it opens stays in the namespace.
    """
    # A thread of its own, because setns moves the calling thread and the way back may be forbidden. ctypes,
    # because os.setns came with Python 3.12.
    setns = ctypes.CDLL(None, use_errno=True).setns
    path = namespace if "/" in namespace else f"/run/netns/{namespace}"
    done: list[T] = []
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
