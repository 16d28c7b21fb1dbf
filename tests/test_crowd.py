"""Idle connections cost the others nothing, counted in instructions of WebAssembly: no clock decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from tcpip_wasm.engine import abi, binary
from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.engine.wasmtime_engine import sandbox
from tests.kit.core_network import Endpoint, Host, Network, payload

FUEL = 2**62
FEW, MANY = 10, 3000
MESSAGE = payload(100)

Spent = Callable[[Host], int]
"""Returns the instructions that a host has executed since the call before."""


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> tuple[wasmtime.Module, Spent]:
    """The module with counted instructions, and what reads the count."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.memory_may_move = False
    engine = wasmtime.Engine(config)
    new_store = wasmtime.Store

    def store(of: wasmtime.Engine) -> wasmtime.Store:
        made = new_store(of)
        made.set_fuel(FUEL)
        return made

    def spent(host: Host) -> int:
        used: wasmtime.Store = host.core._instance._sandbox._store  # type: ignore[attr-defined]
        amount = FUEL - used.get_fuel()
        used.set_fuel(FUEL)
        return amount

    monkeypatch.setattr(sandbox, "engine", lambda: engine)
    monkeypatch.setattr(wasmtime, "Store", store)
    return wasmtime.Module(engine, binary.MODULE_PATH.read_bytes()), spent


def crowd(module: wasmtime.Module, count: int) -> tuple[Network, Endpoint, Endpoint]:
    """Return two hosts with so many idle connections, and both ends of one more."""
    a, b = (Host(f"10.0.0.{n}/24", seed=n, kind=abi.KIND_TUN, instance=Instance(module=module)) for n in (1, 2))
    b.listen(80)
    network = Network(a, b, lambda number, frame: [(0.001, frame)])
    opened: list[Endpoint] = []
    while len(opened) < count:
        some = [a.connect(b, 80) for _ in range(min(100, count - len(opened)))]
        network.run(lambda: all(end.connected for end in some))  # noqa: B023
        opened += some
    network.settle()
    client, server = network.open()
    network.settle()
    return network, client, server


def exchange(network: Network, client: Endpoint, server: Endpoint, *, seconds: float, pause: float) -> int:
    """Send a message each way after each pause, and return how many were sent."""
    until, count = network.now + seconds, 0
    while network.now < until:
        count += 1
        client.write(MESSAGE)
        network.run(lambda: len(server.received) == count * len(MESSAGE))  # noqa: B023
        server.write(MESSAGE)
        network.run(lambda: len(client.received) == count * len(MESSAGE))  # noqa: B023
        next_at = network.now + pause
        while min(host.core.deadline for host in network.hosts) < next_at and network.step():
            pass
        network.now = max(network.now, next_at)
    assert server.received == client.received == MESSAGE * count
    return count


@pytest.mark.parametrize("pause", [0.003, 0.2], ids=["busy", "now and then"])
def test_a_message_costs_the_same_among_many(metered: tuple[wasmtime.Module, Spent], pause: float) -> None:
    """TCP's clock ticks 400 times meanwhile."""
    module, spent = metered
    costs = []
    for count in (FEW, MANY):
        network, client, server = crowd(module, count)
        for host in network.hosts:
            spent(host)
        messages = exchange(network, client, server, seconds=10, pause=pause)
        costs.append(sum(spent(host) for host in network.hosts) / messages)
        assert network.hosts[0].core.statistics().connections == count + 1
    assert costs[1] < 1.1 * costs[0]


def test_waiting_costs_nothing(metered: tuple[wasmtime.Module, Spent]) -> None:
    """An hour with 3,000 idle connections needs no poll; one poll after it costs as much as among ten."""
    module, spent = metered
    costs = []
    for count in (FEW, MANY):
        network, _, _ = crowd(module, count)
        assert not network.step()
        for host in network.hosts:
            spent(host)
            host.poll(network.now + 3600)
        costs.append(sum(spent(host) for host in network.hosts))
    assert costs[1] < 1.1 * costs[0]
