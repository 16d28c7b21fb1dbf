"""WireGuard between stacks: over the machine's UDP, over stacks' UDP, and in simulations.

What needs no sockets is in test_wireguard_tunnel.py; other implementations are in tests/interop/test_wireguard.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tcpip_wasm import NetworkStack, TunInterface, connect, create_stack
from tcpip_wasm.links import WireGuard, WireGuardPeer
from tcpip_wasm.links.wireguard import sockets
from tcpip_wasm.links.wireguard.keys import key_text, new_private_key, public_key
from tcpip_wasm.simulation import Network
from tcpip_wasm.simulation import run as simulate
from tests.kit.core_network import payload
from tests.kit.stacks import raises_errno, run, until

KEYS = [bytes([number + 64]) * 32 for number in range(3)]
MTU = 1420


@dataclass
class Tunnelled:
    """Two stacks with a tun each, joined by WireGuard."""

    a: NetworkStack
    b: NetworkStack
    tun_a: TunInterface
    tun_b: TunInterface
    link_a: WireGuard
    link_b: WireGuard


@asynccontextmanager
async def tunnelled(
    host: str | None = "127.0.0.1", address: str = "127.0.0.1", mtu: int = MTU
) -> AsyncIterator[Tunnelled]:
    """Join two stacks over the machine's loopback; the first knows where the second is.

    Args:
        host: what both sockets are bound to.
        address: where the second is.
        mtu: of both tuns.
    """
    async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
        tun_a = await a.create_tun_interface(ip=["10.8.0.1/24", "fd08::1/64"], mtu=mtu)
        tun_b = await b.create_tun_interface(ip=["10.8.0.2/24", "fd08::2/64"], mtu=mtu)
        near = WireGuardPeer(public_key=public_key(KEYS[0]), allowed_ips=["10.8.0.1", "fd08::1"], preshared_key=KEYS[2])
        link_b = await WireGuard.create(tun_b, private_key=KEYS[1], host=host, peers=[near])
        far = WireGuardPeer(
            public_key=key_text(public_key(KEYS[1])),
            endpoint=(address, link_b.port),
            allowed_ips=["10.8.0.0/24", "fd08::/64"],
            preshared_key=key_text(KEYS[2]),
        )
        link_a = await WireGuard.create(tun_a, private_key=key_text(KEYS[0]), host=host, peers=[far])
        try:
            yield Tunnelled(a, b, tun_a, tun_b, link_a, link_b)
        finally:
            link_a.close()
            link_b.close()


async def fetch(server: NetworkStack, client: NetworkStack, host: str, data: bytes) -> str:
    """Return the hash of data that one stack has fetched from another."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    async with await server.start_server(serve, host, 80):
        reader, writer = await client.open_connection(host, 80)
        digest = hashlib.sha256()
        while chunk := await reader.read(1 << 18):
            digest.update(chunk)
        writer.close()
        await writer.wait_closed()
    return digest.hexdigest()


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "singly"])
def test_twenty_megabytes_pass_each_way(offload: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without the kernel's segmentation offload, as on other systems."""

    async def main() -> None:
        data = payload(20_000_000 if offload else 3_000_000)
        digest = hashlib.sha256(data).hexdigest()
        async with tunnelled() as ends:
            if not offload:
                for link in (ends.link_a, ends.link_b):
                    used = link._socket
                    assert isinstance(used, sockets.MachineSocket)
                    used._sock.setsockopt(17, sockets.UDP_GRO, 0)
                    used._segments = used._coalesces = False
            assert await fetch(ends.b, ends.a, "10.8.0.2", data) == digest
            assert await fetch(ends.a, ends.b, "fd08::1", data) == digest
            for link in (ends.link_a, ends.link_b):
                assert link.counters.bytes_received > len(data)
                assert link.tunnel_counters.handshakes == 1
                assert link.tunnel_counters.forged == link.tunnel_counters.not_allowed == 0
            (status,) = ends.link_b.peers
            assert status.endpoint == ("127.0.0.1", ends.link_a.port)
            assert status.public_key == ends.link_a.public_key
            assert status.latest_handshake is not None
            assert status.bytes_received > len(data)
            assert status.bytes_sent > len(data)

    run(main())


def test_a_socket_of_all_addresses_carries_ipv4_and_ipv6() -> None:
    async def main() -> None:
        async with tunnelled(None, "127.0.0.1") as ends:
            assert await fetch(ends.b, ends.a, "10.8.0.2", b"over IPv4") == hashlib.sha256(b"over IPv4").hexdigest()
            assert ends.link_b.peers[0].endpoint == ("127.0.0.1", ends.link_a.port)
        async with tunnelled(None, "::1") as ends:
            assert await fetch(ends.b, ends.a, "10.8.0.2", b"over IPv6") == hashlib.sha256(b"over IPv6").hexdigest()
            assert ends.link_b.peers[0].endpoint == ("::1", ends.link_a.port)

    run(main())


def test_noise_on_the_socket_is_counted_and_ignored() -> None:
    async def main() -> None:
        async with tunnelled() as ends:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for message in (b"", b"x", bytes(148), b"\x01" + bytes(147), b"\x04" + bytes(31), b"\x04" * 65000):
                    sender.sendto(message, ("127.0.0.1", ends.link_b.port))
            counters = ends.link_b.tunnel_counters
            await until(lambda: counters.malformed + counters.forged == 5)
            assert counters.forged == 2
            assert await fetch(ends.b, ends.a, "10.8.0.2", b"data") == hashlib.sha256(b"data").hexdigest()

    run(main())


def test_a_full_stack_leaves_messages_to_the_kernel() -> None:
    """A tun whose buffer has no room: reading pauses, and goes on."""

    async def main() -> None:
        async with tunnelled() as ends:
            data = payload(2_000_000)
            assert await fetch(ends.b, ends.a, "10.8.0.2", b"begin")
            whole = ends.tun_a.receive_buffer
            calls = 0

            def small() -> memoryview:
                nonlocal calls
                calls += 1
                return whole()[: 3000 if calls % 3 else 0]

            ends.tun_a.receive_buffer = small  # type: ignore[method-assign]
            assert await fetch(ends.b, ends.a, "10.8.0.2", data) == hashlib.sha256(data).hexdigest()
            assert ends.link_a.counters.receive_full > 0

    run(main())


def test_closing_ends_the_timers_and_frees_the_port() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tun = await stack.create_tun_interface(ip="10.8.0.1/24", mtu=MTU)
            peer = WireGuardPeer(
                public_key=public_key(KEYS[1]), endpoint=("127.0.0.1", 9), allowed_ips=["0.0.0.0/0"], keepalive=1
            )
            link = await WireGuard.create(tun, private_key=KEYS[0], host="127.0.0.1", peers=[peer])
            port = link.port
            await until(lambda: link.tunnel_counters.initiations_sent == 1)
            link.close()
            await link.wait_closed()
            assert link.closed
            assert link.peers == ()
            again = await WireGuard.create(tun, private_key=KEYS[0], listen_port=port, host="127.0.0.1")
            await raises_errno(98, WireGuard.create(tun, private_key=KEYS[0], listen_port=port, host="127.0.0.1"))
            await stack.remove_interface(tun)
            await again.wait_closed()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.1", port))

    run(main())


def test_what_is_malformed_is_refused_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tun = await stack.create_tun_interface(ip="10.8.0.1/24", mtu=MTU)
            tap = await stack.create_tap_interface(ip="10.9.0.1/24")
            with pytest.raises(ValueError, match="a tun is needed"):
                await WireGuard.create(tap, private_key=KEYS[0])
            with pytest.raises(ValueError, match="private_key: a key is"):
                await WireGuard.create(tun, private_key="x")
            with pytest.raises(ValueError, match="listen_port"):
                await WireGuard.create(tun, private_key=KEYS[0], listen_port=70000)
            with pytest.raises(ValueError, match="own key"):
                await WireGuard.create(tun, private_key=KEYS[0], peers=[WireGuardPeer(public_key=public_key(KEYS[0]))])
            with pytest.raises(OSError):  # noqa: PT011 - which one depends on the resolver
                peer = WireGuardPeer(public_key=public_key(KEYS[1]), endpoint=("host.invalid", 9))
                await WireGuard.create(tun, private_key=KEYS[0], peers=[peer])
            link = await WireGuard.create(tun, private_key=KEYS[0])
            with pytest.raises(OSError, match="listener already"):
                await WireGuard.create(tun, private_key=KEYS[0])
            with pytest.raises(KeyError):
                link.remove_peer(public_key(KEYS[1]))
            await link.add_peer(WireGuardPeer(public_key=public_key(KEYS[1])))
            link.remove_peer(key_text(public_key(KEYS[1])))
            link.close()

    run(main())


# --- Over a stack's UDP -------------------------------------------------------------------------------------------


async def vpn(network: Network) -> tuple[str, float, int, int]:
    """A client and a server whose only way to each other is a VPN over a lossy link; return what happened."""
    client, server = network.host("client"), network.host("server")
    network.link(client, server, bandwidth=50e6, delay=0.01, loss=0.005)
    data = payload(1_000_000)
    digests: list[str] = []
    links: list[WireGuard] = []

    async def join(stack: NetworkStack, number: int, peer: WireGuardPeer, port: int) -> WireGuard:
        tun = await stack.create_tun_interface(ip=f"10.8.0.{number}/24", mtu=1300)
        link = await WireGuard.create(tun, private_key=KEYS[number], listen_port=port, stack=stack, peers=[peer])
        links.append(link)
        return link

    async def serve() -> None:
        peer = WireGuardPeer(public_key=public_key(KEYS[1]), allowed_ips=["10.8.0.1"])
        link = await join(server.stack, 2, peer, 51820)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(data)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "10.8.0.2", 80):
            await link.wait_closed()

    async def ask() -> None:
        peer = WireGuardPeer(
            public_key=public_key(KEYS[2]),
            endpoint=("server", 51820),
            allowed_ips=["10.8.0.0/24"],
            keepalive=25,
        )
        link = await join(client.stack, 1, peer, 0)
        for _ in range(4):
            reader, writer = await asyncio.open_connection("10.8.0.2", 80)
            writer.write(b"data\n")
            digests.append(hashlib.sha256(await reader.read(-1)).hexdigest())
            writer.close()
            await asyncio.sleep(200)
        link.close()

    server.start(serve)
    await asyncio.sleep(1)
    await client.run(ask())
    links[0].close()
    assert digests == [hashlib.sha256(data).hexdigest()] * 4
    return digests[0], asyncio.get_running_loop().time(), links[1].tunnel_counters.handshakes, len(links)


