"""What `path_emulator.c` is given: its program, and scripts that say what a channel does to frames.

In Python a frame at 100 Mbit/s cost 40 µs, which left the emulator no time to be punctual. So the emulator is in C, and
everything that chance decides is drawn here, as `tcpip_wasm.simulation.Channel` draws it.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.path_cells import FRAME, Cell, burst_times
from tcpip_wasm.simulation import CoDel, GilbertElliott, LinkSettings

SOURCES: Final = [str(Path(__file__).with_name(name)) for name in ("path_emulator.c", "path_channel.c")]
HEAD: Final = struct.Struct("=d7q")
FATE: Final = struct.Struct("=qii")
TIME: Final = struct.Struct("=q")
SLACK: Final = 30.0
"""Seconds for which a script holds beyond those of a cell."""


def compile_into(folder: Path) -> Path:
    """Compile the emulator with the C compiler that builds the module, and return the program."""
    program = folder / "path_emulator"
    command = (sys.executable, "-m", "ziglang", "cc", "-O2", "-o", str(program), *SOURCES, "-lm")
    subprocess.run(command, check=True, timeout=300)
    return program


def fates(settings: LinkSettings, random: Random, count: int) -> bytes:
    """Draw what becomes of so many frames that a channel accepts.

    Raises:
        ValueError: the settings ask for what the emulator does not do.
    """
    if isinstance(settings.loss, GilbertElliott) or settings.corrupt or settings.mtu is not None or settings.overhead:
        raise ValueError(f"the emulator has no bursts by the frame, damage, MTU and overhead: {settings}")
    draw, drawn = random.random, bytearray()
    late = round(settings.reorder_delay * 1e9)
    for _ in range(count):
        copies, extra, overtaken = 1, 0, False
        if settings.loss and draw() < settings.loss:
            copies = 0
        else:
            if settings.duplicate and draw() < settings.duplicate:
                copies = 2
            if settings.reorder and draw() < settings.reorder:
                extra, overtaken = late, True
            if settings.jitter:
                extra += round(settings.jitter * 1e9 * draw())
        drawn += FATE.pack(extra, copies, overtaken)
    return bytes(drawn)


def script(cell: Cell, random: Random, bursts: Random) -> bytes:
    """Return the script of one direction of a cell."""
    settings, queue = cell.settings, cell.settings.queue
    seconds = cell.seconds + SLACK
    # Small frames are acknowledgements, of which there are no more than full frames the other way.
    count = round(seconds * cell.bandwidth / 8 / FRAME) if cell.random and not cell.bursts else 0
    toggles: list[float] = []
    if cell.bursts:
        times = burst_times(cell.bandwidth, bursts)
        while not toggles or toggles[-1] < seconds:
            toggles += islice(times, 2)
    codel = (1, round(queue.target * 1e9), round(queue.interval * 1e9)) if isinstance(queue, CoDel) else (0, 0, 0)
    head = HEAD.pack(8e9 / cell.bandwidth, round(settings.delay * 1e9), queue.packets, *codel, count, len(toggles))
    return head + fates(settings, random, count) + b"".join(TIME.pack(round(each * 1e9)) for each in toggles)


def write_scripts(folder: Path, cell: Cell, seed: int) -> list[Path]:
    """Write the scripts of both directions, with the random streams of a `Link`, and return their paths."""
    paths = []
    for direction in ("a_to_b", "b_to_a"):
        path = folder / direction
        path.write_bytes(script(cell, Random(f"{seed}/link/{direction}"), Random(f"{seed}/bursts/{direction}")))
        paths.append(path)
    return paths
