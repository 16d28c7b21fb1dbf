"""A stack as a guest of gvproxy, over each kind of socket that it listens on: vfkit's, QEMU's and bess's.

gvproxy's own TCP is gVisor's, its DHCP and DNS are libraries of Go. It reaches the loopback of this machine at an
address of its network, and forwards connections to the guest which it is asked to over HTTP on a socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, TapInterface, UdpDatagram, create_stack
from tcpip_wasm.links import Link, bind_datagrams, connect_bess, connect_qemu
from tests.kit.core_network import payload

from .harness.gvproxy import GATEWAY, GUEST, GUEST_MAC, HOST, gvproxy, require_gvproxy
from .harness.http import download, file_server
from .harness.payload import make_payload
from .harness.reverser import Reverser, exchange, reverse_stream

_WAIT = 60.0
_MEGABYTES = 16
_MTUS = (1500, 65520)


@dataclass(frozen=True)
class _Kind:
    """A kind of socket."""

    name: str
    scheme: str
    connect: Callable[[TapInterface, str, str], Awaitable[Link]]


_KINDS = (
    _Kind("vfkit", "unixgram", bind_datagrams),
    _Kind("qemu", "unix", lambda tap, _, there: connect_qemu(tap, there)),
    _Kind("bess", "unixpacket", lambda tap, _, there: connect_bess(tap, there)),
)

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(1200),  # with the time to build the peer
    pytest.mark.parametrize("mtu", _MTUS),
    pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.name),
]


@dataclass(frozen=True)
class _Guest:
    stack: NetworkStack
    tap: TapInterface
    control: Path


@asynccontextmanager
async def _guest(program: Path, kind: _Kind, mtu: int, folder: Path) -> AsyncIterator[_Guest]:
    """Yield a stack that gvproxy has given an address."""
    network, control = folder / "network", folder / "control"
    options = ("-listen", f"unix://{control}")
    async with (
        gvproxy(program, kind.name, kind.scheme, network, *options, mtu=mtu),
        await create_stack(seed=b"gvproxy") as stack,
        asyncio.timeout(300),
    ):
        tap = await stack.create_tap_interface(mac=GUEST_MAC, mtu=mtu)
        link = await kind.connect(tap, f"unix:{folder / 'guest'}", f"unix:{network}")
        lease = await tap.configure(dhcp=True, timeout=_WAIT)
        assert lease.address == IPv4Interface(f"{GUEST}/24")
        assert lease.router == lease.server == IPv4Address(GATEWAY)
        assert lease.name_servers == (IPv4Address(GATEWAY),)
        yield _Guest(stack, tap, control)
        assert not link.closed
        link.close()
        assert link.counters.send_dropped == link.counters.receive_truncated == link.counters.receive_dropped == 0
        assert stack.stats().core.checksum_errors == 0


def test_names_and_a_file_from_the_machine(kind: _Kind, mtu: int, tmp_path: Path) -> None:
    """DHCP, DNS, an echo, and a file by HTTP from the loopback of this machine, checked by its hash."""
    program = require_gvproxy()

    async def main() -> None:
        served = make_payload(_MEGABYTES)
        async with (
            await asyncio.start_server(file_server(served), "127.0.0.1", 0) as server,
            _guest(program, kind, mtu, tmp_path) as guest,
        ):
            stack, port = guest.stack, server.sockets[0].getsockname()[1]
            found = await stack.getaddrinfo("host.containers.internal", port, type=socket.SOCK_STREAM)
            assert [each[4][0] for each in found] == [HOST]
            async with await stack.create_ping_session(GATEWAY) as session:
                for size in (0, 56, 1000):
                    assert (await session.ping(payload(size), timeout=_WAIT)).payload == payload(size)
            got = await download(*await stack.open_connection("host.containers.internal", port), "/")
            assert (got.length, got.sha256) == (len(served.data), served.sha256)

    asyncio.run(main())


def test_data_both_ways(kind: _Kind, mtu: int, tmp_path: Path) -> None:
    """TCP to the machine and from it, and UDP; what arrives is sent back in reverse, and compared."""
    program = require_gvproxy()

    async def main() -> None:
        sent = make_payload(_MEGABYTES).data
        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(Reverser, local_addr=("127.0.0.1", 0))
        async with (
            await asyncio.start_server(reverse_stream, "127.0.0.1", 0) as server,
            _guest(program, kind, mtu, tmp_path) as guest,
        ):
            stack, port = guest.stack, server.sockets[0].getsockname()[1]
            await exchange(*await stack.open_connection(HOST, port), sent)
            async with await stack.open_udp() as out:
                for size in (1, 1400):
                    there = udp.get_extra_info("sockname")[1]
                    await out.send(UdpDatagram(HOST, there, payload(size)))
                    assert await out.receive() == UdpDatagram(HOST, there, payload(size)[::-1])
            async with await stack.start_server(reverse_stream, GUEST, 80):
                local = tmp_path / "forwarded"
                await _expose(guest.control, {"protocol": "unix", "local": str(local), "remote": f"tcp://{GUEST}:80"})
                await exchange(*await asyncio.open_unix_connection(str(local)), sent)
        udp.close()

    asyncio.run(main())


async def _expose(control: Path, forward: dict[str, str]) -> None:
    """Have gvproxy forward a socket of this machine to the guest."""
    body = json.dumps(forward).encode()
    reader, writer = await asyncio.open_unix_connection(str(control))
    head = f"POST /services/forwarder/expose HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    status = await reader.readline()
    rest = await reader.read()
    assert status.split()[1] == b"200", status + rest
    writer.close()
