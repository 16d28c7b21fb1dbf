"""`python -m benchmarks`: runs the parts one after the other in this process, and prints the results."""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from benchmarks import (
    answers,
    blocking,
    bulk,
    connects,
    crowd,
    datagrams,
    echo,
    gvproxy,
    idle,
    kernel,
    middle,
    path_cells,
    paths,
    programs,
    reality,
    report,
    rush,
    simulation,
    startup,
    starve,
    timer,
    wireguard,
)
from benchmarks.report import Measure

ROOT: Final = Path(__file__).resolve().parent.parent
OUTPUT: Final = ROOT / ".benchmarks" / "latest.jsonl"
MIB: Final = 2**20

Part = Callable[[], Coroutine[Any, Any, list[Measure]]]


def parts(quick: bool) -> dict[str, Part]:
    """Return the parts in order; new stacks are measured before old ones have filled the process's memory."""
    if quick:
        return {
            "startup": lambda: startup.measure(10),
            "echo": lambda: echo.measure(500, 1),
            "connects": lambda: connects.measure(100, 1),
            "rush": lambda: rush.measure([200], 1),
            "datagrams": lambda: datagrams.measure(2_000, 200, 1),
            "answers": lambda: answers.measure(500, 1),
            "bulk": lambda: bulk.measure(32 * MIB, 1),
            "middle": lambda: middle.measure(100_000, 32 * MIB, 1),
            "programs": lambda: programs.measure(100, 16 * MIB, 1),
            "blocking": lambda: blocking.measure(500, 32 * MIB, 1),
            "timer": lambda: timer.measure(128 * MIB, 1),
            "starve": lambda: starve.measure(0.5, 1),
            "idle": lambda: idle.measure(1.0),
            "crowd": lambda: crowd.measure([1_000], 200),
            "simulation": lambda: simulation.measure(20, 1),
            "kernel": lambda: kernel.measure(16 * MIB, 1),
            "wireguard": lambda: wireguard.measure(16 * MIB, 1),
            "gvproxy": lambda: gvproxy.measure(16 * MIB, 1, None),
            "reality": lambda: reality.measure(1, quick=True),
        }
    return {
        "startup": lambda: startup.measure(100),
        "echo": lambda: echo.measure(10_000, 5),
        "connects": lambda: connects.measure(1_000, 5),
        "rush": lambda: rush.measure([1_000, 3_000], 3),
        "datagrams": lambda: datagrams.measure(50_000, 10_000, 5),
        "answers": lambda: answers.measure(9_000, 5),
        "bulk": lambda: bulk.measure(512 * MIB, 5),
        "middle": lambda: middle.measure(2_000_000, 256 * MIB, 5),
        "programs": lambda: programs.measure(2_000, 256 * MIB, 5),
        "blocking": lambda: blocking.measure(10_000, 256 * MIB, 5),
        "timer": lambda: timer.measure(1024 * MIB, 3),
        "starve": lambda: starve.measure(5.0, 3),
        "idle": lambda: idle.measure(10.0),
        "crowd": lambda: crowd.measure([10_000, 60_000], 2_000),
        "simulation": lambda: simulation.measure(1_000, 5),
        "kernel": lambda: kernel.measure(256 * MIB, 5),
        "wireguard": lambda: wireguard.measure(256 * MIB, 5),
        "gvproxy": lambda: gvproxy.measure(64 * MIB, 9, (10 * gvproxy.FILE, 9)),
        "reality": lambda: reality.measure(3),
    }


def micro(quick: bool) -> int:
    """Run the micro-costs under pytest-benchmark, and return pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "benchmarks/test_micro.py", "--benchmark-only", "--quiet"]
    command += ["--benchmark-columns=median,iqr,ops,rounds", "--benchmark-sort=name", "--benchmark-warmup=on"]
    command += ["--benchmark-max-time=0.1", "--benchmark-min-rounds=3"] if quick else []
    command += [f"--benchmark-json={OUTPUT.with_name('micro.json')}"]
    return subprocess.run(command, cwd=ROOT, timeout=300).returncode


def main() -> int:
    """Run the parts that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures are not reliable")
    parser.add_argument("--long", action="store_true", help="also ten gigabytes over one connection")
    parser.add_argument("--readme", action="store_true", help="write the tables of README.md and docs/")
    names = ", ".join([*parts(quick=True), "long", "paths", "micro"])
    parser.add_argument("--only", metavar="PART,…", help=f"some of: {names}")
    parser.add_argument(
        "--cells", metavar="TEXT", action="append", default=[], help="of paths those named so; may be repeated"
    )
    options = parser.parse_args()
    if options.readme and (options.quick or options.only):
        parser.error("--readme takes figures of a whole run only")
    chosen = parts(options.quick)
    if options.long or (options.only and "long" in options.only):
        chosen["long"] = bulk.measure_long
    wanted = options.only.split(",") if options.only else [*chosen, "micro"]
    if options.cells and "paths" not in wanted:
        parser.error("--cells is for --only paths")
    if "paths" in wanted:
        try:
            cells = path_cells.chosen(options.cells)
        except ValueError as error:
            parser.error(str(error))
        chosen["paths"] = lambda: paths.measure(cells)
    if unknown := set(wanted) - {*chosen, "micro"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {names}")
    measures: list[Measure] = []
    for name, part in chosen.items():
        if name in wanted:
            report.progress(f"{name}:")
            gc.collect()
            measures += asyncio.run(part())
    OUTPUT.parent.mkdir(exist_ok=True)
    if measures:
        lines = report.json_lines(measures)
        OUTPUT.write_text(lines, encoding="utf-8")
        print(lines, flush=True)
    if options.readme:
        report.write_documents(measures)
    try:
        return micro(options.quick) if "micro" in wanted else 0
    finally:
        if measures:  # at the end, where people look
            print(f"\n{report.table(measures)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
