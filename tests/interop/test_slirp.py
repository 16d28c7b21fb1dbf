"""A stack behind libslirp, the network that QEMU gives a guest without privileges: a DHCP server, a router that
advertises, and a TCP derived from BSD's. QEMU runs without a machine; its network is joined to the stack by datagrams
of one frame each.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

from tcpip_wasm import NetworkStack, TapInterface, UdpDatagram, create_stack
from tcpip_wasm.links import DatagramSocketLink
from tests.kit.core_network import payload
from tests.kit.polling import poll

from .harness.capture import Capture
from .harness.payload import make_payload
from .harness.requirements import require_programs
from .harness.reverser import Reverser, exchange, reverse_stream

_WAIT = 60.0
_MEGABYTES = 8


@asynccontextmanager
async def _behind_slirp(
    folder: Path, *, options: str = "", capture: Capture | None = None
) -> AsyncIterator[tuple[NetworkStack, TapInterface]]:
    require_programs("qemu-system-x86_64")
    ours, theirs = folder / "stack", folder / "qemu"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(ours))
        qemu = await asyncio.create_subprocess_exec(
            *("qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults", "-monitor", "none"),
            *("-netdev", f"user,id=slirp{options}", "-netdev", "hubport,id=one,hubid=0,netdev=slirp"),
            *("-netdev", f"dgram,id=wire,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}"),
            *("-netdev", "hubport,id=two,hubid=0,netdev=wire"),
        )
        try:
            await poll(lambda: theirs.exists() or qemu.returncode is not None)
            assert qemu.returncode is None, f"QEMU ended with {qemu.returncode}"
            end.connect(str(theirs))
            end.setblocking(False)
            async with await create_stack(seed=b"slirp") as stack:
                tap = await stack.create_tap_interface()
                link = DatagramSocketLink(end, tap if capture is None else capture.of(tap))
                try:
                    yield stack, tap
                finally:
                    link.close()
        finally:
            if qemu.returncode is None:
                qemu.kill()
            await qemu.wait()


def test_dhcp_and_tcp(tmp_path: Path) -> None:
    async def main() -> None:
        payload = make_payload(_MEGABYTES)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readexactly(32)) + payload.data)
            writer.close()

        async with _behind_slirp(tmp_path) as (stack, tap):
            lease = await tap.configure(dhcp=True, timeout=_WAIT)
            assert lease.address == IPv4Interface("10.0.2.15/24")
            assert lease.router == lease.server == IPv4Address("10.0.2.2")
            assert stack.name_servers == [("10.0.2.3", 53)]
            # libslirp's router is this machine's loopback.
            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(250):
                port = server.sockets[0].getsockname()[1]
                reader, writer = await stack.open_connection("10.0.2.2", port)
                token = hashlib.sha256(b"token").digest()
                writer.write(token)
                assert await reader.readexactly(32) == token
                assert hashlib.sha256(await reader.read()).hexdigest() == payload.sha256
                writer.close()

    asyncio.run(main())


def test_slaac(tmp_path: Path) -> None:
    async def main() -> None:
        async with _behind_slirp(tmp_path) as (stack, tap):
            await tap.configure(slaac=True, timeout=_WAIT)
            assert stack.interfaces[-1] is tap
            (address,) = tap.addresses
            assert isinstance(address, IPv6Interface)
            assert address.network == IPv6Interface("fec0::/64").network
            (router,) = tap.routers
            assert str(router) == f"fe80::2%{tap.name}"

    asyncio.run(main())


async def _ping_router(stack: NetworkStack) -> None:
    """Ping libslirp's router over IPv4 and IPv6."""
    for router in ("10.0.2.2", "fec0::2"):
        async with await stack.create_ping_session(router) as session:
            for size in (0, 1, 56, 1000):
                reply = await session.ping(payload(size), timeout=_WAIT)
                assert (reply.host, reply.payload) == (router, payload(size))


async def _udp_from_the_stack(stack: NetworkStack) -> None:
    """Send from the stack, and answer from this machine; 9,000 bytes are sent in fragments."""
    loop = asyncio.get_running_loop()
    endpoint, _ = await loop.create_datagram_endpoint(Reverser, local_addr=("127.0.0.1", 0))
    port = endpoint.get_extra_info("sockname")[1]
    async with await stack.open_udp() as out:
        for size in (1, 1472, 9000):
            await out.send(UdpDatagram("10.0.2.2", port, payload(size)))
            assert await out.receive() == UdpDatagram("10.0.2.2", port, payload(size)[::-1])
    endpoint.close()


async def _udp_to_the_stack(stack: NetworkStack, udp: int) -> None:
    """Send from this machine to a forwarded port, and answer from the stack."""
    loop = asyncio.get_running_loop()
    inner, _ = await stack.create_datagram_endpoint(Reverser, local_addr=("10.0.2.15", 7))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", udp))
        for size in (1, 1000, 1472):
            await loop.sock_sendall(client, payload(size))
            assert await loop.sock_recv(client, 65535) == payload(size)[::-1]
    inner.close()


async def _tcp_to_the_stack(stack: NetworkStack, tcp: int) -> None:
    """Connect from this machine to a forwarded port of the stack."""
    async with await stack.start_server(reverse_stream, "10.0.2.15", 80):
        await exchange(*await asyncio.open_connection("127.0.0.1", tcp), make_payload(_MEGABYTES).data)


def test_ping_udp_and_tcp_both_ways(tmp_path: Path) -> None:
    """Echoes of libslirp's router; UDP to this machine's loopback and from it, TCP from it, through forwarded ports;
    tshark finds no error in any of it."""
    capture = Capture()

    async def main() -> None:
        tcp, udp = _free_port(socket.SOCK_STREAM), _free_port(socket.SOCK_DGRAM)
        forwarded = f",hostfwd=tcp:127.0.0.1:{tcp}-10.0.2.15:80,hostfwd=udp:127.0.0.1:{udp}-10.0.2.15:7"
        async with (
            _behind_slirp(tmp_path, options=forwarded, capture=capture) as (stack, tap),
            asyncio.timeout(250),
        ):
            await tap.configure(dhcp=True, slaac=True, timeout=_WAIT)
            await _ping_router(stack)
            await _udp_from_the_stack(stack)
            await _udp_to_the_stack(stack, udp)
            await _tcp_to_the_stack(stack, tcp)
            assert stack.stats().core.checksum_errors == 0

    asyncio.run(main())
    verdict = capture.judge(tmp_path)
    assert verdict.bad == []
    assert all(verdict.good[each] > 0 for each in ("ip", "tcp", "udp", "icmp", "icmpv6"))
    assert verdict.protocols["dhcp"] >= 4
    print(f"{len(capture.frames):,} frames, checksums {dict(verdict.good)}")


def _free_port(kind: int) -> int:
    """Return a port of the loopback that is free now, since QEMU needs a number.

    It is outside of the range from which the system chooses ports.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with suppress(OSError), socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", port))
            return port
