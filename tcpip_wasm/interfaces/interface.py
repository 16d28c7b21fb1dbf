"""What all interfaces have in common: an address or several, counters, and one port.

Moves frames between the module's buffers and a `Port`, which is any object with its methods, or directly to another
interface if a cable joins the two. Until a port is attached, frames that leave are dropped and counted.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from tcpip_wasm.addresses import Address, IPInterface
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import FrameBuffers, abi, observe, split_records, unobserve
from tcpip_wasm.errors import NetworkError, StackError

MOST_NAMED: Final = 8
"""Interfaces or addresses that an error lists."""

_NEARLY_FULL: Final = abi.TRANSMIT_CAPACITY - 2 * abi.MAX_FRAME


class Port(Protocol):
    """What an interface's frames go to. Records are explained in `engine.records`."""

    def transmit(self, records: memoryview, /) -> int:
        """Take whole records off the front and return how many bytes they had; fewer than all is backpressure.

        A port that took fewer calls the interface's `resume_transmit` when it can take more. The view is valid only
        during this call, which must not write to a connection whose own frames it carries.
        """

    def detached(self, error: Exception | None, /) -> None:
        """The interface has detached this port: it was removed, or its stack is gone."""


class Observer(Protocol):
    """Receives a copy of what passes an interface; see `Interface.observe`.

    What its methods raise goes to the loop's exception handler.
    """

    def observed(self, interface: Interface, outgoing: bool, frame: memoryview, /) -> None:
        """A frame leaves or enters. The view is valid only during this call, which must not call into a stack."""

    def unobserved(self, interface: Interface, /) -> None:
        """The interface was removed, or its stack is gone."""


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """Counters of one interface.

    Attributes:
        frames_in, frames_out: frames that the stack took in and sent.
        malformed: frames dropped because their lengths or addresses are impossible.
        transmit_full: frames that a full transmit buffer refused; TCP sends its own again, others are lost.
        foreign: frames dropped because they are addressed to another station.
        too_long: frames that a bridge did not send by this port because they exceed its MTU.
        unheard: frames dropped because nothing was attached.
        oversized: frames dropped on the way in because they are longer than any the interface could take.
    """

    frames_in: int
    frames_out: int
    malformed: int
    transmit_full: int
    foreign: int
    too_long: int
    unheard: int
    oversized: int


