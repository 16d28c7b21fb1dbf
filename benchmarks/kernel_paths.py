"""The matrix of paths over this machine's own kernel: CUBIC in two network namespaces, and an emulator between them.

    python -m benchmarks.kernel_paths                        what kernel_paths.json has, and what is missing
    python -m benchmarks.kernel_paths --take                 take all cells anew: an hour
    python -m benchmarks.kernel_paths --take --missing       take what is missing
    python -m benchmarks.kernel_paths --take --cells 'TEXT'  take the cells of which the name holds the text

Needs Linux, root, /dev/net/tun, iproute2 and sysctl. The namespaces have no other device than that of the path and
reach nothing else. One run at a time; a run whose emulator fell behind is discarded and taken again. The file is
written after each cell, so that what was taken stays when the program is ended.
"""

from __future__ import annotations

import argparse
import json
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.kernel import what_is_missing
from benchmarks.path_cells import CELLS, Cell, chosen
from benchmarks.path_emulator import compile_into, write_scripts
from benchmarks.path_peer import BOUND
from tcpip_wasm.links import open_tuntap

ROOT: Final = Path(__file__).resolve().parent.parent
DATA: Final = ROOT / "benchmarks" / "kernel_paths.json"
DEVICE: Final = "path0"
CONGESTION: Final = "cubic"
PORT: Final = 9000
ADDRESSES: Final = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd99::1", "fd99::2")}
PREFIXES: Final = {4: 24, 6: 64}

BUFFER: Final = 32 * 2**20
"""Bytes: the limit of the kernel's buffers. It counts what holds the payload, too, and offers half of a receive buffer
as a window: 16 MiB, which is what a stack has."""

MOST_STALLED: Final = 0.01
"""The share of the time for which frames may be more than a millisecond late."""

ATTEMPTS: Final = 6
"""How often a run is taken until its emulator has kept up."""


def most_late(cell: Cell) -> float:
    """Return how late one frame of a hundred may be, in seconds: a tenth of the one-way delay, within bounds."""
    return min(max(cell.settings.delay / 10, 250e-6), 1e-3)


class FellBehind(Exception):
    """The emulator was late, or did not carry a frame that it should have carried."""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, timeout=BOUND, capture_output=True, text=True).stdout


@contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    token = secrets.token_hex(4)
    names = f"path-{token}-a", f"path-{token}-b"
    made = []
    try:
        for name in names:
            _run("ip", "netns", "add", name)
            made.append(name)
        yield names
    finally:
        for name in made:
            _run("ip", "netns", "delete", name)


def _configure(namespace: str, cell: Cell, address: str) -> None:
    """Set the limits of buffers, and the device: one segment of TCP in each frame, and a queue that drops nothing."""
    settings = {
        "net.ipv4.tcp_rmem": f"4096 131072 {BUFFER}",
        "net.ipv4.tcp_wmem": f"4096 16384 {BUFFER}",
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv6.conf.all.disable_ipv6": str(int(cell.version == 4)),
    }
    inside = ("ip", "netns", "exec", namespace)
    _run(*inside, "sysctl", "-q", "-w", *(f"{name}={value}" for name, value in settings.items()))
    options = ("nodad",) if cell.version == 6 else ()
    _run("ip", "-n", namespace, "address", "add", f"{address}/{PREFIXES[cell.version]}", "dev", DEVICE, *options)
    _run("ip", "-n", namespace, "link", "set", DEVICE, "txqueuelen", "10000", "gso_max_segs", "1", "up")


def _dropped(namespace: str) -> int:
    """Return how many frames a device has dropped before the emulator read them."""
    (link,) = json.loads(_run("ip", "-n", namespace, "-s", "-j", "link", "show", DEVICE))
    return int(link["stats64"]["tx"]["dropped"]) + int(link["stats64"]["rx"]["dropped"])


