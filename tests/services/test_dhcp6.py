"""The DHCPv6 server in virtual time: leases, settings alone, advertisements with flags, hostile messages."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from struct import pack, unpack_from
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import TapInterface, UdpDatagram, UdpSocket, connect, create_stack
from tcpip_wasm.services import Dhcp6Server
from tcpip_wasm.services.dhcp6 import Dhcp6Lease, wire
from tcpip_wasm.services.dhcp6.table import LeaseTable
from tcpip_wasm.simulation import run_virtually

_POOL = ("fd00::100", "fd00::1ff")
_MAC = "02:00:00:00:00:05"


def duid(number: int = 5) -> bytes:
    """Return an identifier made of a hardware address (DUID-LL)."""
    return b"\0\3\0\1\2" + number.to_bytes(5)


def message(
    kind: int,
    client: bytes | None = None,
    *addresses: str,
    server: bytes = b"",
    association: int | None = 1,
    more: bytes = b"",
) -> bytes:
    """Return a message of a client (RFC 8415, section 8)."""
    packed = pack(">I", kind << 24 | 0xABCDEF) + wire.option(wire.CLIENT_ID, duid() if client is None else client)
    if server:
        packed += wire.option(wire.SERVER_ID, server)
    if association is not None:
        inner = b"".join(wire.option(wire.IA_ADDRESS, IPv6Address(one).packed + bytes(8)) for one in addresses)
        packed += wire.option(wire.IA_NA, pack(">III", association, 0, 0) + inner)
    return packed + more


class Answer:
    """A reply of the server."""

    def __init__(self, data: bytes) -> None:
        self.kind = data[0]
        self.transaction = int.from_bytes(data[1:4])
        self.options = dict(wire.options_of(data[4:]))
        self.server = self.options[wire.SERVER_ID]
        self.addresses: list[tuple[str, int, int]] = []
        self.status: int | None = None
        for code, value in wire.options_of(self.options.get(wire.IA_NA, bytes(12))[12:]):
            if code == wire.IA_ADDRESS:
                self.addresses.append((str(IPv6Address(value[:16])), *unpack_from(">II", value, 16)))
            elif code == wire.STATUS:
                (self.status,) = unpack_from(">H", value)
        if wire.STATUS in self.options:
            (self.state,) = unpack_from(">H", self.options[wire.STATUS])


class Client:
    """Sends messages from a link-local address."""

    def __init__(self, udp: UdpSocket) -> None:
        self.udp = udp

    async def send(self, data: bytes) -> None:
        await self.udp.send(UdpDatagram("ff02::1:2", 547, data))

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        async with asyncio.timeout(10):
            return Answer((await self.udp.receive()).data)

    async def lease(self, client: bytes) -> Answer:
        """Solicit and request."""
        offered = await self.ask(message(wire.SOLICIT, client))
        assert offered.kind == wire.ADVERTISE
        return await self.ask(message(wire.REQUEST, client, offered.addresses[0][0], server=offered.server))


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Dhcp6Server, Client, TapInterface]]:
    """A server, a client's socket, and the client's tap."""
    async with await create_stack(seed=1) as host, await create_stack(seed=2) as guest:
        tap = await host.create_tap_interface(ip="fd00::1/64")
        end = await guest.create_tap_interface(mac=_MAC)
        connect(tap, end)
        await asyncio.sleep(3)
        async with (
            Dhcp6Server(tap, **options) as server,
            await guest.open_udp(f"{end.link_local}%{end.name}", 546, multicast_interface=end) as udp,
        ):
            yield server, Client(udp), end


def test_a_lease() -> None:
    async def main() -> None:
        options: Any = {"name_servers": ["fd00::1"], "search": ["lab.internal"], "boot_file": "tftp://[fd00::1]/k"}
        async with served(pool=_POOL, lifetime=600, **options) as (server, client, _):
            offered = await client.ask(message(wire.SOLICIT))
            ((address, preferred, valid),) = offered.addresses
            assert (offered.kind, offered.transaction, preferred, valid) == (wire.ADVERTISE, 0xABCDEF, 300, 600)
            assert IPv6Address(_POOL[0]) <= IPv6Address(address) <= IPv6Address(_POOL[1])
            assert not list(server.leases)
            granted = await client.ask(message(wire.REQUEST, None, address, server=offered.server))
            assert (granted.kind, granted.addresses) == (wire.REPLY, offered.addresses)
            assert granted.options[wire.NAME_SERVERS] == IPv6Address("fd00::1").packed
            assert granted.options[wire.DOMAINS] == b"\3lab\10internal\0"
            assert granted.options[wire.BOOT_FILE] == b"tftp://[fd00::1]/k"
            assert unpack_from(">III", granted.options[wire.IA_NA]) == (1, 150, 240)
            (lease,) = server.leases
            assert (str(lease.address), lease.mac) == (address, _MAC)
            await asyncio.sleep(400)
            renewed = await client.ask(message(wire.RENEW, None, address, server=offered.server))
            assert renewed.addresses == offered.addresses
            await asyncio.sleep(400)
            assert len(server.leases) == 1
            await asyncio.sleep(400)
            assert len(server.leases) == 0
            again = await client.ask(message(wire.REBIND, None, address))
            assert again.addresses == offered.addresses, "the same again"
            wrong = await client.ask(message(wire.RENEW, None, "fd00::999", server=offered.server))
            assert wrong.addresses == [(address, 300, 600), ("fd00::999", 0, 0)]
            assert (await client.ask(message(wire.CONFIRM, None, address))).state == wire.SUCCESS
            assert (await client.ask(message(wire.CONFIRM, None, "2001:db8::1"))).state == wire.NOT_ON_LINK
            released = await client.ask(message(wire.RELEASE, None, address, server=offered.server))
            assert (released.state, len(server.leases)) == (wire.SUCCESS, 0)
            unknown = await client.ask(message(wire.RELEASE, None, address, server=offered.server))
            assert unknown.status == wire.NO_BINDING

    run_virtually(main())


def test_declined_and_reserved_addresses_and_rapid_commit() -> None:
    async def main() -> None:
        reserved = {_MAC: "fd00::5", duid(6).hex(): "fd00::6"}
        async with served(pool=("fd00::100", "fd00::103"), reservations=reserved) as (server, client, _):
            assert (await client.lease(duid(5))).addresses[0][0] == "fd00::5"
            rapid = await client.ask(message(wire.SOLICIT, duid(6), more=wire.option(wire.RAPID_COMMIT, b"")))
            assert (rapid.kind, rapid.addresses[0][0]) == (wire.REPLY, "fd00::6")
            assert wire.RAPID_COMMIT in rapid.options
            taken = await client.lease(duid(7))
            used = taken.addresses[0][0]
            declined = await client.ask(message(wire.DECLINE, duid(7), used, server=taken.server))
            assert (declined.state, server.statistics.declined) == (wire.SUCCESS, 1)
            found = {(await client.lease(duid(n))).addresses[0][0] for n in range(8, 11)}
            assert len(found) == 3
            assert used not in found
            full = await client.ask(message(wire.SOLICIT, duid(11)))
            assert (full.status, full.addresses) == (wire.NO_ADDRESSES, [])
            await asyncio.sleep(700)
            assert (await client.lease(duid(11))).addresses[0][0] == used

    run_virtually(main())


def test_settings_alone_and_advertisements() -> None:
    async def main() -> None:
        async with served(name_servers=["fd00::53"], lifetime=1000) as (server, client, end):
            answer = await client.ask(message(wire.INFORMATION_REQUEST, association=None))
            assert answer.options[wire.NAME_SERVERS] == IPv6Address("fd00::53").packed
            assert answer.options[wire.REFRESH] == (1000).to_bytes(4)
            assert (await client.ask(message(wire.SOLICIT))).status == wire.NO_ADDRESSES
            await end.configure(slaac=True)
            assert str(end.addresses[0].network) == "fd00::/64"
            assert list(map(str, end.name_servers)) == ["fd00::53"]
            assert len(server._interface.addresses) == 1

    run_virtually(main())


@pytest.mark.parametrize(("options", "flags", "prefix_flags"), [({"pool": _POOL}, 0xC0, 0x80), ({}, 0x40, 0xC0)])
def test_the_flags_of_advertisements(options: Any, flags: int, prefix_flags: int) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as host:
            tap = await host.create_tap_interface(ip="fd00::1/64")
            frames = tap.listen()
            await asyncio.sleep(3)
            async with Dhcp6Server(tap, **options):
                async for frame in frames:
                    if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 134:
                        break
            assert frame[59] == flags
            at = frame.index(b"\3\4\x40", 54)
            assert frame[at + 3] == prefix_flags

    run_virtually(main())


def test_floods_and_damaged_messages() -> None:
    async def main() -> None:
        rng = random.Random(1)
        async with served(pool=("fd00::1:0", "fd00::ffff:ffff")) as (server, client, _):
            me = await client.lease(duid(1))
            valid = [
                message(kind, None, "fd00::1:5", server=me.server if kind in (3, 5, 8, 9) else b"")
                for kind in range(1, 12)
            ]
            for number in range(3000):
                data = bytearray(rng.choice(valid))
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                await client.send(bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data))
                await client.send(message(wire.REQUEST, duid(1000 + number), server=me.server))
                await client.send(message(wire.SOLICIT, duid(1), association=number, more=wire.option(14, b"")))
                if number % 50 == 0:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(5)
            assert server.statistics.malformed > 500
            table = server._own.table
            assert len(table) == len(table._by_client) <= 65_536
            assert table._counts[duid(1)] <= 8
            while True:  # what was sent before
                try:
                    async with asyncio.timeout(1):
                        await client.udp.receive()
                except TimeoutError:
                    break
            assert (await client.lease(duid(2))).addresses

    run_virtually(main())


def test_a_client_has_eight_addresses_at_most_by_each_message() -> None:
    """Renewing and rebinding grant addresses that the server knows nothing of (RFC 8415, section 18.3.4), too."""

    async def main() -> None:
        async with served(pool=("fd00::100", "fd00::1ff")) as (server, client, _):
            me = await client.lease(duid(1))
            held = [me.addresses[0][0]]
            for number in range(2, 40):
                kind, to = (wire.RENEW, me.server) if number % 2 else (wire.REBIND, b"")
                data = message(kind, duid(1), f"fd00::1{number:02x}", server=to, association=number)
                answer = await client.ask(data)
                if number <= 8:
                    held += [one for one, _, valid in answer.addresses if valid]
                else:
                    assert answer.status == wire.NO_ADDRESSES
                    assert all(valid == 0 for _, _, valid in answer.addresses)
            assert [str(lease.address) for lease in server.leases] == sorted(held, key=IPv6Address)
            assert len(held) == 8
            # Those that it has are extended, and one may be exchanged for another one.
            again = message(wire.REBIND, duid(1), held[3], association=4)
            assert (await client.ask(again)).addresses[0][0] == held[3]
            other = message(wire.REBIND, duid(1), "fd00::1f0", association=4)
            assert (await client.ask(other)).addresses[0][0] == "fd00::1f0"
            assert len(server.leases) == 8

    run_virtually(main())


def calls_of(function: Callable[[], object]) -> int:
    """Return how many functions of Python it calls."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_pool_that_is_full_or_nearly_so_costs_no_more_than_another() -> None:
    """One message has four associations; looking at each address for each of them would take a second."""
    first, size = IPv6Address("fd00::1:0"), 65_536

    def lease(address: IPv6Address) -> Dhcp6Lease:
        return Dhcp6Lease(address, int(address).to_bytes(16), 1, None, 1000.0)

    table = LeaseTable(first, first + size - 1, {}, frozenset([first + 7]))
    rng = random.Random(3)
    order = list(range(size))
    rng.shuffle(order)
    order.remove(7)
    last = [order.pop() for _ in range(200)]
    for offset in order:
        table.grant(lease(first + offset))
    clients = iter(range(10**6))

    def chosen() -> IPv6Address | None:
        return table.choose((next(clients).to_bytes(4), 1), None, 1.0)

    calls_of(chosen)  # looks once at each of those that are lent
    for _ in last:
        assert calls_of(chosen) < 20_000
        address = chosen()
        assert address is not None
        assert int(address) - int(first) in last
        table.grant(lease(address))
    assert len(table) == size - 1
    for _ in range(50):
        assert calls_of(lambda: [chosen() for _ in range(4)]) < 20_000
        assert chosen() is None
        freed = first + rng.choice(order)
        table.remove(freed)
        assert calls_of(chosen) < 20_000
        assert chosen() == freed
        table.grant(lease(freed))
    declined = first + order[0]
    table.decline(declined, 1.0)
    assert chosen() is None
    assert table.choose((b"c", 1), None, 602.0) == declined
    table.expire(1000.0)
    assert len(table) == 0
    assert {table.choose((b"%d" % n, 1), None, 1000.0) for n in range(10)}.isdisjoint({None, first + 7})


