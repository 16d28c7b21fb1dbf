"""The DHCP server in virtual time: lwIP's own client over a cable, and messages of clients that a test writes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, StackClosedError, TapInterface, connect, create_stack
from tcpip_wasm.services import DhcpPool, DhcpServer
from tcpip_wasm.services.dhcp.table import MAX_PER_MAC
from tcpip_wasm.simulation import run_virtually
from tests.kit.dhcp_messages import (
    ACK,
    DECLINE,
    DISCOVER,
    INFORM,
    NAK,
    OFFER,
    RELEASE,
    REQUEST,
    Client,
    addresses,
    forged_mac,
    message,
)

_MAC = "02:00:00:00:00:05"
_POOL = ("10.0.0.100", "10.0.0.109")


@dataclass
class Lan:
    """A bridge with the server's tap, and taps for clients."""

    stack: NetworkStack
    tap: TapInterface
    switch: NetworkStack
    bridge: Any

    async def join(self, stack: NetworkStack, **options: Any) -> TapInterface:
        """Return a tap of a stack, connected to the bridge."""
        tap, port = await stack.create_tap_interface(**options), await self.switch.create_tap_interface()
        connect(tap, port)
        await self.bridge.add_port(port)
        return tap


@asynccontextmanager
async def lan(ip: str = "10.0.0.1/24") -> AsyncIterator[Lan]:
    async with await create_stack(seed=1) as stack, await create_stack(seed=2) as switch:
        bridge = await switch.create_bridge_interface()
        network = Lan(stack, None, switch, bridge)  # type: ignore[arg-type]
        network.tap = await network.join(stack, ip=ip)
        yield network


@asynccontextmanager
async def messages(network: Lan, *, port: int = 68) -> AsyncIterator[Client]:
    """A socket of a host with the address 10.0.0.250, which receives what is broadcast to clients."""
    async with await create_stack(seed=99) as stack:
        await network.join(stack, ip="10.0.0.250/24")
        async with await stack.open_udp(None, port, allow_broadcast=True) as udp:
            yield Client(udp, "10.0.0.1")


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_client_gets_all_that_the_server_gives() -> None:
    async def main() -> None:
        async with lan() as network, await create_stack(seed=3) as guest:
            server = DhcpServer(
                network.tap,
                pool=_POOL,
                lease_time=600.0,
                router="10.0.0.1",
                name_servers=["10.0.0.1", "10.0.0.2"],
                domain="lab.internal",
                search=("lab.internal", "internal"),
            )
            async with server as dhcp:
                tap = await network.join(guest)
                events = dhcp.events()
                lease = await tap.configure(dhcp=True)
                assert str(lease.address) == "10.0.0.100/24"
                assert str(lease.router) == "10.0.0.1"
                assert list(map(str, lease.name_servers)) == ["10.0.0.1", "10.0.0.2"]
                assert (lease.domain, lease.search) == ("lab.internal", ("lab.internal", "internal"))
                (own,) = dhcp.leases
                assert (str(own.address), own.mac) == ("10.0.0.100", tap.mac)
                assert 590 < own.expires - now() <= 600
                offer, given = await anext(events), await anext(events)
                assert (offer.kind, given.kind, given.address) == ("offer", "lease", IPv4Address("10.0.0.100"))
                await asyncio.sleep(400)
                (renewed,) = dhcp.leases
                assert renewed.expires > own.expires
                assert (await anext(events)).kind == "renew"
                await tap.release()
                await asyncio.sleep(1)
                assert dhcp.leases == ()
                assert (await anext(events)).kind == "release"
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    run_virtually(main())