@contextmanager
def _program(*command: str, fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _peer(namespace: str, *arguments: object) -> AbstractContextManager[subprocess.Popen[str]]:
    inside = ("ip", "netns", "exec", namespace, "nice", "-n", "-10")
    return _program(*inside, sys.executable, "-m", "benchmarks.path_peer", *map(str, arguments))


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with status {process.wait(BOUND)}")
    return line


def take(program: Path, cell: Cell, seed: int) -> tuple[list[int], dict[str, Any]]:
    """Carry one transfer over a cell; return the payload bytes of each flow, and the emulator's report.

    Args:
        program: the emulator.
        cell: the path.
        seed: of what chance decides.

    Raises:
        FellBehind: the emulator was late or lost a frame.
    """
    a, b = ADDRESSES[cell.version]
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="path-")))
        names = held.enter_context(_namespaces())
        devices = [held.enter_context(open_tuntap(DEVICE, namespace=name)) for name in names]
        for name, address in zip(names, (a, b), strict=True):
            _configure(name, cell, address)
        fds = [device.fd for device in devices]
        scripts = write_scripts(folder, cell, seed)
        emulator = held.enter_context(_program(str(program), *map(str, (*scripts, *fds)), fds=fds))
        with _peer(names[1], "receive", b, PORT, cell.seconds, cell.after, cell.flows) as receiving:
            _line(receiving)
            with _peer(names[0], "send", b, PORT, cell.seconds, CONGESTION, cell.flows):
                received: list[int] = json.loads(_line(receiving))
        dropped = sum(map(_dropped, names))
        assert emulator.stdin is not None
        emulator.stdin.close()
        report: dict[str, Any] = json.loads(_line(emulator))
    late, stalled = report["late_p99_us"] / 1e6, report["stalled"] / cell.seconds
    if late > most_late(cell):
        raise FellBehind(f"one frame of a hundred was {late * 1e3:.2f} ms late or more")
    if stalled > MOST_STALLED:
        raise FellBehind(f"frames were more than 1 ms late for {stalled:.1%} of the time")
    if dropped or report["refused"]:
        raise FellBehind(f"devices dropped {dropped} frames and refused {report['refused']}")
    return received, report


def rounds(cell: Cell) -> tuple[int, ...]:
    """Return the seeds of a cell's runs: three, too, where a few milliseconds that the machine takes cost much.

    On short paths they make a burst that overflows the queue, and a time-out takes many round trips.
    """
    return cell.seeds if cell.random or cell.settings.delay > 0.02 else (1, 1, 1)


def take_cell(program: Path, cell: Cell) -> dict[str, Any] | None:
    """Take all runs of a cell; return what the file keeps, or None where the emulator fell behind too often."""
    shares, flows, late, stalled = [], [], [], []
    for seed in rounds(cell):
        for _ in range(ATTEMPTS):
            try:
                received, report = take(program, cell, seed)
            except FellBehind as error:
                print(f"  {cell.name}, seed {seed}: taken again: {error}", flush=True)
                continue
            break
        else:
            return None
        shares.append(round(cell.share(sum(received)), 4))
        flows.append([round(cell.share(each), 4) for each in received])
        late.append(report["late_p99_us"])
        stalled.append(round(report["stalled"] / cell.seconds, 4))
        print(f"  {cell.name}, seed {seed}: {shares[-1]:.3f}, {report}", flush=True)
    kept: dict[str, Any] = {
        # Where nothing is random, what else the machine does can only make it less.
        "share": median(shares) if cell.random else max(shares),
        "shares": shares,
        "late_p99_us": max(late),
        "stalled": max(stalled),
    }
    if cell.flows > 1:
        kept["flows"] = flows[shares.index(kept["share"])]
    return kept


def read() -> dict[str, Any]:
    """Return what the file has; without one, no cells."""
    if not DATA.exists():
        return {"cells": {}}
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return data


def _write(cells: dict[str, Any]) -> None:
    """Write the file, a line for each cell in the order of the matrix; a cell that no longer exists goes."""
    about = {
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "congestion": CONGESTION,
        "buffer": BUFFER,
        "taken": datetime.now(UTC).date().isoformat(),
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(cells[name])}" for name in CELLS if name in cells]
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    text = "{\n" + head + ' "cells": {\n' + ",\n".join(lines) + "\n }\n}\n"
    temporary = DATA.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(DATA)


def missing(cells: dict[str, Any]) -> list[Cell]:
    """Return the cells that the file lacks."""
    return [cell for cell in CELLS.values() if cell.kernel and cell.name not in cells]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_paths", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--take", action="store_true", help="measure")
    parser.add_argument("--missing", action="store_true", help="only what the file lacks")
    parser.add_argument("--cells", metavar="TEXT", action="append", default=[], help="only these; may be repeated")
    options = parser.parse_args()
    cells: dict[str, Any] = read()["cells"]
    try:
        wanted = [cell for cell in chosen(options.cells) if cell.kernel]
    except ValueError as error:
        parser.error(str(error))
    if options.missing:
        wanted = [cell for cell in wanted if cell.name not in cells]
    if options.take:
        if reason := what_is_missing() or (None if shutil.which("sysctl") else "it needs sysctl"):
            parser.error(reason)
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no namespace stays
        with tempfile.TemporaryDirectory(prefix="path-") as folder:
            program = compile_into(Path(folder))
            for number, cell in enumerate(wanted, 1):
                print(f"{number} of {len(wanted)}: {cell.name}", flush=True)
                kept = take_cell(program, cell)
                cells.pop(cell.name, None)
                if kept is not None:
                    cells[cell.name] = kept
                _write(cells)
    else:
        for cell in wanted:
            kept = cells.get(cell.name)
            print(f"{cell.name:45} {kept['share'] if kept else 'missing'}")
    lacking = missing(cells)
    print(f"{len(lacking)} cells are missing" + "".join(f"\n  {cell.name}" for cell in lacking))
    return 1 if options.take and any(cell.name not in cells for cell in wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
