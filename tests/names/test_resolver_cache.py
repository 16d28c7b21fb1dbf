"""What the resolver caches, for how long, and in how much memory, in virtual time."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tcpip_wasm.names import query as question
from tcpip_wasm.names import resolver as limits
from tests.kit.dns import Network, Query, Zone
from tests.kit.resolver import addresses, failure, with_network


def test_answers_are_cached_for_the_shortest_ttl() -> None:
    async def work(network: Network) -> None:
        for expected in (1, 1, 2):
            assert await addresses(network.client, "alias.test", family=socket.AF_INET) == ["10.0.0.9"]
            assert len(network.asked) == expected
            await asyncio.sleep(20)  # the shortest TTL of the chain is 30 s
        assert network.client.resolver.statistics().cache_hits == 1

    with_network(work)


def test_denials_are_cached_for_the_ttl_of_their_soa() -> None:
    async def work(network: Network) -> None:
        for name, expected in (("gone.test", 2), ("text.test", 4)):
            for _ in range(2):
                for family in (socket.AF_INET, socket.AF_INET6):
                    assert (await failure(network.client, name, family=family)).errno == socket.EAI_NONAME
            assert len(network.asked) == expected
        await asyncio.sleep(60)
        await failure(network.client, "gone.test", family=socket.AF_INET)
        assert len(network.asked) == 5

    with_network(work)


@pytest.mark.parametrize("denied", ["A", "AAAA"])
@pytest.mark.parametrize("rcode", ["NXDOMAIN", "NOERROR"])
@pytest.mark.parametrize("host", ["www.test", "alias.test"])
def test_a_denial_of_one_family_does_not_hide_the_other(denied: str, rcode: str, host: str) -> None:
    """RFC 4074, section 4.2: some servers deny the whole name if it only lacks a record of this type."""
    soa = "test 60 SOA ns.test. root.test. 1 7200 900 1209600 60"
    other, expected = (socket.AF_INET6, "fd00::9") if denied == "A" else (socket.AF_INET, "10.0.0.9")

    def rule(asked: Query) -> bytes:
        aliases = ["alias.test 60 CNAME www.test."] if asked.name == "alias.test" else []
        if asked.type == denied:
            return asked.answer(*aliases, rcode=rcode, authority=(soa,)).to_wire()
        return asked.answer(*aliases, f"www.test 60 {asked.type} {expected}").to_wire()

    async def work(network: Network) -> None:
        client = network.client
        refused = socket.AF_INET if denied == "A" else socket.AF_INET6
        assert (await failure(client, host, family=refused)).errno == socket.EAI_NONAME
        for _ in range(3):
            assert await addresses(client, host) == [expected]
            assert await addresses(client, host, family=other) == [expected]
            assert (await failure(client, host, family=refused)).errno == socket.EAI_NONAME
            await asyncio.sleep(5)
        assert network.server.names == [(host, "A"), (host, "AAAA")], "both answers are remembered"
        await asyncio.sleep(60)
        assert await addresses(client, host) == [expected]
        assert len(network.asked) == 4

    with_network(work, rule)


def test_a_denied_name_does_not_deny_names_below_it() -> None:
    """RFC 8020 would allow it, but some servers deny a name of which only subdomains have records."""
    zone = Zone("www.lab.test 60 A 10.0.0.9")

    async def work(network: Network) -> None:
        for _ in range(2):
            assert (await failure(network.client, "lab.test")).errno == socket.EAI_NONAME
            assert await addresses(network.client, "www.lab.test") == ["10.0.0.9"]

    with_network(work, zone)


def test_failures_and_answers_without_ttl_are_not_cached() -> None:
    def rule(asked: Query) -> bytes:
        rcode = "NOERROR" if asked.name == "zero.test" else "SERVFAIL"
        return asked.answer("zero.test 0 A 10.0.0.9", rcode=rcode).to_wire()

    async def work(network: Network) -> None:
        for _ in range(2):
            await failure(network.client, "fail.test", family=socket.AF_INET)
            assert await addresses(network.client, "zero.test", family=socket.AF_INET) == ["10.0.0.9"]
        assert len(network.asked) == 4

    with_network(work, rule)


def test_ttls_are_capped() -> None:
    zone = Zone("long.test 2000000000 A 10.0.0.9", negative_ttl=2000000000)

    async def work(network: Network) -> None:
        for _ in range(2):
            await addresses(network.client, "long.test", family=socket.AF_INET)
            await failure(network.client, "gone.test", family=socket.AF_INET)
        assert len(network.asked) == 2
        await asyncio.sleep(question.MAX_NEGATIVE_TTL + 1)
        await failure(network.client, "gone.test", family=socket.AF_INET)
        await addresses(network.client, "long.test", family=socket.AF_INET)
        assert len(network.asked) == 3
        await asyncio.sleep(question.MAX_TTL)
        await addresses(network.client, "long.test", family=socket.AF_INET)
        assert len(network.asked) == 4

    with_network(work, zone)


def test_the_cache_of_thousands_of_names_is_bounded() -> None:
    def rule(asked: Query) -> bytes:
        number = int(asked.name.removeprefix("n").removesuffix(".test"))
        return asked.answer(f"{asked.name} 600 A 10.7.{number // 256}.{number % 256}").to_wire()

    async def work(network: Network) -> None:
        client = network.client
        names = list(range(3_000))  # three times what is remembered
        for at in range(0, len(names), 500):
            found = await asyncio.gather(
                *(addresses(client, f"n{n}.test", family=socket.AF_INET) for n in names[at : at + 500])
            )
            assert found == [[f"10.7.{n // 256}.{n % 256}"] for n in names[at : at + 500]]
            network.asked.clear()
        figures = client.resolver.statistics()
        assert figures.udp_queries == 3_000
        assert figures.cached == limits.CACHE_SIZE
        assert figures.evicted == 3_000 - limits.CACHE_SIZE
        # The latest are cached, the first are not.
        await addresses(client, "n2999.test", family=socket.AF_INET)
        assert network.asked == []
        await addresses(client, "n0.test", family=socket.AF_INET)
        assert len(network.asked) == 1

    with_network(work, rule)