def test_a_lease_expires_and_its_client_may_have_it_again() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL, lease_time=60.0) as dhcp:
                events = dhcp.events()
                first = await client.lease(_MAC)
                assert (first.kind, first.address) == (ACK, "10.0.0.100")
                assert first.options[51] == (60).to_bytes(4)
                assert (first.options[58], first.options[59]) == ((30).to_bytes(4), (52).to_bytes(4))
                other = await client.lease(forged_mac(6))
                assert other.address == "10.0.0.101"
                await asyncio.sleep(61)
                assert dhcp.leases == ()
                kinds = [(await anext(events)).kind for _ in range(6)]
                assert kinds == ["offer", "lease", "offer", "lease", "expire", "expire"]
                assert (await client.lease(forged_mac(7))).address == "10.0.0.102"
                assert (await client.lease(_MAC)).address == "10.0.0.100"

    run_virtually(main())


def test_an_address_that_another_host_has_is_not_offered() -> None:
    """One host answers to echo requests, another to ARP alone, as firewalls have it."""

    async def main() -> None:
        async with lan() as network, await create_stack(seed=3) as other, messages(network) as client:
            await network.join(other, ip="10.0.0.100/24")
            port = await network.switch.create_tap_interface()
            await network.bridge.add_port(port)

            async def answer_arp() -> None:
                writer = port.writable.get_writer()
                async for frame in port.readable:
                    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[41] == 101:
                        own = b"\2\0\0\0\0\x77"
                        await writer.write(
                            frame[6:12] + own + frame[12:20] + b"\0\2" + own + frame[38:42] + frame[22:32]
                        )

            answering = asyncio.create_task(answer_arp())
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                events = dhcp.events()
                assert (await client.lease(_MAC)).address == "10.0.0.102"
                assert dhcp.statistics.conflicts == 2
                assert [(await anext(events)).kind for _ in range(3)] == ["conflict", "conflict", "offer"]
                assert network.tap._observers == (), "the interface is observed during a probe alone"
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    run_virtually(main())


def test_reservations() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            reserved = {_MAC: "10.0.0.5", forged_mac(8): "10.0.0.100"}
            async with DhcpServer(network.tap, pool=_POOL, reservations=reserved) as dhcp:
                assert (await client.lease(_MAC)).address == "10.0.0.5"
                assert (await client.lease(forged_mac(1))).address == "10.0.0.101"
                assert (await client.lease(forged_mac(8))).address == "10.0.0.100"
                # Firmware and system of one machine have identities of their own and the same address.
                assert (await client.lease(_MAC, {61: b"\xff\1\2\3"})).address == "10.0.0.5"
                wanted = {50: addresses("10.0.0.5"), 54: addresses("10.0.0.1")}
                await client.send(message(REQUEST, forged_mac(9), wanted))
                assert (await client.answer()).kind == NAK
                assert {str(lease.address) for lease in dhcp.leases} == {"10.0.0.5", "10.0.0.100", "10.0.0.101"}

    run_virtually(main())


def test_a_server_of_reservations_alone() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, reservations={_MAC: "10.0.0.5"}):
                await client.send(message(DISCOVER, forged_mac(1)))
                assert (await client.lease(_MAC)).address == "10.0.0.5"

    run_virtually(main())


def test_declined_addresses_are_not_lent() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                first = await client.lease(_MAC)
                forged = message(DECLINE, forged_mac(9), {50: addresses(first.address), 54: addresses("10.0.0.1")})
                await client.send(forged)  # of a client that does not have it
                await client.send(message(DECLINE, _MAC, {50: addresses(first.address), 54: addresses("10.0.0.1")}))
                await asyncio.sleep(1)
                assert (dhcp.statistics.declined, dhcp.leases) == (1, ())
                assert (await client.lease(_MAC)).address == "10.0.0.101"
                await asyncio.sleep(700)
                assert {(await client.lease(forged_mac(10 + n))).address for n in range(9)} >= {"10.0.0.100"}

    run_virtually(main())


def test_release_counts_from_the_address_itself_alone() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                await client.lease(_MAC)
                await client.send(message(RELEASE, _MAC, {54: addresses("10.0.0.1")}, client="10.0.0.100"))
                await asyncio.sleep(1)
                assert len(dhcp.leases) == 1

    run_virtually(main())