def test_a_whole_vpn_in_virtual_time() -> None:
    """800 seconds with rekeying, over a lossy link; the same seed gives the same frames."""
    first = simulate(vpn, seed=3)
    assert first.value is not None
    assert first.value[2] >= 6, "handshakes every 120 seconds"
    assert first.duration > 800
    assert simulate(vpn, seed=3).digest == first.digest
    assert simulate(vpn, seed=4).digest != first.digest


async def restarted(network: Network) -> tuple[list[bool], int]:
    """A server that crashes and starts again with the same key; return which of the client's pings were answered."""
    client, server = network.host("client"), network.host("server")
    network.link(client, server, bandwidth=50e6, delay=0.01)
    answered: list[bool] = []

    async def serve() -> None:
        tun = await server.stack.create_tun_interface(ip="10.8.0.2/24", mtu=MTU)
        peer = WireGuardPeer(public_key=public_key(KEYS[1]), allowed_ips=["10.8.0.1"])
        link = await WireGuard.create(tun, private_key=KEYS[2], listen_port=51820, stack=server.stack, peers=[peer])
        await link.wait_closed()

    async def ask() -> int:
        tun = await client.stack.create_tun_interface(ip="10.8.0.1/24", mtu=MTU)
        peer = WireGuardPeer(public_key=public_key(KEYS[2]), endpoint=("server", 51820), allowed_ips=["10.8.0.2"])
        link = await WireGuard.create(tun, private_key=KEYS[1], stack=client.stack, peers=[peer])
        async with await client.stack.create_ping_session("10.8.0.2") as session:
            for _ in range(60):
                try:
                    answered.append((await session.ping(b"there?", timeout=0.9)).payload == b"there?")
                except OSError:
                    answered.append(False)
                await asyncio.sleep(1)
        link.close()
        return link.tunnel_counters.handshakes

    server.start(serve)
    network.at(10.5, server.crash)
    network.at(12.5, server.restart)
    await asyncio.sleep(0.5)
    return answered, await client.run(ask())


