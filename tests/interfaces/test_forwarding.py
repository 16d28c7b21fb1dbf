"""Forwarding between interfaces of each kind, and packets that cannot be forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from tcpip_wasm import Cable, NetworkStack, TapInterface, TunInterface, connect, create_stack
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.stacks import FrameRelay, iterations, read_all, run, send_all, until

LINKS = [("tap", "tap"), ("tun", "tap"), ("tap", "tun"), ("tun", "tun")]


@dataclass
class Way:
    """Two hosts, and a router between them; the hosts' addresses are 10.1.0.2 and 10.2.0.2, fd01::2 and fd02::2."""

    a: NetworkStack
    b: NetworkStack
    routers: list[NetworkStack]
    wires: list[tuple[TapInterface | TunInterface, TapInterface | TunInterface]]
    cables: list[Cable]

    def host(self, family: int) -> str:
        """The address of `b`."""
        return f"10.{len(self.wires)}.0.2" if family == 4 else f"fd0{len(self.wires)}::2"


async def interface_of(
    stack: NetworkStack, kind: str, network: int, host: int, mtu: int
) -> TapInterface | TunInterface:
    ip = [f"10.{network}.0.{host}/24", f"fd0{network}::{host}/64"] if mtu >= 1280 else f"10.{network}.0.{host}/24"
    if kind == "tap":
        return await stack.create_tap_interface(ip=ip, mtu=mtu)
    return await stack.create_tun_interface(ip=ip, mtu=mtu)


@asynccontextmanager
async def way(
    kinds: tuple[str, ...] = ("tap", "tap"), *, mtus: tuple[int, ...] = (), cables: bool = True
) -> AsyncIterator[Way]:
    """Hosts at the ends of two links, and a router between these; its addresses are 10.1.0.1 and 10.2.0.1."""
    count = len(kinds)
    mtus = mtus or (1500,) * count
    stacks = [await create_stack(seed=number) for number in range(count + 1)]
    made = Way(stacks[0], stacks[-1], stacks[1:-1], [], [])
    try:
        for number, (kind, mtu) in enumerate(zip(kinds, mtus, strict=True), 1):
            near = await interface_of(stacks[number - 1], kind, number, 2 if number == 1 else 1, mtu)
            far = await interface_of(stacks[number], kind, number, 1 if number == 1 else 2, mtu)
            made.wires.append((near, far))
            if cables:
                made.cables.append(connect(near, far))
        for router in made.routers:
            router.forwarding = True
        made.a.add_route("0.0.0.0/0", via="10.1.0.1")
        made.b.add_route("0.0.0.0/0", via=f"10.{count}.0.1")
        if all(mtu >= 1280 for mtu in mtus):
            made.a.add_route("::/0", via="fd01::1")
            made.b.add_route("::/0", via=f"fd0{count}::1")
        yield made
    finally:
        for stack in stacks:
            await stack.aclose()


