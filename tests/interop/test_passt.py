"""A stack as a guest of passt, which maps a guest's connections to sockets of the machine and has no TCP of its own.

passt runs in a network namespace and gives the guest the addresses of the namespace's device. The address of its
router is the namespace's loopback, where the servers are.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, TapInterface, UdpDatagram, create_stack
from tcpip_wasm.links import connect_qemu
from tcpip_wasm.links.tuntap import in_namespace
from tests.kit.core_network import payload

from .harness.http import download, file_server
from .harness.namespaces import Namespace, network_namespace
from .harness.payload import make_payload
from .harness.requirements import require_kernel_peer
from .harness.reverser import Reverser, exchange, reverse_stream

_WAIT = 60.0
_MEGABYTES = 16
_ADDRESS, _ROUTER = "198.51.100.2", "198.51.100.1"
_NETWORK6, _ROUTER6 = "fd51::/64", "fe80::1"
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_FORWARDED = 8080

pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("mtu", [1500, 65520])]


def _listen(namespace: Namespace, host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a bound socket of the namespace's loopback."""

    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        sock.bind((host, 0))
        return sock

    return in_namespace(namespace.name, bind)


async def _connected(namespace: Namespace, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = in_namespace(namespace.name, lambda: socket.socket(family, socket.SOCK_STREAM))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    return sock


@contextmanager
def _open_folder() -> Iterator[Path]:
    """Make a folder in which passt can make its socket after it has left root's rights."""
    with tempfile.TemporaryDirectory(prefix="tcpip-passt-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@asynccontextmanager
async def _behind_passt(mtu: int) -> AsyncIterator[tuple[Namespace, NetworkStack, TapInterface]]:
    """Yield a namespace, and a stack that passt has given the namespace's addresses."""
    require_kernel_peer("passt")
    with (
        _open_folder() as folder,
        network_namespace() as namespace,
        namespace.open_device("tap", [f"{_ADDRESS}/24", "fd51::2/64"]) as device,
    ):
        path = folder / "socket"
        namespace.run("ip", "route", "add", "default", "via", _ROUTER)
        namespace.run("ip", "-6", "route", "add", "default", "via", _ROUTER6, "dev", device.name)
        options = ("--mtu", str(mtu), "--tcp-ports", str(_FORWARDED), "--dns", "none", "--search", "none")
        namespace.start(
            "passt", "--foreground", "--stderr", "--one-off", "--socket", str(path), *options, ready="start qemu"
        )
        async with await create_stack(seed=b"passt") as stack, asyncio.timeout(250):
            tap = await stack.create_tap_interface(mtu=mtu)
            link = await connect_qemu(tap, f"unix:{path}")
            lease = await tap.configure(dhcp=True, timeout=_WAIT)
            assert lease.address == IPv4Interface(f"{_ADDRESS}/24")
            assert lease.router == IPv4Address(_ROUTER)
            yield namespace, stack, tap
            assert not link.closed
            link.close()
            assert link.counters.send_dropped == link.counters.receive_truncated == link.counters.receive_dropped == 0
            assert stack.stats().core.checksum_errors == 0


def test_a_file_from_the_machine(mtu: int) -> None:
    """By HTTP over IPv4 and IPv6, checked by its hash."""

    async def main() -> None:
        served = make_payload(_MEGABYTES)
        async with _behind_passt(mtu) as (namespace, stack, tap):
            # passt of 2023 answers only solicitations that come from an address, as the second one does.
            await tap.configure(slaac=True, timeout=_WAIT)
            assert [each.ip in IPv6Network(_NETWORK6) for each in tap.addresses if each.version == 6] == [True]
            for version, router in ((4, _ROUTER), (6, f"{_ROUTER6}%{tap.name}")):
                sock = _listen(namespace, _LOOPBACK[version])
                async with await asyncio.start_server(file_server(served), sock=sock):
                    got = await download(*await stack.open_connection(router, sock.getsockname()[1]), "/")
                    assert (got.length, got.sha256) == (len(served.data), served.sha256)

    asyncio.run(main())


def test_data_both_ways(mtu: int) -> None:
    """TCP to the namespace and from it, and UDP; what arrives is sent back in reverse, and compared."""

    async def main() -> None:
        sent = make_payload(_MEGABYTES).data
        async with _behind_passt(mtu) as (namespace, stack, _):
            # Of a connection that the guest has half-closed, passt of 2023 sends the same data again and again, also to
            # a guest with Linux's TCP.
            sock = _listen(namespace, _LOOPBACK[4])
            async with await asyncio.start_server(partial(_reverse_so_many, len(sent)), sock=sock):
                connection = await stack.open_connection(_ROUTER, sock.getsockname()[1])
                await exchange(*connection, sent, half_close=False)
            await _exchange_datagrams(namespace, stack)
            async with await stack.start_server(reverse_stream, None, _FORWARDED):
                for host in _LOOPBACK.values():
                    inside = await _connected(namespace, host, _FORWARDED)
                    await exchange(*await asyncio.open_connection(sock=inside), sent)

    asyncio.run(main())


async def _reverse_so_many(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readexactly(size))[::-1])
    writer.close()


async def _exchange_datagrams(namespace: Namespace, stack: NetworkStack) -> None:
    sock = _listen(namespace, _LOOPBACK[4], socket.SOCK_DGRAM)
    endpoint, _ = await asyncio.get_running_loop().create_datagram_endpoint(Reverser, sock=sock)
    async with await stack.open_udp() as out:
        for size in (1, 1400):
            await out.send(UdpDatagram(_ROUTER, sock.getsockname()[1], payload(size)))
            assert await out.receive() == UdpDatagram(_ROUTER, sock.getsockname()[1], payload(size)[::-1])
    endpoint.close()
