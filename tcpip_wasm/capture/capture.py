"""Captures the frames that enter and leave interfaces of stacks, with their time, into a file or for a function.

Connects an interface's observer to a recorder. Interfaces know nothing of it; those that are not captured do no work
for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import BinaryIO

from tcpip_wasm.capture.link_types import ETHERNET, RAW
from tcpip_wasm.capture.observation import Observation
from tcpip_wasm.capture.recorder import Recorder
from tcpip_wasm.driver import Driver
from tcpip_wasm.interfaces import BridgeInterface, Interface, TapInterface

__all__ = ["Capture", "capture"]

Destination = str | os.PathLike[str] | BinaryIO | Callable[[Observation], None]


class Capture:
    """A running capture; `capture` starts it. ``with`` and `close` end it.

    Attributes:
        frames: how many were captured.
        error: why the capture ended by itself, or None: the file could not be written, or the function raised.
    """

    def __init__(
        self,
        interfaces: Mapping[str, Interface],
        to: Destination,
        clock: Callable[[], int],
        snaplen: int,
        comment: str | None,
    ) -> None:
        self._driver: Driver = next(iter(interfaces.values())).driver
        self._clock = clock
        self._snaplen = snaplen
        self._points = {interface: name for name, interface in interfaces.items()}
        self._names = ", ".join(interfaces)
        self._links: dict[Interface, tuple[str, int]] = {}  # of interfaces with captured frames
        self._recorder: Recorder | None = None
        self._sink: Callable[[Observation], None] | None = None
        self.frames: int = 0
        self.error: Exception | None = None
        for interface in self._points:
            interface.check()
        if callable(to):
            self._sink = to
        else:
            self._recorder = Recorder(to, snaplen=snaplen, comment=comment, on_error=self._fail)
            for interface in self._points:
                if not isinstance(interface, BridgeInterface):
                    mac = bytes.fromhex(interface.mac.replace(":", "")) if isinstance(interface, TapInterface) else None
                    self._recorder.describe(*self._link_of(interface), mac)
        for interface in self._points:
            interface.observe(self)

    @property
    def closed(self) -> bool:
        """Whether the capture has ended."""
        return not self._points

    def flush(self) -> None:
        """Flush the file, so that other programs can read what was captured."""
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """End the capture: flush the file, and close it if it was given as a path. Idempotent.

        A write error is reported to the loop's exception handler, and not raised.
        """
        points, self._points = self._points, {}
        for interface in points:
            interface.unobserve(self)
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def observed(self, interface: Interface, outgoing: bool, frame: memoryview) -> None:
        """Record a frame of an interface."""
        if not self._points:  # closed at an earlier frame of the same batch
            return
        point, link_type = self._links.get(interface) or self._link_of(interface)
        if self._recorder is not None:
            self._recorder.write(point, link_type, self._clock(), frame, outgoing)
        elif self._sink is not None:
            length = len(frame)
            cut = 0 < self._snaplen < length
            data = bytes(frame[: self._snaplen] if cut else frame)
            seen = Observation(self._clock() / 1e9, point, outgoing, data, None, link_type, length if cut else None)
            try:
                self._sink(seen)
            except Exception as error:
                self._fail(error)
        if self.error is None:
            self.frames += 1

    def unobserved(self, interface: Interface) -> None:
        """An interface was removed. With the last one the capture ends."""
        if self._points.pop(interface, None) is not None and not self._points:
            self.close()

    def _link_of(self, interface: Interface) -> tuple[str, int]:
        name = self._points.get(interface)
        if name is None:  # a port of a bridge
            bridge = interface.bridge if isinstance(interface, TapInterface) else None
            above = self._points.get(bridge) if bridge is not None else None
            name = f"{above}/{interface.name}" if above is not None else interface.name
        found = name, ETHERNET if isinstance(interface, (TapInterface, BridgeInterface)) else RAW
        self._links[interface] = found
        return found

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._driver.report(error, f"the capture of {self._names} has ended")
            self.close()


def capture(
    interfaces: Interface | Iterable[Interface] | Mapping[str, Interface],
    to: Destination,
    *,
    snaplen: int = 0,
    clock: Callable[[], int] | None = None,
    comment: str | None = None,
) -> Capture:
    """Capture the frames of interfaces from now on, whatever they are attached to.

    A frame is captured when it leaves the stack, and when it enters the stack's receive buffer. A frame on a cable is
    captured at each end that is given, one on a loopback interface once, as it leaves; a bridge is captured at its
    ports. An interface may have several captures.

    Args:
        interfaces: one interface; several, of any stacks, under their own names; or a mapping of names in the capture
            to interfaces.
        to: a path or a file open for writing bytes, which becomes a pcapng file; or a function that is called with each
            `Observation`, such as a `Trace`.
        snaplen: most bytes that are kept of each frame; 0 keeps all.
        clock: returns the time in nanoseconds. None is the virtual time of a loop that has a method `time_ns`, else
            the time of day.
        comment: a comment on the capture in the file.

    Returns:
        The capture. It also ends with the last of its interfaces, and at a write error, which is reported to the loop's
        exception handler once and does not affect the stack.

    Raises:
        OSError: the file cannot be opened, or ``ENODEV``: an interface was removed.
        StackError: the stack of an interface has ended.
        TypeError: not an interface.
        ValueError: no interface, or two with one name; a negative `snaplen`.
    """
    if isinstance(interfaces, Interface):
        named = {interfaces.name: interfaces}
    elif isinstance(interfaces, Mapping):
        named = dict(interfaces)
    else:
        several = list(interfaces)
        named = {interface.name: interface for interface in several if isinstance(interface, Interface)}
        if len(named) < len(several) and all(isinstance(each, Interface) for each in several):
            raise ValueError(f"interfaces: two have one name in {several}; give them names by a mapping")
        if len(named) < len(several):
            raise TypeError(f"interfaces: not all of {several} are interfaces")
    if not named:
        raise ValueError("interfaces: there must be one at least")
    for name, interface in named.items():
        if not isinstance(interface, Interface):
            raise TypeError(f"interfaces: {name!r} is no interface but {type(interface).__name__}")
    if len(set(named.values())) < len(named):
        raise ValueError(f"interfaces: one has two names in {named}")
    if snaplen < 0:
        raise ValueError(f"snaplen must be 0 or more bytes, not {snaplen}")
    if clock is None:
        loop = next(iter(named.values())).driver.loop
        clock = getattr(loop, "time_ns", None) or time.time_ns
    return Capture(named, to, clock, snaplen, comment)
