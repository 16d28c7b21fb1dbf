"""Avahi as a host of mDNS: its files, and the commands that start it with a message bus of its own.

Owns what Avahi and the bus read. Must not know where they run: in a namespace, or in a guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Avahi"]

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""
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
    """One host, which announces one service.

    Attributes:
        folder: an empty folder for its files.
        bus: the path of the bus's socket.
        host: the host's name, without ``.local``.
        device: the network device.
        name, type, port, text: of the service; `text` is one property, such as ``path=/``.
    """

    folder: Path
    bus: str
    host: str
    device: str
    name: str
    type: str
    port: int
    text: str

    def write(self) -> None:
        """Write the files."""
        services = self.folder / "services"
        services.mkdir(parents=True)
        (self.folder / "bus.conf").write_text(_BUS.format(address=self.address))
        (self.folder / "avahi.conf").write_text(_CONF.format(host=self.host, device=self.device))
        service = _SERVICE.format(name=self.name, type=self.type, port=self.port, text=self.text)
        (services / "test.service").write_text(service)

    @property
    def address(self) -> str:
        """The bus's address, for DBUS_SYSTEM_BUS_ADDRESS."""
        return f"unix:path={self.bus}"

    @property
    def start_bus(self) -> str:
        """A shell command that is the bus; it prints its address when it is ready."""
        return f"dbus-daemon --config-file={self.folder}/bus.conf --nofork --nopidfile --print-address=1"

    @property
    def start(self) -> str:
        """A shell command that is Avahi, and prints what it does. It needs mounts of its own, since it mounts its
        files and an empty /run."""
        return (
            f"mount --bind {self.folder}/services /etc/avahi/services && mount -t tmpfs tmpfs /run && "
            f"{self.start_mounted}"
        )

    @property
    def start_mounted(self) -> str:
        """The same where both are mounted."""
        return f"exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --debug -f {self.folder}/avahi.conf 2>&1"
