"""The matrix of paths: its cells, a transfer over some of them, and the emulator that carries the kernel's frames."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from benchmarks import __main__ as program
from benchmarks import kernel_paths, path_cells, path_emulator, paths
from benchmarks.path_cells import CELLS, Cell
from tcpip_wasm.capture import Trace
from tcpip_wasm.simulation import Channel, run_virtually


def test_the_matrix() -> None:
    plain = [cell for cell in CELLS.values() if cell.kernel and cell.version == 4]
    assert len(plain) == 80
    assert len([cell for cell in CELLS.values() if cell.version == 6]) == 12
    assert {cell.bandwidth for cell in plain} == {10e6, 100e6}
    assert {cell.settings.delay for cell in plain} == {0.001, 0.02, 0.05, 0.1}
    assert min(cell.settings.queue.packets for cell in plain) == 2
    assert path_cells.packets(50e6, 0.04, 1) == 330
    assert all(len(cell.seeds) == (3 if cell.random else 1) for cell in plain)


def test_cells_are_chosen_by_their_names() -> None:
    assert path_cells.chosen([]) == list(CELLS.values())
    assert [cell.name for cell in path_cells.chosen(["10 Mbit/s, 1 ms, none, C", "1 ms*two"])] == [
        "10 Mbit/s, 1 ms, none, CoDel",
        "10 Mbit/s, 1 ms, two flows, 1 BDP",
        "100 Mbit/s, 1 ms, two flows, 1 BDP",
    ]
    with pytest.raises(ValueError, match="holds 'fast'"):
        path_cells.chosen(["fast"])


@pytest.mark.parametrize(
    "name",
    [
        "10 Mbit/s, 1 ms, 1 % late by 3 ms, 1 BDP",
        "10 Mbit/s, 20 ms, bursts, 1 BDP",
        "10 Mbit/s, 1 ms, two flows, 1 BDP",
        "10 Mbit/s, 20 ms, none, 1 BDP, IPv6",
    ],
)
def test_a_transfer_repeats_itself(name: str) -> None:
    cell = replace(CELLS[name], seconds=2.0)
    trace = Trace()
    first, second = paths.carry(cell, 1), paths.carry(cell, 1, trace)
    assert first == second
    assert len(first.shares) == cell.flows
    assert min(first.shares) > 0
    assert first.share < 1448 / 1514, "what fits into the time from the connect on"
    assert any("loss" in (one.comment or "") for one in trace.observations) == cell.bursts
    if cell.random:
        assert first != paths.carry(cell, 2)


def test_the_beginning_may_not_count() -> None:
    """A second in the middle of a transfer that fills the path, and not the slow start before it."""
    cell = replace(CELLS["10 Mbit/s, 1 ms, none, CoDel"], seconds=2.0, after=1.0)
    whole = paths.carry(replace(cell, after=0.0), 1).share
    first = paths.carry(replace(cell, seconds=1.0, after=0.0), 1).share
    assert paths.carry(cell, 1).share == pytest.approx(2 * whole - first)


def test_a_cell_is_held_against_the_kernel() -> None:
    outcomes = [paths.Outcome((share,), 7) for share in (0.9, 0.1, 0.5)]
    name = "10 Mbit/s, 1 ms, 1 %, 1 BDP"
    for theirs, met in ((0.52, True), (0.53, False)):
        measure = paths.measure_of(CELLS[name], outcomes, {"share": theirs}, "a kernel")
        assert (measure.name, measure.value, measure.reference, measure.met) == (name, 0.5, theirs, met)
    missing = paths.measure_of(CELLS[name], outcomes, None, "a kernel")
    assert missing.met is None
    assert "missing" in missing.note
    gigabit = CELLS["1000 Mbit/s, 50 ms, none, 1 BDP"]
    assert [paths.measure_of(gigabit, [paths.Outcome((share,), 0)], None, "").met for share in (0.89, 0.9)] == [
        False,
        True,
    ]


def test_the_kernel_s_figures_are_of_this_matrix() -> None:
    """What is missing is named by ``python -m benchmarks.kernel_paths``."""
    data = kernel_paths.read()
    assert data["congestion"] == kernel_paths.CONGESTION
    for name, kept in data["cells"].items():
        cell = CELLS[name]
        assert cell.kernel
        assert len(kept["shares"]) == len(kernel_paths.rounds(cell))
        assert 0 < min(kept["shares"]) <= kept["share"] <= max(kept["shares"]) < 1448 / 1514
        assert kept["late_p99_us"] / 1e6 <= kernel_paths.most_late(cell)
        assert kept["stalled"] <= kernel_paths.MOST_STALLED


def test_the_program_runs_some_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "OUTPUT", tmp_path / "latest.jsonl")
    monkeypatch.setattr(kernel_paths, "DATA", tmp_path / "none.json")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "paths", "--cells", "10 Mbit/s, 1 ms, none, 1 BDP"])
    assert program.main() == 0
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("paths: ")]
    assert rows == ["paths: 10 Mbit/s, 1 ms, none, 1 BDP", "paths: 10 Mbit/s, 1 ms, none, 1 BDP, IPv6"]
    for options in (["--only", "idle", "--cells", "x"], ["--only", "paths", "--cells", "x"]):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
        with pytest.raises(SystemExit):
            program.main()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return path_emulator.compile_into(tmp_path_factory.mktemp("emulator"))


def sent(cell: Cell) -> list[tuple[int, int]]:
    """Times, in nanoseconds, and sizes of frames that come in bursts, on the average faster than the path."""
    random, time, frames = Random("sent"), 0, []
    for _ in range(400):
        time += round(random.expovariate(cell.bandwidth / (3 * 1514 * 8)) * 1e9)
        frames += [(time, random.choice((66, 600, 1514, 1514))) for _ in range(random.randrange(20))]
    return frames


def by_channel(cell: Cell, frames: list[tuple[int, int]], seed: int) -> list[tuple[int, int]]:
    """Return when frames arrive by the simulation's channel, in nanoseconds, and which."""
    arrived = []

    async def carry() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert began == 0.0

        def deliver(frame: bytes) -> None:
            arrived.append((round(loop.time() * 1e9), int.from_bytes(frame[:8], "little")))

        channel = Channel(loop, cell.settings, Random(f"{seed}/link/a_to_b"), deliver)
        if cell.bursts:
            path_cells.start_bursts(loop, channel, Random(f"{seed}/bursts/a_to_b"))
        for index, (time, size) in enumerate(frames):
            await asyncio.sleep(time / 1e9 - loop.time())
            channel.send(index.to_bytes(8, "little") + bytes(size - 8))
        await asyncio.sleep(frames[-1][0] / 1e9 + 2.0)

    run_virtually(carry())
    return arrived


