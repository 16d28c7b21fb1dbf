"""A stack that configures itself from dnsmasq, in a namespace of its own: DHCP and router advertisements of a program
that half of all home routers run. What the stack says it got is compared with dnsmasq's lease file and its log.
"""

from __future__ import annotations

import asyncio
import errno
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Interface
from pathlib import Path
from typing import IO

import pytest

from tcpip_wasm import NetworkStack, TapInterface, create_stack
from tcpip_wasm.links import DescriptorLink, HostDevice
from tests.kit.polling import poll

from .harness.namespaces import Namespace, network_namespace
from .harness.requirements import require_kernel_peer

_KERNEL = {4: "10.66.0.1", 6: "fd66::1"}
_SERVER = "10.66.0.53"
_SERVER6 = "fd66::53"
_WAIT = 60.0
"""Time limit in seconds of steps that take a second or two."""


class ShiftedLoop(asyncio.SelectorEventLoop):
    """A loop with real sockets whose clock a test can advance, for an hour of a lease."""

    shift = 0.0

    def time(self) -> float:
        return super().time() + self.shift


@dataclass
class Peer:
    """A stack, and dnsmasq in a namespace.

    Attributes:
        tap: the stack's interface, without addresses.
        folder: dnsmasq's log and its file of leases.
    """

    stack: NetworkStack
    tap: TapInterface
    namespace: Namespace
    folder: Path
    device: HostDevice
    link: DescriptorLink
    children: list[asyncio.subprocess.Process] = field(default_factory=list)

    def move_to(self, tap: TapInterface) -> None:
        """Attach another interface to the device."""
        self.link.close()
        self.tap, self.link = tap, self.device.attach(tap)

    def leases(self) -> list[list[str]]:
        """The lines of dnsmasq's lease file: expiry, MAC, address, name, client."""
        path = self.folder / "leases"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        """Return dnsmasq's log."""
        return (self.folder / "log").read_text()

    async def until(self, condition: str) -> None:
        """Wait until dnsmasq's log has a line with this text."""
        await poll(lambda: condition in self.log())


@asynccontextmanager
async def dnsmasq(folder: Path, *options: str) -> AsyncIterator[Peer]:
    with (
        network_namespace() as namespace,
        namespace.open_device("tap", [f"{_KERNEL[4]}/24", f"{_KERNEL[6]}/64"]) as device,
    ):
        (folder / "log").touch()
        process = await asyncio.to_thread(
            namespace.start,
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0"),
            *("--interface=peer0", "--bind-interfaces", "--user=root", "--no-ping", "--log-dhcp"),
            *(f"--dhcp-leasefile={folder / 'leases'}", "--pid-file="),
            *options,
            ready="started",
        )
        copying = asyncio.create_task(asyncio.to_thread(_copy, process.stdout, folder / "log"))
        try:
            async with await create_stack(seed=b"dnsmasq") as stack:
                tap = await stack.create_tap_interface()
                peer = Peer(stack, tap, namespace, folder, device, device.attach(tap))
                try:
                    yield peer
                finally:
                    for child in peer.children:
                        if child.returncode is None:
                            child.kill()
                        await child.wait()
        finally:
            device.close()
            process.kill()
            await copying


def _copy(output: IO[str] | None, path: Path) -> None:
    assert output is not None
    with path.open("a", buffering=1) as log:
        for line in output:
            log.write(line)


def _run(work: Callable[[Peer], Awaitable[None]], folder: Path, *options: str) -> None:
    async def main() -> None:
        async with dnsmasq(folder, *options) as peer:
            await work(peer)

    require_kernel_peer("dnsmasq", "ping", "sysctl")
    with asyncio.Runner(loop_factory=ShiftedLoop) as runner:
        runner.run(main())


def _pass(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ShiftedLoop)
    loop.shift += seconds


_DHCP = ("--dhcp-range=10.66.0.100,10.66.0.110,255.255.255.0,2m", f"--dhcp-option=6,{_SERVER}", "--domain=lab.example")
_SLAAC = ("--enable-ra", "--dhcp-range=fd66::,ra-only,64,10m", f"--dhcp-option=option6:dns-server,[{_SERVER6}]")


