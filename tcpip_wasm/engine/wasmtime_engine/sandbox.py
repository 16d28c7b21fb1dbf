"""One instance of the module in wasmtime.

Owns the store and the addresses of linear memory; knows nothing of what the module does.
"""

from __future__ import annotations

import ctypes
import functools

import wasmtime

from tcpip_wasm.engine.port import Call
from tcpip_wasm.engine.wasmtime_engine.calls import export_of, make_call
from tcpip_wasm.engine.wasmtime_engine.module import engine, load
from tcpip_wasm.errors import ModuleMismatchError


@functools.lru_cache(maxsize=8)
def _exports(module: wasmtime.Module) -> frozenset[str]:
    return frozenset(export.name for export in module.exports)


class WasmtimeSandbox:
    """See `port.Sandbox`."""

    copies: bool = False

    def __init__(self, module: wasmtime.Module, memory_limit: int | None, fast: bool) -> None:
        self._store = wasmtime.Store(engine())
        if memory_limit is not None:
            self._store.set_limits(memory_size=memory_limit)
        self._module = module
        self._fast = fast
        try:
            self._instance = wasmtime.Instance(self._store, module, [])
        except wasmtime.WasmtimeError as error:
            raise ModuleMismatchError(f"lwip.wasm cannot be instantiated: {error}") from error
        self._memory: wasmtime.Memory | None = None

    def exports(self) -> frozenset[str]:
        return _exports(self._module)

    def call(self, name: str, signature: tuple[str, str]) -> Call:
        function = export_of(self._store, self._instance, name)
        assert isinstance(function, wasmtime.Func)
        return make_call(self._store, function, signature, fast=self._fast)

    def views(self) -> tuple[memoryview, memoryview, memoryview]:
        if self._memory is None:
            memory = export_of(self._store, self._instance, "memory")
            assert isinstance(memory, wasmtime.Memory)
            self._memory = memory
        size = self._memory.data_len(self._store)
        address = ctypes.cast(self._memory.data_ptr(self._store), ctypes.c_void_p).value
        assert address is not None
        view = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        return view, view.cast("I"), view.cast("Q")


def instantiate(module: wasmtime.Module | None, memory_limit: int | None, fast: bool) -> WasmtimeSandbox:
    """Make an instance.

    Args:
        module: the compiled module; None takes the package's own.
        memory_limit: bytes that linear memory may grow to; None leaves the module's own maximum.
        fast: False makes all calls through wasmtime's public API.

    Raises:
        ModuleMismatchError: there is no module, or it imports something.
    """
    return WasmtimeSandbox(module or load(), memory_limit, fast)