def test_a_crashed_peer_is_reached_again_after_fifteen_seconds() -> None:
    """Nothing comes back from a peer that has lost its keys, so that the other begins a handshake."""
    result = simulate(restarted, seed=5)
    assert result.value is not None
    answered, handshakes = result.value
    assert all(answered[:8])
    first_lost = answered.index(False)
    again = answered.index(True, first_lost)
    assert all(answered[again:])
    assert 8 <= again - first_lost <= 17, "some of the pings took a second longer than their interval"
    assert handshakes == 2


def test_without_cryptography_the_extra_is_named() -> None:
    """Links can be imported without it, and without what else is an extra."""
    program = textwrap.dedent("""
        import sys
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name in ("cryptography", "websockets"):
                    raise ModuleNotFoundError(name, name=name)
        sys.meta_path.insert(0, Missing())
        import tcpip_wasm.cli, tcpip_wasm.links as links
        for name in ("WireGuard", "WispServer"):
            try:
                getattr(links, name)
            except ImportError as missing:
                print(missing)
        print(tcpip_wasm.cli.main(["wg", "genkey"]))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "WireGuard needs cryptography: pip install 'tcpip-wasm[wireguard]'",
        "WispServer needs websockets: pip install 'tcpip-wasm[websocket]'",
        "1",
    ]
    assert "pip install 'tcpip-wasm[wireguard]'" in done.stderr


def test_a_vpn_over_another_stacks_udp() -> None:
    """The messages of an inner stack travel over an outer one, on the real loop."""

    async def main() -> None:
        async with (
            await create_stack(seed=1) as outer_a,
            await create_stack(seed=2) as outer_b,
            await create_stack(seed=3) as inner_a,
            await create_stack(seed=4) as inner_b,
        ):
            connect(
                await outer_a.create_tap_interface(ip="192.0.2.1/24"),
                await outer_b.create_tap_interface(ip="192.0.2.2/24"),
            )
            tun_a = await inner_a.create_tun_interface(ip="10.8.0.1/24", mtu=MTU)
            tun_b = await inner_b.create_tun_interface(ip="10.8.0.2/24", mtu=MTU)
            near = WireGuardPeer(public_key=public_key(KEYS[0]), allowed_ips=["10.8.0.1"])
            far = WireGuardPeer(public_key=public_key(KEYS[1]), endpoint=("192.0.2.2", 51820), allowed_ips=["10.8.0.2"])
            link_b = await WireGuard.create(tun_b, private_key=KEYS[1], listen_port=51820, stack=outer_b, peers=[near])
            link_a = await WireGuard.create(tun_a, private_key=KEYS[0], stack=outer_a, peers=[far])
            data = payload(3_000_000)
            assert await fetch(inner_b, inner_a, "10.8.0.2", data) == hashlib.sha256(data).hexdigest()
            assert link_b.peers[0].endpoint == ("192.0.2.1", link_a.port)
            link_a.close()
            link_b.close()

    run(main())


def test_new_keys_are_different() -> None:
    assert len({new_private_key() for _ in range(100)}) == 100
