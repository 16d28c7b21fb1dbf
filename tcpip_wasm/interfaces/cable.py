"""Cables: two taps or two tuns, of the same or of different stacks, joined so that what one sends the other receives.

A batch of frames crosses with one copy, since records leave as they enter. Nothing is lost on a cable: if the
other end has no room, frames stay queued, and the sender is held back.

The reasons are in docs/explanation/memory-time-frames.md.
"""

from __future__ import annotations

from tcpip_wasm.interfaces.frames import StreamInterface
from tcpip_wasm.interfaces.interface import Interface
from tcpip_wasm.interfaces.tap import TapInterface

__all__ = ["Cable", "connect"]


class Cable:
    """A cable between two interfaces; made by `connect`. It is the port of both."""

    def __init__(self, a: Interface, b: Interface) -> None:
        self.closed: bool = False
        self._ends = (a, b)
        a.attach(self, far=b)
        try:
            b.attach(self, far=a)
        except BaseException:
            a.detach()
            raise

    def close(self) -> None:
        """Unplug both ends. Frames that have left one end still arrive; later ones are dropped. Idempotent."""
        if not self.closed:
            self.closed = True
            for interface in self._ends:
                interface.detach()

    def transmit(self, records: memoryview) -> int:
        """Not called: frames move from interface to interface (`far` in `Interface.attach`)."""
        raise AssertionError("a cable's frames move from interface to interface")

    def detached(self, error: Exception | None) -> None:
        """One end is gone: the other is unplugged."""
        self.close()


def connect(a: StreamInterface, b: StreamInterface) -> Cable:
    """Join two taps or two tuns by a cable.

    Args:
        a: an interface of a stack.
        b: another, of the same or of another stack on the same event loop.

    Raises:
        TypeError: one of the two is no tap and no tun.
        ValueError: a tap and a tun, an interface and itself, or stacks on different event loops.
        OSError: ``EBUSY`` where one of the two has a listener already.
    """
    for interface in (a, b):
        if not isinstance(interface, StreamInterface):
            raise TypeError(f"a cable joins taps or tuns, not {type(interface).__name__}")
    if isinstance(a, TapInterface) is not isinstance(b, TapInterface):
        raise ValueError(f"a cable joins two taps or two tuns, not {a!r} and {b!r}")
    if a is b:
        raise ValueError(f"{a!r} cannot be joined to itself")
    if a.driver.loop is not b.driver.loop:
        raise ValueError(f"{a!r} and {b!r} are on different event loops")
    b.check()
    return Cable(a, b)
