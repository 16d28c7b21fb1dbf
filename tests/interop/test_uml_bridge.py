"""User-mode Linux guests that connect to `listen_bess`, each of them a port of a bridge.

They get addresses by the services of a stack and move files both ways; devices, guests and listeners come and go;
guests and the stack find each other's names and services by mDNS.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcpip_wasm import BridgeInterface, NetworkStack, connect, create_stack
from tcpip_wasm.links import GuestListener, Link, bridge_port, listen_bess
from tcpip_wasm.services import (
    DhcpServer,
    DnsServer,
    HttpServer,
    MdnsBrowser,
    MdnsInstance,
    MdnsResponder,
    MdnsService,
)

from .harness.avahi import Avahi
from .harness.console import Console
from .harness.http import download
from .harness.message_bus import MessageBus
from .harness.payload import make_payload
from .harness.requirements import missing, require_programs, require_user_mode_linux
from .harness.uml import uml_guest

_BOOT = 120.0
"""Seconds. A guest takes 2, on a busy machine many times as long."""
_WAIT = 100.0
_MEGABYTES = 10
_MAC = "02:00:00:00:96:02"
_STACK = {4: "10.96.0.1", 6: "fd96::1"}
_GUEST_IPV6 = "fd96::ff:fe00:9602"  # made of its hardware address
_PORT = 8080
_STATISTICS = "/sys/class/net/vec0/statistics"

_FUNCTIONS = """
cat > changed <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip address replace "$ip/$mask" dev vec0
echo LEASE "$ip"
END
chmod +x changed
lease() {
  ip -4 address flush dev vec0 scope global
  busybox udhcpc -f -n -q -t 10 -i vec0 -s /mnt/changed || echo NO LEASE
  until address=$(ip -6 address show dev vec0 -tentative scope global | grep -o 'fd96:[0-9a-f:]*'); do sleep 0.1; done
  echo IPV6 "$address"
}
fetch() { curl -s -S -f -g -m 100 -o file "$@" && echo HASH $(sha256sum <file | cut -d ' ' -f 1); }
again() { ip link set vec0 up && lease && fetch http://"$STACK"/payload; }
"""

# The guest sees files of the test as they appear.
_EXCHANGE = f"""
lease
for host in {_STACK[4]} [{_STACK[6]}]; do fetch http://$host/payload; done
busybox httpd -p {_PORT} -h $FOLDER/served
echo SERVING
until [ -e $FOLDER/first ]; do sleep 0.1; done
ip link set vec0 down
cd {_STATISTICS}; echo COUNTED $(cat tx_packets tx_bytes rx_packets rx_bytes); cd /mnt
again
until [ -e $FOLDER/second ]; do sleep 0.1; done
ip link set vec0 down
again
"""

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]


@dataclass
class _Network:
    """A stack with services, and a second one with a bridge, whose ports are those of guests.

    Attributes:
        stack: the stack.
        switch: the stack of the bridge.
        bridge: the bridge.
        dhcp: lends addresses.
        wire: the path of the socket to which guests connect.
    """

    stack: NetworkStack
    switch: NetworkStack
    bridge: BridgeInterface
    dhcp: DhcpServer
    wire: Path

    async def listen(self) -> GuestListener:
        """Begin to accept guests."""
        return await listen_bess(f"unix:{self.wire}", bridge_port(self.switch, self.bridge))


@asynccontextmanager
async def _network(folder: Path) -> AsyncIterator[_Network]:
    served = folder / "served"
    served.mkdir()
    make_payload(_MEGABYTES).write_to(served)
    async with await create_stack(seed=b"guests") as stack, await create_stack(seed=b"switch") as switch:
        tap = await stack.create_tap_interface(ip=[f"{_STACK[4]}/24", f"{_STACK[6]}/64"])
        bridge, uplink = await switch.create_bridge_interface(), await switch.create_tap_interface()
        await bridge.add_port(uplink)
        connect(tap, uplink)
        await tap.advertise("fd96::/64")
        async with DhcpServer(tap, pool=("10.96.0.100", "10.96.0.199")) as dhcp, HttpServer(stack, served):
            yield _Network(stack, switch, bridge, dhcp, folder / "wire")


def _script(folder: Path) -> str:
    return f"FOLDER={folder} STACK={_STACK[4]}\n{_FUNCTIONS}{_EXCHANGE}"


async def _leased(network: _Network, console: Console) -> str:
    """Wait for a guest's addresses, check that they are those it was given, and return the one of IPv4."""
    address = await console.line("LEASE", _BOOT)
    assert [(str(each.address), each.mac) for each in network.dhcp.leases] == [(address, _MAC)]
    assert await console.line("IPV6", _WAIT) == _GUEST_IPV6
    return address


async def _fetch_from_guest(stack: NetworkStack, host: str) -> None:
    async with asyncio.timeout(_WAIT):
        result = await download(*await stack.open_connection(host, _PORT), "/payload")
    assert result.sha256 == make_payload(_MEGABYTES).sha256


def test_a_guest_its_device_and_the_listener_come_and_go(tmp_path: Path) -> None:
    """A guest has the same address again each time, and moves a file over each of its connections."""
    require_user_mode_linux()
    digest = make_payload(_MEGABYTES).sha256

    async def run() -> None:
        async with _network(tmp_path) as network:
            listener = await network.listen()
            async with uml_guest(_script(tmp_path), network.wire, mac=_MAC) as console:
                address = await _leased(network, console)
                for _ in range(2):
                    assert await console.line("HASH", _WAIT) == digest
                await console.line("SERVING", _WAIT)
                for host in (address, _GUEST_IPV6):
                    await _fetch_from_guest(network.stack, host)
                (link,) = listener.links

                # The device goes down and comes back: each time is a connection.
                (tmp_path / "first").touch()
                sent, sent_bytes, received, received_bytes = map(int, (await console.line("COUNTED", _WAIT)).split())
                await asyncio.wait_for(link.wait_closed(), _WAIT)
                _check_counters(link, sent, sent_bytes, received, received_bytes)
                assert await _leased(network, console) == address
                assert await console.line("HASH", _WAIT) == digest
                (second,) = listener.links
                assert second is not link

                # The listener ends, and another one begins.
                await listener.aclose()
                assert second.closed
                assert len(network.bridge.ports) == 1
                listener = await network.listen()
                (tmp_path / "second").touch()
                assert await _leased(network, console) == address
                assert await console.line("HASH", _WAIT) == digest
                (third,) = listener.links
            # The guest ends, and another one with its hardware address begins.
            await asyncio.wait_for(third.wait_closed(), _WAIT)
            async with uml_guest(_script(tmp_path), network.wire, mac=_MAC) as console:
                assert await _leased(network, console) == address
                for _ in range(2):
                    assert await console.line("HASH", _WAIT) == digest
            await listener.aclose()
            assert len(network.bridge.ports) == 1
            assert not network.wire.exists()

    asyncio.run(run())


def _check_counters(link: Link, sent: int, sent_bytes: int, received: int, received_bytes: int) -> None:
    """Compare a link's counters with those of the guest's kernel, which count in the other direction.

    What the guest sent, the link has read to the end. What was on its way to the guest when the device went down, the
    guest has not counted.
    """
    counters = link.counters
    assert link.error is None
    assert (counters.frames_received, counters.bytes_received) == (sent, sent_bytes)
    assert sent > 2 * _MEGABYTES * 1_000_000 / 1448
    assert 2 * _MEGABYTES * 1_000_000 / 1448 < received <= counters.frames_sent
    assert received_bytes <= counters.bytes_sent
    assert counters.receive_truncated == counters.receive_dropped == counters.send_dropped == 0
    print(f"{sent:,} frames from the guest, {counters.frames_sent:,} to it, of which it received {received:,}")


_FIND = """
mount --bind $FOLDER/resolv.conf /etc/resolv.conf
mount --bind $FOLDER/nsswitch.conf /etc/nsswitch.conf
mkdir web
head -c 2000000 /dev/urandom >web/mine
echo MINE $(sha256sum <web/mine | cut -d ' ' -f 1)
busybox httpd -p $PORT -h /mnt/web
lease
$BUS >bus &
until [ -s bus ]; do sleep 0.1; done
export DBUS_SYSTEM_BUS_ADDRESS="$(cat bus)"
sh -c "$AVAHI" >avahi &
for family in -4 -6; do
  until fetch $family http://$OTHER.local:$PORT/mine; do sleep 0.2; done
  until fetch $family http://stack-side.local/payload; do sleep 0.2; done
done
until avahi-browse -r -t -p _http._tcp | grep '^=' >found && grep -q $OTHER.local found && grep -q stack-side found; do
  sleep 0.2
done
for version in IPv4 IPv6; do
  for host in $OTHER.local stack-side.local; do
    echo FOUND $(grep ";$version;.*;$host;" found)
  done
done
until [ -e $FOLDER/end ]; do sleep 0.1; done
kill $(cat /run/avahi-daemon/pid)
"""
_NAMES = ("guest-one", "guest-two")


def _finder(folder: Path, name: str, other: str) -> str:
    """Write what a guest reads, and return its script."""
    own = folder / name
    own.mkdir()
    avahi = Avahi(own, name, "vec0", f"Files of {name}", "_http._tcp", _PORT, "path=/mine")
    values = {
        "FOLDER": str(folder),
        "OTHER": other,
        "PORT": str(_PORT),
        "BUS": shlex.join(MessageBus(own, "/mnt/bus-socket").command),
        "AVAHI": avahi.command,
    }
    return "\n".join(f"{key}={shlex.quote(value)}" for key, value in values.items()) + _FUNCTIONS + _FIND


def test_two_guests_find_each_other_and_the_stack_by_mdns(tmp_path: Path) -> None:
    """Each guest has Avahi and glibc's module for names in .local; the stack has a responder and a browser."""
    require_user_mode_linux()
    require_programs("avahi-daemon", "avahi-browse", "dbus-daemon")
    if not list(Path("/lib").glob("*/libnss_mdns_minimal.so.2")):
        missing("Debian's libnss-mdns is not installed")
    (tmp_path / "nsswitch.conf").write_text("hosts: files mdns_minimal [NOTFOUND=return] dns\n")
    (tmp_path / "resolv.conf").write_text(f"nameserver {_STACK[4]}\n")
    served = tmp_path / "served"
    served.mkdir()
    make_payload(_MEGABYTES).write_to(served)
    services = [MdnsService("_http._tcp", 80, "Files of the stack", {"path": "/payload"})]

    async def run() -> None:
        async with AsyncExitStack() as held:
            enter = held.enter_async_context
            stack = await enter(await create_stack(seed=b"mdns"))
            bridge = await stack.create_bridge_interface(ip=[f"{_STACK[4]}/24", f"{_STACK[6]}/64"])
            dhcp = await enter(DhcpServer(bridge, pool=("10.96.0.100", "10.96.0.199"), name_servers=[_STACK[4]]))
            await enter(DnsServer(stack, records={}))
            await enter(HttpServer(stack, served))
            await enter(MdnsResponder(stack, "stack-side", services))
            browser = await enter(MdnsBrowser(stack, "_http._tcp"))
            events = browser.events()
            wire = tmp_path / "wire"
            await enter(await listen_bess(f"unix:{wire}", bridge_port(stack, bridge)))
            guests = {}
            for number, (name, other) in enumerate((_NAMES, _NAMES[::-1])):
                mac = f"02:00:00:00:95:0{number}"
                script, own = _finder(tmp_path, name, other), [f"fd96::{number + 2}/64"]
                guests[name] = await enter(uml_guest(script, wire, addresses=own, mac=mac))
            digests: dict[str, str] = {}
            addresses = {"stack-side": _STACK}
            for name, console in guests.items():
                digests[name] = await console.line("MINE", _BOOT)
                ipv4, ipv6 = await console.line("LEASE", _BOOT), await console.line("IPV6", _WAIT)
                assert ipv4 in [str(lease.address) for lease in dhcp.leases]
                addresses[name] = {4: ipv4, 6: ipv6}
            for console, other in zip(guests.values(), _NAMES[::-1], strict=True):
                for _ in (4, 6):
                    assert await console.line("HASH", _WAIT) == digests[other]
                    assert await console.line("HASH", _WAIT) == make_payload(_MEGABYTES).sha256
                await _check_found(console, other, addresses)
            async with asyncio.timeout(_WAIT):
                for name in _NAMES:
                    instance = await _instance(browser, f"Files of {name}", set(addresses[name].values()))
                    assert (instance.host, instance.port) == (f"{name}.local", _PORT)
                    assert instance.properties == {"path": b"/mine"}
                    result = await download(*await stack.open_connection(instance.host, _PORT), "/mine")
                    assert result.sha256 == digests[name]
                # Avahi announces that its services end (RFC 6762, section 10.1).
                (tmp_path / "end").touch()
                gone: set[str] = set()
                while len(gone) < 2:
                    event = await anext(events)
                    if event.kind == "removed":
                        gone.add(event.instance.name)
            assert gone == {f"Files of {name}" for name in _NAMES}

    asyncio.run(run())


async def _check_found(console: Console, other: str, addresses: dict[str, dict[int, str]]) -> None:
    """Check what `avahi-browse` in a guest has printed of the other guest's service and of the stack's."""
    for version in (4, 6):
        for host, port, text in ((other, _PORT, "path=/mine"), ("stack-side", 80, "path=/payload")):
            found = (await console.line("FOUND", _WAIT)).split(";")
            assert found[2] == f"IPv{version}"
            assert found[6] == f"{host}.local"
            assert found[7] in addresses[host].values()
            assert found[8:] == [str(port), f'"{text}"']


async def _instance(browser: MdnsBrowser, name: str, addresses: set[str]) -> MdnsInstance:
    """Wait until the browser has a service with these addresses."""
    events = browser.events()
    while True:
        for each in browser.instances:
            if each.name == name and {str(address) for address in each.addresses} == addresses:
                return each
        await anext(events)
