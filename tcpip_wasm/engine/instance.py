"""One instance of the module: its calls, its memory, its end.

Owns the views over linear memory, and the check that module and package fit; knows the exported calls by name, and
not TCP/IP, and of the WebAssembly engine only which one a platform has. A trap is final: from then on every call raises
the same error, and other instances go on.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from tcpip_wasm.engine import abi
from tcpip_wasm.engine.port import Call, Sandbox
from tcpip_wasm.errors import ModuleMismatchError, StackError, StackTrappedError

if sys.platform == "emscripten":
    from tcpip_wasm.engine.javascript_engine import instantiate
else:
    from tcpip_wasm.engine.wasmtime_engine import instantiate

PAGE: Final = 65536


class _Calls(dict[str, Call]):
    """The exported calls by name, each made when it is first used: a stack rarely uses all of them."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__()
        self._sandbox = sandbox

    def __missing__(self, name: str) -> Call:
        call = self[name] = self._sandbox.call(name, abi.EXPORTS[name])
        return call


class Instance:
    """An instance of ``lwip.wasm``.

    Args:
        module: a module that the engine has compiled; None takes the package's own.
        memory_limit: bytes that linear memory may grow to; None leaves the module's own maximum of 1 GiB.
        fast: False makes all calls through the engine's public API.

    Raises:
        ModuleMismatchError: there is no module, or it does not fit this package.

    Attributes:
        memory: linear memory as bytes. Taken anew by `refresh`, so nothing else may keep it.
        words: the same as unsigned 32-bit words.
        longs: the same as unsigned 64-bit words.
        copies: whether a slice of `memory` is a copy, see `port.Sandbox`.
        death: why the instance can no longer be called, or None.
    """

    def __init__(self, *, module: Any = None, memory_limit: int | None = None, fast: bool = True) -> None:
        self._sandbox: Sandbox = instantiate(module, memory_limit, fast)
        self.copies: bool = self._sandbox.copies
        self.death: StackError | None = None
        self.memory: Any
        self.words: Any
        self.longs: Any
        exports = self._sandbox.exports()
        if missing := [name for name in ("memory", "_initialize", *abi.EXPORTS) if name not in exports]:
            raise ModuleMismatchError(f"lwip.wasm lacks {', '.join(missing)}; run `make wasm`")
        self.calls: dict[str, Call] = _Calls(self._sandbox)
        found = self.calls["abi_version"]()
        if found != abi.VERSION:
            raise ModuleMismatchError(
                f"lwip.wasm has ABI version {found}, this package needs {abi.VERSION}; run `make wasm`"
            )
        self._sandbox.call("_initialize", ("", ""))()
        self.refresh()

    def refresh(self) -> None:
        """Take the views over linear memory anew, after it may have grown."""
        self.memory, self.words, self.longs = self._sandbox.views()

    def die(self, cause: BaseException) -> StackError:
        """Record that a call did not return, and return the error that every later call raises."""
        if self.death is None:
            self.death = StackTrappedError(f"the stack's module trapped: {str(cause).strip()}")
            self.death.__cause__ = cause
        return self.death

    def close(self, reason: StackError) -> None:
        """Release linear memory. Idempotent.

        Args:
            reason: what every later call raises, unless the instance trapped before.
        """
        self.death = self.death or reason
        self.memory = memoryview(b"")
        self.words = self.memory.cast("I")
        self.longs = self.memory.cast("Q")
        self.calls = {}
