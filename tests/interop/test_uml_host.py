"""A user-mode Linux guest as a host among hosts: its DHCP server and its DHCP client, its router advertisements and its
addresses made of ours, and over each address ping, UDP and TCP both ways.
What passed is shown to tshark.

The guest runs busybox's udhcpd and udhcpc, which no other test has as a peer, and a kernel that is older than this
machine's. What a test wants of the guest goes through the stack under test, too: a shell listens on one of its ports.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, TapInterface, UdpDatagram, create_stack
from tcpip_wasm.links import DatagramSocketLink
from tests.kit.core_network import payload

from .harness.capture import Capture
from .harness.namespaces import network_namespace
from .harness.requirements import require_kernel_peer, require_programs, require_user_mode_linux
from .harness.uml import Guest, user_mode_linux

_GUEST = {4: "10.99.0.2", 6: "fd99::2"}
_LEASED = "10.99.0.100"
_SHELL, _ECHO, _PORT = 2300, 7007, 8080
_WAIT = 120.0
"""Time limit in seconds of steps that take one or two."""

_SIZES = {4: (0, 1, 1472, 1473, 65_507), 6: (0, 1, 1452, 1453, 65_487)}

_SERVE_A_SHELL = f"""
busybox nc -ll -p {_SHELL} -e /bin/sh &
until busybox netstat -ltn | grep -q ':{_SHELL} '; do sleep 0.1; done
echo READY
"""

_UDHCPD = f"""
cat > udhcpd.conf <<END
start {_LEASED}
end {_LEASED}
max_leases 1
interface vec0
lease_file /mnt/leases
pidfile /mnt/pid
option subnet 255.255.255.0
option router {_GUEST[4]}
option dns 10.99.0.53
option domain guest.example
option lease 600
END
touch leases
busybox udhcpd -f udhcpd.conf &
"""

_UDHCPC = """
cat > changed <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev vec0
ip route add default via "$router"
echo LEASE "$ip/$mask" "$router" "$serverid"
END
chmod +x changed
busybox udhcpc -f -n -q -i vec0 -s /mnt/changed
"""

# Its own kernel receives the daemon's advertisements, and would configure an address, too.
_ADVERTISE = (
    "echo 0 > /proc/sys/net/ipv6/conf/vec0/accept_ra\n"
    "dnsmasq --no-daemon --conf-file=/dev/null --no-hosts --no-resolv --port=0 --user=root --interface=vec0 "
    "--pid-file= --dhcp-leasefile=/mnt/leases --enable-ra --dhcp-range=fd99::,ra-only,64 "
    "--dhcp-option=option6:dns-server,[fd99::53] &"
)

# bash has UDP and dd keeps datagrams whole; an empty one they cannot send.
_ASK_BY_UDP = f"""
head -c %d %s > sent
exec 3<> /dev/udp/%s/{_ECHO}
dd if=sent bs=65507 count=1 status=none >&3
timeout 60 dd bs=65507 count=1 status=none <&3 | sha256sum
"""

# A guest's start takes some seconds, and its programs are slow.
pytestmark = pytest.mark.timeout(900)


@asynccontextmanager
async def _guest_and_tap(
    script: str, *addresses: str, capture: Capture | None = None
) -> AsyncIterator[tuple[Guest, NetworkStack, TapInterface]]:
    require_user_mode_linux()
    require_programs("bash")
    async with (
        user_mode_linux(script, addresses=addresses) as guest,
        await create_stack(seed=b"guest") as stack,
    ):
        tap = await stack.create_tap_interface()
        link = DatagramSocketLink(guest.socket, tap if capture is None else capture.of(tap))
        try:
            yield guest, stack, tap
        finally:
            link.close()


async def _shell(stack: NetworkStack, host: str, command: str) -> str:
    """Run a command in the guest over the stack's own TCP, and return its output."""
    async with asyncio.timeout(_WAIT):
        reader, writer = await stack.open_connection(host, _SHELL)
        writer.write(command.encode() + b"\n")
        writer.write_eof()
        said = await reader.read()
        writer.close()
        return said.decode()