@pytest.mark.parametrize("size", [1, 3, 70, 300])
def test_a_free_address_is_found_as_long_as_there_is_one(size: int) -> None:
    """Whatever was granted, extended, released, declined and forgotten before."""
    rng = random.Random(size)
    first, own = IPv6Address("fd00::100"), IPv6Address("fd00::102")
    table = LeaseTable(first, first + size - 1, {_MAC: first}, frozenset([own]))
    now = 0.0
    none = 0
    for _ in range(5000):
        now += 3 * rng.random()
        table.expire(now)
        number = rng.randrange(size + 1)
        client, mac = (b"%d" % number, rng.randrange(3)), _MAC if number == 1 else None
        address = table.choose(client, mac, now)
        if address is None:
            none += 1
            assert mac or all(
                one in (first, own) or one in table._leases or one in table._declined
                for one in (first + offset for offset in range(size))
            )
            continue
        assert table.may_have(address, client, mac)
        choice = rng.random()
        if choice < 0.7:
            table.grant(Dhcp6Lease(address, *client, mac, now + 5 * size))
        elif choice < 0.8:
            table.decline(address, now)
        elif len(table) and choice < 0.9:
            table.remove(rng.choice(list(table._leases)))
        assert len(table._freed) + len(table) + len(table._declined) <= size + 1
    assert none > 100


