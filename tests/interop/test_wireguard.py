"""WireGuard with wireguard-go and boringtun, in a network namespace, over the kernel's UDP; both ends begin."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcpip_wasm import TunInterface, create_stack
from tcpip_wasm.links import WireGuard, WireGuardPeer
from tcpip_wasm.links.tuntap import in_namespace
from tcpip_wasm.links.wireguard.keys import key_text, new_private_key
from tcpip_wasm.links.wireguard.tunnel import Tunnel
from tests.kit.polling import poll

from .harness.namespaces import Namespace, network_namespace
from .harness.payload import make_payload
from .harness.requirements import require_kernel_peer
from .harness.wireguard import PROGRAMS, Daemon, wireguard_daemon
from .scenarios import KERNEL_ADDRESSES, STACK_ADDRESSES, KernelPeer

_MEGABYTES = 100
_WAIT = 60.0
_PREFIXES = {4: 24, 6: 64}
_PRESHARED = key_text(bytes(range(32)))

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(1200),
    pytest.mark.parametrize("program", PROGRAMS),
]


@dataclass(frozen=True)
class Ends(KernelPeer):
    """A stack with WireGuard, and a program in a namespace."""

    wireguard: WireGuard
    daemon: Daemon
    tun: TunInterface
    private: bytes


def _socket(namespace: Namespace) -> socket.socket:
    """Return a UDP socket of the namespace's loopback."""

    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    return in_namespace(namespace.name, bind)


@asynccontextmanager
async def _ends(program: str, *, we_begin: bool = True) -> AsyncIterator[Ends]:
    """Join a stack and a program; one of them knows where the other is."""
    require_kernel_peer("curl", "ping", "wg")
    addresses = {version: f"{address}/{_PREFIXES[version]}" for version, address in KERNEL_ADDRESSES.items()}
    with network_namespace() as namespace:
        daemon_context = wireguard_daemon(program, namespace, addresses)
        daemon = await asyncio.to_thread(daemon_context.__enter__)
        try:
            async with await create_stack(seed=b"wireguard") as stack:
                tun = await stack.create_tun_interface(
                    ip=[f"{address}/{_PREFIXES[version]}" for version, address in STACK_ADDRESSES.items()], mtu=1420
                )
                private = new_private_key()
                peer = WireGuardPeer(
                    public_key=daemon.public_key,
                    endpoint=("127.0.0.1", daemon.port) if we_begin else None,
                    allowed_ips=[f"{KERNEL_ADDRESSES[4]}/24", f"{KERNEL_ADDRESSES[6]}/64"],
                    preshared_key=_PRESHARED,
                )
                link = await WireGuard.create(tun, private_key=private, sock=_socket(namespace), peers=[peer])
                options = ["preshared-key", "/dev/stdin"]
                options += ["allowed-ips", f"{STACK_ADDRESSES[4]}/32,{STACK_ADDRESSES[6]}/128"]
                if not we_begin:
                    options += ["endpoint", f"127.0.0.1:{link.port}"]
                await asyncio.to_thread(daemon.set, "peer", link.public_key, *options, secret=_PRESHARED)
                try:
                    yield Ends(stack, namespace, link, link, daemon, tun, private)
                finally:
                    link.close()
        finally:
            await asyncio.to_thread(daemon_context.__exit__, None, None, None)


async def _handshakes(link: WireGuard, count: int) -> None:
    """Wait until so many sessions were made."""
    await poll(lambda: link.tunnel_counters.handshakes == count)


@pytest.mark.parametrize("we_begin", [True, False], ids=["initiator", "responder"])
def test_files_pass_both_ways(program: str, we_begin: bool, tmp_path: Path) -> None:
    """100 MB each way, by hash; IPv4 one way and IPv6 the other."""

    async def run() -> None:
        payload = make_payload(_MEGABYTES)
        async with _ends(program, we_begin=we_begin) as ends:
            if we_begin:
                rates = [await ends.stack_from_server(payload, 4, tmp_path)]
                rates.append(await ends.curl_from_stack(payload, 6, tmp_path))
            else:
                rates = [await ends.curl_from_stack(payload, 4, tmp_path)]
                rates.append(await ends.stack_from_server(payload, 6, tmp_path))
            print(f"{program}: {rates[0]:.2f} and {rates[1]:.2f} Gbit/s; {ends.wireguard.tunnel_counters}")
            counters = ends.wireguard.tunnel_counters
            assert counters.handshakes == 1
            assert counters.initiations_sent == we_begin
            assert counters.forged == counters.malformed == counters.not_allowed == 0
            await ends.ping_from_kernel(4)
            await ends.ping_from_kernel(6)

    asyncio.run(run())