def test_requests_for_addresses_of_unknown_origin() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL):
                # Rebooted with a free address of this network: it keeps it; with one of another network: refused.
                await client.send(message(REQUEST, _MAC, {50: addresses("10.0.0.105")}))
                kept = await client.answer()
                assert (kept.kind, kept.address) == (ACK, "10.0.0.105")
                for wrong in ("192.168.7.7", "10.0.0.105", "10.0.0.1", "10.0.0.50"):
                    await client.send(message(REQUEST, forged_mac(1), {50: addresses(wrong)}))
                    refused = await client.answer()
                    assert (refused.kind, refused.address) == (NAK, "0.0.0.0")
                    assert 51 not in refused.options
            async with DhcpServer(network.tap, pool=_POOL, authoritative=False) as dhcp:
                await client.send(message(REQUEST, _MAC, {50: addresses("10.0.0.105")}))
                await client.send(message(DISCOVER, _MAC, {50: addresses("10.0.0.107")}, transaction=7))
                offer = await client.answer()
                assert (offer.kind, offer.transaction, offer.address) == (OFFER, 7, "10.0.0.107")
                assert dhcp.statistics.naks == 0

    run_virtually(main())


def test_another_servers_offer_is_chosen() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=("10.0.0.100", "10.0.0.100")) as dhcp:
                await client.send(message(DISCOVER, _MAC))
                assert (await client.answer()).address == "10.0.0.100"
                await client.send(message(REQUEST, _MAC, {50: addresses("10.0.0.33"), 54: addresses("10.0.0.9")}))
                assert (await client.lease(forged_mac(1))).address == "10.0.0.100"
                assert dhcp.statistics.naks == 0

    run_virtually(main())


def test_inform() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(
                network.tap, pool=_POOL, domain="lab", options={252: "http://w/", 43: b"\1\2"}
            ) as dhcp:
                await client.send(message(INFORM, _MAC, client="10.0.0.250"))
                answer = await client.answer()
                assert (answer.kind, answer.address) == (ACK, "0.0.0.0")
                assert answer.options[15] == b"lab"
                assert (answer.options[252], answer.options[43]) == (b"http://w/", b"\1\2")
                assert 51 not in answer.options
                assert dhcp.leases == ()

    run_virtually(main())


def test_a_relay() -> None:
    async def main() -> None:
        async with lan() as network, await create_stack(seed=99) as host:
            await network.join(host, ip="10.0.0.250/24")
            await host.create_tap_interface(ip="10.7.0.1/24")  # the link of the clients
            network.stack.add_route("10.7.0.0/24", via="10.0.0.250")
            far = DhcpPool("10.7.0.10", "10.7.0.20", network="10.7.0.0/24", router="10.7.0.1")
            async with (
                DhcpServer(network.tap, pool=[_POOL, far], router="10.0.0.1"),
                await host.open_udp(None, 67) as udp,
            ):
                relay = Client(udp, "10.0.0.1")
                answer = await relay.lease(_MAC, relay="10.7.0.1")
                assert (answer.kind, answer.address) == (ACK, "10.7.0.10")
                assert answer.options[3] == addresses("10.7.0.1")
                assert answer.options[1] == addresses("255.255.255.0")
                await relay.send(message(DISCOVER, forged_mac(1), {82: b"\1\2eth"}, relay="10.7.0.1"))
                assert (await relay.answer()).options[82] == b"\1\2eth"
                await relay.send(message(DISCOVER, forged_mac(2), relay="10.99.0.1"))  # a network without a pool
                await relay.send(message(DISCOVER, forged_mac(3), relay="10.7.0.1", transaction=3))
                assert (await relay.answer()).transaction == 3

    run_virtually(main())


