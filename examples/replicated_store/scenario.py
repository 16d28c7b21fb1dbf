"""Five replicas and four clients at two sites, between which a link fails in a way that depends on the seed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial

from examples.replicated_store.checker import check
from examples.replicated_store.client import Client, Operation
from examples.replicated_store.store import RepairedReplica, Replica
from tcpip_wasm.simulation import Link, Network

REPLICAS = ["r1", "r2", "r3", "r4", "r5"]
CLIENTS = ["c1", "c2", "c3", "c4"]
END = 3.3
"""Virtual seconds."""


@dataclass
class Outcome:
    """The result of the scenario.

    Attributes:
        history: the clients' operations.
    """

    history: list[Operation] = field(default_factory=list)


async def scenario(network: Network, kind: type[Replica] = Replica) -> Outcome:
    """Let clients use the store on a network whose link between two sites fails."""
    outcome = Outcome()
    random = network.random("sites")
    few = random.sample(REPLICAS, 2)
    network.switch("west")
    network.switch("east")
    for number, name in enumerate(REPLICAS + CLIENTS, 1):
        host = network.host(name, f"10.0.0.{number}/24")
        site = "west" if name in few or (name in CLIENTS and random.random() < 0.5) else "east"
        network.link(host, site, bandwidth=1e8, delay=0.005, jitter=0.01, loss=0.001)
    plan_failure(network, network.link("west", "east", bandwidth=1e8, delay=0.01))
    for name in REPLICAS:
        network.hosts[name].start(kind(name, REPLICAS).run)
    for name in CLIENTS:
        network.hosts[name].start(Client(name, REPLICAS, outcome.history).run, ["x", "y"])
    await asyncio.sleep(END)
    return outcome


async def repaired_scenario(network: Network) -> Outcome:
    """The same with the repaired store."""
    return await scenario(network, RepairedReplica)


async def checked_scenario(network: Network) -> None:
    """The scenario with the checker: it fails if a client reads a stale value."""
    wrong = check((await scenario(network)).history)
    assert not wrong, wrong[0]


def plan_failure(network: Network, link: Link) -> None:
    """Make a link slow from east to west, then down from west to east, then repair it, at random times."""
    random = network.random("outage")
    slow = random.uniform(0.6, 1)
    down = slow + random.uniform(0.1, 0.5)
    network.at(slow, partial(link.change, direction="b_to_a", delay=random.uniform(0.1, 0.8)))
    network.at(down, link.down, "a_to_b")
    repaired = down + random.uniform(0.9, 1.6)
    network.at(repaired, link.up)
    network.at(repaired, partial(link.change, delay=0.01))