def test_rekeying_loses_nothing(program: str, tmp_path: Path) -> None:
    """Each end in turn makes new sessions under a transfer."""

    async def run() -> None:
        payload = make_payload(_MEGABYTES)
        async with _ends(program) as ends:
            fetching = asyncio.create_task(ends.stack_from_server(payload, 4, tmp_path))
            tunnel = ends.wireguard._tunnel
            (peer,) = tunnel.peers.values()
            await _handshakes(ends.wireguard, 1)
            for number in range(2, 6):
                received = ends.wireguard.counters.frames_received
                await poll(lambda before=received: ends.wireguard.counters.frames_received > before + 100)  # type: ignore[misc]
                peer.initiated_at = float("-inf")  # else not before five seconds
                tunnel.initiate(peer, asyncio.get_running_loop().time())
                ends.wireguard._after()
                await _handshakes(ends.wireguard, number)
            await fetching
            assert tunnel.counters.forged == 0
            assert ends.wireguard.counters.send_dropped == 0

    asyncio.run(run())


def test_both_ends_roam(program: str) -> None:
    async def run() -> None:
        async with _ends(program, we_begin=False) as ends:
            await ends.ping_from_kernel(4)
            # The program gets another port, and sends first.
            await asyncio.to_thread(ends.daemon.set, "listen-port", "51999")
            await ends.ping_from_kernel(6)
            assert ends.wireguard.peers[0].endpoint == ("127.0.0.1", 51999)
            # The stack's end moves, with its sessions.
            link = ends.wireguard
            link._socket.close()
            link._socket = type(link._socket)(_socket(ends.namespace))  # type: ignore[call-arg]
            link._socket.begin(link._arrived_messages, link._writable)
            async with await ends.stack.create_ping_session(KERNEL_ADDRESSES[4]) as session:
                assert (await session.ping(b"from elsewhere", timeout=_WAIT)).payload == b"from elsewhere"
            assert await asyncio.to_thread(ends.daemon.show, "endpoints") == [f"127.0.0.1:{link.port}"]
            await ends.ping_from_kernel(4)
            assert link.tunnel_counters.handshakes == 1

    asyncio.run(run())


def test_the_program_answers_a_cookie_that_it_gets(program: str) -> None:
    """The stack's end is under load."""

    async def run() -> None:
        async with _ends(program, we_begin=False) as ends:
            ends.wireguard._tunnel._load.is_under_load = lambda now: True  # type: ignore[method-assign]
            process = await asyncio.create_subprocess_exec(
                *ends.namespace.command("ping", "-n", "-c", "1", "-w", "40", STACK_ADDRESSES[4]),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await asyncio.wait_for(process.communicate(), _WAIT)
            assert b" 0% packet loss" in said or b"bytes from" in said, said
            counters = ends.wireguard.tunnel_counters
            assert counters.cookies_sent == counters.limited == 1
            assert counters.handshakes == 1

    asyncio.run(run())


def test_the_stack_answers_a_cookie_that_it_gets(program: str) -> None:
    """The program is under load: a crowd sends initiations that it has to look at."""

    async def run() -> None:
        async with _ends(program) as ends:
            crowd = Tunnel(new_private_key(), mtu=1420)
            target = crowd.add_peer(WireGuardPeer(public_key=ends.daemon.public_key), ("127.0.0.1", 51820), 0.0)
            crowd.initiate(target, 0.0)
            message = crowd.outgoing[0][0]
            link = ends.wireguard
            (peer,) = link._tunnel.peers.values()
            loop = asyncio.get_running_loop()
            with _socket(ends.namespace) as sender:
                sender.setblocking(False)

                def flood() -> None:
                    try:
                        for _ in range(3000):
                            sender.sendto(message, ("127.0.0.1", ends.daemon.port))
                    except BlockingIOError:
                        pass

                async def receives_cookie() -> bool:
                    await asyncio.to_thread(flood)
                    peer.initiated_at = float("-inf")
                    link._tunnel.initiate(peer, loop.time())
                    link._after()
                    return link.tunnel_counters.cookies_received > 0

                await poll(receives_cookie)
            async with await ends.stack.create_ping_session(KERNEL_ADDRESSES[4]) as session:
                assert (await session.ping(b"after", timeout=_WAIT)).payload == b"after"

    asyncio.run(run())


def test_another_preshared_key_makes_no_session(program: str) -> None:
    async def run() -> None:
        async with _ends(program) as ends:
            (peer,) = ends.wireguard._tunnel.peers.values()
            right = peer.configuration
            await ends.wireguard.add_peer(dataclasses.replace(right, preshared_key=bytes(32 * [7])))
            async with await ends.stack.create_ping_session(KERNEL_ADDRESSES[4]) as session:
                with pytest.raises(OSError):  # noqa: PT011 - a time-out
                    await session.ping(timeout=1)
                assert ends.wireguard.tunnel_counters.handshakes == 0
                assert ends.wireguard.tunnel_counters.forged == 1
                await ends.wireguard.add_peer(right)
                assert (await session.ping(b"now", timeout=_WAIT)).payload == b"now"

    asyncio.run(run())