class Interface:
    """An interface of a stack; `NetworkStack` makes them.

    Attributes:
        name: such as ``tap0``; the scope of its link-local addresses.
        addresses: all addresses with their prefixes.
        mtu: bytes of the largest IP packet.
        ipv6: whether it takes part in IPv6; see `NetworkStack.create_tap_interface`.
    """

    type: ClassVar[str]
    kind: ClassVar[int]
    overhead: ClassVar[int] = 0
    """Bytes of a frame beyond its IP packet."""

    def __init__(
        self,
        driver: Driver,
        name: str,
        mtu: int,
        addresses: list[IPInterface],
        mac: bytes = b"",
        *,
        ipv6: bool = True,
    ) -> None:
        self.driver = driver
        self.name = name
        self.mtu = mtu
        self.ipv6 = ipv6
        self.addresses: tuple[IPInterface, ...] = tuple(addresses)
        self.buffers: FrameBuffers = driver.core.add_interface(self.kind, mtu, mac, ipv6=ipv6)
        self.handle: int = self.buffers.handle
        self._port: Port | None = None
        self._observers: tuple[Observer, ...] = ()
        self._far: Interface | None = None
        self._transmitting = False  # a port's `transmit` runs
        self._removed = False
        self._unheard = 0
        self._oversized = 0
        driver.handlers[self.handle] = self
        try:
            for address in addresses:
                driver.core.add_address(self.handle, address.ip, address.network.prefixlen)
        except BaseException:
            self.remove()
            raise
        driver.wake()

    def __repr__(self) -> str:
        return f"<{self.type} {self.name} {', '.join(map(str, self.addresses)) or 'no address'}>"

    @property
    def ip(self) -> Address | None:
        """The first address, IPv4 before IPv6, or None."""
        first = min(self.addresses, key=lambda a: a.version, default=None)
        return first.ip if first else None

    @property
    def netmask(self) -> Address | None:
        """The netmask of `ip`, or None."""
        first = min(self.addresses, key=lambda a: a.version, default=None)
        return first.netmask if first else None

    @property
    def checksums(self) -> bool:
        """Whether checksums are generated and verified; to be set on both ends of a cable."""
        return self._checksums

    @checksums.setter
    def checksums(self, enabled: bool) -> None:
        self.driver.core.set_checksums(self.handle, bool(enabled))
        self._checksums = bool(enabled)

    _checksums = True

    _dead_end: str | None = None
    """Why sent frames cannot be delivered, if the attached port knows a reason; then connects through it fail."""

    def statistics(self) -> InterfaceStatistics:
        """Return what the interface has counted so far."""
        return InterfaceStatistics(*self.buffers.counters(), self._unheard, self._oversized)

    @property
    def name_servers(self) -> tuple[Address, ...]:
        """The name servers that this interface learned; see `ConfigurableInterface`."""
        return ()

    @property
    def search(self) -> tuple[str, ...]:
        """The domains to look for short names in that this interface learned; see `ConfigurableInterface`."""
        return ()

    _on_name_servers: Callable[[Interface], None] | None = None
    """Called when `name_servers` or `search` may have changed."""

    def _look(self) -> None:
        """Log leases and addresses that have ended; see `ConfigurableInterface`."""

    def _give_back_soon(self) -> bool:
        """Release a lease before the stack closes; True if there is something to be sent."""
        return False

    # --- Frames out ---------------------------------------------------------------------------------------------

    def attach(self, port: Port, *, far: Interface | None = None) -> None:
        """Send this interface's frames to a port from now on.

        Args:
            port: what takes them.
            far: where the port would do nothing but hand the frames to another interface, that interface: they move
                there in one step, and the port is only notified of the end. The other is attached to this one likewise.

        Raises:
            OSError: ``EBUSY`` where something is attached already, ``ENODEV`` where the interface was removed.
            StackError: the stack is gone.
        """
        self.check()
        if self._port is not None:
            raise NetworkError(errno.EBUSY, f"{self.name} has a listener already")
        self._port, self._far = port, far
        self._choose_buffers(far)

    def detach(self) -> None:
        """Attach nothing. Without effect when nothing is attached."""
        far = self._far
        self._port = self._far = None
        self._choose_buffers(far)

    @property
    def attached(self) -> bool:
        """Whether a port is attached."""
        return self._port is not None

    def resume_transmit(self) -> None:
        """Send the waiting frames: the port has room again."""
        if self.buffers.transmit_length:
            self._on_event(abi.EVENT_TRANSMIT, 0, b"")
        self.driver.wake()

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event of this interface: frames wait to be sent, or another."""
        if kind != abi.EVENT_TRANSMIT:
            self._on_configuration_event(kind, value, payload)
            return
        buffers, far = self.buffers, self._far
        if far is not None:
            if buffers.move_to(far.buffers):
                far.driver.wake()
            else:
                far.driver.when_room(far.buffers, self.resume_transmit)
        elif self._transmitting:
            self.driver.wake()  # the port itself has something sent: what it was given is still in the buffer
        elif self._port is not None:
            self._transmitting = True
            try:
                buffers.transmitted(self._port.transmit(buffers.transmit_view()))
            finally:
                self._transmitting = False
        else:
            self._unheard += sum(1 for _ in split_records(buffers.transmit_view()))
            buffers.transmitted(buffers.transmit_length)
        if value > _NEARLY_FULL and buffers.transmit_length < value:
            self.driver.wake()  # the buffer may have refused segments, which can leave now

    def _on_configuration_event(self, kind: int, value: int, payload: bytes) -> None:
        """Take an event that is not about frames; see `ConfigurableInterface`."""

    # --- Frames in ----------------------------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Return writable space for records, or an empty view where the largest frame does not fit now.

        It is valid until the next call into the stack. `commit_received` follows with how much was written.
        """
        view = self.buffers.receive_view()
        return view if len(view) >= self.mtu + self.overhead + 8 else view[:0]

    def commit_received(self, count: int) -> None:
        """Take in so many bytes of whole records, written to the front of `receive_buffer`."""
        self.buffers.received(count)
        self.driver.wake()

    def inject(self, frame: bytes) -> bool:
        """Take in one frame and return True, or return False where there is no room now; see `call_when_room`.

        A frame longer than any this interface could take is dropped and counted.
        """
        if len(frame) > abi.MAX_FRAME:
            self._oversized += 1
            return True
        taken = self.buffers.receive_frame(frame)
        self.driver.wake()
        return taken

    def call_when_room(self, callback: Callable[[], None]) -> None:
        """Call back, once, when the stack has taken in what waits in the receive buffer; never if the stack is gone."""
        self.driver.when_room(self.buffers, callback)

    # --- Observers -------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Show an observer every frame that leaves or enters from now on. Without effect if it observes already.

        A frame leaves when a port takes it or when nothing is attached, and enters when it is in the receive buffer.

        Raises:
            OSError: ``ENODEV`` where the interface was removed.
            StackError: the stack is gone.
        """
        self.check()
        if observer not in self._observers:
            self._observers += (observer,)
            self._choose_buffers(self._far)

    def unobserve(self, observer: Observer) -> None:
        """Undo `observe`. Without effect if it does not observe."""
        if observer in self._observers:
            self._observers = tuple(each for each in self._observers if each is not observer)
            self._choose_buffers(self._far)

    def _choose_buffers(self, far: Interface | None) -> None:
        # What crosses a cable is moved by the buffers of the sender: they report it for both ends.
        for one, other in ((self, self._far), (far, far and far._far)):  # noqa: SLF001  the interface at the other end of the cable
            if one is None or one._removed:  # noqa: SLF001  the interface at the other end of the cable
                continue
            if one._observers or (other is not None and other._observers):  # noqa: SLF001  the interface at the other end of the cable
                observe(one.buffers, one._on_records)  # noqa: SLF001  the interface at the other end of the cable
            else:
                unobserve(one.buffers)

    def _on_records(self, outgoing: bool, records: memoryview) -> None:
        for observer in self._observers:
            for frame in split_records(records):
                try:
                    observer.observed(self, outgoing, frame)
                except Exception as error:  # the frame passes all the same, also to the other observers
                    self.driver.report(error, "an observer of an interface failed")

    # --- The end ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if the interface or its stack is gone.

        Raises:
            OSError: ``ENODEV``.
            StackError: the stack was closed or has trapped.
        """
        self.driver.check()
        if self._removed:
            raise NetworkError(errno.ENODEV, f"{self.name} was removed")

    def remove(self) -> None:
        """Take the interface out of its stack; what is attached to it is notified."""
        if self._removed:
            return
        self._removed = True
        self.buffers.close()
        self.driver.handlers.pop(self.handle, None)
        self.driver.core.remove_interface(self.handle)
        self._detach_all(None)

    def _on_stack_gone(self, error: StackError) -> None:
        """The stack is gone, and so is this interface."""
        self._removed = True
        self.buffers.close()
        self._detach_all(error)

    def _detach_all(self, error: Exception | None) -> None:
        port = self._port
        self.detach()
        observers, self._observers = self._observers, ()
        for observer in observers:
            try:
                observer.unobserved(self)
            except Exception as failure:
                self.driver.report(failure, "an observer of an interface failed")
        if port is not None:
            port.detached(error)


def lost_frames(interfaces: Iterable[Interface]) -> str | None:
    """Return a text for an error where nothing takes the frames of any of these interfaces; else None.

    Such frames are dropped and counted, so that a call which waits for an answer ends in a time-out.
    """
    idle = [interface for interface in interfaces if interface.type != "loopback"]
    if not idle or any(interface.attached for interface in idle):
        return None
    names = [interface.name for interface in idle]
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return f"nothing is attached to {', '.join(names[:MOST_NAMED] + more)}, which drops what it sends"


def check_interface(name: str, interface: object, driver: Driver) -> Interface:
    """Return an interface of the stack that a driver drives.

    Args:
        name: the argument's, for the message.
        interface: what the caller gave.
        driver: the stack's.

    Raises:
        TypeError: it is no interface.
        ValueError: it is one of another stack.
        OSError: ``ENODEV`` where it was removed.
        StackError: the stack is gone.
    """
    if not isinstance(interface, Interface):
        raise TypeError(f"{name} must be an interface of the stack, not {type(interface).__name__}")
    if interface.driver is not driver:
        raise ValueError(f"{name}: {interface!r} is none of this stack's")
    interface.check()
    return interface
