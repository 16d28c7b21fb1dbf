"""The interfaces a stack can have: loopback, tun (IP packets) and tap (Ethernet frames).

The reasons are in docs/explanation/memory-time-frames.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from tcpip_wasm.addresses import IPInterface
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import StreamLockedError
from tcpip_wasm.interfaces.autoconfiguration import ConfigurableInterface
from tcpip_wasm.interfaces.frames import FrameSink, FrameSource
from tcpip_wasm.interfaces.interface import Interface, Observer
from tcpip_wasm.interfaces.interface_arguments import MIN_MTU6
from tcpip_wasm.streams import ReadableStream, WritableStream

if TYPE_CHECKING:
    from tcpip_wasm.interfaces.bridge import BridgeInterface

LOOPBACK_MTU: Final = 65535


class LoopbackInterface(Interface):
    """The host's way to itself. Its packets never leave the module and carry no checksums."""

    type = "loopback"
    kind = abi.KIND_LOOPBACK

    def __init__(self, driver: Driver, name: str, addresses: list[IPInterface]) -> None:
        super().__init__(driver, name, LOOPBACK_MTU, addresses)

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Packets wait. Only while somebody observes does the module say so, and leave it to the host to move them."""
        buffers = self.buffers
        if not self._observers or buffers.move_to(buffers):
            self.driver.wake()
        else:
            self.driver.when_room(buffers, self.resume_transmit)

    def unobserve(self, observer: Observer) -> None:
        """Take back `observe`; the module moves again what waits."""
        super().unobserve(observer)
        self.driver.wake()


class StreamInterface(Interface):
    """An interface whose frames the outside world sees: by a cable, by a device, or as streams."""

    _source: FrameSource | None = None
    _readable: ReadableStream[bytes] | None = None
    _sink: FrameSink | None = None
    _writable: WritableStream[bytes] | None = None

    @property
    def readable(self) -> ReadableStream[bytes]:
        """The frames that leave, from the first use of this attribute on: nothing is kept until somebody listens.

        Raises:
            OSError: ``EBUSY`` where a cable or something else listens.
        """
        if self._readable is None or self._source is None or (self._port is not self._source and not self._removed):
            self._source = FrameSource(self)
            self._readable = ReadableStream(self._source)
        return self._readable

    @property
    def writable(self) -> WritableStream[bytes]:
        """The way in for frames."""
        if self._writable is None:
            self._sink = FrameSink(self)
            self._writable = WritableStream(self._sink)
        return self._writable

    def listen(self) -> ReadableStream[bytes]:
        """Return `readable`, for ``async for frame in tap.listen()``.

        Raises:
            OSError: ``EBUSY`` where a cable or something else listens.
            StreamLockedError: somebody iterates already.
        """
        readable = self.readable
        if readable.locked:
            raise StreamLockedError(f"{self.name} has a listener already")
        return readable

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the frames that leave; the same as `listen`."""
        return self.listen().__aiter__()

    def _let_go(self, error: Exception | None) -> None:
        super()._let_go(error)
        if self._sink is not None:
            self._sink.on_interface_gone()


class TunInterface(StreamInterface):
    """A point-to-point interface of IP packets, as a VPN or a tunnel carries them."""

    type = "tun"
    kind = abi.KIND_TUN


class TapInterface(ConfigurableInterface, StreamInterface):
    """An Ethernet interface. It can find its own addresses: see `configure`.

    Attributes:
        mac: its address, as ``02:00:00:00:00:01``.
        bridge: the bridge that it is a port of, or None.
    """

    type = "tap"
    kind = abi.KIND_TAP
    overhead = 14

    def __init__(self, driver: Driver, name: str, mtu: int, addresses: list[IPInterface], mac: bytes) -> None:
        self._prepare()
        super().__init__(driver, name, mtu, addresses, mac)
        self.mac: str = mac.hex(":")
        self.bridge: BridgeInterface | None = None

    def remove(self) -> None:
        """Take the tap out of its stack, and out of its bridge."""
        super().remove()
        if self.bridge is not None:
            self.bridge._forget_port(self)

    @property
    def link_local(self) -> IPv6Address | None:
        """The link-local address, made from the MAC (RFC 4291, appendix A); None where the MTU is too small for IPv6.

        As a host argument it needs its scope: ``f"{tap.link_local}%{tap.name}"``, with the name of one's own interface.
        """
        if self.mtu < MIN_MTU6:
            return None
        mac = bytes.fromhex(self.mac.replace(":", ""))
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])
