"""Autoconfiguration of interfaces in virtual time: leases of a scripted server, prefixes of another stack."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from math import inf
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, StackClosedError, TapInterface, TcpipError, connect, create_stack
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.dhcp import (
    ACK,
    DISCOVER,
    LEASED,
    RELEASE,
    REQUEST,
    SERVER,
    SERVER_MAC,
    DhcpServer,
    dhcp_server,
)

_PREFIX = "2001:db8:1::/64"


@asynccontextmanager
async def with_server() -> AsyncIterator[tuple[NetworkStack, TapInterface, DhcpServer]]:
    async with await create_stack(seed=1) as stack:
        tap = await stack.create_tap_interface()
        async with dhcp_server(tap) as server:
            yield stack, tap, server


@asynccontextmanager
async def two_taps(**options: Any) -> AsyncIterator[tuple[TapInterface, TapInterface]]:
    """Two taps: the first belongs to a router, the second has no address."""
    async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
        router = await a.create_tap_interface(ip="2001:db8:1::1/64", **options)
        host = await b.create_tap_interface(**options)
        a_of[router], a_of[host] = a, b
        connect(router, host)
        yield router, host
        a_of.clear()


a_of: dict[TapInterface, NetworkStack] = {}
"""The stacks of the taps above."""


def now() -> float:
    return asyncio.get_running_loop().time()


# --- DHCP -----------------------------------------------------------------------------------------------------------


def test_a_lease() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            began = now()
            lease = await tap.configure(dhcp=True)
            assert now() - began < 2, "the probes of RFC 5227, and nothing sent twice"
            assert lease.address == IPv4Interface(f"{LEASED}/24")
            assert (lease.router, lease.server, lease.domain) == (SERVER, SERVER, "lab.example")
            assert lease.name_servers == (IPv4Address("10.0.0.53"),)
            assert stack.name_servers == [("10.0.0.53", 53)]
            assert tap.lease is lease
            assert (tap.ip, str(tap.netmask)) == (LEASED, "255.255.255.0")
            assert tap.routers == (SERVER,)
            assert lease.renews == pytest.approx(now() + 1800, abs=2)
            assert lease.rebinds == pytest.approx(now() + 3150, abs=2)
            assert lease.expires == pytest.approx(now() + 3600, abs=2)
            assert server.seen == [DISCOVER, REQUEST]
            assert await tap.configure(dhcp=True) is lease, "there is one already"

    run_virtually(main())


def test_a_lease_is_renewed_and_an_idle_stack_sleeps_until_then() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            lease = await tap.configure(dhcp=True)
            await asyncio.sleep(60)
            iterations = stack.stats().turns
            await asyncio.sleep(lease.renews - now() - 10)
            assert stack.stats().turns == iterations
            assert server.seen == [DISCOVER, REQUEST]
            await asyncio.sleep(20)
            assert server.seen == [DISCOVER, REQUEST, REQUEST]
            assert tap.lease is not None
            assert tap.lease.expires > lease.expires
            assert tap.ip == LEASED
            for _ in range(20):  # and so on, for ever
                await asyncio.sleep(1800)
            assert tap.ip == LEASED
            assert DISCOVER not in server.seen[1:]

    run_virtually(main())


def test_a_lease_that_is_not_renewed_ends_with_its_address() -> None:
    async def main() -> None:
        async with with_server() as (_, tap, server):
            lease = await tap.configure(dhcp=True)
            server.answers = False
            assert await tap.wait_address_change(timeout=4000) == ()
            assert now() == pytest.approx(lease.expires, abs=2)
            assert (tap.ip, tap.lease, tap.routers, tap.name_servers) == (None, None, (), ())
            assert server.seen.count(REQUEST) >= 4, "it tried before"
            server.answers = True
            addresses = await tap.wait_address_change(timeout=120)
            assert addresses == (IPv4Interface(f"{LEASED}/24"),), "and still tries afterwards"

    run_virtually(main())


def test_packets_to_other_networks_go_to_the_router() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            with pytest.raises(OSError, match="unreachable") as caught:
                await stack.connect_tcp("192.0.2.1", 80)
            assert caught.value.errno == errno.ENETUNREACH
            await tap.configure(dhcp=True)
            assert tap.gateway == SERVER
            with pytest.raises(TimeoutError):
                await stack.connect_tcp("192.0.2.1", 80, timeout=0.5)
            frame = server.others[-1]
            assert (frame[:6], frame[26:30], frame[30:34]) == (SERVER_MAC, LEASED.packed, bytes([192, 0, 2, 1]))
            await tap.release()
            assert tap.gateway is None
            with pytest.raises(OSError, match="unreachable"):
                await stack.connect_tcp("192.0.2.1", 80)

    run_virtually(main())


def test_a_nak_removes_the_address() -> None:
    async def main() -> None:
        async with with_server() as (_, tap, server):
            await tap.configure(dhcp=True)
            server.refuses = True
            assert await tap.wait_address_change(timeout=2000) == ()
            server.refuses = False
            await tap.wait_address_change(timeout=60)
            assert tap.ip == LEASED

    run_virtually(main())


def test_a_lease_is_released() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            await tap.configure(dhcp=True)
            await tap.release()
            assert (tap.ip, tap.lease) == (None, None)
            await asyncio.sleep(1)
            assert server.seen[-1] == RELEASE
            await asyncio.sleep(60)
            assert stack._driver.core.deadline == inf
            await tap.release()
            await tap.configure(dhcp=True)
            await stack.remove_interface(tap)
            assert server.seen[-1] == RELEASE
            with pytest.raises(OSError, match="removed"):
                await tap.release()

    run_virtually(main())


def test_closing_releases() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            await tap.configure(dhcp=True)
            await stack.aclose()
            assert server.seen[-1] == RELEASE
            assert tap.lease is None

    run_virtually(main())


@pytest.mark.parametrize("what", ["stack", "interface"])
def test_closes_even_if_cancelled_while_it_releases_the_lease(what: str) -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, _):
            await tap.configure(dhcp=True)
            task = asyncio.create_task(stack.aclose() if what == "stack" else stack.remove_interface(tap))
            await asyncio.sleep(0)
            assert not task.done()
            assert not stack.closed
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stack.closed == (what == "stack")
            with pytest.raises(OSError, match="closed" if what == "stack" else "removed"):
                tap.check()

    run_virtually(main())


def test_no_answer_times_out() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            server.answers = False
            for options in ({"dhcp": True}, {"slaac": True}, {"dhcp": True, "slaac": True}):
                began = now()
                with pytest.raises(TimeoutError) as caught:
                    await tap.configure(timeout=7, **options)
                assert caught.value.errno == errno.ETIMEDOUT
                assert isinstance(caught.value, TcpipError)
                assert now() - began == pytest.approx(7)
                await asyncio.sleep(60)
                assert stack._driver.core.deadline == inf, "nothing goes on"
            server.answers = True
            await tap.configure(dhcp=True)

    run_virtually(main())


def test_cancelled() -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            server.answers = False
            task = asyncio.create_task(tap.configure(dhcp=True, slaac=True))
            await asyncio.sleep(3)
            with pytest.raises(OSError, match="configured already") as caught:
                await tap.configure(dad=True)
            assert caught.value.errno == errno.EBUSY
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(60)
            assert stack._driver.core.deadline == inf
            assert len(server.seen) < 4

    run_virtually(main())


@pytest.mark.parametrize("how", ["close", "remove"])
def test_closed_while_a_task_waits(how: str) -> None:
    async def main() -> None:
        async with with_server() as (stack, tap, server):
            server.answers = False
            tasks = [asyncio.create_task(tap.configure(dhcp=True)), asyncio.create_task(tap.wait_address_change())]
            await asyncio.sleep(1)
            if how == "close":
                await stack.aclose()
            else:
                await stack.remove_interface(tap)
            for task in tasks:
                with pytest.raises(StackClosedError if how == "close" else OSError) as caught:
                    await task
                assert how == "close" or caught.value.errno == errno.ENODEV

    run_virtually(main())


def test_interfaces_that_cannot_be_configured() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            with pytest.raises(ValueError, match="one of dhcp, slaac and dad"):
                await tap.configure()
            for timeout in (0, -1, float("nan")):
                with pytest.raises(ValueError, match="timeout"):
                    await tap.configure(slaac=True, timeout=timeout)
            with pytest.raises(OSError, match="in use") as caught:
                await tap.configure(dhcp=True)
            assert caught.value.errno == errno.EADDRINUSE
            small = await stack.create_tap_interface(mtu=500)
            with pytest.raises(ValueError, match="slaac: tap1 has an MTU of 500, and IPv6 needs 1280"):
                await small.configure(slaac=True)
            with pytest.raises(OSError, match="Invalid"):
                await small.configure(dhcp=True)
            assert tap.ip == IPv4Address("10.0.0.1")
            with pytest.raises(TimeoutError):
                await tap.wait_address_change(timeout=1)

    run_virtually(main())


# --- SLAAC ----------------------------------------------------------------------------------------------------------


def test_an_address_from_an_advertised_prefix() -> None:
    async def main() -> None:
        async with two_taps() as (router, host):
            servers = ["2001:db8:1::53", "fe80::1"]
            advertiser = await router.advertise(_PREFIX, lifetime=1000, router_lifetime=500, name_servers=servers)
            assert await host.configure(slaac=True) is None
            (address,) = host.addresses
            assert isinstance(address, IPv6Interface)
            assert str(address.network) == _PREFIX
            (made,) = host.autoconfigured
            assert (made.address, made.state) == (address, "preferred")
            assert made.valid_until == pytest.approx(now() + 1000, abs=5)
            assert made.preferred_until == pytest.approx(now() + 500, abs=5)
            assert host.name_servers == (IPv6Address("2001:db8:1::53"), IPv6Address("fe80::1%tap0"))
            assert host.routers == (IPv6Address(f"{router.link_local}%tap0"),)
            server = await a_of[host].listen_tcp(80)
            connection = await a_of[router].connect_tcp(address.ip, 80)
            accepted = await server.accept()
            assert accepted.remote_address[0] == "2001:db8:1::1"
            await connection.close()
            await accepted.close()
            await advertiser.close()
            assert not host.routers, "it said that it is none any more"
            await asyncio.sleep(510)
            assert host.autoconfigured[0].state == "deprecated"
            assert host.addresses == (address,)
            await asyncio.sleep(500)
            assert not host.addresses
            assert not host.name_servers

    run_virtually(main())


def test_an_address_expires_with_its_prefix() -> None:
    async def main() -> None:
        async with two_taps() as (router, host):
            advertiser = await router.advertise(_PREFIX, lifetime=100, interval=30)
            await host.configure(slaac=True)
            await asyncio.sleep(3600)
            assert [made.state for made in host.autoconfigured] == ["preferred"]
            assert 3600 / 30 <= advertiser.sent <= 3600 / 30 * 4
            await advertiser.close()
            await asyncio.sleep(110)
            assert host.autoconfigured == ()

    run_virtually(main())


@pytest.mark.parametrize("source", ["fe80::9", "::"])
def test_solicitations_are_answered_at_a_limited_rate(source: str) -> None:
    async def main() -> None:
        async with two_taps() as (router, host):
            advertiser = await router.advertise(_PREFIX, interval=1800)
            await asyncio.sleep(120)
            assert advertiser.sent == 3
            await host.configure(slaac=True, timeout=10)
            assert advertiser.sent == 4
            solicitation = _solicitation(host, source)
            writer = router.writable.get_writer()
            for _ in range(2000):
                await writer.write(solicitation)
                await asyncio.sleep(0.01)
            assert 4 + 5 <= advertiser.sent <= 4 + 20 / 3 + 1, "one in three seconds"

    run_virtually(main())


def _solicitation(host: TapInterface, source: str) -> bytes:
    from scapy.layers.inet6 import ICMPv6ND_RS, IPv6
    from scapy.layers.l2 import Ether

    packet = IPv6(src=source, dst="ff02::2", hlim=255) / ICMPv6ND_RS()
    return bytes(Ether(dst="33:33:00:00:00:02", src=host.mac) / packet)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"interval": "often"}, "interval must be a number of seconds, not str"),
        ({"interval": True}, "interval must be a number of seconds, not bool"),
        ({"interval": float("nan")}, "interval: nan is not within 4 to 1800"),
        ({"mtu": "1280"}, "mtu must be an int, not str"),
        ({"mtu": 1279}, "mtu: 1279 is not within 1280 to 1500"),
        ({"mtu": 1501}, "mtu: 1501 is not within 1280 to 1500"),
        ({"preferred": 86401}, "preferred: 86401 is not within 0 to 86400"),
        ({"router_lifetime": 9001}, "router_lifetime: 9001 is not within 0 to 9000"),
        ({"name_servers": ["10.0.0.1"]}, "name_servers: .*'10.0.0.1'"),
    ],
)
def test_wrong_arguments_of_a_router_are_named(options: Any, text: str) -> None:
    """And they leave nothing behind that a second attempt would meet."""

    async def main() -> None:
        async with two_taps() as (router, _):
            with pytest.raises((TypeError, ValueError), match=text):
                await router.advertise(_PREFIX, **options)
            advertiser = await router.advertise(_PREFIX)
            assert advertiser.sent == 1

    run_virtually(main())


def test_an_advertised_mtu_is_used() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            router = await a.create_tap_interface(ip="2001:db8:1::1/64")
            host = await b.create_tap_interface()
            cable = connect(router, host)
            await router.advertise(_PREFIX, mtu=1300)
            await host.configure(slaac=True)
            server = await a.listen_tcp(80)
            connection = await b.connect_tcp("2001:db8:1::1", 80)
            accepted = await server.accept()
            cable.close()
            sizes = []

            async def relay(one: TapInterface, other: TapInterface) -> None:
                writer = other.writable.get_writer()
                async for frame in one:
                    sizes.append(len(frame))
                    await writer.write(frame)

            tasks = [asyncio.create_task(relay(router, host)), asyncio.create_task(relay(host, router))]
            data = payload(100_000)
            writer = connection.writable.get_writer()
            await writer.write(data)
            await writer.close()
            received = b"".join([chunk async for chunk in accepted])
            assert received == data
            assert max(sizes) == 1300 + 14
            connection.abort()
            accepted.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run_virtually(main())


def test_two_stations_of_one_mac() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            one = await a.create_tap_interface("02:00:00:00:00:01")
            other = await b.create_tap_interface("02:00:00:00:00:01")
            connect(one, other)
            with pytest.raises(OSError, match="another host has fe80::ff:fe00:1") as caught:
                await other.configure(slaac=True)
            assert caught.value.errno == errno.EADDRNOTAVAIL

    run_virtually(main())


def test_duplicates_of_configured_addresses() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            one = await a.create_tap_interface(ip="fd00::1/64")
            other = await b.create_tap_interface(ip=["fd00::1/64", "fd00::2/64", "10.0.0.1/24"])
            connect(one, other)
            with pytest.raises(OSError, match="another host has fd00::1,") as caught:
                await other.configure(dad=True)
            assert caught.value.errno == errno.EADDRNOTAVAIL
            assert [str(address) for address in other.addresses] == ["fd00::2/64", "10.0.0.1/24"]
            await other.configure(dad=True)
            with pytest.raises(OSError, match="Cannot assign"):
                await b.listen_tcp(80, "fd00::1")
            server = await b.listen_tcp(80, "fd00::2")
            connection = await a.connect_tcp("fd00::2", 80)
            assert (await server.accept()).remote_address[0] == "fd00::1"
            connection.abort()

    run_virtually(main())


def test_hosts_with_a_scope() -> None:
    async def main() -> None:
        async with two_taps() as (router, host):
            a, b = a_of[router], a_of[host]
            extra = await a.create_tap_interface(ip="fd00:9::1/64")
            assert (extra.link_local, router.link_local) != (None, None)
            server = await b.listen_tcp(80, f"{host.link_local}%{host.name}")
            connection = await a.connect_tcp(f"{host.link_local}%{router.name}", 80)
            accepted = await server.accept()
            assert accepted.local_address == (f"{host.link_local}%{host.name}", 80)
            assert accepted.remote_address[0] == f"{router.link_local}%{host.name}"
            remote = IPv6Address(f"{host.link_local}%{router.name}")
            own = f"{router.link_local}%{router.name}"
            _, writer = await a.open_connection(remote, 80, local_addr=(own, 0))
            assert (await server.accept()).remote_address[0] == f"{router.link_local}%{host.name}"
            served = await b.start_server(lambda reader, writer: writer.close(), f"{host.link_local}%tap0", 81)
            assert served.sockets[0].getsockname()[:2] == (f"{host.link_local}%tap0", 81)
            with pytest.raises(ValueError, match="no interface"):
                await a.connect_tcp(f"{host.link_local}%tap7", 80)
            with pytest.raises(OSError, match="Cannot assign"):
                await b.listen_tcp(82, f"{router.link_local}%tap0")
            writer.close()
            connection.abort()
            accepted.abort()

    run_virtually(main())


def test_several_prefixes_and_release() -> None:
    async def main() -> None:
        async with two_taps() as (router, host):
            await router.advertise([_PREFIX, "fd00:2::/64", IPv6Interface("fd00:3::1/64").network], router_lifetime=60)
            await host.configure(slaac=True)
            assert {str(a.network) for a in host.addresses} == {_PREFIX, "fd00:2::/64", "fd00:3::/64"}
            await host.release()
            assert (host.addresses, host.routers, host.autoconfigured) == ((), (), ())
            with pytest.raises(OSError, match="unreachable"):
                await a_of[host].connect_tcp("2001:db8:2::1", 80)

    run_virtually(main())


def test_dhcp_and_slaac_at_once() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            router = await a.create_tap_interface(ip="2001:db8:1::1/64")
            host = await b.create_tap_interface()
            async with dhcp_server(host) as server:
                await router.advertise(_PREFIX, router_lifetime=100)

                async def relay() -> None:
                    async for frame in router:
                        await server.writer.write(frame)

                task = asyncio.create_task(relay())
                await asyncio.sleep(0)
                lease = await host.configure(dhcp=True, slaac=True)
                assert lease.address in host.addresses
                assert len(host.addresses) == 2
                assert host.ip == LEASED
                assert host.routers[0] == SERVER
                assert len(host.routers) == 2
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert ACK not in server.seen

    run_virtually(main())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"prefix": "2001:db8::/48"}, ValueError, "no /64"),
        ({"prefix": "fe80::/64"}, ValueError, "no /64"),
        ({"prefix": "ff02::/64"}, ValueError, "no /64"),
        ({"prefix": "2001:db8:1::1/64"}, ValueError, "prefix: "),
        ({"prefix": "10.0.0.0/24"}, ValueError, "prefix: "),
        ({"prefix": 7}, TypeError, "prefix must be"),
        ({"prefix": [f"2001:db8:{i}::/64" for i in range(9)]}, ValueError, "more than 8"),
        ({"prefix": _PREFIX, "lifetime": -1}, ValueError, "lifetime: -1"),
        ({"prefix": _PREFIX, "lifetime": 1.5}, TypeError, "lifetime must be"),
        ({"prefix": _PREFIX, "lifetime": 10, "preferred": 11}, ValueError, "preferred: 11"),
        ({"prefix": _PREFIX, "router_lifetime": 9001}, ValueError, "router_lifetime: 9001"),
        ({"prefix": _PREFIX, "mtu": 1279}, ValueError, "mtu: 1279"),
        ({"prefix": _PREFIX, "mtu": 1501}, ValueError, "mtu: 1501"),
        ({"prefix": _PREFIX, "name_servers": "dns.example"}, ValueError, "name_servers: "),
        ({"prefix": _PREFIX, "interval": 3}, ValueError, "interval: 3"),
    ],
)
def test_invalid_advertisements(options: dict[str, Any], error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface()
            with pytest.raises(error, match=text):
                await tap.advertise(**options)
            advertiser = await tap.advertise(_PREFIX)
            with pytest.raises(OSError, match="advertises already"):
                await tap.advertise(_PREFIX)
            await advertiser.close()
            await advertiser.close()
            await tap.advertise(_PREFIX)

    run_virtually(main())
