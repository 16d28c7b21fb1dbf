"""Calls use the current state: an idle stack is not polled, but its tables age.

Everything happens in virtual time. Between what is set up and the call there are minutes in which no frame arrives, no
timer is waited for, and so nothing polls the stack.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from math import inf

import pytest

from tcpip_wasm import NetworkStack, TapInterface, UdpDatagram, UdpSocket, connect, create_stack
from tcpip_wasm.simulation import run_virtually
from tests.kit.dhcp import LEASED, dhcp_server

_HOST, _ROUTER = "2001:db8:1::2", "2001:db8:1::1"


async def refused(call: Awaitable[object], number: int) -> None:
    """Assert that a call raises `OSError` with an errno, without time passing."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(OSError, match=re.escape(f"[Errno {number}]")):
        await call
    assert asyncio.get_running_loop().time() == started


async def one(socket: UdpSocket) -> bytes:
    datagram = await socket.readable.get_reader().read()
    assert datagram is not None
    return datagram.data


async def quiet(stack: NetworkStack, seconds: float) -> None:
    """Let time pass in which the stack is not polled at the end."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(seconds / 2)
    iterations = stack._driver.turns
    assert stack._driver.core.deadline in (inf,) or stack._driver.core.deadline > loop.time()
    await asyncio.sleep(seconds / 2)
    assert stack._driver.turns - iterations <= 2, "a stack that is polled sees everything"


@asynccontextmanager
async def two(*, seed: int = 1) -> AsyncIterator[tuple[NetworkStack, NetworkStack]]:
    async with await create_stack(seed=seed) as a, await create_stack(seed=seed + 1) as b:
        connect(await a.create_tap_interface(ip="10.0.0.1/24"), await b.create_tap_interface(ip="10.0.0.2/24"))
        yield a, b


def test_a_local_port_is_free_during_and_after_time_wait() -> None:
    """RFC 6191, section 2: timestamps distinguish the segments of the old connection from the new ones."""

    async def open_from(stack: NetworkStack) -> asyncio.Transport:
        transport, _ = await stack.create_connection(asyncio.Protocol, "10.0.0.2", 80, local_addr=("10.0.0.1", 5000))
        assert isinstance(transport, asyncio.Transport)
        return transport

    async def main() -> None:
        async with two() as (a, b):
            server = await b.create_server(asyncio.Protocol, "10.0.0.2", 80)
            for _ in range(3):
                transport = await open_from(a)
                transport.close()
                await asyncio.sleep(10)
                assert a.stats().core.time_wait == 1
                transport = await open_from(a)
                assert a.stats().core.time_wait == 0
                await refused(open_from(a), errno.EADDRINUSE)
                transport.close()
                await quiet(a, 120)
            server.close()

    run_virtually(main())


def test_statistics_are_current() -> None:
    async def main() -> None:
        async with two() as (a, b):
            server = await b.create_server(asyncio.Protocol, "10.0.0.2", 80)
            transport, _ = await a.create_connection(asyncio.Protocol, "10.0.0.2", 80)
            transport.close()
            await asyncio.sleep(10)
            assert a.stats().core.time_wait == 1
            await quiet(a, 120)
            assert a.stats().core.time_wait == 0
            assert a.stats().core.connections == 0
            server.close()

    run_virtually(main())


@asynccontextmanager
async def configured(lifetime: int, router_lifetime: int) -> AsyncIterator[tuple[NetworkStack, TapInterface]]:
    """A host that was configured by a router, which has disappeared since."""
    async with await create_stack(seed=1) as router, await create_stack(seed=2) as host:
        tap = await host.create_tap_interface()
        gate = await router.create_tap_interface(ip=f"{_ROUTER}/64")
        connect(gate, tap)
        await gate.advertise(
            "2001:db8:1::/64", lifetime=lifetime, preferred=lifetime, router_lifetime=router_lifetime, interval=1800
        )
        await tap.configure(slaac=True)
        router.abort()
        yield host, tap


def test_a_router_whose_lifetime_has_ended_is_not_used() -> None:
    async def main() -> None:
        async with configured(lifetime=7200, router_lifetime=60) as (host, _):
            socket = await host.open_udp()
            await socket.send(UdpDatagram("2001:db8:99::1", 9, b"by the router"))
            await quiet(host, 300)
            for send in (
                socket.send(UdpDatagram("2001:db8:99::1", 9, b"to nowhere")),
                host.open_connection("2001:db8:99::1", 80),
                host.open_udp(remote=("2001:db8:99::1", 9)),
            ):
                await refused(send, errno.ENETUNREACH)
            await socket.close()

    run_virtually(main())


def test_an_address_and_a_network_that_have_expired_are_not_used() -> None:
    async def main() -> None:
        async with configured(lifetime=60, router_lifetime=0) as (host, tap):
            [own] = [one.ip for one in tap.addresses if not one.is_link_local]
            await quiet(host, 300)
            assert all(one.is_link_local for one in tap.addresses)
            await refused(host.open_connection(_ROUTER, 80), errno.ENETUNREACH)
            await refused(host.create_server(asyncio.Protocol, str(own), 80), errno.EADDRNOTAVAIL)
            await refused(host.open_udp(host=str(own)), errno.EADDRNOTAVAIL)

    run_virtually(main())


def test_a_withdrawn_prefix_ends_after_two_hours() -> None:
    """RFC 4862, section 5.5.3 (e): an advertisement shortens a lifetime to two hours at most."""

    async def main() -> None:
        async with await create_stack(seed=1) as router, await create_stack(seed=2) as host:
            tap = await host.create_tap_interface()
            gate = await router.create_tap_interface(ip=f"{_ROUTER}/64")
            connect(gate, tap)
            advertiser = await gate.advertise("2001:db8:1::/64", router_lifetime=1800)
            await tap.configure(slaac=True)
            [own] = [one.ip for one in tap.addresses if not one.is_link_local]
            await advertiser.close()
            await gate.advertise("2001:db8:1::/64", lifetime=1, preferred=1, router_lifetime=0)
            await asyncio.sleep(10)
            router.abort()
            await quiet(host, 7300)
            assert all(one.is_link_local for one in tap.addresses)
            for remote in (_ROUTER, "2001:db8:99::1"):
                await refused(host.open_connection(remote, 80), errno.ENETUNREACH)
            await refused(host.open_udp(host=str(own)), errno.EADDRNOTAVAIL)

    run_virtually(main())


def test_a_lease_that_has_ended_is_not_used() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tap = await stack.create_tap_interface()
            async with dhcp_server(tap) as server:
                server.seconds = 120
                await tap.configure(dhcp=True)
                server.answers = False
                await asyncio.sleep(121)
                assert tap.addresses == ()
                await refused(stack.create_server(asyncio.Protocol, str(LEASED), 80), errno.EADDRNOTAVAIL)
                await refused(stack.open_connection("10.0.0.77", 80), errno.ENETUNREACH)

    run_virtually(main())


def test_a_neighbour_that_did_not_answer_is_probed_again() -> None:
    """Another host takes over the address, with another MAC address: the first datagram after an hour reaches it."""

    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=3) as c:
            tap = await a.create_tap_interface(ip="10.0.0.1/24")
            async with await create_stack(seed=2) as b:
                connect(tap, await b.create_tap_interface(ip="10.0.0.2/24"))
                receiver = await b.open_udp(port=9)
                sender = await a.open_udp()
                await sender.send(UdpDatagram("10.0.0.2", 9, b"first"))
                assert await one(receiver) == b"first"
            await quiet(a, 3600)
            connect(tap, await c.create_tap_interface(ip="10.0.0.2/24"))
            receiver = await c.open_udp(port=9)
            await sender.send(UdpDatagram("10.0.0.2", 9, b"second"))
            async with asyncio.timeout(10):
                assert await one(receiver) == b"second"
            await sender.close()

    run_virtually(main())


def test_a_bridge_knows_only_addresses_that_it_has_seen() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as middle, await create_stack(seed=2) as host:
            ports = [await middle.create_tap_interface() for _ in range(2)]
            bridge = await middle.create_bridge_interface(ports, ageing=60)
            connect(await host.create_tap_interface(ip="10.0.0.1/24"), ports[0])
            sender = await host.open_udp()
            await sender.send(UdpDatagram("10.0.0.9", 9, b"who is there?"))
            await asyncio.sleep(1)
            assert bridge.learned == 1
            await quiet(middle, 120)
            assert bridge.learned == 0
            await sender.close()

    run_virtually(main())


def test_calls_within_a_tick_poll_once() -> None:
    """The state that a call reads changes with a tick only; until then the stack is not polled again."""

    async def main() -> None:
        async with two() as (a, _):
            await quiet(a, 60)
            calls = a._driver.core.calls
            advances = 0
            advance = calls.advance

            def counted() -> None:
                nonlocal advances
                advances += 1
                advance()

            calls.advance = counted  # type: ignore[method-assign]
            socket = await a.open_udp()
            for _ in range(100):
                await socket.send(UdpDatagram("10.0.0.2", 9, b"at once"))
            assert advances == 1
            await socket.close()

    run_virtually(main())
