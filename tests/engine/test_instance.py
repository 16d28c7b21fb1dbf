"""One instance: its requirements of a module, traps, and its views when memory grows."""

from __future__ import annotations

import pytest
import wasmtime

from tcpip_wasm.engine import Core, abi, seed_bytes
from tcpip_wasm.engine.instance import PAGE, Instance
from tcpip_wasm.engine.port import Trap
from tcpip_wasm.engine.wasmtime_engine.module import engine
from tcpip_wasm.errors import (
    ModuleMismatchError,
    StackClosedError,
    StackError,
    StackTrappedError,
    TcpipError,
)
from tests.kit.core_network import START, Host, Network, payload, two_hosts


def imitation(*, version: int = abi.VERSION, without: str = "", poll: str = "unreachable") -> wasmtime.Module:
    """Return a module with the exports of the real one, of which only `poll` is implemented."""
    types = {"i": "i32", "I": "i64", "d": "f64"}
    functions = []
    for name, (parameters, result) in abi.EXPORTS.items():
        body = {"abi_version": f"i32.const {version}", "poll": poll}.get(name, f"{types[result]}.const 1024")
        signature = "".join(f"(param {types[p]})" for p in parameters) + f"(result {types[result]})"
        if name != without:
            functions.append(f'(func (export "{name}") {signature} {body})')
    functions.append('(func (export "_initialize"))')
    if without != "memory":
        functions.append('(memory (export "memory") 1)')
    return wasmtime.Module(engine(), bytes(wasmtime.wat2wasm(f"(module {' '.join(functions)})")))


def core_of(module: wasmtime.Module, *, fast: bool = True) -> Core:
    return Core(now=START, seed=seed_bytes(0), instance=Instance(module=module, fast=fast))


@pytest.mark.parametrize("fast", [True, False])
def test_other_abi_version(fast: bool) -> None:
    with pytest.raises(ModuleMismatchError) as caught:
        Instance(module=imitation(version=abi.VERSION + 1), fast=fast)
    message = str(caught.value)
    assert f"ABI version {abi.VERSION + 1}" in message
    assert f"needs {abi.VERSION}" in message
    assert "make wasm" in message
    assert isinstance(caught.value, TcpipError)


@pytest.mark.parametrize("without", ["memory", "abi_version", "poll", "tcp_connect"])
def test_missing_export(without: str) -> None:
    with pytest.raises(ModuleMismatchError, match=f"lacks {without}"):
        Instance(module=imitation(without=without))


def test_module_with_imports_is_refused() -> None:
    module = wasmtime.Module(engine(), bytes(wasmtime.wat2wasm('(module (import "env" "clock" (func)))')))
    with pytest.raises(ModuleMismatchError, match="cannot be instantiated"):
        Instance(module=module)


@pytest.mark.parametrize("fast", [True, False])
def test_trap_is_final(fast: bool) -> None:
    core = core_of(imitation(), fast=fast)
    with pytest.raises(StackTrappedError, match="unreachable") as first:
        core.poll(START)
    assert isinstance(first.value.__cause__, Trap)
    assert isinstance(first.value.__cause__.__cause__, wasmtime.Trap)
    with pytest.raises(StackTrappedError) as second:
        core.statistics()
    assert second.value is first.value
    with pytest.raises(StackTrappedError) as third:
        core.poll(START + 1)
    assert third.value is first.value
    assert isinstance(first.value, OSError)
    assert isinstance(first.value, StackError)


@pytest.mark.parametrize("fast", [True, False])
def test_runaway_recursion_is_a_trap(fast: bool) -> None:
    core = core_of(imitation(poll="local.get 0 call 2"), fast=fast)
    assert list(abi.EXPORTS).index("poll") == 2
    with pytest.raises(StackTrappedError, match="stack"):
        core.poll(START)


def test_trap_of_the_real_module_does_not_affect_others() -> None:
    network, other = two_hosts(seed=1), two_hosts(seed=2)
    client, _ = other.open()
    victim = network.hosts[0]
    victim.buffers.receive_frame(b"\xff" * 64)
    # The module stores the address of the receive buffer in its memory, which the test overwrites.
    memory = victim.core._instance
    for index in range(len(memory.words) // 2, len(memory.words)):
        memory.words[index] = 0xFFFFFFFC
    with pytest.raises(StackTrappedError) as caught:
        for second in range(3):
            victim.core.tcp_connect(network.hosts[1].addresses[0].ip, 80)
            victim.poll(START + second)
            victim.core.add_interface(abi.KIND_TUN, 1500)
    with pytest.raises(StackTrappedError) as later:
        victim.core.poll(START + 10)
    assert later.value is caught.value
    client.write(payload(100_000))
    end = other.hosts[1].accepted[0]
    other.run(lambda: len(end.received) == 100_000)
    assert end.received == payload(100_000)


def test_closed_core() -> None:
    core = Core(now=START, seed=seed_bytes(0))
    core.close()
    core.close()
    with pytest.raises(StackClosedError):
        core.poll(START)
    with pytest.raises(StackClosedError):
        core.statistics()
    with pytest.raises(StackClosedError):
        core.tcp_listen(None, 80, 1)


def test_growth_renews_views() -> None:
    network = two_hosts()
    client, server = network.open()
    before = [len(host.core._instance.memory) for host in network.hosts]
    server.reading = False
    data = payload(2_500_000)
    client.write(data)
    network.run(lambda: len(server.received) >= 200_000)  # the first window
    grown = [len(host.core._instance.memory) for host in network.hosts]
    assert grown[0] > before[0]
    for host, size in zip(network.hosts, grown, strict=True):
        assert size % PAGE == 0
        assert host.core.statistics().memory == size
        assert len(host.core._instance.words) * 4 == size
    server.reading = True
    server.read()
    network.run(lambda: len(server.received) == len(data))
    assert server.received == data


def test_growth_by_interfaces_keeps_the_first_ones_views() -> None:
    a, b = Host("10.0.0.1/24", seed=1), Host("10.0.0.2/24", seed=2)
    before = len(a.core._instance.memory)
    more = [a.core.add_interface(abi.KIND_TUN, 1500) for _ in range(20)]
    assert len(a.core._instance.memory) > before
    assert len({buffers.handle for buffers in more}) == 20
    b.listen(80)
    network = Network(a, b)
    client, server = network.open()
    client.write(payload(50_000))
    network.run(lambda: len(server.received) == 50_000)
    assert server.received == payload(50_000)


def test_memory_limit() -> None:
    with pytest.raises(OSError, match="space") as caught:
        host = Host("10.0.0.1/24", memory_limit=4 << 20)
        for _ in range(20):
            host.core.add_interface(abi.KIND_TUN, 1500)
    assert isinstance(caught.value, TcpipError)
