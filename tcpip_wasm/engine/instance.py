"""One instance of the module: its calls, its memory, its death.

Owns the wasmtime store and the views over linear memory; knows the exported calls by name and nothing of TCP/IP. A
trap is final: from then on every call raises the same error, and other instances go on.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Final

import wasmtime

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.calls import Call, export_of, make_call
from tcpip_wasm.engine.module import engine, load
from tcpip_wasm.errors import ModuleMismatchError, StackTrappedError

PAGE: Final = 65536


@functools.lru_cache(maxsize=8)
def _missing(module: wasmtime.Module) -> list[str]:
    """Return what a host needs and the module does not export."""
    names = {export.name for export in module.exports}
    return [name for name in ("memory", "_initialize", *abi.EXPORTS) if name not in names]


class _Calls(dict[str, Call]):
    """The exported calls by name, each made when it is first used: a stack rarely uses all of them."""

    def __init__(self, store: wasmtime.Store, instance: wasmtime.Instance, fast: bool) -> None:
        super().__init__()
        self._store = store
        self._instance = instance
        self._fast = fast

    def __missing__(self, name: str) -> Call:
        function = export_of(self._store, self._instance, name)
        assert isinstance(function, wasmtime.Func)
        call = self[name] = make_call(self._store, function, abi.EXPORTS[name], fast=self._fast)
        return call


class Instance:
    """An instance of ``lwip.wasm``.

    Args:
        module: the compiled module; None takes the package's own.
        memory_limit: bytes that linear memory may grow to; None leaves the module's own maximum of 1 GiB.
        fast: False makes all calls through wasmtime's public API.

    Raises:
        ModuleMismatchError: there is no module, or it does not fit this package.

    Attributes:
        memory: linear memory as bytes. Taken anew by `refresh`; nobody else may keep it.
        words: the same as unsigned 32-bit words.
        longs: the same as unsigned 64-bit words.
        death: why the instance can no longer be called, or None.
    """

    def __init__(
        self, *, module: wasmtime.Module | None = None, memory_limit: int | None = None, fast: bool = True
    ) -> None:
        self._store = wasmtime.Store(engine())
        if memory_limit is not None:
            self._store.set_limits(memory_size=memory_limit)
        self.death: BaseException | None = None
        try:
            module = module or load()
            instance = wasmtime.Instance(self._store, module, [])
        except wasmtime.WasmtimeError as error:
            raise ModuleMismatchError(f"lwip.wasm cannot be instantiated: {error}") from error
        if missing := _missing(module):
            raise ModuleMismatchError(f"lwip.wasm lacks {', '.join(missing)}; run `make wasm`")
        self.calls: dict[str, Call] = _Calls(self._store, instance, fast)
        memory = export_of(self._store, instance, "memory")
        assert isinstance(memory, wasmtime.Memory)
        self._memory = memory
        found = self.calls["abi_version"]()
        if found != abi.VERSION:
            raise ModuleMismatchError(
                f"lwip.wasm has ABI version {found}, this package needs {abi.VERSION}; run `make wasm`"
            )
        initialize = export_of(self._store, instance, "_initialize")
        assert isinstance(initialize, wasmtime.Func)
        initialize(self._store)
        self.refresh()

    def refresh(self) -> None:
        """Take the views over linear memory anew, after it may have grown."""
        size = self._memory.data_len(self._store)
        address = ctypes.cast(self._memory.data_ptr(self._store), ctypes.c_void_p).value
        assert address is not None
        self.memory = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        self.words = self.memory.cast("I")
        self.longs = self.memory.cast("Q")

    def die(self, cause: BaseException) -> StackTrappedError:
        """Record that a call did not return, and return the error that every later call raises."""
        if self.death is None:
            self.death = StackTrappedError(f"the stack's module trapped: {str(cause).strip()}")
            self.death.__cause__ = cause
        assert isinstance(self.death, StackTrappedError)
        return self.death

    def close(self) -> None:
        """Let go of linear memory. No call may follow."""
        self.memory = memoryview(b"")
        self.words = self.memory.cast("I")
        self.longs = self.memory.cast("Q")
        self.calls = {}
