"""DHCP clients of Linux distributions, and a network in which they run against the stack's server.

Owns the namespace, the clients' command lines and files, and what they report. The tests are in `test_dhcp_clients`;
`ClientNamespace` is also for those of DHCPv6.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcpip_wasm import BridgeInterface, NetworkStack, create_stack
from tcpip_wasm.services import DhcpEvent, DhcpServer
from tests.kit.polling import poll

from .harness.namespaces import Namespace, network_namespace
from .harness.networkd import Networkd, networkd

__all__ = ["PROGRAMS", "Client", "ClientNamespace", "Clients", "dhcp_clients"]

PROGRAMS = ("udhcpc", "dhclient", "dhcpcd", "systemd-networkd")

WAIT = 90.0
"""Time limit in seconds of what takes a few."""

_SCRIPT = """#!/bin/sh
# Written by a test: writes the environment to one file an event; no setting of the machine is changed.
[ -n "$1" ] && reason="$1"
env > "{folder}/$reason.$$"
case "$reason" in
  bound|renew|BOUND|RENEW|REBOOT)
    # dhclient leaves it to the script to ask whether another host has the address, and declines where that fails.
    [ -z "$probe" ] || busybox arping -q -D -c 2 -I peer0 "$new_ip_address" || exit 1
    [ "${{old_ip_address:-$new_ip_address}}" = "$new_ip_address" ] || ip address del "$old_ip_address/24" dev peer0
    ip address replace "${{ip:-$new_ip_address}}/24" dev peer0 ;;
  deconfig|RELEASE|EXPIRE|STOP) ip -4 address flush dev peer0 ;;
