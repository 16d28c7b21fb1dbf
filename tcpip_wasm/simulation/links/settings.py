"""`LinkSettings`: what one direction of a link does to frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcpip_wasm.arguments import check_int
from tcpip_wasm.simulation.links.loss import GilbertElliott, check_number, check_probability
from tcpip_wasm.simulation.links.queue import CoDel, DropTail

LONGEST: Final = 3600.0
"""Seconds: the longest delay."""

FASTEST: Final = 1e13
"""Bit/s: the largest bandwidth; one bit takes a tenth of a nanosecond less than none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What one direction of a link does to frames; `dataclasses.replace` makes others from it.

    A frame occupies the transmitter for ``(length + overhead) * 8 / bandwidth`` seconds and arrives `delay`, and up to
    `jitter`, after its last bit was sent. Its length is that of what is captured: with the 14 bytes of an Ethernet
    header, without preamble, check sequence and gap (`overhead` of 24 counts them). A lost frame has occupied the
    transmitter all the same, a dropped one has not.

    Args:
        bandwidth: bit/s; None: no limit.
        delay: seconds of propagation. Between hosts on Ethernet a round trip of 3 s or more keeps neighbour discovery
            from ending, and one of 5 s ARP: they give up, as those of other systems do, and so does what waits for
            them. Longer ones are for links between tuns, on which nobody asks for a neighbour.
        jitter: seconds; each frame takes up to so much longer, evenly distributed, but none overtakes another by it.
        queue: what waits for the transmitter; without a bandwidth nothing ever waits.
        loss: the probability that a frame is lost, or a model of bursts.
        duplicate: the probability that a frame arrives twice, its copy right behind it.
        reorder: the probability that a frame is late by `reorder_delay`, so that later ones overtake it.
        reorder_delay: seconds.
        corrupt: the probability that one bit of a frame, any of them, is turned over.
        mtu: bytes of the largest IP packet that gets through; longer ones are dropped without a word.
        overhead: bytes that each frame occupies the transmitter for beyond its own.

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
