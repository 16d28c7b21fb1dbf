"""Machines in QEMU that have nothing but a network card: they boot by iPXE from the services of a stack.

The ROM of the card (iPXE) gets its address and the URL of a script by DHCP, the script by TFTP, the kernel and the
initial file system by HTTP. A machine with UEFI and no such ROM first gets iPXE itself by TFTP, by IPv4 or IPv6. Linux
then gets its IPv4 address by DHCP and its IPv6 address by a router advertisement, resolves names, and moves files both
ways.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import bridge_port, listen_qemu
from tcpip_wasm.services import Dhcp6Server, DhcpRequest, DhcpServer, DnsServer, HttpServer, TftpServer
from tests.kit.tls import certificate_files, server_context

from .harness.console import Console
from .harness.payload import make_payload
from .harness.qemu import UEFI, UEFI_LOADER, initial_files, qemu
from .harness.requirements import require_network_boot, require_uefi_boot

_BOOT = 240.0
"""Seconds. Emulated, one guest takes 15 and each of two 25; a busy machine gets the benefit of the doubt."""
_WAIT = 120.0
_MEGABYTES = 10
_USER_CLASS = 77  # RFC 3004
_UEFI = 7  # of x86-64: option 93 (RFC 4578; the registry of RFC 5970)

_SCRIPT = """#!ipxe
kernel http://10.97.0.1/kernel console=ttyS0 panic=-1 quiet initrd=initrd
initrd http://10.97.0.1/initrd
boot
"""

# The first line ends what the firmware printed last.
_START = """
echo
udhcpc -n -q -t 10 -i eth0 -s /lease >/dev/null || echo NO LEASE
until ip -6 address show dev eth0 scope global | grep -q inet6; do sleep 0.1; done
echo IPV4 $(ip -4 address show dev eth0 | sed -n 's|.*inet \\([0-9.]*\\)/.*|\\1|p')
echo IPV6 $(ip -6 address show dev eth0 scope global | sed -n 's|.*inet6 \\([0-9a-f:]*\\)/.*|\\1|p')
hash() { sha256sum | cut -d ' ' -f 1; }
fetch() { curl -s -S -f -m 100 --cacert /authority.pem -o file "$@" && echo HASH $(hash <file); }
"""

_FETCH = """
fetch -4 http://server.test/payload
fetch -6 http://server.test/payload
fetch -4 https://server.test/payload
fetch -6 https://server.test/payload
curl -s -m 100 --cacert /authority.pem -o other https://10.97.0.1/payload
echo REFUSED $?
"""

_SERVE = """
head -c 4000000 /dev/urandom >mine
echo MINE $(hash <mine)
nc -ll -p 9 -e cat mine &
until netstat -ltn | grep -q ':9 '; do sleep 0.1; done
echo SERVING
"""

_TALK = """
if [ $(cat /sys/class/net/eth0/address) = 52:54:00:00:97:01 ]; then
  head -c 4000000 /dev/urandom >mine
  echo MINE $(hash <mine)
  httpd -p 80 -h /tmp
  fetch http://server.test/payload
else
  for family in -4 -6; do until fetch $family http://peer.test/mine; do sleep 1; done; done
fi
"""

_FIRST, _SECOND = "52:54:00:00:97:01", "52:54:00:00:97:02"
_FIRST_IPV4, _FIRST_IPV6 = "10.97.0.11", "fd97::5054:ff:fe00:9701"  # reserved, and made of its hardware address

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]


@dataclass
class _Network:
    """A stack with a bridge and everything that a machine boots from.

    Attributes:
        stack: the stack.
        dhcp, dhcp6: lend addresses.
        tftp: serves the script.
        netdev: QEMU's option for a machine on the bridge.
        classes: the user class of each request by DHCP for a boot file.
        architectures: those of requests without a user class, which are not iPXE's.
    """

    stack: NetworkStack
    dhcp: DhcpServer
    dhcp6: Dhcp6Server
    tftp: TftpServer
    netdev: str
    classes: list[bytes] = field(default_factory=list)
    architectures: list[int | None] = field(default_factory=list)


@asynccontextmanager
async def _network(folder: Path, script: str) -> AsyncIterator[_Network]:
    """Make a network whose machines boot, and run the script."""
    authority, _, _ = certificate_files(str(folder))
    image, served, scripts = folder / "image", folder / "served", folder / "scripts"
    for each in (image, served, scripts):
        each.mkdir()
    kernel, archive = initial_files(image, script, ["curl"], {"authority.pem": Path(authority)})
    shutil.copy(kernel, served / "kernel")
    shutil.move(archive, served / "initrd")
    make_payload(_MEGABYTES).write_to(served)
    (scripts / "boot.ipxe").write_text(_SCRIPT)
    if UEFI_LOADER.exists():
        shutil.copy(UEFI_LOADER, scripts / "ipxe.efi")
    path = folder / "vm.sock"
    records = {"server.test": ["10.97.0.1", "fd97::1"], "peer.test": [_FIRST_IPV4, _FIRST_IPV6]}
    classes: list[bytes] = []
    architectures: list[int | None] = []

    def boot_file(request: DhcpRequest) -> str | None:
        if _USER_CLASS not in request.options:
            architectures.append(request.architecture)
            return "ipxe.efi" if request.architecture == _UEFI else None
        classes.append(request.options[_USER_CLASS])
        return "tftp://10.97.0.1/boot.ipxe"

    async with await create_stack(seed=b"netboot") as stack:
        bridge = await stack.create_bridge_interface(ip=["10.97.0.1/24", "fd97::1/64"])
        await bridge.advertise("fd97::/64")
        async with (
            DhcpServer(
                bridge,
                pool=("10.97.0.100", "10.97.0.199"),
                reservations={_FIRST: _FIRST_IPV4},
                name_servers=["10.97.0.1"],
                boot_file=boot_file,
            ) as dhcp,
            Dhcp6Server(
                bridge, pool=("fd97::100", "fd97::1ff"), boot_file="tftp://[fd97::1]/ipxe.efi", advertise=False
            ) as dhcp6,
            TftpServer(stack, scripts) as tftp,
            DnsServer(stack, records=records),
            HttpServer(stack, served),
            HttpServer(stack, served, port=443, ssl=server_context()),
            await listen_qemu(f"unix:{path}", bridge_port(stack, bridge)),
        ):
            netdev = f"stream,server=off,addr.type=unix,addr.path={path}"
            yield _Network(stack, dhcp, dhcp6, tftp, netdev, classes, architectures)


@asynccontextmanager
async def _machine(network: _Network, mac: str, *, uefi: int | None = None) -> AsyncIterator[Console]:
    """Run a machine without a disk, a kernel or an initial file system.

    The firmware prints to the console, too, and the machine ends where nothing boots. With UEFI, whose
    version of IP is given, the card has no ROM.
    """
    firmware = ("-machine", "graphics=off", "-boot", "order=n,reboot-timeout=0")
    card = "virtio-net-pci"
    if uefi is not None:
        other = f"opt/org.tianocore/IPv{4 if uefi == 6 else 6}PXESupport"
        firmware, card = ("-bios", str(UEFI), "-fw_cfg", f"name={other},string=n"), f"{card},romfile="
    async with qemu(network.netdev, *firmware, card=card, mac=mac) as console:
        yield console


async def _addresses(network: _Network, console: Console, mac: str) -> tuple[str, str]:
    """Wait for the guest's addresses, and check that they are those that it was given."""
    ipv4, ipv6 = await console.line("IPV4", _BOOT), await console.line("IPV6", _WAIT)
    assert ipv4 in [str(lease.address) for lease in network.dhcp.leases if lease.mac == mac]
    assert ipv6.startswith("fd97::")
    return ipv4, ipv6


