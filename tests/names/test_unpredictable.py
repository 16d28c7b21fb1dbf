"""Ids and ports: the next ones cannot be predicted from earlier ones, and the same seed gives the same ones."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import suppress

from tcpip_wasm import NameResolutionError, create_stack
from tcpip_wasm.names.prng import Unpredictable
from tcpip_wasm.names.transaction import FIRST_PORT
from tcpip_wasm.simulation import run_virtually
from tests.kit.dns import Query, Zone, dns_network

SEED = b"sixteen bytes..."


def drawn(seed: bytes, purpose: bytes = b"test", count: int = 4096, limit: int = 0x10000) -> list[int]:
    numbers = Unpredictable(seed, purpose)
    return [numbers.below(limit) for _ in range(count)]


def test_seed_and_purpose_decide() -> None:
    assert drawn(SEED) == drawn(SEED)
    others = [drawn(SEED[:-1] + b"!"), drawn(SEED, b"other")]
    for other in others:
        same = sum(a == b for a, b in zip(drawn(SEED), other, strict=True))
        assert same < 5, "two lists of 4096 have 0.06 positions in common on average"


def test_numbers_are_uniform() -> None:
    numbers = drawn(SEED, count=65536)
    # Chi-squared with 255 degrees of freedom, for either byte: 400 is beyond one in a hundred million.
    for shift in (0, 8):
        counts = Counter(number >> shift & 0xFF for number in numbers)
        assert sum((counts[value] - 256) ** 2 / 256 for value in range(256)) < 400
    # A number does not predict the next one: the differences are spread, too.
    counts = Counter((b - a) >> 8 & 0xFF for a, b in itertools.pairwise(numbers))
    assert sum((counts[value] - 256) ** 2 / 256 for value in range(256)) < 400
    assert set(drawn(SEED, limit=3)) == {0, 1, 2}


def ask(count: int, seed: int) -> list[Query]:
    """Return the queries that a stack sends for `count` names."""
    asked: list[Query] = []

    async def main() -> None:
        async with dns_network(Zone(""), seed=seed) as network:
            for number in range(count):
                with suppress(NameResolutionError):
                    await network.client.getaddrinfo(f"n{number}.test", 80)
            asked.extend(network.asked)

    run_virtually(main())
    return asked


def test_each_question_has_its_own_id_and_port() -> None:
    asked = ask(500, seed=1)
    assert len(asked) == 1000
    ids = [one.message.id for one in asked]
    ports = [one.source[1] for one in asked]
    assert all(FIRST_PORT <= port <= 0xFFFF for port in ports)
    # Of 1000 draws some are equal: 7.6 pairs of ids and 15 of ports on average.
    assert len(set(ids)) > 970
    assert len(set(ports)) > 950
    assert max(ids) - min(ids) > 60000
    assert max(ports) - min(ports) > 30000
    for numbers in (ids, ports):
        steps = Counter(b - a for a, b in itertools.pairwise(numbers))
        assert steps.most_common(1)[0][1] <= 3, "no step is more common than chance allows"


def test_seeds_differ_and_repeat() -> None:
    def seen(seed: int) -> list[tuple[int, int]]:
        return [(one.message.id, one.source[1]) for one in ask(20, seed)]

    first = seen(1)
    assert seen(1) == first
    assert not set(seen(2)) & set(first)


def test_a_port_in_use_is_skipped() -> None:
    taken = ask(1, seed=3)[0].source[1]

    async def main() -> None:
        network_of_one = dns_network(Zone("n0.test 60 A 10.0.0.9"), seed=3)
        async with network_of_one as network, await network.client.open_udp(port=taken):
            (info, _) = await network.client.getaddrinfo("n0.test", 80)
            assert info[4] == ("10.0.0.9", 80)
            assert all(one.source[1] != taken for one in network.asked)

    run_virtually(main())


def test_without_a_seed_two_stacks_differ() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            draws = [[stack.resolver._numbers.below(1 << 32) for _ in range(4)] for stack in (a, b)]
            assert draws[0] != draws[1]

    asyncio.run(main())