@pytest.mark.parametrize(
    ("boot_file", "architecture", "file"),
    [
        ("pxe.0", None, b"pxe.0"),
        ({7: "snp.efi", None: "undi"}, 7, b"snp.efi"),
        ({7: "snp.efi", None: "undi"}, 0, b"undi"),
        ({7: "snp.efi"}, 0, b""),
        (lambda request: "script.ipxe" if 77 in request.options else "undi", 0, b"script.ipxe"),
        ("http://10.0.0.1/" + "x" * 200, 0, b""),
    ],
)
def test_boot_files(boot_file: Any, architecture: int | None, file: bytes) -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL, boot_file=boot_file, boot_server="10.0.0.9"):
                options = {55: b"\x42\x43", 77: b"iPXE"}
                if architecture is not None:
                    options[93] = architecture.to_bytes(2)
                await client.send(message(DISCOVER, _MAC, options))
                answer = await client.answer()
                assert answer.file == file
                if isinstance(boot_file, str):
                    assert answer.options[67] == boot_file.encode()
                if file:
                    assert (answer.next_server, answer.options[66]) == ("10.0.0.9", b"10.0.0.9")

    run_virtually(main())


def test_the_lease_table_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "leases.json"

    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL, lease_file=path):
                await client.lease(_MAC, {12: b"guest"})
                await client.lease(forged_mac(1))
            async with DhcpServer(network.tap, pool=_POOL, lease_file=path, lease_time=float("inf")) as dhcp:
                assert [(str(o.address), o.mac, o.hostname) for o in dhcp.leases] == [
                    ("10.0.0.100", _MAC, "guest"),
                    ("10.0.0.101", forged_mac(1), None),
                ]
                assert 3000 < dhcp.leases[0].expires - now() <= 3600
                again = await client.lease(forged_mac(1))
                assert (again.address, again.options[51]) == ("10.0.0.101", b"\xff" * 4)
                await asyncio.sleep(2)
                entries = json.loads(path.read_text())["leases"]
                assert [entry["expires"] is None for entry in entries] == [False, True]
            path.write_text("{}")
            with pytest.raises(ValueError, match="no file of leases"):
                await DhcpServer(network.tap, pool=_POOL, lease_file=path).start()

    run_virtually(main())


def test_254_clients_at_once() -> None:
    async def main() -> None:
        async with lan("10.0.0.1/23") as network, AsyncExitStack() as exits:
            switches = [network]
            for seed in (20, 21):  # a switch has 128 ports at most
                switch = await exits.enter_async_context(await create_stack(seed=seed))
                one = Lan(network.stack, network.tap, switch, await switch.create_bridge_interface())
                port = await switch.create_tap_interface()
                await one.bridge.add_port(port)
                uplink = await network.switch.create_tap_interface()
                connect(port, uplink)
                await network.bridge.add_port(uplink)
                switches.append(one)
            stacks = [await exits.enter_async_context(await create_stack(seed=1000 + n)) for n in range(254)]
            taps = [await switches[n % 3].join(stack) for n, stack in enumerate(stacks)]
            async with DhcpServer(network.tap, pool=("10.0.0.2", "10.0.0.255")) as dhcp:
                leases = await asyncio.gather(*[tap.configure(dhcp=True, timeout=120) for tap in taps])
                assert len({lease.address for lease in leases}) == len(dhcp.leases) == 254
                assert (dhcp.statistics.exhausted, dhcp.statistics.conflicts) == (0, 0)

    run_virtually(main())


def test_forged_discoveries_do_not_keep_a_client_out() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client, await create_stack(seed=5) as guest:
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                tap = await network.join(guest)
                stop = asyncio.Event()

                async def flood() -> None:
                    number = 0
                    while not stop.is_set():
                        for _ in range(20):
                            number += 1
                            await client.send(message(DISCOVER, forged_mac(number), {61: number.to_bytes(4)}))
                        await asyncio.sleep(0.01)

                flooding = asyncio.create_task(flood())
                await asyncio.sleep(5)
                lease = await tap.configure(dhcp=True, timeout=60)
                assert dhcp.statistics.received > 5_000
                stop.set()
                await flooding
                assert [one.mac for one in dhcp.leases] == [tap.mac]
                assert dhcp.leases[0].address == lease.address.ip
                assert len(dhcp._table._offers) <= 10
                assert len(dhcp._tasks) <= 512

    run_virtually(main())