esac
exit 0
"""

_DHCLIENT = """
send host-name "guest-2"; timeout 80; retry 5; initial-interval 1; backoff-cutoff 2;
request subnet-mask, routers, domain-name, domain-search, domain-name-servers;
"""
_NETWORKD = """
[Match]
Name=peer0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
Hostname=guest-4
SendDecline={probes}
"""


@dataclass(frozen=True)
class Client:
    """A client that runs.

    Attributes:
        process: its process.
        renew: makes it renew its lease now; None if it renews by time alone, after half of the lease.
    """

    process: subprocess.Popen[Any]
    renew: Callable[[], object] | None

    def kill(self) -> None:
        """End it without a message to the server."""
        self.process.kill()
        self.process.wait()


@dataclass
class ClientNamespace:
    """A namespace in which clients run, and what they report.

    Attributes:
        namespace: the namespace.
        folder: for the clients' files; each run of their script writes its environment to a file there.
        children: the clients that were started, except networkd.
    """

    namespace: Namespace
    folder: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a client in the namespace; it ends with the test."""
        with (self.folder / "output").open("ab") as output:
            child = subprocess.Popen(
                self.namespace.command(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.children.append(child)
        return child

    async def script_ran(self, **values: object) -> None:
        """Wait until a run of the script had these values in its environment."""
        wanted = {f"{name}={value}" for name, value in values.items()}
        await poll(
            lambda: any(wanted <= set(path.read_text().splitlines()) for path in self.folder.glob("*.*[0-9]")),
            seconds=WAIT,
        )

    async def end(self) -> None:
        """End the clients and their helpers."""
        for child in self.children:
            await asyncio.to_thread(_end, child)


@dataclass
class Clients(ClientNamespace):
    """Clients, and the server's stack, whose bridge has the namespace's device as a port.

    Attributes:
        stack: the server's stack.
        bridge: its interface.
        dhcp: the server.
        events: its events.
        held: what ends with the network.
    """

    stack: NetworkStack
    bridge: BridgeInterface
    held: AsyncExitStack
    dhcp: DhcpServer = field(init=False)
    events: AsyncIterator[DhcpEvent] = field(init=False)

    async def serve(self, **options: Any) -> None:
        """Start a server, as the one whose events are followed from now on.

        Args:
            options: for `DhcpServer`, instead of the network's usual ones.
        """
        arguments: dict[str, Any] = {
            "pool": ("10.77.0.100", "10.77.0.110"),
            "router": "10.77.0.1",
            "name_servers": ["10.77.0.1", "10.77.0.2"],
            "domain": "lab.internal",
            "search": ["lab.internal", "internal"],
            **options,
        }
        self.dhcp = await DhcpServer(self.bridge, **arguments).start()
        self.events = self.dhcp.events()

    @property
    def mac(self) -> str:
        """The hardware address of the clients' device."""
        return self.namespace.run("cat", "/sys/class/net/peer0/address").stdout.strip()

    @property
    def script(self) -> str:
        """The program that clients run."""
        path = self.folder / "script"
        if not path.exists():
            path.write_text(_SCRIPT.format(folder=self.folder))
            path.chmod(0o755)
        return str(path)

    def udhcpc(self, *options: str) -> subprocess.Popen[bytes]:
        """Start busybox's udhcpc, as Debian has it."""
        return self.start(
            *("udhcpc", "-f", "-i", "peer0", "-s", self.script, "-x", "hostname:guest-1"),
            *("-O", "search", "-t", "20", "-T", "2", *options),
        )

    def dhclient(self, *options: str) -> subprocess.Popen[bytes]:
        """Start ISC's dhclient."""
        (self.folder / "conf").write_text(_DHCLIENT)
        files = ("-sf", self.script, "-lf", f"{self.folder}/leases", "-pf", f"{self.folder}/pid")
        return self.start("dhclient", "-4", *options, "-cf", f"{self.folder}/conf", *files, "peer0")

    def dhcpcd(self, *options: str) -> subprocess.Popen[bytes]:
        """Start dhcpcd."""
        (self.folder / "conf").write_text("hostname guest-3\noption domain_search, domain_name_servers, routers\n")
        command = ("dhcpcd", "-4", "-B", "-d", "-f", f"{self.folder}/conf", "-c", self.script, *options, "peer0")
        # Its leases and sockets are in folders of this command alone: `ip netns exec` gives it its own mounts.
        folders = "mount -t tmpfs tmpfs /var/lib/dhcpcd && mount -t tmpfs tmpfs /run"
        return self.start("sh", "-c", folders + ' && exec "$@"', "sh", *command)

    async def networkd(self, *, probes: bool = False) -> Networkd:
        """Start systemd-networkd."""
        settings = _NETWORKD.format(probes="yes" if probes else "no")
        return await asyncio.to_thread(self.held.enter_context, networkd(self.namespace, settings))

    async def run(self, program: str, *, probes: bool = False) -> Client:
        """Start a client by its name.

        Args:
            program: one of `PROGRAMS`.
            probes: whether it asks for another host with the address before it uses it.
        """
        if program == "systemd-networkd":
            daemon = await self.networkd(probes=probes)
            return Client(daemon.process, lambda: daemon.run("networkctl", "renew", "peer0"))
        if program == "dhclient":
            return Client(self.dhclient("-d", *(("-e", "probe=yes") if probes else ())), None)
        if program == "dhcpcd":
            child = self.dhcpcd(*(() if probes else ("--noarp",)))
            return Client(child, lambda: child.send_signal(signal.SIGHUP))  # what `dhcpcd -n` sends
        child = self.udhcpc(*(("-a",) if probes else ()))
        return Client(child, lambda: child.send_signal(signal.SIGUSR1))

    async def until(self, kind: str) -> DhcpEvent:
        """Return the server's next event of a kind."""
        async with asyncio.timeout(WAIT):
            async for event in self.events:
                if event.kind == kind:
                    return event
        raise AssertionError("the server has ended")

    async def until_asked(self, kind: str, ask: Callable[[], object] | None) -> DhcpEvent:
        """Ask the client for what causes an event of the server, again every 10 s, and return that event.

        Again, since a client that is about to configure its device may ignore a signal. None waits until it acts by
        itself.
        """
        event = asyncio.create_task(self.until(kind))
        while ask is not None and not event.done():
            await asyncio.to_thread(ask)
            await asyncio.wait([event], timeout=10)
        return await event

    async def configured(self, *addresses: object) -> None:
        """Wait until the device has these addresses of IPv4, and no other."""
        wanted = {f"{address}/24" for address in addresses}
        await poll(lambda: asyncio.to_thread(lambda: self._addresses() == wanted), seconds=WAIT)

    def _addresses(self) -> set[str]:
        listed = self.namespace.run("ip", "-4", "-o", "address", "show", "dev", "peer0").stdout
        return {line.split()[3] for line in listed.splitlines()}


@asynccontextmanager
async def dhcp_clients(folder: Path, **options: Any) -> AsyncIterator[Clients]:
    """Make a network with a server and a device for clients; what was started ends with the context.

    Args:
        folder: an empty folder for files.
        options: for `DhcpServer`.
    """
    async with AsyncExitStack() as held:
        namespace = held.enter_context(network_namespace())
        device = held.enter_context(namespace.open_device("tap", []))
        stack = await held.enter_async_context(await create_stack(seed=b"dhcp"))
        port = await stack.create_tap_interface()
        bridge = await stack.create_bridge_interface(ports=[port], ip="10.77.0.1/24")
        device.attach(port)
        clients = Clients(namespace, folder, stack, bridge, held)
        await clients.serve(**options)
        try:
            yield clients
        finally:
            await clients.end()
            await clients.dhcp.aclose()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()  # dhcpcd ends its helpers then
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
