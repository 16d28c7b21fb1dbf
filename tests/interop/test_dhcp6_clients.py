"""DHCPv6 clients of Linux distributions against the stack's server, over a TAP device in a namespace: dhclient and
dhcpcd, which the stack's router advertisements lead to it; and a client behind a relay, ISC's dhcrelay, in another one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tcpip_wasm import create_stack
from tcpip_wasm.services import Dhcp6Pool, Dhcp6Server
from tests.kit.polling import poll

from .dhcp_clients import ClientNamespace
from .harness.namespaces import network_namespace
from .harness.networkd import networkd
from .harness.requirements import require_kernel_peer, require_networkd

_SCRIPT = """#!/bin/sh
# Written by a test: what the client knows, one file an event; no setting of the machine is changed.
env > "{folder}/$reason.$$"
case "$reason" in
  BOUND6|RENEW6|REBIND6) [ -z "$new_ip6_address" ] || ip -6 address replace "$new_ip6_address/128" dev peer0 nodad ;;
esac
exit 0
"""

_NETWORKD = """
[Match]
Name=peer0
[Network]
DHCP=ipv6
[DHCPv6]
DUIDType=link-layer
UseDomains=yes
"""


@dataclass
class Clients(ClientNamespace):
    """A namespace for a client, and the server."""

    dhcp: Dhcp6Server


@asynccontextmanager
async def _clients(folder: Path, lifetime: int) -> AsyncIterator[Clients]:
    with network_namespace() as namespace:
        # A link-local address that is checked for duplicates cannot be used by a client that starts at once.
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        script = folder / "script"
        script.write_text(_SCRIPT.format(folder=folder))
        script.chmod(0o755)
        with namespace.open_device("tap", []) as device:
            async with await create_stack(seed=b"dhcp6") as stack:
                tap = await stack.create_tap_interface(ip="fd77::1/64")
                device.attach(tap)
                async with Dhcp6Server(
                    tap,
                    pool=("fd77::100", "fd77::1ff"),
                    lifetime=lifetime,
                    name_servers=["fd77::53"],
                    search=["lab.internal"],
                ) as dhcp:
                    clients = Clients(namespace, folder, dhcp)
                    try:
                        yield clients
                    finally:
                        await clients.end()


def _run(program: str, work: Callable[[Clients], Awaitable[None]], folder: Path, *, lifetime: int = 3600) -> None:
    require_kernel_peer(program, "sysctl")

    async def main() -> None:
        async with _clients(folder, lifetime) as clients:
            await work(clients)

    asyncio.run(main())


def test_dhclient(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        (tmp_path / "conf").write_text("")
        files = (
            "-cf",
            f"{tmp_path}/conf",
            "-sf",
            f"{tmp_path}/script",
            "-lf",
            f"{tmp_path}/leases",
            "-pf",
            f"{tmp_path}/pid",
        )
        clients.start("dhclient", "-6", "-d", *files, "peer0")
        await poll(lambda: len(clients.dhcp.leases) == 1)
        (lease,) = clients.dhcp.leases
        await clients.script_ran(reason="BOUND6", new_ip6_address=lease.address, new_dhcp6_name_servers="fd77::53")
        await asyncio.to_thread(clients.namespace.echoes, "fd77::1", 2)
        clients.start("dhclient", "-6", "-r", *files, "peer0")
        await poll(lambda: not clients.dhcp.leases)

    _run("dhclient", work, tmp_path)


def test_dhcpcd_is_led_by_the_advertisements(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        (tmp_path / "conf").write_text("duid\noption dhcp6_name_servers\n")
        command = ("dhcpcd", "-6", "-B", "-d", "-f", f"{tmp_path}/conf", "-c", f"{tmp_path}/script", "peer0")
        folders = "mount -t tmpfs tmpfs /var/lib/dhcpcd && mount -t tmpfs tmpfs /run"
        child = clients.start("sh", "-c", folders + ' && exec "$@"', "sh", *command)
        await poll(lambda: len(clients.dhcp.leases) == 1)
        (lease,) = clients.dhcp.leases
        await clients.script_ran(
            reason="BOUND6", new_dhcp6_ia_na1_ia_addr1=lease.address, new_dhcp6_name_servers="fd77::53"
        )
        report = await asyncio.to_thread(clients.namespace.run, "ip", "-6", "address", "show", "dev", "peer0")
        assert str(lease.address) in report.stdout
        assert "fd77::" in (await asyncio.to_thread(clients.namespace.run, "ip", "-6", "route", "show")).stdout
        child.send_signal(signal.SIGHUP)  # what `dhcpcd -n` sends: it rebinds
        await poll(lambda: [each.expires > lease.expires for each in clients.dhcp.leases] == [True])
        assert clients.dhcp.leases[0].address == lease.address
        await clients.script_ran(reason="REBOOT6")  # it has confirmed the lease, too, and is bound again
        child.send_signal(signal.SIGALRM)  # what `dhcpcd -k` sends
        await poll(lambda: not clients.dhcp.leases)

    _run("dhcpcd", work, tmp_path)


def test_networkd_is_led_by_the_advertisements(tmp_path: Path) -> None:
    """It renews its lease after a quarter of the lifetime. Version 252 releases none at its end."""
    require_networkd()

    async def work(clients: Clients) -> None:
        with networkd(clients.namespace, _NETWORKD) as daemon:
            await poll(lambda: len(clients.dhcp.leases) == 1)
            (lease,) = clients.dhcp.leases
            await asyncio.to_thread(daemon.wait_online, "peer0", "--ipv6")
            status = await asyncio.to_thread(daemon.run, "networkctl", "status", "peer0")
            assert f"Address: {lease.address}\n" in status
            assert "DNS: fd77::53\n" in status
            assert "Search Domains: lab.internal\n" in status
            await asyncio.to_thread(clients.namespace.echoes, "fd77::1", 2)
            await poll(lambda: clients.dhcp.leases[0].expires > lease.expires)
            assert [each.address for each in clients.dhcp.leases] == [lease.address]

    _run("networkctl", work, tmp_path, lifetime=20)


def test_a_client_behind_dhcrelay(tmp_path: Path) -> None:
    """The relay's namespace has the device; the client's has a cable to it, and reaches the stack by the address that
    it got."""
    require_kernel_peer("dhclient", "dhcrelay", "sysctl")

    async def main() -> None:
        with network_namespace() as near, network_namespace() as far, near.open_device("tap", []) as device:
            for namespace in (near, far):
                namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.forwarding=1")
            near.run("ip", "link", "add", "down0", "type", "veth", "peer", "name", "peer0", "netns", far.name)
            for name, address in (("peer0", "fd77::2/64"), ("down0", "fd88::1/64")):
                near.run("ip", "address", "add", address, "dev", name, "nodad")
                near.run("ip", "link", "set", name, "up")
            far.run("ip", "link", "set", "peer0", "up")
            script = tmp_path / "script"
            script.write_text(_SCRIPT.format(folder=tmp_path))
            script.chmod(0o755)
            (tmp_path / "conf").write_text("")
            async with await create_stack(seed=b"relay") as stack:
                tap = await stack.create_tap_interface(ip="fd77::1/64")
                device.attach(tap)
                stack.add_route("fd88::/64", via="fd77::2")
                pool = Dhcp6Pool("fd88::100", "fd88::1ff", "fd88::/64")
                async with Dhcp6Server(tap, pool=pool, name_servers=["fd77::53"]) as dhcp:
                    relay = ("dhcrelay", "-6", "-d", "-I", "--no-pid", "-l", "down0", "-u", "fd77::1%peer0")
                    await asyncio.to_thread(near.start, *relay, ready="Sending on")
                    clients = Clients(far, tmp_path, dhcp)
                    files = ("-cf", "conf", "-sf", "script", "-lf", "leases", "-pf", "pid")
                    paths = [f"{tmp_path}/{each}" if not each.startswith("-") else each for each in files]
                    try:
                        clients.start("dhclient", "-6", "-d", *paths, "peer0")
                        await poll(lambda: len(dhcp.leases) == 1)
                        (lease,) = dhcp.leases
                        assert str(lease.address).startswith("fd88::1")
                        await clients.script_ran(
                            reason="BOUND6", new_ip6_address=lease.address, new_dhcp6_name_servers="fd77::53"
                        )
                        assert dhcp.statistics.relayed == dhcp.statistics.received >= 2
                        far.run("ip", "-6", "route", "replace", "fd88::/64", "dev", "peer0")
                        far.run("ip", "-6", "route", "replace", "default", "via", "fd88::1")
                        await asyncio.to_thread(far.echoes, "fd77::1", 2)
                        clients.start("dhclient", "-6", "-r", *paths, "peer0")
                        await poll(lambda: not dhcp.leases)
                    finally:
                        await clients.end()

    asyncio.run(main())
