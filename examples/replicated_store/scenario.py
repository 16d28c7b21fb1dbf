"""Five replicas and four clients on a switch, with partitions that depend on the seed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from examples.replicated_store.checker import check
from examples.replicated_store.client import Client, Operation
from examples.replicated_store.store import RepairedReplica, Replica
from tcpip_wasm.simulation import Network

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
    """Let clients use the store on a network with partitions."""
    outcome = Outcome()
    network.switch("switch")
    for number, name in enumerate(REPLICAS + CLIENTS, 1):
        host = network.host(name, f"10.0.0.{number}/24")
        network.link(host, "switch", bandwidth=1e8, delay=0.01, jitter=0.01, loss=0.001)
    plan_partition(network)
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


def plan_partition(network: Network) -> None:
    """Partition the hosts into two groups for a while, by a random stream of its own."""
    random = network.random("partitions")
    few = random.sample(REPLICAS, 2)
    sides: tuple[list[str], list[str]] = ([], [])
    for name in REPLICAS + CLIENTS:
        sides[name in few if name in REPLICAS else random.random() < 0.5].append(name)
    begin = random.uniform(0.6, 1)
    network.at(begin, network.partition, *sides)
    network.at(begin + random.uniform(0.9, 1.6), network.heal)
