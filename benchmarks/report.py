"""Reports of measures and goals: a table, JSON lines for programs, and the tables of README.md and docs/.

Owns the form of a measure and of a goal, and the alternation of cases. It is independent of the benchmarks.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

ASYNCIO: Final = "asyncio over the kernel's loopback"
ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"
FIGURES: Final = ROOT / "docs" / "reference" / "figures.md"
IN_README: Final = (
    "start: first stack of a process, module from the cache",
    "start: each further stack, memory",
    "1-byte echo: tap cable, p50",
    "connect and close: tap cable",
    "UDP: 1400 bytes, tap cable",
    "bulk: tap cable, MTU 1500, checksums on",
    "programs: uvicorn and aiohttp, tap cable",
    "TAP, the kernel: from the kernel to the stack",
)
"""The figures that README.md shows; the page of figures has all."""

BEGIN: Final = "<!-- figures: written by `python -m benchmarks --readme` -->"
END: Final = "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a measure's value, or on its ratio to the reference.

    Attributes:
        bound: the figure that must be reached, or not be passed.
        of: the bounded figure, ``value`` or ``ratio``.
        most: whether it is an upper bound.
    """

    bound: float
    of: Literal["value", "ratio"] = "ratio"
    most: bool = False

    def __str__(self) -> str:
        text = f"{'≤' if self.most else '≥'} {self.bound:.3g}"
        return f"{text} ×" if self.of == "ratio" else text


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure.

    Attributes:
        group: the kind of measure, such as ``bulk``.
        name: the case.
        value: the figure, a median of rounds; None where it could not be measured.
        unit: its unit.
        reference: the figure of the reference, in the same run.
        ratio: the median of the rounds' ratios to the reference of the same round.
        goal: the goal.
        note: why there is no figure, or a remark.
        beside: the name of the reference.
    """

    group: str
    name: str
    value: float | None
    unit: str
    reference: float | None = None
    ratio: float | None = None
    goal: Goal | None = None
    note: str = ""
    beside: str = ASYNCIO

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a figure."""
        if self.goal is None:
            return None
        figure = self.value if self.goal.of == "value" else self.ratio
        if figure is None:
            return None
        return figure <= self.goal.bound if self.goal.most else figure >= self.goal.bound

    def as_dict(self) -> dict[str, Any]:
        """Return the content of a JSON line."""
        return {
            "group": self.group,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "beside": self.beside if self.reference is not None else None,
            "ratio": self.ratio,
            "goal": str(self.goal) if self.goal else None,
            "met": self.met,
            "note": self.note,
        }


async def alternate(contenders: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, list[float]]:
    """Run all contenders once a round, every other round in reverse; return each one's figures by round."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in reversed(names) if number % 2 else names:
            figures[name].append(await contenders[name]())
            progress(f"round {number + 1} of {rounds}: {name}: {figures[name][-1]:.3g}")
    return figures


def compared(
    group: str,
    name: str,
    unit: str,
    figures: list[float],
    reference: list[float],
    goal: Goal | None = None,
    *,
    beside: str = ASYNCIO,
) -> Measure:
    """Return the measure of a contender with its reference of the same rounds."""
    ratios = [ours / theirs for ours, theirs in zip(figures, reference, strict=True)]
    spread = f"{min(figures):.3g} to {max(figures):.3g}"
    return Measure(group, name, median(figures), unit, median(reference), median(ratios), goal, spread, beside)


def progress(text: str) -> None:
    """Print progress, to the standard error output, which no program parses."""
    print(f"  {text}", file=sys.stderr, flush=True)


def circumstances() -> dict[str, Any]:
    """Return the circumstances on which the figures depend."""
    return {
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_HEADINGS: Final = ("", "figure", "unit", "kernel", "ratio", "goal", "met")


def _cells(measure: Measure) -> tuple[str, ...]:
    return (
        f"{measure.group}: {measure.name}",
        _figure(measure.value),
        measure.unit,
        _figure(measure.reference) if measure.reference is not None else "",
        f"{measure.ratio:.2f}" if measure.ratio is not None else "",
        str(measure.goal) if measure.goal else "",
        {None: "", True: "yes", False: "NO"}[measure.met],
    )


def _reference_text(measures: Iterable[Measure]) -> str:
    """Describe the column with this name."""
    others = {m.group: m.beside for m in measures if m.reference is not None and m.beside != ASYNCIO}
    return "; ".join([f"Kernel: {ASYNCIO}", *(f"for {group}, {beside}" for group, beside in others.items())]) + "."


def table(measures: Iterable[Measure]) -> str:
    """Return the table for a terminal, followed by the references, and the reasons of missing figures."""
    measures = list(measures)
    rows = [_HEADINGS, *map(_cells, measures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    left = {0, 2}
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    missing = [f"{m.group}: {m.name}: {m.note}" for m in measures if m.value is None]
    return "\n".join([*lines, _reference_text(measures), *missing])


def json_lines(measures: Iterable[Measure]) -> str:
    """Return one JSON object a line; the first has the circumstances."""
    objects = [{"circumstances": circumstances()}, *(measure.as_dict() for measure in measures)]
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def write_documents(measures: Iterable[Measure]) -> None:
    """Write the whole table into the page of figures, and a part of it into README.md.

    Raises:
        ValueError: a document lacks the marks.
    """
    measures = list(measures)
    write_table(measures, FIGURES)
    write_table([measure for measure in measures if f"{measure.group}: {measure.name}" in IN_README], README)


def write_table(measures: Iterable[Measure], path: Path) -> None:
    """Put a table between its marks in a document.

    Raises:
        ValueError: the document lacks the marks.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} lacks the marks between which the figures go")
    where, measures = circumstances(), list(measures)
    header = ("measure", *_HEADINGS[1:])
    lines = ["| " + " | ".join(header) + " |", "|---|--:|---|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(_cells(measure)) + " |" for measure in measures if measure.value is not None]
    software = f"CPython {where['python']}, wasmtime {where['wasmtime']}"
    under = f"{_reference_text(measures)}\n{software}, {where['system']}, {where['cores']} cores."
    block = "\n".join([begin, *lines, "", under, end])
    path.write_text(before + block + after, encoding="utf-8")
