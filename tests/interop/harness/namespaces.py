"""Network namespaces: the machine's kernel as a peer that can reach only the stack.

Owns the namespace, the processes started in it, and their end. The device between the namespace and the test
is the package's own `HostDevice`; its far end, with its addresses, is set up here.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_interface

from tcpip_wasm.links import HostDevice, open_tuntap
from tcpip_wasm.links.tuntap import Kind

__all__ = ["Namespace", "network_namespace"]


# A namespace inherits the host's default, whatever that is; figures should compare from machine to machine.
CONGESTION_CONTROL = "cubic"


class Namespace:
    """A network namespace of a random name, with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[subprocess.Popen[str]] = []

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, timeout: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, at most `timeout` seconds; its output is captured as text.

        Raises:
            RuntimeError: it ended with another status than 0, and `check` is set.
        """
        done = subprocess.run(self.command(*argv), timeout=timeout, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def echoes(self, host: str, count: int, *, size: int = 56) -> None:
        """The kernel's ping asks a host so often, one echo at a time; each comes back once, with what was sent.

        One at a time, since after its last request ping waits for replies to earlier ones only twice as long
        as the longest round trip so far: on a busy machine it goes before what is on its way has come.

        Args:
            host: an IPv4 or IPv6 address.
            count: of echoes.
            size: of their payload, in bytes; ping compares what comes back.

        Raises:
            AssertionError: one did not come back, came twice, or with another payload.
        """
        for _ in range(count):
            said = self.run("ping", "-n", "-c", "1", "-W", "20", "-s", str(size), host, timeout=40, check=False).stdout
            assert "1 packets transmitted, 1 received, 0% packet loss" in said, said
            assert "wrong" not in said, said

    def start(self, *argv: str, ready: str) -> subprocess.Popen[str]:
        """Start a server inside and return once a line of its output contains `ready`; it ends with the
        namespace.

        Raises:
            RuntimeError: it ended without having been ready.
        """
        process = subprocess.Popen(
            self.command(*argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if ready in line:
                return process
        raise RuntimeError(f"{argv[0]} ended with {process.wait()}: {''.join(said)}")

    def open_device(self, kind: Kind, addresses: Sequence[str], *, name: str = "peer0") -> HostDevice:
        """Make a TAP or TUN device inside, give it its addresses (with prefix lengths), and bring it up.

        TCP towards these networks uses CUBIC. The routes say so rather than the namespace, because a kernel
        may allow a namespace only the controls on its own list, which CUBIC need not be on.
        """
        device = open_tuntap(name, kind=kind, namespace=self.name)
        try:
            for address in addresses:
                # A duplicate-address check would keep an IPv6 address tentative for its first second.
                options = ["nodad"] if ":" in address else []
                self.run("ip", "address", "add", address, "dev", name, "noprefixroute", *options)
            self.run("ip", "link", "set", name, "up")
            for address in addresses:
                network = str(ip_interface(address).network)
                self.run("ip", "route", "add", network, "dev", name, "congctl", CONGESTION_CONTROL)
        except BaseException:
            device.close()
            raise
        return device

    def stop_processes(self) -> None:
        """End the programs that `start` started."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """Make a namespace; at the end stop everything started in it and remove it."""
    name = f"tcpip-{secrets.token_hex(4)}"
    _ip("netns", "add", name)
    namespace = Namespace(name)
    try:
        namespace.run("ip", "link", "set", "lo", "up")
        yield namespace
    finally:
        namespace.stop_processes()
        _ip("netns", "delete", name)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, timeout=60, capture_output=True)
