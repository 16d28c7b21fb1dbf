"""The port to a WebAssembly engine: what the rest of this package needs of one, and nothing more.

Owns the names: an engine is a package beside this file that implements `Sandbox` and raises `Trap`, and has a function
`instantiate(module, memory_limit, fast)`. Must not depend on a particular engine; `instance` chooses one.

The views are used for every frame and event, so they are attributes with item access instead of methods: a memoryview
where linear memory can be reached from Python, an object with the same item access where each access is a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Call = Callable[..., int]
"""An exported function of integers, and of one float at most, the first; a result of type f64 is a float."""


class Trap(Exception):
    """A call did not return: the module trapped, or its engine could not go on. The engine's own error is the cause."""


class Sandbox(Protocol):
    """One instance of a module, with its linear memory.

    Attributes:
        copies: whether a slice of memory is a copy, so that what is written to it does not enter memory.
    """

    copies: bool

    def exports(self) -> frozenset[str]:
        """Return the names of all exports."""

    def call(self, name: str, signature: tuple[str, str]) -> Call:
        """Return an exported function. What it raises is `Trap`.

        Args:
            name: one of `exports`.
            signature: the types of its parameters and of its result: ``i`` for i32, ``I`` for i64, ``d`` for f64.
        """

    def views(self) -> tuple[Any, Any, Any]:
        """Return linear memory as bytes, as unsigned 32-bit words, and as unsigned 64-bit words, as large as it is now.

        Each gives and takes items, and the first slices, too: ``memory[a:b]`` is bytes-like and valid until the next
        call, ``memory[a:b] = data`` copies. Word n lies at byte 4n, long n at byte 8n.
        """
