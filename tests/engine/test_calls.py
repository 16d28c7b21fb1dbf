"""Calls into an instance: the fast path and wasmtime's public call give the same results and the same errors."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.engine.port import Trap
from tcpip_wasm.engine.wasmtime_engine import calls
from tcpip_wasm.engine.wasmtime_engine.calls import make_call
from tcpip_wasm.engine.wasmtime_engine.module import engine
from tests.kit.core_network import Host, Network, payload

BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "public"])

FUNCTIONS = """
(module
  (func (export "zero") (result i32) i32.const -7)
  (func (export "one") (param i32) (result i32) local.get 0)
  (func (export "wide") (param i64) (result i64) local.get 0)
  (func (export "real") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "two") (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
  (func (export "three") (param i32 i64 i32) (result i64)
    (i64.sub (local.get 1) (i64.extend_i32_s (i32.sub (local.get 0) (local.get 2)))))
  (func (export "five") (param i32 i32 i32 i32 i32) (result i32)
    (i32.sub (i32.sub (i32.sub (i32.sub (local.get 0) (local.get 1)) (local.get 2)) (local.get 3)) (local.get 4)))
  (func (export "trap") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0))))
"""


def functions(*names: tuple[str, tuple[str, str]], fast: bool) -> list[Any]:
    store = wasmtime.Store(engine())
    module = wasmtime.Module(engine(), bytes(wasmtime.wat2wasm(FUNCTIONS)))
    exports = wasmtime.Instance(store, module, []).exports(store)
    made: list[Any] = []
    for name, signature in names:
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        made.append(make_call(store, function, signature, fast=fast))
    made.append(store)  # its caller keeps it alive
    return made


@BOTH
def test_results(fast: bool) -> None:
    zero, one, wide, real, two, three, five, _store = functions(
        ("zero", ("", "i")),
        ("one", ("i", "i")),
        ("wide", ("I", "I")),
        ("real", ("d", "d")),
        ("two", ("ii", "i")),
        ("three", ("iIi", "I")),
        ("five", ("iiiii", "i")),
        fast=fast,
    )
    assert zero() == -7
    for value in (0, 1, -1, 2**31 - 1, -(2**31)):
        assert one(value) == value
    for value in (0, -1, 2**63 - 1, -(2**63), 1_700_000_000_000_000):
        assert wide(value) == value
    assert [real(value) for value in (3.0, -0.5, 1e300, float("inf"))] == [1.5, -0.25, 5e299, float("inf")]
    assert two(5, 7) == -2
    assert three(1, 2**40, 3) == 2**40 + 2
    assert five(100, 1, 2, 3, 4) == 90
    assert two(7, 5) == 2


@BOTH
def test_trap_and_after(fast: bool) -> None:
    divide, one, store = functions(("trap", ("i", "i")), ("one", ("i", "i")), fast=fast)
    assert divide(1) == 1
    for _ in range(3):
        with pytest.raises(Trap, match="divide by zero"):
            divide(0)
    assert one(5) == 5
    assert divide(-1) == -1
    del store


def test_public_calls_without_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_unchecked", None)
    two, _store = functions(("two", ("ii", "i")), fast=True)
    assert two(5, 7) == -2


def test_public_calls_with_an_unknown_wasmtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: object) -> None:
        raise AttributeError("_func")

    monkeypatch.setattr(calls, "_fast", changed)
    two, _store = functions(("two", ("ii", "i")), fast=True)
    assert two(5, 7) == -2


def exchange(fast: bool) -> tuple[list[bytes], list[bytes], bytes, bytes, float]:
    a = Host("10.0.0.1/24", "fd00::1/64", seed=1, instance=Instance(fast=fast))
    b = Host("10.0.0.2/24", "fd00::2/64", seed=2, instance=Instance(fast=fast))
    b.listen(80)
    network = Network(a, b)
    for address in (0, 1):
        client, server = network.open(address=address)
        client.write(payload(100_000, address))
        network.run(lambda end=server: len(end.received) == 100_000)  # type: ignore[misc]
        server.write(payload(10_000, 5))
        server.finish()
        network.run(lambda end=client: end.eof)  # type: ignore[misc]
        assert server.received == payload(100_000, address)
        assert client.received == payload(10_000, 5)
        client.finish()
    network.settle()
    return a.sent, b.sent, bytes(b.accepted[0].received), bytes(b.accepted[1].received), network.now


def test_both_call_paths_send_the_same_frames() -> None:
    assert exchange(fast=True) == exchange(fast=False)