@pytest.mark.parametrize(
    "name",
    [
        "10 Mbit/s, 1 ms, none, 1 BDP",
        "100 Mbit/s, 20 ms, none, 0.1 BDP",
        "100 Mbit/s, 20 ms, none, CoDel",
        "10 Mbit/s, 100 ms, none, CoDel",
        "10 Mbit/s, 50 ms, 3 %, 1 BDP",
        "100 Mbit/s, 50 ms, bursts, 1 BDP",
        "100 Mbit/s, 20 ms, 1 % late by 3 ms, 1 BDP",
        "100 Mbit/s, 1 ms, jitter of 2 ms, 1 BDP",
        "100 Mbit/s, 20 ms, 1 % duplicates, 1 BDP",
    ],
)
def test_the_emulator_is_the_channel_of_the_simulation(name: str, emulator: Path, tmp_path: Path) -> None:
    """The same frames arrive at the same nanosecond, and the same ones do not."""
    cell = CELLS[name]
    frames = sent(cell)
    script = path_emulator.write_scripts(tmp_path, cell, seed=5)[0]
    lines = "".join(f"{time} {size}\n" for time, size in frames)
    done = subprocess.run([emulator, script], input=lines, capture_output=True, text=True, timeout=60, check=True)
    emulated = [(int(time), int(index)) for time, index in map(str.split, done.stdout.splitlines())]
    expected = by_channel(cell, frames, seed=5)
    assert [index for _, index in emulated] == [index for _, index in expected]
    assert max(abs(a - b) for (a, _), (b, _) in zip(emulated, expected, strict=True)) <= 1
    assert 0 < len({index for _, index in emulated}) < len(frames) - 10, "some are lost or dropped"


def test_the_emulator_refuses_what_it_does_not_do() -> None:
    settings = replace(CELLS["10 Mbit/s, 50 ms, 3 %, 1 BDP"].settings, corrupt=0.1)
    with pytest.raises(ValueError, match="damage"):
        path_emulator.fates(settings, Random(1), 1)