def test_a_lease_is_given_renewed_and_released(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        lease = await peer.tap.configure(dhcp=True, timeout=_WAIT)
        assert 100 <= lease.address.ip.packed[3] <= 110
        assert lease.address.netmask == IPv4Address("255.255.255.0")
        assert lease.router == lease.server == IPv4Address(_KERNEL[4])
        assert peer.tap.routers == (lease.router,)
        assert lease.name_servers == (IPv4Address(_SERVER),)
        assert lease.name_servers == peer.tap.name_servers
        assert peer.stack.name_servers == [(_SERVER, 53)]
        assert lease.domain == "lab.example"
        assert peer.tap.ip == lease.address.ip
        assert peer.tap.netmask == lease.address.netmask
        assert [line[1:3] for line in peer.leases()] == [[peer.tap.mac, str(lease.address.ip)]]
        await asyncio.to_thread(peer.namespace.echoes, str(lease.address.ip), 3)
        await peer.until("DHCPACK")
        exchanges = re.findall("DHCP(?:DISCOVER|OFFER|REQUEST|ACK)", peer.log())
        assert exchanges == ["DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPACK"]

        _pass(lease.renews - asyncio.get_running_loop().time())
        await peer.tap.wait_address_change(timeout=_WAIT)
        renewed = peer.tap.lease
        assert renewed is not None
        assert renewed.address == lease.address
        assert renewed.expires > lease.expires
        await poll(lambda: peer.log().count("DHCPACK") == 2)
        assert peer.log().count("DHCPDISCOVER") == 1

        await peer.tap.release()
        await peer.until("DHCPRELEASE")
        await poll(lambda: peer.leases() == [])  # which it writes after what it says
        assert not peer.tap.addresses
        assert not peer.tap.name_servers

    _run(work, tmp_path, *_DHCP)


def test_closing_a_stack_releases_its_lease(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        await peer.tap.configure(dhcp=True, timeout=_WAIT)
        assert len(peer.leases()) == 1
        await peer.stack.aclose()
        await peer.until("DHCPRELEASE")
        await poll(lambda: peer.leases() == [])

    _run(work, tmp_path, *_DHCP)


def test_an_address_in_use_is_declined(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        # Another host on the same link has the only address that dnsmasq may lend.
        with network_namespace() as other:
            run = peer.namespace.run
            await asyncio.to_thread(run, "ip", "link", "add", "link", "peer0", "name", "other0", "type", "macvlan")
            await asyncio.to_thread(run, "ip", "link", "set", "other0", "netns", other.name)
            await asyncio.to_thread(other.run, "ip", "address", "add", "10.66.0.105/24", "dev", "other0")
            await asyncio.to_thread(other.run, "ip", "link", "set", "other0", "up")
            configuring = asyncio.create_task(peer.tap.configure(dhcp=True, timeout=2 * _WAIT))
            await peer.until("DHCPDECLINE(peer0) 10.66.0.105")
            assert not configuring.done()
            _pass(2 * _WAIT)
            with pytest.raises(TimeoutError):
                await configuring
        assert not peer.tap.addresses

    _run(work, tmp_path, "--dhcp-range=10.66.0.105,10.66.0.105,255.255.255.0,2m")


def test_slaac_and_name_servers_from_router_advertisements(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        await peer.tap.configure(slaac=True, timeout=_WAIT)
        (address,) = peer.tap.addresses
        assert isinstance(address, IPv6Interface)
        assert address.network == IPv6Interface("fd66::/64").network
        assert peer.tap.name_servers == (IPv6Address(_SERVER6),)
        (router,) = peer.tap.routers
        assert isinstance(router, IPv6Address)
        assert router.is_link_local
        assert router.scope_id == peer.tap.name
        await asyncio.to_thread(peer.namespace.echoes, str(address.ip), 3)
        reader, writer = await peer.stack.open_connection(_KERNEL[6], await _echo_server(peer))
        writer.write(b"by an address of its own")
        writer.write_eof()
        assert await reader.read() == b"by an address of its own"
        writer.close()

    _run(work, tmp_path, *_SLAAC)


def test_the_kernel_configures_an_address_from_the_stacks_advertisements(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        for setting in ("accept_ra=2", "accept_ra_mtu=1", "forwarding=0", "dad_transmits=1"):
            await asyncio.to_thread(peer.namespace.run, "sysctl", "-qw", f"net.ipv6.conf.peer0.{setting}")
        advertiser = await peer.tap.advertise("2001:db8:77::/64", lifetime=600, router_lifetime=300, mtu=1400)
        made = re.compile("inet6 2001:db8:77:[0-9a-f:]+/64 (?!.*tentative)")
        await poll(lambda: made.search(_ip(peer, "address", "show")) is not None)
        assert re.search("default via fe80::.* proto ra", _ip(peer, "-6", "route", "show"))
        mtu = await asyncio.to_thread(peer.namespace.run, "cat", "/proc/sys/net/ipv6/conf/peer0/mtu")
        assert mtu.stdout.strip() == "1400"
        await advertiser.close()
        await poll(lambda: "default" not in _ip(peer, "-6", "route", "show"))

    _run(work, tmp_path, *_DHCP)


def test_a_duplicate_of_the_kernels_address_is_found(tmp_path: Path) -> None:
    async def work(peer: Peer) -> None:
        other = await peer.stack.create_tap_interface(ip=[f"{_KERNEL[6]}/64", "fd66::2/64"])
        peer.move_to(other)
        with pytest.raises(OSError, match="another host has fd66::1,") as caught:
            await other.configure(dad=True, timeout=_WAIT)
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert [str(address.ip) for address in other.addresses] == ["fd66::2"]
        await asyncio.to_thread(peer.namespace.echoes, "fd66::2", 3)

    _run(work, tmp_path, *_DHCP)


def _ip(peer: Peer, *arguments: str) -> str:
    return peer.namespace.run("ip", *arguments, "dev", "peer0").stdout


_ECHO = """
import socket
with socket.create_server(("fd66::1", 0), family=socket.AF_INET6) as server:
    print("port", server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
"""


async def _echo_server(peer: Peer) -> int:
    server = await asyncio.create_subprocess_exec(
        *peer.namespace.command(sys.executable, "-I", "-c", _ECHO), stdout=subprocess.PIPE
    )
    peer.children.append(server)
    assert server.stdout is not None
    return int((await server.stdout.readline()).split()[1])
