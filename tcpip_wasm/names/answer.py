"""How a question ended, and what a lookup found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tcpip_wasm.addresses import Address
from tcpip_wasm.errors import NameResolutionError, StackError


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for.

    Attributes:
        addresses: in the order of the answer.
        canonical: the name at the end of the CNAMEs.
    """

    addresses: tuple[Address, ...]
    canonical: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a question ended; what the cache keeps. Each who asked gets an exception of its own.

    Attributes:
        values: addresses, or for PTR names.
        canonical: the name at the end of the CNAMEs.
        error: one of the ``EAI_`` constants of `socket`, or 0.
        text: the text of the error.
        stack_error: why the stack is gone, if that is how it ended.
    """

    values: tuple[Any, ...] = ()
    canonical: str = ""
    error: int = 0
    text: str = ""
    stack_error: StackError | None = None

    @property
    def failed(self) -> bool:
        """Whether there are no values."""
        return self.error != 0 or self.stack_error is not None

    def check(self) -> Outcome:
        """Return it, or raise its error."""
        if self.stack_error is not None:
            raise self.stack_error
        if self.error:
            raise NameResolutionError(self.error, self.text)
        return self
