"""Whether a history is linearizable: whether one store, asked by one client after another, could have answered so.

That is: each operation can be put at one moment between its begin and its end, so that every read returns what was
written last. In general that takes a search. Where no value is written twice, it does not: all operations with one
value must stand together in the order, the write first, so it is only asked in which order the values can come. (P. B.
Gibbons and E. Korach, Testing shared memories, SIAM Journal on Computing 26(4), 1997.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from examples.replicated_store.client import Operation


@dataclass(frozen=True)
class Violation:
    """Two values of one key that can stand in no order.

    Attributes:
        stale: the operation with the older value, too late.
        before: the one that ended first of those with the older value.
        newer: the one that ended first of those with the newer value: before `stale` began.
    """

    stale: Operation
    before: Operation
    newer: Operation

    def __str__(self) -> str:
        return f"newer: {self.newer}\nstale: {self.stale}"


def check(history: Iterable[Operation]) -> list[Violation]:
    """Return what is wrong with a history; nothing, if it is linearizable.

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
        # The value was there when the first operation with it had ended, and when the last one began.
        first = min(operations, key=lambda one: one.end)
        last = max(operations, key=lambda one: one.begin)
        if first.end < writes[0].begin:
            yield Violation(writes[0], first, first)  # read before it was written
        if first.end < float("inf"):
            spans.append((first, last))
    # If the one had ended before the last of the other began, and the other way round, there is no order.
    for index, (first, last) in enumerate(spans):
        for other_first, other_last in spans[index + 1 :]:
            if first.end < other_last.begin and other_first.end < last.begin:
                if first.end < other_first.end:
                    yield Violation(last, first, other_first)
                else:
                    yield Violation(other_last, other_first, first)
