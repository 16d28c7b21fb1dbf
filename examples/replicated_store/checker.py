"""Checks that a history is linearizable: that a single store, accessed by one client at a time, could have answered so.

That is: each operation can take effect at one moment between its begin and its end, so that every read returns the
value that was written last. In general that needs a search. Where no value is written twice, it does not: all
operations with one value are adjacent in the order, the write first, so only the order of the values is open. (P. B.
Gibbons and E. Korach, Testing shared memories, SIAM Journal on Computing 26(4), 1997.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from examples.replicated_store.client import Operation


@dataclass(frozen=True)
class Violation:
    """Two values of one key that cannot be ordered.

    Attributes:
        stale: the late operation with the older value.
        before: the first to end of the operations with the older value.
        newer: the first to end of those with the newer value, before `stale` began.
    """

    stale: Operation
    before: Operation
    newer: Operation

    def __str__(self) -> str:
        return f"newer: {self.newer}\nstale: {self.stale}"


def check(history: Iterable[Operation]) -> list[Violation]:
    """Return the violations of a history; none, if it is linearizable.

    Raises:
        ValueError: a value was written twice, or read and never written.
    """
    keys: dict[str, dict[str | None, list[Operation]]] = {}
    for operation in history:
        values = keys.setdefault(operation.key, {None: [Operation("", "", "put", operation.key, None, -1.0, -1.0)]})
        values.setdefault(operation.value, []).append(operation)
    return sorted((one for values in keys.values() for one in _check(values)), key=lambda one: one.stale.begin)


def _check(values: dict[str | None, list[Operation]]) -> Iterable[Violation]:
    spans = []
    for value, operations in values.items():
        writes = [one for one in operations if one.kind == "put"]
        if len(writes) != 1:
            raise ValueError(f"{value!r} was written {len(writes)} times")
        # The value was current when the first operation with it ended, and when the last one began.
        first = min(operations, key=lambda one: one.end)
        last = max(operations, key=lambda one: one.begin)
        if first.end < writes[0].begin:
            yield Violation(writes[0], first, first)  # read before it was written
        if first.end < float("inf"):
            spans.append((first, last))
    # If each ended before the last operation of the other began, there is no order.
    for index, (first, last) in enumerate(spans):
        for other_first, other_last in spans[index + 1 :]:
            if first.end < other_last.begin and other_first.end < last.begin:
                if first.end < other_first.end:
                    yield Violation(last, first, other_first)
                else:
                    yield Violation(other_last, other_first, first)
