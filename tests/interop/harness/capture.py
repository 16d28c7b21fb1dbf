"""Captures a link, and lets tshark verify all checksums and look for malformed packets.

A capture has each frame as it leaves or enters the stack: no kernel has filled in or verified a checksum before.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tcpip_wasm.capture import PcapngWriter, capture, link_types
from tcpip_wasm.links import DatagramSocketLink

from .requirements import require_programs

__all__ = ["Capture", "Verdict"]

SUMS: Final = ("ip", "tcp", "udp", "icmp", "icmpv6", "igmp")
"""The protocols whose checksums tshark verifies."""

_READ: Final = (
    *("frame", "eth", "ethertype", "raw", "arp", "ip", "ipv6", "icmp", "icmpv6", "igmp", "tcp", "udp", "dhcp", "data"),
    *("ipv6.hopopts", "ipv6.fraghdr"),
)
"""Protocols that tshark decodes: random bytes on port 80 would be malformed HTTP."""

_LINK_TYPES: Final = {"tap": link_types.ETHERNET, "tun": link_types.RAW}
_BAD, _GOOD = "0", "1"
_ERROR: Final = str(0x00800000)
"""tshark's severity of protocol errors; that of retransmissions is lower."""


@dataclass(frozen=True)
class Verdict:
    """tshark's results of a capture.

    Attributes:
        bad: a line for each frame with a wrong checksum or a malformed part.
        good: how many checksums of each protocol in `SUMS` were verified and right.
        protocols: how many frames each protocol was in.
    """

    bad: list[str]
    good: Counter[str] = field(default_factory=Counter)
    protocols: Counter[str] = field(default_factory=Counter)


class Capture:
    """The frames of one link, in order.

    Args:
        kind: of the interface, "tap" or "tun".
    """

    def __init__(self, kind: str = "tap") -> None:
        self.kind = kind
        self.frames: list[bytes] = []

    def of(self, interface: Any) -> Any:
        """Capture an interface until its stack ends, and return the interface."""
        assert interface.type == self.kind
        capture(interface, lambda observation: self.frames.append(observation.frame))
        return interface

    @contextmanager
    def wire(self, a: Any, b: Any) -> Iterator[None]:
        """Connect two interfaces of stacks, and capture the frames between them."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near, far:
            links = []
            for end, interface in ((near, self.of(a)), (far, b)):
                end.setblocking(False)
                links.append(DatagramSocketLink(end, interface))
            try:
                yield
            finally:
                for link in links:
                    link.close()

    def write_to(self, path: Path) -> None:
        """Write the frames to a file, a millisecond apart."""
        with PcapngWriter(path) as writer:
            interface = writer.add_interface(self.kind, _LINK_TYPES[self.kind])
            for number, frame in enumerate(self.frames):
                writer.write(interface, number * 1_000_000, frame)

    def judge(self, folder: Path, *, kernels: Collection[str] = ()) -> Verdict:
        """Let tshark decode the capture; a test is skipped where tshark is not installed.

        Args:
            folder: for the file.
            kernels: addresses of Linux, which writes a TCP checksum of 0 as 0xFFFF, as for UDP: one in 65,536.
                In RFC 1071 that is the same number; tshark reports it as wrong, and for other hosts it counts as wrong.
        """
        require_programs("tshark")
        path = folder / "capture.pcapng"
        self.write_to(path)
        columns = (
            *("frame.number", "frame.protocols", "_ws.malformed", "_ws.expert.severity", "_ws.col.Info"),
            *("ip.src", "ipv6.src", "tcp.checksum.ffff"),
        )
        done = subprocess.run(
            [
                *("tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"),
                *(part for name in ("ip", "tcp", "udp") for part in ("-o", f"{name}.check_checksum:TRUE")),
                *(part for name in columns for part in ("-e", name)),
                *(part for name in SUMS for part in ("-e", f"{name}.checksum.status")),
            ],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "WIRESHARK_CONFIG_DIR": str(_settings(folder))},
            check=True,
        )
        verdict = Verdict([])
        lines = done.stdout.splitlines()
        assert len(lines) == len(self.frames)
        for line in lines:
            number, protocols, malformed, severities, info, source4, source6, all_ones, *sums = line.split("\t")
            mangled = bool(all_ones) and (source4 or source6).split(",")[0] in kernels
            verdict.protocols.update(set(protocols.split(":")))
            wrong = []
            for name, states in zip(SUMS, sums, strict=True):
                if name == "tcp" and mangled:
                    states = _GOOD
                verdict.good[name] += states.split(",").count(_GOOD)
                wrong += [f"{name} checksum"] * states.split(",").count(_BAD)
            if malformed or _ERROR in severities.split(","):
                wrong.append("malformed")
            if wrong:
                verdict.bad.append(f"{number} {protocols}: {', '.join(wrong)}: {info}")
        return verdict


def _settings(folder: Path) -> Path:
    """Create a folder with settings that make tshark ignore payloads."""
    done = subprocess.run(("tshark", "-G", "protocols"), capture_output=True, text=True, timeout=60, check=True)
    names = [line.split("\t")[2] for line in done.stdout.splitlines()]
    assert set(_READ) <= set(names)
    settings = folder / "tshark"
    settings.mkdir(exist_ok=True)
    others = [name for name in names if name not in _READ and not name.startswith("_ws.")]
    (settings / "disabled_protos").write_text("\n".join(others) + "\n")
    return settings
