"""Names over a TAP device: dnsmasq answers the stack's resolver, and dig asks a server on the stack."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tcpip_wasm import NameResolutionError
from tests.kit.dns import DnsServer, Zone

from .harness.requirements import require_kernel_peer
from .scenarios import STACK_ADDRESSES, KernelPeer, kernel_peer

_KERNEL = "10.88.0.2"
_KERNEL6 = "fd88::2"
_MANY = [f"10.99.{n // 100}.{n % 100 + 1}" for n in range(200)]


def _with_dnsmasq(work: Callable[[KernelPeer], Awaitable[None]], folder: Path) -> None:
    """Run a test against a dnsmasq in the namespace that knows some names and has no upstream server."""
    require_kernel_peer("dnsmasq")
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address} many.test\n" for address in _MANY))

    async def run() -> None:
        async with kernel_peer("tap") as peer:
            await asyncio.to_thread(
                peer.namespace.start,
                *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file="),
                *("--user=root", "--no-resolv", "--no-hosts", "--no-poll", "--bind-interfaces", "--local=/test/"),
                *(f"--listen-address={_KERNEL}", f"--listen-address={_KERNEL6}", f"--addn-hosts={hosts}"),
                *("--host-record=web.test,10.88.0.2,fd88::2", "--host-record=four.test,10.88.0.2"),
                *("--cname=alias.test,web.test", "--cname=more.test,alias.test", "--local-ttl=60"),
                ready="read " + str(hosts),
            )
            peer.stack.name_servers = [_KERNEL]
            async with asyncio.timeout(200.0):
                await work(peer)

    asyncio.run(run())


@pytest.mark.parametrize("server", [_KERNEL, _KERNEL6])
def test_the_stack_asks_dnsmasq(server: str, tmp_path: Path) -> None:
    async def work(peer: KernelPeer) -> None:
        stack = peer.stack
        stack.name_servers = [server]

        async def found(host: str, family: int = 0) -> list[str]:
            return [i[4][0] for i in await stack.getaddrinfo(host, 80, family=family, type=socket.SOCK_STREAM)]

        assert await found("web.test") == [_KERNEL6, _KERNEL]
        assert await found("WEB.test.", socket.AF_INET) == [_KERNEL]
        assert await found("four.test") == [_KERNEL]
        assert await found("more.test") == [_KERNEL6, _KERNEL]
        (first, *_) = await stack.getaddrinfo("more.test", 80, flags=socket.AI_CANONNAME)
        assert first[3] == "web.test"
        assert await stack.getnameinfo((_KERNEL, 80)) in (("web.test", "http"), ("four.test", "http"))
        for host, family in (("none.test", 0), ("four.test", socket.AF_INET6)):
            with pytest.raises(NameResolutionError) as caught:
                await found(host, family)
            assert caught.value.errno == socket.EAI_NONAME
        # Without an upstream server for other domains dnsmasq refuses.
        with pytest.raises(NameResolutionError) as caught:
            await found("www.example")
        assert caught.value.errno == socket.EAI_AGAIN
        figures = stack.resolver.statistics()
        assert figures.timed_out == figures.malformed == figures.unasked == figures.strangers == 0

    _with_dnsmasq(work, tmp_path)


def test_dnsmasq_truncates_and_the_stack_asks_by_tcp(tmp_path: Path) -> None:
    async def work(peer: KernelPeer) -> None:
        infos = await peer.stack.getaddrinfo("many.test", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
        assert sorted(info[4][0] for info in infos) == sorted(_MANY)
        figures = peer.stack.resolver.statistics()
        assert (figures.truncated, figures.tcp_queries) == (1, 1)

    _with_dnsmasq(work, tmp_path)


def test_connecting_by_name_to_the_kernel(tmp_path: Path) -> None:
    """No listener in the namespace: both addresses refuse, and the error has both."""

    async def work(peer: KernelPeer) -> None:
        with pytest.raises(ConnectionRefusedError) as caught:
            await peer.stack.open_connection("web.test", 8080)
        assert _KERNEL in str(caught.value)
        assert _KERNEL6 in str(caught.value)

    _with_dnsmasq(work, tmp_path)


def test_dig_asks_a_server_on_the_stack() -> None:
    zone = Zone(
        "\n".join(
            [
                "web.test 60 A 10.0.0.9",
                "web.test 60 AAAA fd00::9",
                "alias.test 60 CNAME web.test.",
                *(f"many.test 60 A {address}" for address in _MANY),
            ]
        )
    )

    async def run() -> None:
        async with kernel_peer("tap") as peer, asyncio.timeout(250.0):
            for host in STACK_ADDRESSES.values():
                server = await DnsServer(zone).serve(peer.stack, host)

                async def dig(*arguments: str, host: str = host) -> str:
                    command = ("dig", f"@{host}", "+time=60", "+tries=1", *arguments)
                    report = await asyncio.to_thread(peer.namespace.run, *command, timeout=100.0)
                    return report.stdout

                assert await dig("+short", "web.test", "A") == "10.0.0.9\n"
                assert await dig("+short", "web.test", "AAAA") == "fd00::9\n"
                assert await dig("+short", "+tcp", "web.test", "A") == "10.0.0.9\n"
                assert await dig("+short", "alias.test", "A") == "web.test.\n10.0.0.9\n"
                assert "status: NXDOMAIN" in await dig("none.test", "A")
                assert [one.by for one in server.asked] == ["udp", "udp", "tcp", "udp", "udp"]
                many = await dig("+short", "many.test", "A")
                assert sorted(many.split()) == sorted(_MANY)
                assert [one.by for one in server.asked[5:]] == ["udp", "tcp"], "dig came back by TCP"

    require_kernel_peer("dig")
    asyncio.run(run())