def test_a_pool_that_forged_clients_have_leased_is_reclaimed() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client, await create_stack(seed=5) as guest:
            honest = await network.join(guest)
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                await honest.configure(dhcp=True)
                for number in range(9):
                    assert (await client.lease(forged_mac(number))).kind == ACK
                assert len(dhcp.leases) == 10
                await asyncio.sleep(10)
                late = await network.join(guest)
                lease = await late.configure(dhcp=True, timeout=60)
                assert dhcp.statistics.reclaimed == 1
                macs = {one.mac for one in dhcp.leases}
                assert {honest.mac, late.mac} <= macs, "who answers keeps its lease"
                assert lease.address.ip != honest.ip

    run_virtually(main())


def test_forged_clients_that_request_every_address_do_not_keep_a_client_out() -> None:
    """They send requests for all addresses, with and without an offer, in between discoveries."""

    async def main() -> None:
        async with lan() as network, messages(network) as client, await create_stack(seed=5) as guest:
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                tap = await network.join(guest)
                stop = asyncio.Event()

                async def flood() -> None:
                    number = 0
                    while not stop.is_set():
                        for at in range(10):
                            number += 1
                            wanted = {50: addresses(f"10.0.0.{100 + at}")}
                            await client.send(message(DISCOVER, forged_mac(number), wanted))
                            await client.send(message(REQUEST, forged_mac(number), wanted))
                            await client.send(message(REQUEST, forged_mac(number + 1), wanted))
                            named = {**wanted, 54: addresses("10.0.0.1")}
                            await client.send(message(REQUEST, forged_mac(number), named))
                        await asyncio.sleep(0.02)

                flooding = asyncio.create_task(flood())
                await asyncio.sleep(20)
                assert len(dhcp.leases) == 10
                lease = await tap.configure(dhcp=True, timeout=120)
                stop.set()
                await flooding
                assert lease.address.ip in [one.address for one in dhcp.leases if one.mac == tap.mac]
                assert dhcp.statistics.reclaimed >= 1

    run_virtually(main())


def test_one_hardware_address_has_few_leases() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL, probe=0) as dhcp:
                for number in range(40):
                    options = {61: b"id" + bytes([number])}
                    await client.send(message(DISCOVER, _MAC, options))
                    await asyncio.sleep(0.1)
                    for n in range(10):
                        wanted = {50: addresses(f"10.0.0.{100 + n}"), 54: addresses("10.0.0.1"), **options}
                        await client.send(message(REQUEST, _MAC, wanted))
                    await asyncio.sleep(0.1)
                assert len(dhcp.leases) <= MAX_PER_MAC

    run_virtually(main())


def test_random_and_mutated_messages_change_nothing() -> None:
    async def main() -> None:
        rng = random.Random(7)
        valid = [message(kind, _MAC, {50: addresses("10.0.0.100"), 55: b"\1\3\6", 12: b"a"}) for kind in range(1, 9)]
        async with lan() as network, messages(network) as client:
            async with DhcpServer(network.tap, pool=_POOL) as dhcp:
                for _ in range(4000):
                    data = bytearray(rng.choice(valid))
                    for _ in range(rng.randrange(1, 6)):
                        data[rng.randrange(len(data))] = rng.randrange(256)
                    await client.send(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data))
                await client.send(bytes(60_000))
                await asyncio.sleep(100)
                assert not dhcp._tasks
                assert len(dhcp._busy) == 0
                assert dhcp.statistics.malformed > 500
                table = dhcp._table
                assert len(table._leases) + len(table._offers) + len(table._declined) + len(table._chosen) <= 10
                assert len(table._ends) < 200

    run_virtually(main())