async def _talk(stack: NetworkStack, guest: str, own: str, folder: Path) -> None:
    """Ping and TCP in both directions, UDP from the guest and back; payloads are compared."""
    sizes = _SIZES[IPv4Interface(own).version if "." in own else 6]
    async with asyncio.timeout(_WAIT):
        async with await stack.create_ping_session(guest) as session:
            for size in sizes:
                assert (await session.ping(payload(size), timeout=60)).payload == payload(size)
    for size in sizes:
        # One at a time: after its first reply, ping waits for further ones only as long as that one took, twice.
        for _ in range(2):
            said = await _shell(stack, guest, f"ping -n -c 1 -W 60 -s {size} {own}")
            assert "1 received, 0% packet loss" in said, said
            assert "wrong" not in said, said
    file = folder / "datagram"
    file.write_bytes(payload(sizes[-1]))
    async with await stack.open_udp(own, _ECHO) as udp, asyncio.timeout(_WAIT):
        for size in sizes[1:]:
            command = _ASK_BY_UDP % (size, file, own)
            answer = asyncio.create_task(_shell(stack, guest, f"cd /mnt; exec bash -c '{command}'"))
            asked = await udp.receive()
            assert (asked.host, asked.data) == (guest, payload(size))
            await udp.send(UdpDatagram(asked.host, asked.port, asked.data[::-1]))
            assert (await answer).split()[0] == hashlib.sha256(asked.data[::-1]).hexdigest()
    data = payload(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    async with asyncio.timeout(_WAIT):
        # The guest connects, and what it sent is what it would have got.
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            writer.close()

        async with await stack.start_server(serve, own, _PORT):
            assert (await _shell(stack, guest, f"busybox nc {own} {_PORT} </dev/null | sha256sum")).split()[0] == digest
        # The stack connects, and what it sends comes back.
        reader, writer = await stack.open_connection(guest, _SHELL)
        writer.write(b"echo; exec cat\n")
        assert await reader.readline() == b"\n"  # the shell reads ahead, and would take data for commands
        echoed = asyncio.create_task(reader.readexactly(len(data)))
        writer.write(data)
        writer.write_eof()
        assert await echoed == data
        writer.close()
    assert stack.stats().core.checksum_errors == 0
    assert stack.stats().core.fragment_drops == 0


def _judge(capture: Capture, folder: Path, *protocols: str) -> None:
    verdict = capture.judge(folder, kernels=_GUEST.values())
    assert verdict.bad == []
    assert all(verdict.good[each] > 5 for each in protocols), verdict.good
    print(f"{len(capture.frames):,} frames, checksums {dict(verdict.good)}")


def test_an_address_of_the_guests_dhcp_server(tmp_path: Path) -> None:
    capture = Capture()

    async def main() -> None:
        script = f"{_UDHCPD}\n{_SERVE_A_SHELL}"
        async with _guest_and_tap(script, f"{_GUEST[4]}/24", capture=capture) as (guest, stack, tap):
            lease = await tap.configure(dhcp=True, timeout=_WAIT)
            assert lease.address == IPv4Interface(f"{_LEASED}/24")
            assert lease.router == lease.server == IPv4Address(_GUEST[4])
            assert stack.name_servers == [("10.99.0.53", 53)]
            await guest.line("READY", _WAIT)
            await _talk(stack, _GUEST[4], _LEASED, tmp_path)

    asyncio.run(main())
    _judge(capture, tmp_path, "ip", "icmp", "udp", "tcp")


def test_an_address_the_guest_advertises(tmp_path: Path) -> None:
    capture = Capture()

    async def main() -> None:
        script = f"{_ADVERTISE}\n{_SERVE_A_SHELL}"
        async with _guest_and_tap(script, f"{_GUEST[6]}/64", capture=capture) as (guest, stack, tap):
            await tap.configure(slaac=True, timeout=_WAIT)
            (address,) = tap.addresses
            assert isinstance(address, IPv6Interface)
            assert address.network == IPv6Interface("fd99::/64").network
            assert tap.name_servers == (IPv6Address("fd99::53"),)
            await guest.line("READY", _WAIT)
            await _talk(stack, _GUEST[6], str(address.ip), tmp_path)

    require_programs("dnsmasq")
    asyncio.run(main())
    _judge(capture, tmp_path, "icmpv6", "udp", "tcp")


def test_the_guest_configures_an_address_from_the_stacks_advertisements(tmp_path: Path) -> None:
    async def main() -> None:
        script = (
            "until address=$(ip -6 address show dev vec0 -tentative scope global | grep -o 'fd99:[0-9a-f:]*'); "
            f"do sleep 0.1; done\n{_SERVE_A_SHELL}\n"
            'echo MADE "$address"; ip -6 route show default | sed "s/^/ROUTE /"'
        )
        async with _guest_and_tap(script) as (guest, stack, tap):
            await stack.remove_interface(tap)  # one with an address instead; the frames so far are the guest's searches
            tap = await stack.create_tap_interface(ip="fd99::1/64")
            link = DatagramSocketLink(guest.socket, tap)
            advertiser = await tap.advertise("fd99::/64", lifetime=600, router_lifetime=300)
            address = await guest.line("MADE", _WAIT)
            assert IPv6Address(address) in IPv6Interface("fd99::/64").network
            assert re.match(r"via fe80::\S+ dev vec0 proto ra", await guest.line("ROUTE default", _WAIT))
            await _talk(stack, address, "fd99::1", tmp_path)
            await advertiser.close()
            link.close()

    asyncio.run(main())


def test_the_guest_gets_an_address_through_a_bridge(tmp_path: Path) -> None:
    """dnsmasq in a namespace, the guest's udhcpc, and a bridge of a stack between them, which is a host, too."""

    async def main() -> None:
        script = f"{_UDHCPC}\n{_SERVE_A_SHELL}"
        with network_namespace() as namespace, namespace.open_device("tap", ["10.99.0.1/24"]) as device:
            namespace.start(
                *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0"),
                *("--interface=peer0", "--bind-interfaces", "--user=root", "--no-ping", "--pid-file="),
                *(f"--dhcp-leasefile={tmp_path / 'leases'}", f"--dhcp-range={_LEASED},{_LEASED},255.255.255.0,5m"),
                ready="started",
            )
            async with _guest_and_tap(script) as (guest, stack, tap):
                near = await stack.create_tap_interface()
                link = device.attach(near)
                await stack.create_bridge_interface([near, tap], ip="10.99.0.3/24")
                assert await guest.line("LEASE", _WAIT) == f"{_LEASED}/24 10.99.0.1 10.99.0.1"
                await guest.line("READY", _WAIT)
                for size in (56, 1473, 65_507):
                    await asyncio.to_thread(namespace.echoes, _LEASED, 3, size=size)
                await _talk(stack, _LEASED, "10.99.0.3", tmp_path)
                link.close()

    require_kernel_peer("dnsmasq", "ping")
    asyncio.run(main())
