"""`Networkd`: systemd-networkd in a namespace, with a message bus and an empty /run of its own.

Owns its settings, its processes and what they report. Must not know what is at the other end of the device. Without
udev networkd takes devices as they are; it assumes that there is no udev where /sys is read-only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .message_bus import MessageBus
from .namespaces import Namespace

__all__ = ["NETWORKD", "Networkd", "networkd"]

NETWORKD = Path("/lib/systemd/systemd-networkd")

_START = f"""
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/network && cp "$1/10.network" /run/systemd/network &&
mount -o remount,ro,bind /sys && exec {NETWORKD}
"""


class Networkd:
    """A running networkd.

    Attributes:
        process: its process.
    """

    def __init__(self, bus: MessageBus, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._bus = bus

    def run(self, *argv: str) -> str:
        """Run a program where networkd runs, and return its output.

        Raises:
            RuntimeError: it ended with another status than 0.
        """
        inside = ("nsenter", "-t", str(self.process.pid), "--mount", "--net", "env", self._bus.environment)
        done = subprocess.run([*inside, *argv], timeout=60, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def wait_online(self, device: str, *options: str) -> None:
        """Wait until a device is configured."""
        self.run("/lib/systemd/systemd-networkd-wait-online", "-i", f"{device}:routable", "--timeout=50", *options)

    def lease(self) -> dict[str, str]:
        """Return the values in networkd's file of its only IPv4 lease, such as ADDRESS, ROUTER and LIFETIME."""
        text = self.run("sh", "-c", "cat /run/systemd/netif/leases/*")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def stop(self) -> None:
        """End it as a system does that shuts down, and wait for its end."""
        self.process.terminate()
        self.process.wait(timeout=60)


@contextmanager
def networkd(namespace: Namespace, settings: str) -> Iterator[Networkd]:
    """Start networkd in a namespace, and return once it runs; it ends with the namespace.

    Args:
        namespace: where.
        settings: a .network file.
    """
    # It gives up root, and cannot reach folders that only root may enter.
    with tempfile.TemporaryDirectory(prefix="tcpip-networkd-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        (folder / "10.network").write_text(settings)
        bus = MessageBus(folder, f"{folder}/bus")
        namespace.start(*bus.command, ready="unix:")
        shell = ("sh", "-c", _START, "sh", name)
        environment = ("env", bus.environment, "SYSTEMD_LOG_LEVEL=info", "SYSTEMD_LOG_TARGET=console")
        yield Networkd(bus, namespace.start(*environment, *shell, ready="Enumeration completed"))