def test_a_reserved_address_that_is_declined_again_holds_no_other_one_back() -> None:
    async def main() -> None:
        async with served(pool=("fd00::100", "fd00::100"), reservations={_MAC: "fd00::5"}) as (_, client, _):
            for number in (5, 7):
                taken = await client.lease(duid(number))
                data = message(wire.DECLINE, duid(number), taken.addresses[0][0], server=taken.server)
                assert (await client.ask(data)).state == wire.SUCCESS
            await asyncio.sleep(500)
            assert (await client.lease(duid(5))).addresses[0][0] == "fd00::5"
            declined = message(wire.DECLINE, duid(5), "fd00::5", server=taken.server)
            assert (await client.ask(declined)).state == wire.SUCCESS
            await asyncio.sleep(200)
            assert (await client.lease(duid(7))).addresses[0][0] == "fd00::100", "declined 700 seconds ago"

    run_virtually(main())


def test_the_server_ends_with_its_stack() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as host:
            tap = await host.create_tap_interface(ip="fd00::1/64")
            async with Dhcp6Server(tap) as server:
                await host.aclose()
                assert server.closed
        async with await create_stack(seed=1) as host:
            tap = await host.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"])
            bare = await host.create_tap_interface(ip="10.1.0.1/24")
            for interface, options, text in [
                (bare, {}, "no IPv6"),
                (tap, {"pool": ("fd00::9", "fd00::1")}, "empty"),
                (tap, {"pool": ("fd01::1", "fd01::2")}, "in no network"),
                (tap, {"lifetime": 1}, "lifetime"),
                (tap, {"name_servers": ["10.0.0.1"]}, "name_servers"),
            ]:
                with pytest.raises(ValueError, match=text):
                    Dhcp6Server(interface, **options)  # type: ignore[arg-type]

    run_virtually(main())


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_a_message_or_refused(data: bytes, kept: int) -> None:
    for tried in (data, message(wire.SOLICIT)[:kept] + data):
        try:
            request = wire.parse_request(tried)
        except wire.BadMessage:
            continue
        granted = [wire.Granted(one.number, [(a, 1, 2) for a in one.addresses]) for one in request.associations]
        assert Answer(wire.build_reply(request, wire.REPLY, b"\0\3\0\1abcdef", granted=granted)).kind == wire.REPLY