def test_a_machine_boots_from_the_network_and_exchanges_files_with_the_stack(tmp_path: Path) -> None:
    require_network_boot("curl")

    async def run() -> None:
        async with _network(tmp_path, _START + _FETCH + _SERVE) as network, _machine(network, _SECOND) as console:
            addresses = await _addresses(network, console, _SECOND)
            assert set(network.classes) == {b"iPXE"}
            assert network.tftp.statistics.finished >= 1
            for _ in range(4):
                assert await console.line("HASH", _WAIT) == make_payload(_MEGABYTES).sha256
            # The certificate is for names and other addresses: curl's status for that is 60.
            assert await console.line("REFUSED", _WAIT) == "60"
            expected = await console.line("MINE", _WAIT)
            await console.line("SERVING", _WAIT)
            for address in addresses:
                async with asyncio.timeout(_WAIT):
                    reader, writer = await network.stack.open_connection(address, 9)
                    arrived = await reader.read(-1)
                    writer.close()
                    await writer.wait_closed()
                assert len(arrived) == 4_000_000
                assert hashlib.sha256(arrived).hexdigest() == expected

    asyncio.run(run())


def test_two_machines_that_boot_at_once_exchange_a_file(tmp_path: Path) -> None:
    """Over the bridge: the stack only names the one machine to the other."""
    require_network_boot("curl")

    async def run() -> None:
        async with (
            _network(tmp_path, _START + _TALK) as network,
            _machine(network, _FIRST) as first,
            _machine(network, _SECOND) as second,
        ):
            assert await _addresses(network, first, _FIRST) == (_FIRST_IPV4, _FIRST_IPV6)
            await _addresses(network, second, _SECOND)
            expected = await first.line("MINE", _WAIT)
            for _ in range(2):
                assert await second.line("HASH", _WAIT) == expected
            assert await first.line("HASH", _WAIT) == make_payload(_MEGABYTES).sha256
            assert network.tftp.statistics.finished >= 2

    asyncio.run(run())


@pytest.mark.parametrize("version", [4, 6])
def test_a_machine_with_uefi_boots_from_the_network(version: int, tmp_path: Path) -> None:
    """The firmware names its architecture (option 93 of DHCP), and gets the iPXE for it, which gets the script."""
    require_uefi_boot("curl")

    async def run() -> None:
        script = _START + "[ -d /sys/firmware/efi ] && echo FIRMWARE uefi\n" + _FETCH
        async with _network(tmp_path, script) as network, _machine(network, _SECOND, uefi=version) as console:
            await _addresses(network, console, _SECOND)
            assert await console.line("FIRMWARE", _WAIT) == "uefi"
            # Linux, which asks last, names no architecture.
            assert network.architectures == ([_UEFI] * 2 if version == 4 else []) + [None] * 2
            # The firmware has solicited, requested and released its address by IPv6, or has not asked at all.
            assert (network.dhcp6.statistics.advertises > 0) == (version == 6)
            assert (network.dhcp6.statistics.replies >= 2) == (version == 6)
            assert b"iPXE" in network.classes
            assert network.tftp.statistics.finished >= 2, "iPXE and the script"
            for _ in range(4):
                assert await console.line("HASH", _WAIT) == make_payload(_MEGABYTES).sha256

    asyncio.run(run())
