"""`MessageBus`: a D-Bus daemon of a test, which all users may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MessageBus"]

_CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""


@dataclass(frozen=True)
class MessageBus:
    """What starts a daemon and what its users need. Making it writes its settings.

    Attributes:
        folder: for the file of its settings.
        path: of its socket.
    """

    folder: Path
    path: str

    def __post_init__(self) -> None:
        (self.folder / "bus.conf").write_text(_CONF.format(address=self.address))

    @property
    def address(self) -> str:
        """Its address."""
        return f"unix:path={self.path}"

    @property
    def environment(self) -> str:
        """What programs need in their environment to find it."""
        return f"DBUS_SYSTEM_BUS_ADDRESS={self.address}"

    @property
    def command(self) -> tuple[str, ...]:
        """The daemon's command line; it prints its address when it is ready."""
        return ("dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile", "--print-address=1")