async def exchange(made: Way, family: int, size: int) -> None:
    """Send `size` bytes in each direction over a connection from a to b, and compare them."""
    async with await made.b.listen_tcp(80) as listener:
        client = await made.a.connect_tcp(made.host(family), 80)
        server = await listener.accept()
        there, back = payload(size, 1), payload(size, 2)
        _, _, got, answered = await asyncio.gather(
            send_all(client, there), send_all(server, back), read_all(server), read_all(client)
        )
    assert got == there
    assert answered == back


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kinds", LINKS)
def test_tcp_is_forwarded(kinds: tuple[str, ...], family: int) -> None:
    async def main() -> None:
        async with way(kinds) as made:
            await exchange(made, family, 2_000_000)
            figures = made.routers[0].stats().core
            assert figures.forwarded > 2000
            assert figures.tcp_segments_in == 0, "a router is no party to it"
            # A full buffer of packets does not quite fit one of frames, which have a header more each.
            assert figures.forward_drops <= (0 if kinds[0] == kinds[1] else figures.forwarded // 100)
            await iterations(50)
            assert made.routers[0].stats().core.memory < 8 << 20

    run(main())


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kinds", LINKS)
@pytest.mark.parametrize("mtus", [(1500, 1280), (9000, 1400), (1280, 9000)])
def test_a_link_with_a_smaller_mtu(kinds: tuple[str, ...], family: int, mtus: tuple[int, int]) -> None:
    """IPv4 without DF is fragmented by the router; IPv6 receives Packet Too Big."""

    async def main() -> None:
        async with way(kinds, mtus=mtus) as made:
            await exchange(made, family, 300_000)

    run(main())


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mtus", [(1500, 1300, 1500), (9000, 1280, 9000), (65535, 1500, 65535)])
def test_a_small_mtu_between_large_ones(family: int, mtus: tuple[int, int, int]) -> None:
    """Neither end's MSS fits the path: IPv6 segments under way are too big, and are retransmitted in smaller ones."""

    async def main() -> None:
        async with way(("tap", "tun", "tap"), mtus=mtus) as made:
            first, second = made.routers
            for router, network, via in ((first, 3, 2), (second, 1, 1)):
                router.add_route(f"10.{network}.0.0/24", via=f"10.2.0.{via}")
                router.add_route(f"fd0{network}::/64", via=f"fd02::{via}")
            await exchange(made, family, 3_000_000)
            assert made.a.stats().core.fragments_out == 0

    run(main())


@pytest.mark.parametrize("mtu", [576, 68])
def test_a_very_small_mtu(mtu: int) -> None:
    async def main() -> None:
        async with way(("tap", "tun"), mtus=(1500, mtu)) as made:
            await exchange(made, 4, 20_000)

    run(main())


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("sums", [(True, False), (False, True), (False, False)])
def test_checksums_of_one_side_only(family: int, sums: tuple[bool, bool]) -> None:
    """A router fills in checksums that one link omits and the next one verifies."""

    async def main() -> None:
        async with way() as made:
            for wires, on in zip(made.wires, sums, strict=True):
                for interface in wires:
                    interface.checksums = on
            await exchange(made, family, 100_000)
            for stack in (made.a, made.b):
                assert stack.stats().core.checksum_errors == 0
                assert stack.stats().core.tcp_retransmissions == 0

    run_virtually(main())  # where time passes, a busy machine may probe for what is late


def test_forwarding_is_off_by_default() -> None:
    async def main() -> None:
        async with way() as made:
            router = made.routers[0]
            assert router.forwarding is True
            router.forwarding = False
            attempt = asyncio.create_task(made.a.connect_tcp(made.host(4), 80))
            await until(lambda: made.wires[0][1].statistics().frames_in >= 3)
            await iterations(20)
            assert router.stats().core.forwarded == 0
            assert not attempt.done()
            async with await made.b.listen_tcp(80) as listener:
                router.forwarding = True
                client = await attempt  # its SYN is retransmitted
                server = await listener.accept()
                await client.close()
                await server.close()
            # All of its own addresses are reachable from both networks either way.
            async with await router.listen_tcp(81) as listener:
                client = await made.a.connect_tcp("10.2.0.1", 81)
                server = await listener.accept()
                await client.close()
                await server.close()

    run(main())


def test_three_routers_in_a_row() -> None:
    async def main() -> None:
        stacks = [await create_stack(seed=number) for number in range(5)]
        try:
            for number in range(4):
                near = await stacks[number].create_tap_interface(ip=[f"10.0.{number}.1/24", f"fd00:{number}::1/64"])
                far = await stacks[number + 1].create_tap_interface(ip=[f"10.0.{number}.2/24", f"fd00:{number}::2/64"])
                connect(near, far)
            for number, stack in enumerate(stacks):
                stack.forwarding = 0 < number < 4
                if number < 4:
                    stack.add_route("0.0.0.0/0", via=f"10.0.{number}.2")
                    stack.add_route("fd00::/16", via=f"fd00:{number}::2")
                for behind in range(number - 1):
                    stack.add_route(f"10.0.{behind}.0/24", via=f"10.0.{number - 1}.1")
                    stack.add_route(f"fd00:{behind}::/32", via=f"fd00:{number - 1}::1")
            for address in ("10.0.3.2", "fd00:3::2"):
                async with await stacks[4].listen_tcp(80) as listener:
                    client = await stacks[0].connect_tcp(address, 80)
                    server = await listener.accept()
                    data = payload(500_000)
                    _, got = await asyncio.gather(send_all(client, data), read_all(server))
                    assert got == data
                    await client.close()
                    await server.close()
            assert all(stack.stats().core.forwarded > 0 for stack in stacks[1:4])
        finally:
            for stack in stacks:
                await stack.aclose()

    run(main())


def test_through_a_bridge_and_a_router() -> None:
    """Two hosts on a bridge, whose stack forwards to a third host on another network: frames that the bridge floods are
    not forwarded a second time."""

    async def main() -> None:
        async with AsyncExitStack() as stacks:
            a, b, c, router = [await stacks.enter_async_context(await create_stack()) for _ in range(4)]
            ports = [await router.create_tap_interface() for _ in range(2)]
            await router.create_bridge_interface(ports, ip="10.0.1.1/24")
            out = await router.create_tap_interface(ip="10.0.2.1/24")
            router.forwarding = True
            for number, (stack, port) in enumerate(((a, ports[0]), (b, ports[1])), 2):
                connect(await stack.create_tap_interface(ip=f"10.0.1.{number}/24"), port)
                stack.add_route("0.0.0.0/0", via="10.0.1.1")
            connect(await c.create_tap_interface(ip="10.0.2.2/24"), out)
            c.add_route("0.0.0.0/0", via="10.0.2.1")
            for stack, server, address in ((a, c, "10.0.2.2"), (c, b, "10.0.1.3"), (a, b, "10.0.1.3")):
                before = router.stats().core.forwarded
                async with await server.listen_tcp(80) as listener:
                    client = await stack.connect_tcp(address, 80)
                    taken = await listener.accept()
                    data = payload(300_000)
                    _, got = await asyncio.gather(send_all(client, data), read_all(taken))
                    assert got == data
                    await client.close()
                    await taken.close()
                passed = router.stats().core.forwarded - before
                assert (passed > 0) is (c in (stack, server))

    run(main())


def test_a_path_with_loss() -> None:
    """Every seventh frame of the second link is lost, and TCP recovers through the router."""

    async def main() -> None:
        async with way(cables=False) as made:
            connect(*made.wires[0])
            near, far = made.wires[1]
            rule = lambda number, frame: [] if number % 7 == 3 else [(0.0, frame)]  # noqa: E731
            async with FrameRelay(near, far, rule):
                await exchange(made, 4, 50_000)

    run(main())


@pytest.mark.parametrize("cut", ["cable", "interface", "stack"])
def test_a_router_is_removed_during_a_transfer(cut: str) -> None:
    """Packets under way are lost; no call waits for ever, and the router's memory is freed."""

    async def main() -> None:
        async with way() as made:
            async with await made.b.listen_tcp(80) as listener:
                client = await made.a.connect_tcp(made.host(4), 80)
                server = await listener.accept()
            router = made.routers[0]
            sending = asyncio.create_task(send_all(client, payload(5_000_000)))
            await until(lambda: router.stats().core.forwarded > 100)
            if cut == "cable":
                made.cables[1].close()
            elif cut == "interface":
                await router.remove_interface(made.wires[1][0])
                assert all(route.interface is not made.wires[1][0] for route in router.routes)
            else:
                await router.aclose()
            await iterations(100)
            assert not sending.done()
            client.abort()
            with pytest.raises(ConnectionError):
                await sending
            server.abort()
            if cut != "stack":
                await iterations(20)
                assert router.stats().core.heap_used < 3 << 20

    run(main())
