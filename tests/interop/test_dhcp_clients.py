"""DHCP clients of Linux distributions against the stack's server, over a TAP device in a namespace: udhcpc, dhclient,
dhcpcd and systemd-networkd get, renew, decline and release their leases, are refused, and lose them. What they report
is compared with the server's table.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import connect, create_stack

from .dhcp_clients import PROGRAMS, Clients, dhcp_clients
from .harness.requirements import require_kernel_peer, require_networkd

_SHORT = 10.0
"""The shortest lease in seconds."""

programs = pytest.mark.parametrize("program", PROGRAMS)


def _run(program: str, work: Callable[[Clients], Awaitable[None]], folder: Path, **options: Any) -> None:
    if program == "systemd-networkd":
        require_networkd()
    else:
        require_kernel_peer(program)

    async def main() -> None:
        async with dhcp_clients(folder, **options) as clients:
            await work(clients)

    asyncio.run(main())


def test_udhcpc(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        child = clients.udhcpc()
        given = await clients.until("lease")
        assert (given.mac, given.hostname) == (clients.mac, "guest-1")
        await clients.script_ran(
            ip=str(given.address),
            subnet="255.255.255.0",
            router="10.77.0.1",
            dns="10.77.0.1 10.77.0.2",
            domain="lab.internal",
            search="lab.internal internal",
            lease="3600",
        )
        await asyncio.to_thread(clients.namespace.echoes, "10.77.0.1", 2)
        renewed = await clients.until_asked("renew", partial(child.send_signal, signal.SIGUSR1))
        assert renewed.address == given.address
        child.send_signal(signal.SIGUSR2)
        assert (await clients.until("release")).address == given.address
        assert clients.dhcp.leases == ()

    _run("udhcpc", work, tmp_path)


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
        child = clients.dhclient("-d")
        refused = await clients.until("nak")
        assert str(refused.address) == "192.168.99.5"
        given = await clients.until("lease")
        assert (given.mac, given.hostname) == (clients.mac, "guest-2")
        await clients.script_ran(
            reason="BOUND",
            new_ip_address=str(given.address),
            new_routers="10.77.0.1",
            new_domain_name_servers="10.77.0.1 10.77.0.2",
            new_domain_search="lab.internal. internal.",
        )
        child.kill()
        await asyncio.to_thread(child.wait)
        clients.dhclient("-d")  # it has a lease, and asks whether it may keep it (INIT-REBOOT)
        assert (await clients.until("renew")).address == given.address
        clients.dhclient("-r")
        assert (await clients.until("release")).address == given.address

    _run("dhclient", work, tmp_path)


def test_dhcpcd(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        child = clients.dhcpcd("--noarp")
        given = await clients.until("lease")
        assert given.mac == clients.mac
        await clients.script_ran(
            reason="BOUND",
            new_ip_address=str(given.address),
            new_routers="10.77.0.1",
            new_domain_name_servers="10.77.0.1 10.77.0.2",
        )
        renewed = await clients.until_asked("renew", partial(child.send_signal, signal.SIGHUP))  # as `dhcpcd -n`
        assert renewed.address == given.address
        await clients.script_ran(reason="RENEW", new_ip_address=str(given.address))
        child.send_signal(signal.SIGALRM)  # what `dhcpcd -k` sends
        assert (await clients.until("release")).address == given.address

    _run("dhcpcd", work, tmp_path)


def test_networkd(tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        daemon = await clients.networkd()
        given = await clients.until("lease")
        assert (given.mac, given.hostname) == (clients.mac, "guest-4")
        await asyncio.to_thread(daemon.wait_online, "peer0", "--ipv4")
        lease = await asyncio.to_thread(daemon.lease)
        expected = {
            "ADDRESS": str(given.address),
            "NETMASK": "255.255.255.0",
            "ROUTER": "10.77.0.1",
            "SERVER_ADDRESS": "10.77.0.1",
            "LIFETIME": "3600",
            "T1": "1800",
            "T2": "3150",
            "DNS": "10.77.0.1 10.77.0.2",
            "DOMAINNAME": "lab.internal",
            "DOMAIN_SEARCH_LIST": "lab.internal internal",
        }
        assert {name: lease.get(name) for name in expected} == expected
        assert "via 10.77.0.1 dev peer0 proto dhcp" in await asyncio.to_thread(daemon.run, "ip", "route")
        await asyncio.to_thread(clients.namespace.echoes, "10.77.0.1", 2)
        await asyncio.to_thread(daemon.run, "networkctl", "renew", "peer0")
        assert (await clients.until("renew")).address == given.address
        await asyncio.to_thread(daemon.stop)
        assert (await clients.until("release")).address == given.address
        assert clients.dhcp.leases == ()

    _run("systemd-networkd", work, tmp_path)


# systemd-networkd 252 finds the other host, and then fails: "Failed to send DHCP DECLINE, ignoring: Network is
# unreachable". Later versions have the same fault: https://github.com/systemd/systemd/issues/39460.
@pytest.mark.parametrize("program", [each for each in PROGRAMS if each != "systemd-networkd"])
def test_a_client_declines_what_another_host_has(program: str, tmp_path: Path) -> None:
    async def work(clients: Clients) -> None:
        async with await create_stack(seed=9) as squatter:
            port = await clients.stack.create_tap_interface()
            connect(port, await squatter.create_tap_interface(ip="10.77.0.100/24"))
            await clients.bridge.add_port(port)
            await clients.run(program, probes=True)
            assert str((await clients.until("lease")).address) == "10.77.0.100"
            assert str((await clients.until("decline")).address) == "10.77.0.100"
            assert str((await clients.until("lease")).address) == "10.77.0.101"
            await clients.configured("10.77.0.101")
            assert clients.dhcp.statistics.declined == 1
            assert [str(lease.address) for lease in clients.dhcp.leases] == ["10.77.0.101"]

    _run(program, work, tmp_path, probe=0)


@programs
def test_a_client_whose_address_is_refused_gets_another_one(program: str, tmp_path: Path) -> None:
    """It renews its lease at a server that has other addresses."""
    # dhclient renews only by itself. networkd's socket for renewals is bound to its address, and does not receive the
    # refusal, a broadcast by section 4.1 of RFC 2131; later, when it broadcasts itself, it receives all.
    waits = program in ("dhclient", "systemd-networkd")
    lease_time = _SHORT if waits else 3600.0

    async def work(clients: Clients) -> None:
        client = await clients.run(program)
        given = await clients.until("lease")
        await clients.configured(given.address)
        await clients.dhcp.aclose()
        await clients.serve(pool=("10.77.0.120", "10.77.0.130"), lease_time=lease_time)
        refused = await clients.until_asked("nak", client.renew if not waits else None)
        assert refused.address == given.address
        another = await clients.until("lease")
        assert another.address == IPv4Address("10.77.0.120")
        await clients.configured(another.address)

    _run(program, work, tmp_path, lease_time=lease_time)


@pytest.mark.guest
@programs
def test_a_lease_ends_for_the_client_and_for_the_server(program: str, tmp_path: Path) -> None:
    """The client takes the address away when its server is gone, and gets it again when there is one. The server takes
    it back when the client is gone."""

    async def work(clients: Clients) -> None:
        client = await clients.run(program)
        given = await clients.until("lease")
        await clients.configured(given.address)
        await clients.dhcp.aclose()
        await clients.configured()
        await clients.serve(lease_time=_SHORT)
        again = await clients.until("lease")
        await clients.configured(again.address)
        # udhcpc takes a lease to last 30 seconds at least
        assert (await clients.until_asked("renew", client.renew)).address == again.address
        client.kill()
        assert (await clients.until("expire")).address == again.address
        assert clients.dhcp.leases == ()

    _run(program, work, tmp_path, lease_time=_SHORT)
