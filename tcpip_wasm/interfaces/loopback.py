"""The loopback interface: `LoopbackInterface`.

The reasons are in docs/explanation/memory-time-frames.md.
"""

from __future__ import annotations

from typing import Final

from tcpip_wasm.addresses import IPInterface
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import abi
from tcpip_wasm.interfaces.interface import Interface, Observer

LOOPBACK_MTU: Final = 65535


class LoopbackInterface(Interface):
    """The stack's interface to itself. Its packets never leave the module and carry no checksums."""

    type = "loopback"
    kind = abi.KIND_LOOPBACK

    def __init__(self, driver: Driver, name: str, addresses: list[IPInterface], *, ipv6: bool = True) -> None:
        super().__init__(driver, name, LOOPBACK_MTU, addresses, ipv6=ipv6)

    def _on_event(self, kind: int, value: int, payload: bytes) -> None:
        """Packets wait. The module reports them, and leaves moving them to Python, only while an observer is there."""
        buffers = self.buffers
        if not self._observers or buffers.move_to(buffers):
            self.driver.wake()
        else:
            self.driver.when_room(buffers, self.resume_transmit)

    def unobserve(self, observer: Observer) -> None:
        """Undo `observe`; the module moves packets itself again."""
        super().unobserve(observer)
        self.driver.wake()
