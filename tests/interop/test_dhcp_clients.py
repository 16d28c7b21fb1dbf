"""DHCP clients of Linux distributions against the stack's server, over a TAP device in a namespace: udhcpc, dhclient
and dhcpcd get, renew, decline and release their leases. What they say they got is compared with the server's table.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcpip_wasm import NetworkStack, connect, create_stack
from tcpip_wasm.services import DhcpEvent, DhcpServer

from .harness.namespaces import Namespace, network_namespace
from .harness.requirements import require_kernel_peer

_WAIT = 90.0
"""Time limit in seconds of what takes a few."""

_SCRIPT = """#!/bin/sh
# Written by a test: what the client knows, one file an event; no setting of the machine is changed.
[ -n "$1" ] && reason="$1"
env > "{folder}/$reason.$$"
case "$reason" in
  bound|renew|BOUND|RENEW|REBOOT) ip address replace "${{ip:-$new_ip_address}}/24" dev peer0 ;;
  deconfig|RELEASE|EXPIRE|STOP) ip -4 address flush dev peer0 ;;
esac
exit 0
"""


@dataclass
class Clients:
    """A namespace for clients, and the server's stack, whose bridge has the namespace's device as a port.

    Attributes:
        folder: for the clients' files.
    """

    stack: NetworkStack
    namespace: Namespace
    dhcp: DhcpServer
    folder: Path
    events: AsyncIterator[DhcpEvent]
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def script(self) -> str:
        """The program that clients run."""
        path = self.folder / "script"
        if not path.exists():
            path.write_text(_SCRIPT.format(folder=self.folder))
            path.chmod(0o755)
        return str(path)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a client in the namespace; it ends with the test."""
        with (self.folder / "output").open("ab") as output:
            child = subprocess.Popen(
                self.namespace.command(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.children.append(child)
        return child

    async def until(self, kind: str) -> DhcpEvent:
        """Return the server's next event of a kind."""
        async with asyncio.timeout(_WAIT):
            async for event in self.events:
                if event.kind == kind:
                    return event
        raise AssertionError("the server has ended")

    async def knows(self, **values: str) -> None:
        """Wait until a run of the script had these values in its environment."""
        wanted = {f"{name}={value}" for name, value in values.items()}
        async with asyncio.timeout(_WAIT):
            while not any(wanted <= set(p.read_text().splitlines()) for p in self.folder.glob("*.*[0-9]")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _clients(folder: Path, **options: Any) -> AsyncIterator[Clients]:
    with network_namespace() as namespace, namespace.open_device("tap", []) as device:
        async with await create_stack(seed=b"dhcp") as stack:
            port = await stack.create_tap_interface()
            bridge = await stack.create_bridge_interface(ports=[port], ip="10.77.0.1/24")
            device.attach(port)
            arguments: dict[str, Any] = {
                "pool": ("10.77.0.100", "10.77.0.110"),
                "router": "10.77.0.1",
                "name_servers": ["10.77.0.1", "10.77.0.2"],
                "domain": "lab.internal",
                "search": ["lab.internal", "internal"],
                **options,
            }
            async with DhcpServer(bridge, **arguments) as dhcp:
                clients = Clients(stack, namespace, dhcp, folder, dhcp.events())
                try:
                    yield clients
                finally:
                    for child in clients.children:
                        await asyncio.to_thread(end_client, child)


def end_client(child: subprocess.Popen[bytes]) -> None:
    """End a client and its helpers."""
    child.terminate()  # dhcpcd ends its helpers then
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _run(program: str, work: Callable[[Clients], Awaitable[None]], folder: Path, **options: Any) -> None:
    require_kernel_peer(program)

    async def main() -> None:
        async with _clients(folder, **options) as clients:
            await work(clients)

    asyncio.run(main())


def _mac(clients: Clients) -> str:
    return clients.namespace.run("cat", "/sys/class/net/peer0/address").stdout.strip()


def _udhcpc(clients: Clients, *options: str) -> subprocess.Popen[bytes]:
    return clients.start(
        *("udhcpc", "-f", "-i", "peer0", "-s", clients.script, "-x", "hostname:guest-1"),
        *("-O", "search", "-t", "20", "-T", "2", *options),
    )


def test_udhcpc(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        child = _udhcpc(clients)
        given = await clients.until("lease")
        assert (given.mac, given.hostname) == (_mac(clients), "guest-1")
        await clients.knows(
            ip=str(given.address),
            subnet="255.255.255.0",
            router="10.77.0.1",
            dns="10.77.0.1 10.77.0.2",
            domain="lab.internal",
            search="lab.internal internal",
            lease="3600",
        )
        await asyncio.to_thread(clients.namespace.echoes, "10.77.0.1", 2)
        child.send_signal(signal.SIGUSR1)
        assert (await clients.until("renew")).address == given.address
        child.send_signal(signal.SIGUSR2)
        assert (await clients.until("release")).address == given.address
        assert clients.dhcp.leases == ()

    _run("udhcpc", work, tmp_path)


def test_udhcpc_declines_what_another_host_has(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        async with await create_stack(seed=9) as squatter:
            port = await clients.stack.create_tap_interface()
            connect(port, await squatter.create_tap_interface(ip="10.77.0.100/24"))
            (bridge,) = (one for one in clients.stack.interfaces if one.type == "bridge")
            await bridge.add_port(port)  # type: ignore[attr-defined]
            _udhcpc(clients, "-a")
            assert str((await clients.until("lease")).address) == "10.77.0.100"
            assert str((await clients.until("decline")).address) == "10.77.0.100"
            assert str((await clients.until("lease")).address) == "10.77.0.101"
            await clients.knows(ip="10.77.0.101")

    _run("udhcpc", work, tmp_path, probe=0)


_OLD_LEASE = """lease {
  interface "peer0";
  fixed-address 192.168.99.5;
  option subnet-mask 255.255.255.0;
  option dhcp-lease-time 3600;
  option dhcp-message-type 5;
  option dhcp-server-identifier 192.168.99.1;
  renew never; rebind never; expire never;
}
"""


def test_dhclient(tmp_path: Path) -> None:
    """With a lease of another network: it is refused, then gets one of this, and releases it."""

    async def work(clients: Clients) -> None:
        (tmp_path / "leases").write_text(_OLD_LEASE)
        (tmp_path / "conf").write_text(
            'send host-name "guest-2"; timeout 80; retry 5; initial-interval 1;\n'
            "request subnet-mask, routers, domain-name, domain-search, domain-name-servers;\n"
        )
        files = ("-sf", clients.script, "-lf", str(tmp_path / "leases"), "-pf", str(tmp_path / "pid"))
        command = ("dhclient", "-4", "-d", "-cf", str(tmp_path / "conf"), *files, "peer0")
        child = clients.start(*command)
        refused = await clients.until("nak")
        assert str(refused.address) == "192.168.99.5"
        given = await clients.until("lease")
        assert (given.mac, given.hostname) == (_mac(clients), "guest-2")
        await clients.knows(
            reason="BOUND",
            new_ip_address=str(given.address),
            new_routers="10.77.0.1",
            new_domain_name_servers="10.77.0.1 10.77.0.2",
            new_domain_search="lab.internal. internal.",
        )
        child.kill()
        await asyncio.to_thread(child.wait)
        clients.start(*command)  # it has a lease, and asks whether it may keep it (INIT-REBOOT)
        assert (await clients.until("renew")).address == given.address
        clients.start("dhclient", "-4", "-r", "-cf", str(tmp_path / "conf"), *files, "peer0")
        assert (await clients.until("release")).address == given.address

    _run("dhclient", work, tmp_path)


def test_dhcpcd(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        (tmp_path / "conf").write_text("hostname guest-3\noption domain_search, domain_name_servers, routers\n")
        files = ("-f", str(tmp_path / "conf"), "-c", clients.script)
        command = ("dhcpcd", "-4", "-B", "-d", *files, "--noarp", "peer0")
        # Its leases and sockets are in folders of this command alone: `ip netns exec` gives it its own mounts.
        folders = "mount -t tmpfs tmpfs /var/lib/dhcpcd && mount -t tmpfs tmpfs /run"
        child = clients.start("sh", "-c", folders + ' && exec "$@"', "sh", *command)
        given = await clients.until("lease")
        assert given.mac == _mac(clients)
        await clients.knows(
            reason="BOUND",
            new_ip_address=str(given.address),
            new_routers="10.77.0.1",
            new_domain_name_servers="10.77.0.1 10.77.0.2",
        )
        child.send_signal(signal.SIGHUP)  # what `dhcpcd -n` sends
        assert (await clients.until("renew")).address == given.address
        await clients.knows(reason="RENEW", new_ip_address=str(given.address))
        child.send_signal(signal.SIGALRM)  # what `dhcpcd -k` sends
        assert (await clients.until("release")).address == given.address

    _run("dhcpcd", work, tmp_path)
