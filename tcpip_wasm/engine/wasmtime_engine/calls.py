"""Calls into an instance: the fast way, and wasmtime's public one as its fallback.

Owns the one place that reaches below wasmtime's public API. There a call costs 8 to 37 µs, because the function's type
is rebuilt each time; here everything but the arguments is prepared once, and a call costs 0.5 µs. Knows nothing of
what the functions do. Both ways are covered by the same tests.

The reasons are in docs/explanation/boundary.md.
"""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime

from tcpip_wasm.engine.port import Call, Trap

_VALUE_BYTES = 16  # sizeof(wasmtime_val_raw_t): a union with room for a vector

_unchecked: Any
try:
    from wasmtime import _ffi

    # A prototype of our own, without types of parameters: `_fast` converts what it passes once for all calls. It keeps
    # the interpreter's lock: calls are short, and a thread that released it in each would wait for every busy one.
    _unchecked = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("wasmtime_func_call_unchecked", _ffi.dll))
except (ImportError, AttributeError):
    _unchecked = None


def export_of(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> Any:
    """Return one export. wasmtime's `exports` wraps all of them, which takes longer than the rest of a stack's start.

    Raises:
        KeyError: there is none of this name.
    """
    try:
        from wasmtime._extern import wrap_extern

        item, text = _ffi.wasmtime_extern_t(), name.encode()
        found = _ffi.wasmtime_instance_export_get(
            store._context(),  # noqa: SLF001  below wasmtime's public API, see the module's docstring
            ctypes.byref(instance._instance),  # noqa: SLF001  below wasmtime's public API, see the module's docstring
            ctypes.create_string_buffer(text, len(text)),
            len(text),
            ctypes.byref(item),
        )
    except (ImportError, AttributeError, NameError):
        return instance.exports(store)[name]
    if not found:
        raise KeyError(name)
    return wrap_extern(item)


def make_call(store: wasmtime.Store, function: wasmtime.Func, signature: tuple[str, str], *, fast: bool = True) -> Call:
    """Return a Python function of integers that calls a WebAssembly function.

    Args:
        store: what the function lives in.
        function: the exported function.
        signature: parameter and result types, such as ``("iI", "i")``: ``i`` for i32, ``I`` for i64 and ``d`` for
            f64, of which a function has one at most, its first parameter; no result is an empty text, and the value
            that the function then returns has no meaning.
        fast: False takes wasmtime's public way.

    Raises of the returned function:
        Trap: the call did not return.
    """
    if fast and _unchecked is not None:
        try:
            return _fast(store, function, signature)
        except AttributeError:
            pass  # wasmtime keeps its pointers elsewhere now: the public way works still

    def public(*arguments: float) -> Any:
        try:
            return function(store, *arguments)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise Trap(str(error)) from error

    return public


def _fast(store: wasmtime.Store, function: Any, signature: tuple[str, str]) -> Call:
    parameters, result = signature
    count = max(len(parameters), 1)
    values = ctypes.create_string_buffer(count * _VALUE_BYTES)
    trap = ctypes.c_void_p()
    raw: Any = memoryview(values).cast("B")
    arguments = raw.cast("q")
    first = raw.cast("d") if parameters[:1] == "d" else arguments
    answer = raw.cast({"": "i", "i": "i", "I": "q", "d": "d"}[result])
    call = _unchecked
    pointer = ctypes.c_void_p.from_param
    native = (
        pointer(_address(store._context())),  # noqa: SLF001  below wasmtime's public API, see the module's docstring
        pointer(ctypes.addressof(function._func)),  # noqa: SLF001  below wasmtime's public API, see the module's docstring
        pointer(ctypes.addressof(values)),
        ctypes.c_size_t.from_param(count),
        pointer(ctypes.addressof(trap)),
    )
    held = (store, function, values, trap)  # the closures below keep alive what C has only the address of

    def call0(_held: Any = held) -> int:
        error = call(*native)
        if error or trap:
            raise _failure(error, trap)
        return answer[0]  # type: ignore[no-any-return]

    def call1(a: int, _held: Any = held) -> int:
        first[0] = a
        error = call(*native)
        if error or trap:
            raise _failure(error, trap)
        return answer[0]  # type: ignore[no-any-return]

    def call2(a: int, b: int, _held: Any = held) -> int:
        first[0] = a
        arguments[2] = b
        error = call(*native)
        if error or trap:
            raise _failure(error, trap)
        return answer[0]  # type: ignore[no-any-return]

    def call3(a: float, b: int, c: int, _held: Any = held) -> int:
        first[0] = a
        arguments[2] = b
        arguments[4] = c
        error = call(*native)
        if error or trap:
            raise _failure(error, trap)
        return answer[0]  # type: ignore[no-any-return]

    def call_any(*given: int, _held: Any = held) -> int:
        first[0] = given[0]
        for index in range(1, len(given)):
            arguments[2 * index] = given[index]
        error = call(*native)
        if error or trap:
            raise _failure(error, trap)
        return answer[0]  # type: ignore[no-any-return]

    return (call0, call1, call2, call3)[len(parameters)] if len(parameters) < 4 else call_any


def _failure(error: int | None, trap: ctypes.c_void_p) -> Trap:
    """Return the exception for a call that did not return: either wasmtime's error, or a trap."""
    cause: Exception
    if error:
        made = ctypes.cast(error, ctypes.POINTER(_ffi.wasmtime_error_t))
        cause = wasmtime.WasmtimeError._from_ptr(made)  # noqa: SLF001  below wasmtime's public API, see the docstring
    else:
        address, trap.value = trap.value, None
        trapped = ctypes.cast(address or 0, ctypes.POINTER(_ffi.wasm_trap_t))
        cause = wasmtime.Trap._from_ptr(trapped)  # noqa: SLF001  below wasmtime's public API, see the docstring
    failure = Trap(str(cause))
    failure.__cause__ = cause
    return failure


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
