"""`LinkSettings`: the parameters of one direction of a link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.simulation.links.loss import GilbertElliott, check_number, check_probability
from tcpip_wasm.simulation.links.queue import CoDel, DropTail

LONGEST: Final = 3600.0
"""Seconds: the longest delay."""

FASTEST: Final = 1e13
"""Bit/s: the largest bandwidth, at which one bit takes a tenth of a nanosecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """The parameters of one direction of a link; `dataclasses.replace` returns a changed copy.

    A frame occupies the transmitter for ``(length + overhead) * 8 / bandwidth`` seconds and arrives `delay`, and up to
    `jitter`, after its last bit was sent. Its length is that of the captured frame: with the 14 bytes of an Ethernet
    header, without preamble, frame check sequence and inter-frame gap (`overhead` of 24 adds them). A frame that is
    lost occupies the transmitter, one that the queue drops does not.

    Args:
        bandwidth: bit/s; None: no limit.
        delay: seconds of propagation delay. Between hosts on Ethernet, neighbour discovery fails with a round-trip time
            of 3 s or more, and ARP with one of 5 s, as on other systems. Longer delays need links between TUN
            interfaces, which resolve no neighbours.
        jitter: seconds; each frame takes up to so much longer, uniformly distributed, without reordering.
        queue: the queue of the transmitter; without a bandwidth no frame waits.
        loss: the probability that a frame is lost, or a model of bursts.
        duplicate: the probability that a frame arrives twice, its copy directly after it.
        reorder: the probability that a frame is late by `reorder_delay`, so that later ones overtake it.
        reorder_delay: seconds.
        corrupt: the probability that one random bit of a frame is flipped.
        mtu: bytes of the largest IP packet that is carried; longer ones are dropped without an ICMP error.
        overhead: bytes per frame that occupy the transmitter in addition to its length.

    Raises:
        TypeError, ValueError: one of them has the wrong type or is out of range; the message names it.
    """

    bandwidth: float | None = None
    delay: float = 0.0
    jitter: float = 0.0
    queue: DropTail | CoDel = field(default_factory=DropTail)
    loss: float | GilbertElliott = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.01
    corrupt: float = 0.0
    mtu: int | None = None
    overhead: int = 0

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            check_number("bandwidth", self.bandwidth, 0.0, FASTEST, below=True)
        for name in ("delay", "jitter", "reorder_delay"):
            check_number(name, getattr(self, name), 0.0, LONGEST)
        if not isinstance(self.queue, (DropTail, CoDel)):
            raise TypeError(f"queue must be a DropTail or a CoDel, not {type(self.queue).__name__}")
        if not isinstance(self.loss, GilbertElliott):
            check_probability("loss", self.loss)
        for name in ("duplicate", "reorder", "corrupt"):
            check_probability(name, getattr(self, name))
        if self.mtu is not None:
            check_int("mtu", self.mtu, 68, 65535)
        check_int("overhead", self.overhead, 0, 1000)