def test_the_server_ends_with_its_stack() -> None:
    async def main() -> None:
        async with lan() as network, messages(network) as client:
            dhcp = await DhcpServer(network.tap, pool=_POOL).start()
            with pytest.raises(RuntimeError, match="started before"):
                await dhcp.start()
            await client.send(message(DISCOVER, _MAC))
            await asyncio.sleep(0.1)  # the probe is under way
            await network.stack.aclose()
            assert dhcp.closed
            await dhcp.aclose()
            assert not dhcp._tasks
            with pytest.raises(StackClosedError):
                DhcpServer(network.tap, pool=_POOL)

    run_virtually(main())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"pool": ("10.0.0.9", "10.0.0.8")}, ValueError, "pool"),
        ({"pool": ("10.0.1.9", "10.0.1.10")}, ValueError, "not within"),
        ({"pool": ("10.0.0.0", "10.0.0.10")}, ValueError, "no host may have"),
        ({"pool": [("10.0.0.5", "10.0.0.9"), ("10.0.0.9", "10.0.0.10")]}, ValueError, "overlaps"),
        ({"pool": "10.0.0.5"}, TypeError, "pool"),
        ({"lease_time": 1}, ValueError, "lease_time"),
        ({"lease_time": float("nan")}, ValueError, "lease_time"),
        ({"router": "::1"}, ValueError, "router"),
        ({"reservations": {"xx": "10.0.0.5"}}, ValueError, "mac"),
        ({"reservations": {_MAC: "10.0.0.1"}}, ValueError, "own address"),
        ({"options": {53: b"\1"}}, ValueError, "options: 53"),
        ({"options": {43: 5}}, TypeError, "options: 43"),
        ({"probe": -1}, ValueError, "probe"),
        ({"name_servers": "10.0.0.1"}, TypeError, "name_servers"),
    ],
)
def test_malformed_arguments(options: dict[str, Any], error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with lan() as network:
            with pytest.raises(error, match=text):
                DhcpServer(network.tap, **{"pool": _POOL, **options})

    run_virtually(main())


def test_two_servers_on_one_stack() -> None:
    """Each serves its own link; the other's clients get no address of this one's network."""

    async def main() -> None:
        async with lan() as one, await create_stack(seed=50) as switch, await create_stack(seed=51) as guest:
            other = Lan(one.stack, None, switch, await switch.create_bridge_interface())  # type: ignore[arg-type]
            other.tap = await other.join(one.stack, ip="10.2.0.1/24")
            async with (
                DhcpServer(one.tap, pool=_POOL),
                DhcpServer(other.tap, pool=("10.2.0.10", "10.2.0.20")),
            ):
                first = await (await one.join(guest)).configure(dhcp=True)
                second = await (await other.join(guest)).configure(dhcp=True)
                assert first.address.ip == IPv4Address("10.0.0.100")
                assert second.address.ip in [IPv4Address(f"10.2.0.{n}") for n in range(10, 21)]

    run_virtually(main())


@pytest.mark.parametrize("both", [True, False], ids=["a server on each network", "a server on one of them"])
def test_a_server_answers_on_its_own_network_alone(both: bool) -> None:
    """On a stack with two networks: the broadcasts of the one do not reach the server of the other."""

    async def main() -> None:
        async with AsyncExitStack() as exits:
            stack = await exits.enter_async_context(await create_stack(seed=1))
            taps, ends, servers = [], [], []
            for number in (1, 2):
                guest = await exits.enter_async_context(await create_stack(seed=1 + number))
                taps.append(await stack.create_tap_interface(ip=f"10.{number}.0.1/24"))
                ends.append(await guest.create_tap_interface())
                connect(taps[-1], ends[-1])
                pool = (f"10.{number}.0.100", f"10.{number}.0.199")
                if both or number == 1:
                    servers.append(await exits.enter_async_context(DhcpServer(taps[-1], pool=pool, probe=0)))
            if both:
                leases = await asyncio.gather(*(end.configure(dhcp=True) for end in ends))
                assert [str(lease.address) for lease in leases] == ["10.1.0.100/24", "10.2.0.100/24"]
            else:
                assert str((await ends[0].configure(dhcp=True)).address) == "10.1.0.100/24"
                with pytest.raises(TimeoutError):
                    await ends[1].configure(dhcp=True)
            for server, end in zip(servers, ends, strict=False):
                assert (server.statistics.received, server.statistics.offers) == (2, 1)
                assert [lease.mac for lease in server.leases] == [end.mac]

    run_virtually(main())
