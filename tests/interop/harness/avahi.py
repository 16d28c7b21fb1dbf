"""`Avahi`: what Avahi reads, as a host with one service, and the command that starts it; in a namespace or a guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Avahi"]

_CONF = """[server]
host-name={host}
use-ipv4=yes
use-ipv6=yes
allow-interfaces={device}
enable-dbus=yes
[publish]
publish-workstation=no
[rlimits]
"""
_SERVICE = """<?xml version="1.0" standalone='no'?><!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group><name>{name}</name><service><type>{type}</type><port>{port}</port>
<txt-record>{text}</txt-record></service></service-group>
"""


@dataclass(frozen=True)
class Avahi:
    """One host, which announces one service. Making it writes its files.

    Attributes:
        folder: for its files.
        host: the host's name, without ``.local``.
        device: the network device.
        name, type, port, text: of the service; `text` is one property, such as ``path=/``.
    """

    folder: Path
    host: str
    device: str
    name: str
    type: str
    port: int
    text: str

    def __post_init__(self) -> None:
        (self.folder / "services").mkdir()
        (self.folder / "avahi.conf").write_text(_CONF.format(host=self.host, device=self.device))
        service = _SERVICE.format(name=self.name, type=self.type, port=self.port, text=self.text)
        (self.folder / "services/test.service").write_text(service)

    @property
    def command(self) -> str:
        """A shell command that becomes Avahi, and prints what it does. It mounts its files and an empty /run, and so
        needs mounts of its own; the bus's address is in the environment."""
        return (
            f"mount --bind {self.folder}/services /etc/avahi/services && mount -t tmpfs tmpfs /run && "
            f"exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --debug -f {self.folder}/avahi.conf 2>&1"
        )
