"""The matrix of paths in virtual time: what share of the bandwidth a transfer gets, beside this machine's kernel.

    python -m benchmarks --only paths                           all cells
    python -m benchmarks --only paths --cells '20 ms, bursts'   those of which the name holds the text
    python -m benchmarks.paths CELL --seed 1 --capture FILE     one run of a cell, and what was sent as a pcapng file

Two simulated hosts are joined by a link, one sends for as long as the cell is watched, and what the other reads in this
time counts. Runs are deterministic, so that a cell in which nothing is random is run once; of others the median of
their seeds counts. The kernel's figures are data (`kernel_paths.json`), since they take an hour of a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from random import Random
from statistics import median_low
from typing import Final

from benchmarks import kernel_paths
from benchmarks.path_cells import CELLS, Cell, start_bursts
from benchmarks.path_peer import ENDLESS
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, progress
from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.capture import Observation, Recorder
from tcpip_wasm.simulation import Link, run_virtually

GROUP: Final = "paths"
UNIT: Final = "of the bandwidth"
GOAL: Final = Goal(0.95)
GOAL_WITHOUT_KERNEL: Final = Goal(0.9, "value")
PORT: Final = 9000
ADDRESSES: Final = {4: ("10.99.0.1/24", "10.99.0.2/24"), 6: ("fd99::1/64", "fd99::2/64")}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transfer came to.

    Attributes:
        shares: of the bandwidth, one for each flow.
        retransmissions: segments that were sent again.
    """

    shares: tuple[float, ...]
    retransmissions: int

    @property
    def share(self) -> float:
        """The share of the bandwidth of all flows."""
        return sum(self.shares)


class _Flow:
    """One connection, from the call of connect to the end of the cell's time."""

    def __init__(self, cell: Cell) -> None:
        self.received = Check()
        self.before = 0
        self._cell = cell

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Take and compare what arrives."""
        while data := await reader.read(READ):
            self.received.take(data)

    async def send(self, stack: NetworkStack, host: str) -> None:
        """Connect, and send until cancelled."""
        _, writer = await stack.open_connection(host, PORT)
        try:
            for data in writes(ENDLESS):
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()

    def share(self) -> float:
        """Return the share of the bandwidth that it got."""
        return self._cell.share(self.received.received - self.before)


async def _carry(cell: Cell, seed: int, observe: Callable[[Observation], None] | None) -> Outcome:
    loop = asyncio.get_running_loop()
    flows = [_Flow(cell) for _ in range(cell.flows)]
    waiting = iter(flows)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # the sender aborts
            await next(waiting).receive(reader)
        writer.close()

    async with await create_stack(seed=2 * seed) as a, await create_stack(seed=2 * seed + 1) as b:
        sender, receiver = ADDRESSES[cell.version]
        tap_a, tap_b = await a.create_tap_interface(ip=sender), await b.create_tap_interface(ip=receiver)
        link = Link(tap_a, tap_b, cell.settings, seed=seed, observe=observe)
        ends = []
        if cell.bursts:
            for channel, name in ((link.a_to_b, "a_to_b"), (link.b_to_a, "b_to_a")):
                ends.append(start_bursts(loop, channel, Random(f"{seed}/bursts/{name}")))
        host = receiver.partition("/")[0]
        server = await b.start_server(serve, host, PORT)
        tasks = [loop.create_task(flow.send(a, host)) for flow in flows]
        if cell.after:
            await asyncio.sleep(cell.after)
            for flow in flows:
                flow.before = flow.received.received
        await asyncio.wait(tasks, timeout=cell.seconds - cell.after)
        outcome = Outcome(tuple(flow.share() for flow in flows), a.stats().core.tcp_retransmissions)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end()
        link.close()
        server.close()
    for result in results:
        if not isinstance(result, asyncio.CancelledError):
            raise RuntimeError(f"{cell.name}, seed {seed}: a flow ended before its time: {result!r}")
    return outcome


def carry(cell: Cell, seed: int, observe: Callable[[Observation], None] | None = None) -> Outcome:
    """Carry the flows of a cell in virtual time; `observe` takes each frame that is sent.

    Raises:
        RuntimeError: a connection ended before its time.
        ValueError: other bytes arrived than were sent.
    """
    return run_virtually(_carry(cell, seed, observe))


def measure_of(cell: Cell, outcomes: list[Outcome], kernel: dict[str, object] | None, beside: str) -> Measure:
    """Return the measure of a cell: the run of the median share, beside the kernel's share.

    Args:
        cell: the path.
        outcomes: one for each of its seeds.
        kernel: what `kernel_paths` has of this cell, or None.
        beside: which kernel it is.
    """
    middle = median_low(outcome.share for outcome in outcomes)
    outcome = next(outcome for outcome in outcomes if outcome.share == middle)
    note = f"{outcome.retransmissions} retransmissions"
    if cell.flows > 1:
        note += f", flows {', '.join(f'{share:.3f}' for share in outcome.shares)}"
    if not cell.kernel:
        return Measure(GROUP, cell.name, middle, UNIT, goal=GOAL_WITHOUT_KERNEL, note=note)
    if kernel is None:
        return Measure(GROUP, cell.name, middle, UNIT, goal=GOAL, note=f"{note}, the kernel's figure is missing")
    theirs = kernel["share"]
    assert isinstance(theirs, float)
    return Measure(GROUP, cell.name, middle, UNIT, theirs, middle / theirs, GOAL, note, beside)


def _measured(cells: list[Cell]) -> list[Measure]:
    data = kernel_paths.read()
    beside = f"{data.get('kernel', 'no kernel')}, {data.get('congestion', '')}, between two namespaces"
    measures = []
    # The longest first, so that no process is left with one of them in the end.
    order = sorted(cells, key=lambda cell: -cell.bandwidth * cell.seconds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        runs = {pool.submit(carry, cell, seed): (cell, seed) for cell in order for seed in cell.seeds}
        for number, run in enumerate(as_completed(runs), 1):
            cell, seed = runs[run]
            progress(f"{number} of {len(runs)}: {cell.name}, seed {seed}: {run.result().share:.3f}")
    for cell in cells:
        outcomes = [run.result() for run, (its, _) in runs.items() if its is cell]
        measures.append(measure_of(cell, outcomes, data["cells"].get(cell.name), beside))
    return measures


async def measure(cells: list[Cell]) -> list[Measure]:
    """Measure cells, in as many processes as there are processors."""
    return await asyncio.to_thread(_measured, cells)


def main() -> None:
    """Run one cell once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths", description="One run of one cell.")
    parser.add_argument("cell", choices=CELLS, metavar="CELL", help="its name, such as '10 Mbit/s, 1 ms, none, 1 BDP'")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--capture", metavar="FILE", help="write what is sent, the first 128 bytes of each frame")
    options = parser.parse_args()
    with ExitStack() as held:
        capture = held.enter_context(Recorder(options.capture, snaplen=128)) if options.capture else None
        outcome = carry(CELLS[options.cell], options.seed, capture.record if capture else None)
    shares = ", ".join(f"{share:.4f}" for share in outcome.shares)
    print(f"{options.cell}, seed {options.seed}: {shares} {UNIT}, {outcome.retransmissions} retransmissions")


if __name__ == "__main__":
    main()
