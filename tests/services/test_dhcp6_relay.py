"""The DHCPv6 server behind relays, in virtual time: nested ones, links, two servers of a stack, hostile messages.

A test writes the relays' messages; a program is the relay in tests/interop/test_dhcp6_clients.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import TapInterface, UdpDatagram, UdpSocket, connect, create_stack
from tcpip_wasm.services import Dhcp6Pool, Dhcp6Server
from tcpip_wasm.services.dhcp6 import relay, wire
from tcpip_wasm.simulation import run_virtually

from .test_dhcp6 import Answer, duid, message

_FAR = Dhcp6Pool("fd88::100", "fd88::1ff", "fd88::/64")
_CLIENT = "fe80::c"


def forward(
    inner: bytes, link: str = "fd88::1", peer: str = _CLIENT, *, hops: int = 0, interface_id: bytes | None = b"eth1"
) -> bytes:
    """Put what a relay adds around a message (RFC 8415, section 9.1). The interface comes after the message here."""
    options = wire.option(9, inner) + (b"" if interface_id is None else wire.option(18, interface_id))
    return pack(">BB16s16s", 12, hops, IPv6Address(link).packed, IPv6Address(peer).packed) + options


def unwrapped(data: bytes) -> tuple[int, str, str, dict[int, bytes]]:
    """Return the hops, the addresses and the options of a Relay-reply."""
    assert data[0] == 13
    link, peer = (str(IPv6Address(data[at : at + 16])) for at in (2, 18))
    return data[1], link, peer, dict(wire.options_of(data[34:]))


@dataclass
class Relay:
    """Sends messages of relays from the address fd00::2, or of a host that is elsewhere."""

    udp: UdpSocket
    end: TapInterface
    server: Dhcp6Server

    async def send(self, data: bytes, to: str = "fd00::1") -> None:
        await self.udp.send(UdpDatagram(to, 547, data))

    async def ask(self, data: bytes, to: str = "fd00::1") -> bytes:
        """Send, and return what comes back to the port of relays."""
        await self.send(data, to)
        async with asyncio.timeout(10):
            answer = await self.udp.receive()
        assert answer.port == 547
        return answer.data

    async def is_silent(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            async with asyncio.timeout(5):
                await self.udp.receive()
        except TimeoutError:
            return True
        return False

    async def lease(self, client: bytes, link: str) -> str:
        """Solicit and request behind a relay of a link."""
        offer = Answer(unwrapped(await self.ask(forward(message(wire.SOLICIT, client), link)))[3][9])
        asked = message(wire.REQUEST, client, offer.addresses[0][0], server=offer.server)
        granted = Answer(unwrapped(await self.ask(forward(asked, link)))[3][9])
        assert granted.kind == wire.REPLY
        return granted.addresses[0][0]


@asynccontextmanager
async def relayed(own: str = "fd00::2", **options: Any) -> AsyncIterator[Relay]:
    async with await create_stack(seed=1) as host, await create_stack(seed=2) as guest:
        tap = await host.create_tap_interface(ip="fd00::1/64")
        end = await guest.create_tap_interface(ip=f"{own}/64")
        connect(tap, end)
        if not own.startswith("fd00::"):  # a host elsewhere that a router has let through
            host.add_route(f"{own}/128", interface=tap)
            guest.add_route("fd00::/64", interface=end)
        await asyncio.sleep(3)
        async with (
            Dhcp6Server(tap, **{"pool": [("fd00::100", "fd00::1ff"), _FAR], **options}) as server,
            await guest.open_udp(None, 547, multicast_interface=end) as udp,
        ):
            yield Relay(udp, end, server)


def test_the_answer_goes_back_by_the_relay() -> None:
    async def main() -> None:
        async with relayed(name_servers=["fd00::53"]) as agent:
            server = agent.server
            hops, link, peer, options = unwrapped(await agent.ask(forward(message(wire.SOLICIT, duid(5)))))
            assert (hops, link, peer) == (0, "fd88::1", _CLIENT)
            assert set(options) == {9, 18}
            assert options[18] == b"eth1"
            offer = Answer(options[9])
            assert (offer.kind, offer.transaction) == (wire.ADVERTISE, 0xABCDEF)
            assert offer.options[wire.NAME_SERVERS] == IPv6Address("fd00::53").packed
            address = offer.addresses[0][0]
            assert IPv6Address("fd88::100") <= IPv6Address(address) <= IPv6Address("fd88::1ff")
            for to in ("fd00::1", "ff02::1:2", "ff05::1:3", f"{server._interface.link_local}%tap0"):  # type: ignore[attr-defined]
                asked = message(wire.REQUEST, duid(5), address, server=offer.server)
                answer = unwrapped(await agent.ask(forward(asked, interface_id=None), to))
                assert set(answer[3]) == {9}, "no interface, where there was none"
                assert Answer(answer[3][9]).addresses[0][0] == address
            assert await agent.is_silent(), "one answer to each"
            (lease,) = server.leases
            assert (str(lease.address), lease.mac) == (address, "02:00:00:00:00:05")
            for asked, state in (
                (message(wire.CONFIRM, duid(5), address), wire.SUCCESS),
                (message(wire.CONFIRM, duid(5), "fd00::123"), wire.NOT_ON_LINK),
                (message(wire.RELEASE, duid(5), address, server=offer.server), wire.SUCCESS),
            ):
                assert Answer(unwrapped(await agent.ask(forward(asked)))[3][9]).state == state
            assert server.leases == ()
            assert (server.statistics.relayed, server.statistics.malformed) == (8, 0)

    run_virtually(main())


def test_nested_relays() -> None:
    """Each gets its interface back, and the message for the next; the link is that of the relay next to the client."""

    async def main() -> None:
        async with relayed() as agent:
            data = forward(message(wire.SOLICIT, duid(5)), "fd88::1", interface_id=b"first")
            data = forward(data, "fd99::1", "fd88::1", hops=1, interface_id=None)
            data = forward(data, "fd00::2", "fd99::1", hops=2, interface_id=bytes(200))
            expected = [(2, "fd00::2", "fd99::1", bytes(200)), (1, "fd99::1", "fd88::1", None)]
            inner = await agent.ask(data)
            for hops, link, peer, interface_id in [*expected, (0, "fd88::1", _CLIENT, b"first")]:
                *found, options = unwrapped(inner)
                assert found == [hops, link, peer]
                assert options.get(18) == interface_id
                inner = options[9]
            assert Answer(inner).addresses[0][0].startswith("fd88::")
            most = message(wire.SOLICIT, duid(5))
            for hops in range(relay.HOP_LIMIT + 1):
                most = forward(most, hops=hops)
            assert unwrapped(await agent.ask(most))[0] == relay.HOP_LIMIT
            for wrong in (forward(most, hops=8), forward(message(wire.SOLICIT), hops=9)):
                await agent.send(wrong)
            assert await agent.is_silent()
            assert agent.server.statistics.malformed == 2

    run_virtually(main())


def test_which_link_a_client_is_on() -> None:
    async def main() -> None:
        async with relayed(reservations={duid(7).hex(): "fd88::7", "02:00:00:00:00:08": "fd00::8"}) as agent:
            assert (await agent.lease(duid(5), "fd88::9999")).startswith("fd88::1")
            assert (await agent.lease(duid(5), "fd00::2")).startswith("fd00::1"), "another lease on another link"
            assert await agent.lease(duid(7), "fd88::1") == "fd88::7"
            assert await agent.lease(duid(8), "fd00::2") == "fd00::8"
            assert (await agent.lease(duid(8), "fd88::1")).startswith("fd88::1")
            assert [str(lease.address)[:6] for lease in agent.server.leases] == ["fd00::"] * 2 + ["fd88::"] * 3
            # A relay of the link layer knows no address: the next one does, or the link is the server's own.
            light = forward(message(wire.SOLICIT, duid(9)), "::")
            offer = Answer(unwrapped(await agent.ask(light))[3][9])
            assert offer.addresses[0][0].startswith("fd00::")
            inner = unwrapped(await agent.ask(forward(light, "fd88::1", "fe80::9", hops=1)))[3][9]
            assert Answer(unwrapped(inner)[3][9]).addresses[0][0].startswith("fd88::")
            await agent.send(forward(message(wire.SOLICIT, duid(9)), "fd99::1"))
            assert await agent.is_silent()
            assert agent.server.statistics.dropped == 1

    run_virtually(main())


def test_a_host_elsewhere_cannot_pose_as_a_relay_of_the_own_link() -> None:
    async def main() -> None:
        async with relayed("fd77::2") as agent:
            for link in ("fd00::2", "::"):
                await agent.send(forward(message(wire.SOLICIT, duid(5)), link))
            await agent.send(message(wire.SOLICIT, duid(5)))
            assert await agent.is_silent()
            assert agent.server.statistics.dropped == 3
            assert (await agent.lease(duid(5), "fd88::1")).startswith("fd88::1")

    run_virtually(main())


def test_each_of_two_servers_of_a_stack_gets_what_is_sent_to_it() -> None:
    """Relays of both send to the address of the server that serves their link, on a stack with both."""

    async def main() -> None:
        async with await create_stack(seed=1) as host, await create_stack(seed=2) as guest:
            near, other = [await host.create_tap_interface(ip=f"fd0{n}::1/64") for n in (0, 1)]
            end = await guest.create_tap_interface(ip="fd00::2/64")
            connect(near, end)
            guest.add_route("fd01::/64", via="fd00::1")
            host.forwarding = True
            await asyncio.sleep(3)
            pools = [Dhcp6Pool(f"fd8{n}::100", f"fd8{n}::1ff", f"fd8{n}::/64") for n in (0, 1)]
            async with (
                Dhcp6Server(near, pool=pools[0]) as one,
                Dhcp6Server(other, pool=pools[1]) as two,
                await guest.open_udp(None, 547, multicast_interface=end) as udp,
            ):
                for number, server in enumerate((one, two)):
                    agent = Relay(udp, end, server)
                    asked = forward(message(wire.SOLICIT, duid(5)), f"fd8{number}::1")
                    offer = Answer(unwrapped(await agent.ask(asked, f"fd0{number}::1"))[3][9])
                    assert offer.addresses[0][0].startswith(f"fd8{number}::1")
                    assert (server.statistics.received, server.statistics.dropped) == (1, 0)

    run_virtually(main())


# --- Hostile messages -------------------------------------------------------------------------------------------------


def test_damaged_messages_of_relays() -> None:
    async def main() -> None:
        async with relayed() as agent:
            statistics = agent.server.statistics
            good = forward(message(wire.SOLICIT, duid(5)))
            wrong = [good[:length] for length in range(1, len(good))]
            wrong += [
                good + wire.option(9, message(wire.SOLICIT)),  # two messages
                good + wire.option(18, b"eth2"),  # two interfaces
                forward(b""),
                forward(bytes([13]) + good[1:]),  # a Relay-reply inside
                forward(message(wire.ADVERTISE, server=duid(9))),
                forward(message(wire.SOLICIT), interface_id=bytes(5000)),
                bytes([13]) + good[1:],
            ]
            for data in wrong:
                await agent.send(data)
            await asyncio.sleep(1)
            # That which ends before its interface is whole; from a global address, a relay's messages alone are read.
            whole = good[: -len(wire.option(18, b"eth1"))]
            assert whole in wrong
            assert statistics.malformed + statistics.dropped == len(wrong) - 1
            assert statistics.received == 1
            assert len(await agent.ask(good)) > 34
            rng = random.Random(4)
            for _ in range(3000):
                mutated = bytearray(forward(good, hops=1))
                for _ in range(rng.randrange(1, 8)):
                    mutated[rng.randrange(len(mutated))] = rng.randrange(256)
                await agent.send(bytes(mutated))
            await asyncio.sleep(1)
            assert not agent.server.closed
            while not await agent.is_silent():
                pass
            assert (await agent.lease(duid(6), "fd88::1")).startswith("fd88::1")

    run_virtually(main())


@given(st.binary(max_size=300), st.integers(0, 80))
def test_any_bytes_are_of_a_relay_or_refused(data: bytes, kept: int) -> None:
    for tried in (
        data,
        bytes([12]) + data,
        forward(message(wire.SOLICIT))[:kept] + data,
        forward(forward(data)[:kept]),
    ):
        try:
            relays, inner = relay.parse_relayed(tried)
        except wire.BadMessage:
            continue
        back = relay.build_relayed(relays, inner)
        for each in relays:
            hops, link, peer, options = unwrapped(back)
            assert (hops, link, peer) == (each.hops, str(each.link), str(each.peer))
            assert options.get(18) == each.interface_id
            back = options[9]
        assert back == inner


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        ([("fd00::100", "fd00::1ff"), ("fd00::200", "fd00::2ff")], "another one of the same link"),
        (Dhcp6Pool("fd88::1", "fd89::1", "fd88::/64"), "fd89::1 is not in fd88::/64"),
        (Dhcp6Pool("fd88::9", "fd88::1", "fd88::/64"), "empty"),
        ([_FAR, Dhcp6Pool("fd88::1", "fd88::2", "fd88::/48")], "overlaps another link"),
        (Dhcp6Pool("fd88::1", "fd88::2", "fd88::1/64"), "host bits set"),
        (("fd00::1", "10.0.0.1"), "pool: '10.0.0.1' is not an IPv6 address"),
    ],
)
def test_wrong_pools(pool: Any, text: str) -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as host:
            tap = await host.create_tap_interface(ip="fd00::1/64")
            with pytest.raises(ValueError, match=text):
                Dhcp6Server(tap, pool=pool)
            with pytest.raises(TypeError, match="a pair of addresses, a Dhcp6Pool or a list of them"):
                Dhcp6Server(tap, pool="fd00::1")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"fd88::5 is in no network of tap0, and of no pool"):
                Dhcp6Server(tap, reservations={"02:00:00:00:00:05": "fd88::5"})

    run_virtually(main())


def test_a_bridge_serves_its_hosts() -> None:
    """A host on a port is led by the bridge's advertisements, and gets its address and settings."""

    async def main() -> None:
        async with await create_stack(seed=1) as host, await create_stack(seed=2) as guest:
            bridge = await host.create_bridge_interface(ip="fd00::1/64")
            port, end = await host.create_tap_interface(), await guest.create_tap_interface()
            await bridge.add_port(port)
            connect(port, end)
            async with Dhcp6Server(bridge, name_servers=["fd00::1"], router_lifetime=600) as server:
                await end.configure(slaac=True)
                assert list(map(str, end.name_servers)) == ["fd00::1"]
                assert len(end.routers) == 1
                async with await guest.open_udp(f"{end.link_local}%tap0", 546, multicast_interface=end) as udp:
                    data = message(wire.INFORMATION_REQUEST, association=None)
                    await udp.send(UdpDatagram("ff02::1:2", 547, data))
                    async with asyncio.timeout(10):
                        answer = Answer((await udp.receive()).data)
                assert answer.options[wire.NAME_SERVERS] == IPv6Address("fd00::1").packed
                assert server.statistics.replies == 1

    run_virtually(main())
