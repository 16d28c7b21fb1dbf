"""A stack behind libslirp, the network that QEMU gives a guest without privileges: a DHCP server, a router that
advertises, and a TCP derived from BSD's. QEMU runs without a machine; its network is joined to the stack by datagrams
of one frame each.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

from tcpip_wasm import NetworkStack, TapInterface, create_stack
from tcpip_wasm.links import DatagramSocketLink

from .harness.payload import make_payload
from .harness.requirements import require_programs

_WAIT = 20.0
_MEGABYTES = 8


@asynccontextmanager
async def _behind_slirp(folder: Path) -> AsyncIterator[tuple[NetworkStack, TapInterface]]:
    require_programs("qemu-system-x86_64")
    ours, theirs = folder / "stack", folder / "qemu"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(ours))
        qemu = await asyncio.create_subprocess_exec(
            *("qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults", "-monitor", "none"),
            *("-netdev", "user,id=slirp", "-netdev", "hubport,id=one,hubid=0,netdev=slirp"),
            *("-netdev", f"dgram,id=wire,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}"),
            *("-netdev", "hubport,id=two,hubid=0,netdev=wire"),
        )
        try:
            async with asyncio.timeout(_WAIT):
                while not theirs.exists():  # nothing tells when QEMU has bound its socket
                    assert qemu.returncode is None
                    await asyncio.sleep(0.02)
            end.connect(str(theirs))
            end.setblocking(False)
            async with await create_stack(seed=b"slirp") as stack:
                tap = await stack.create_tap_interface()
                link = DatagramSocketLink(end, tap)
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
            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(60):
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
