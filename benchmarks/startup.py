"""The cost of creating a stack: time and resident memory, of the first one and of each further one.

The first stack of a process includes loading wasmtime and the module, so it is measured in processes of its
own: one without a precompiled module, and one with the module that the other has cached. Run as a program,
this module is that process.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.report import Goal, Measure, progress

GROUP: Final = "start"
_STATM: Final = Path("/proc/self/statm")
_MIB: Final = 2**20


def resident() -> int:
    """Return the resident bytes of this process; 0 where the system has no /proc."""
    if not _STATM.exists():
        return 0
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def first() -> dict[str, float]:
    """Create the first stack of this process, and return milliseconds and MiB."""
    before, started = resident(), perf_counter()
    from tcpip_wasm import create_stack  # the import is part of the figure

    imported, has_imported = perf_counter(), resident()
    async with await create_stack():
        created = perf_counter()
        return {
            "import": (imported - started) * 1e3,
            "import_memory": (has_imported - before) / _MIB,
            "create": (created - imported) * 1e3,
            "memory": (resident() - has_imported) / _MIB,
        }


def _in_new_process(cache: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.startup"],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "TCPIP_WASM_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


async def _further(count: int, tap: bool) -> tuple[float, float]:
    """Return the median milliseconds and the mean resident MiB of `count` stacks that exist at once."""
    from tcpip_wasm import create_stack

    stacks, times = [await create_stack()], []
    before = resident()
    for _ in range(count):
        started = perf_counter()
        stack = await create_stack()
        if tap:
            await stack.create_tap_interface(ip="10.0.0.1/24")
        times.append((perf_counter() - started) * 1e3)
        stacks.append(stack)
    # Their first poll, which announces their addresses, is part of their memory.
    await asyncio.sleep(0.1)
    memory = (resident() - before) / count / _MIB
    for stack in stacks:
        await stack.aclose()
    return median(times), memory


async def measure(count: int) -> list[Measure]:
    """Measure the first stack, and `count` further ones at once."""
    with tempfile.TemporaryDirectory() as folder:
        cold = _in_new_process(folder)
        warm = _in_new_process(folder)
    progress(f"first: {cold['create']:.0f} ms compiled, {warm['create']:.1f} ms from the cache")
    measures = [
        Measure(GROUP, "import of the package", warm["import"], "ms"),
        Measure(GROUP, "first stack on this machine, module compiled", cold["create"], "ms"),
        Measure(GROUP, "first stack of a process, module from the cache", warm["create"], "ms"),
        Measure(GROUP, "first stack, memory with the import", warm["import_memory"] + warm["memory"], "MiB"),
    ]
    for name, tap in (("each further stack", False), ("each further stack with a tap", True)):
        time, memory = await _further(count, tap)
        measures += [
            Measure(GROUP, f"{name}, time", time, "ms", goal=Goal(1.0, "value", most=True)),
            Measure(GROUP, f"{name}, memory", memory, "MiB", goal=Goal(1.0, "value", most=True)),
        ]
        progress(f"{name}: {time:.3f} ms, {memory:.3f} MiB")
    return measures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(first())))
