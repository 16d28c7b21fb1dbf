"""One instance of the module in the WebAssembly engine of a JavaScript host.

Owns the typed arrays over linear memory; knows nothing of what the module does. The memory of Python and that of the
instance are two, so what crosses is copied, with one copy in each direction. A call or an item costs 1 µs, a slice
4 µs.

Every growth of linear memory detaches the typed arrays, in any call. Reading a detached array raises, and so does a
`DataView` and `subarray`; an assignment to an item would be ignored, and is therefore not used. What raised is done
again with new arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pyodide.ffi import JsBigInt, JsException

from tcpip_wasm.engine.javascript_engine.module import js, load
from tcpip_wasm.engine.port import Call, Trap
from tcpip_wasm.errors import ModuleMismatchError

_LITTLE_ENDIAN: Final = True
_WRONG_ARGUMENT: Final = "TypeError"
"""What a call raises for a number that WebAssembly does not take, such as one above 2^53; nothing has run then."""


class _Arrays:
    """The typed arrays over a memory."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self.renew()

    def renew(self) -> None:
        """Make the arrays anew, after memory may have grown."""
        buffer = self._memory.buffer
        self.octets = js.Uint8Array.new(buffer)
        self.words = js.Uint32Array.new(buffer)
        view = js.DataView.new(buffer)
        # Bound once: each access to an attribute of a proxy makes a proxy.
        self.octets_slice: Callable[..., Any] = self.octets.subarray
        self.words_slice: Callable[..., Any] = self.words.subarray
        self.set_octet: Callable[..., Any] = view.setUint8
        self.set_word: Callable[..., Any] = view.setUint32
        self.size = int(self.octets.byteLength)

    def is_detached(self) -> bool:
        """Whether memory has grown since the arrays were made."""
        return int(self._memory.buffer.byteLength) != self.size


class _Octets:
    """Linear memory as bytes: ``memory[a:b]`` is a copy."""

    def __init__(self, arrays: _Arrays) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return self._arrays.size

    def __getitem__(self, key: int | slice) -> Any:
        arrays = self._arrays
        try:
            if isinstance(key, slice):
                return arrays.octets_slice(key.start, key.stop).to_memoryview()
            return arrays.octets[key]
        except (IndexError, JsException):
            if not arrays.is_detached():
                raise
        arrays.renew()
        return self[key]

    def __setitem__(self, key: int | slice, value: Any) -> None:
        arrays = self._arrays
        try:
            if not isinstance(key, slice):
                arrays.set_octet(key, value)
            elif key.stop > key.start:  # Pyodide refuses an empty buffer
                arrays.octets_slice(key.start, key.stop).assign(value)
            return
        except JsException:
            if not arrays.is_detached():
                raise
        arrays.renew()
        self[key] = value


class _Words:
    """Linear memory as unsigned 32-bit words."""

    def __init__(self, arrays: _Arrays) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return self._arrays.size // 4

    def __getitem__(self, key: int | slice) -> Any:
        arrays = self._arrays
        try:
            if isinstance(key, slice):
                return arrays.words_slice(key.start, key.stop).to_memoryview()
            return arrays.words[key]
        except (IndexError, JsException):
            if not arrays.is_detached():
                raise
        arrays.renew()
        return self[key]

    def __setitem__(self, key: int, value: int) -> None:
        arrays = self._arrays
        try:
            arrays.set_word(4 * key, value, _LITTLE_ENDIAN)
            return
        except JsException:
            if not arrays.is_detached():
                raise
        arrays.renew()
        self[key] = value


class _Longs:
    """Linear memory as unsigned 64-bit words, for reading. Two words are read faster than one BigInt."""

    def __init__(self, words: _Words) -> None:
        self._words = words

    def __getitem__(self, key: int) -> int:
        words = self._words
        return int(words[2 * key] | words[2 * key + 1] << 32)


class JavaScriptSandbox:
    """See `port.Sandbox`."""

    copies: bool = True

    def __init__(self, module: Any) -> None:
        try:
            self._exports = js.WebAssembly.Instance.new(module).exports
        except JsException as error:
            raise ModuleMismatchError(f"lwip.wasm cannot be instantiated: {error}") from error
        self._arrays: _Arrays | None = None

    def exports(self) -> frozenset[str]:
        return frozenset(js.Object.keys(self._exports))

    def call(self, name: str, signature: tuple[str, str]) -> Call:
        function = getattr(self._exports, name)
        parameters, result = signature
        wide = [index for index, kind in enumerate(parameters) if kind == "I"]

        def call(*arguments: float) -> Any:
            try:
                return function(*arguments)
            except JsException as error:
                raise _failure(name, error) from error

        def call_wide(*arguments: float) -> Any:
            given: list[Any] = list(arguments)
            for index in wide:
                given[index] = JsBigInt(given[index])
            return call(*given)

        def call_for_float(*arguments: float) -> Any:
            return float(call(*arguments))  # Pyodide makes an int of a number without a fraction

        if wide:
            return call_wide
        return call_for_float if result == "d" else call

    def views(self) -> tuple[_Octets, _Words, _Longs]:
        self._arrays = self._arrays or _Arrays(self._exports.memory)
        if self._arrays.is_detached():
            self._arrays.renew()
        words = _Words(self._arrays)
        return _Octets(self._arrays), words, _Longs(words)


def _failure(name: str, error: JsException) -> Exception:
    if error.name == _WRONG_ARGUMENT:
        return OverflowError(f"{name}: an argument is out of range: {error}")
    return Trap(str(error))


def instantiate(module: Any, memory_limit: int | None, fast: bool) -> JavaScriptSandbox:
    """Make an instance.

    Args:
        module: a `WebAssembly.Module`; None takes the package's own.
        memory_limit: bytes that linear memory may grow to; None leaves the module's own maximum. It holds for the
            package's own module only.
        fast: has no effect: there is one way to make calls.

    Raises:
        ModuleMismatchError: there is no module, or it imports something.
    """
    return JavaScriptSandbox(module if module is not None else load(memory_limit))
