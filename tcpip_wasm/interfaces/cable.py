"""Cables: two taps or two tuns, of the same or of different stacks, joined so that what one sends the other receives.

A batch of frames crosses with one copy, since records leave as they enter. Nothing is lost on a cable: where the far
end has no room, frames wait, and with them whoever sends.
"""

from __future__ import annotations

from tcpip_wasm.interfaces.interface import Interface
from tcpip_wasm.interfaces.kinds import StreamInterface, TapInterface

__all__ = ["Cable", "connect"]


class _End:
    """One end: the port of one interface, whose frames go to the other."""

    def __init__(self, cable: Cable, near: Interface, far: Interface) -> None:
        self._cable = cable
        self._near = near
        self._buffers = far.buffers
        self._driver = far.driver

    def transmit(self, records: memoryview) -> int:
        if self._buffers.receive_records(records):
            self._driver.wake()
            return len(records)
        self._driver.when_room(self._buffers, self._near.resume_transmit)
        return 0

    def detached(self, error: Exception | None) -> None:
        self._cable.close()


class Cable:
    """A cable between two interfaces; made by `connect`."""

    def __init__(self, a: Interface, b: Interface) -> None:
        self._ends = (a, b)
        a.attach(_End(self, a, b))
        try:
            b.attach(_End(self, b, a))
        except BaseException:
            a.detach()
            raise
        self.closed = False

    def close(self) -> None:
        """Unplug both ends. Frames that have left one end still arrive; later ones are dropped. Idempotent."""
        if not self.closed:
            self.closed = True
            for interface in self._ends:
                interface.detach()


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
