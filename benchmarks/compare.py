"""`python -m benchmarks.compare OTHER`: compares this checkout with another one, such as the commit before a change.

Both run the same programs below, which use the public API alone, in processes of their own; the order of the two
alternates from pair to pair. A ratio is that of one pair, and the result is the median of all pairs, since machines
change their speed within minutes. With ``--instructions`` callgrind counts instructions instead, which do not depend on
other load; two runs of different length cancel the cost of the start.

OTHER is a checkout with a module built; its Python is ``.venv/bin/python`` there, as here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
LIMIT_S: Final = 900

SIZES: Final = {"echo": 4_000, "bulk": 192, "connects": 800, "udp": 12_000, "request": 1_500}
"""Operations of each program; MiB for bulk."""

FEW: Final = {"echo": 150, "bulk": 2, "connects": 60, "udp": 400, "request": 100}
"""The same for callgrind, which is fifty times slower; the second run has three times as many."""


async def _pair() -> tuple[Any, Any]:
    from tcpip_wasm import connect, create_stack

    client, server = await create_stack(seed=1), await create_stack(seed=2)
    connect(
        await client.create_tap_interface(ip="10.0.0.1/24"),
        await server.create_tap_interface(ip="10.0.0.2/24"),
    )
    return client, server


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def _echo(client: Any, server: Any, count: int) -> None:
    async with await server.start_server(_serve, port=80):
        reader, writer = await client.open_connection("10.0.0.2", 80)
        for _ in range(count):
            writer.write(b"x")
            await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()


async def _request(client: Any, server: Any, count: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            writer.write(bytes(1000))
            await writer.drain()
        writer.close()

    async with await server.start_server(answer, port=80):
        reader, writer = await client.open_connection("10.0.0.2", 80)
        for _ in range(count):
            writer.write(b"GET / HTTP/1.1\r\nHost: server\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(1000) == bytes(1000)
        writer.close()
        await writer.wait_closed()


async def _bulk(client: Any, server: Any, count: int) -> None:
    received = 0
    done = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(2**20):
            received += len(data)
        writer.close()
        done.set()

    async with await server.start_server(take, port=80):
        _, writer = await client.open_connection("10.0.0.2", 80)
        block = bytes(range(256)) * 256
        for _ in range(count * 16):
            writer.write(block)
            await writer.drain()
        writer.close()
        await done.wait()
        assert received == count * 2**20


async def _connects(client: Any, server: Any, count: int) -> None:
    async with await server.start_server(_serve, port=80):
        for _ in range(count):
            _, writer = await client.open_connection("10.0.0.2", 80)
            writer.close()
            await writer.wait_closed()


async def _udp(client: Any, server: Any, count: int) -> None:
    from tcpip_wasm import UdpDatagram

    far = await server.open_udp(port=9)
    near = await client.open_udp()
    for number in range(count):
        data = b"%064d" % number
        await near.send(UdpDatagram(host="10.0.0.2", port=9, data=data))
        assert (await far.receive()).data == data
    await near.close()
    await far.close()


PROGRAMS: Final[dict[str, Callable[[Any, Any, int], Awaitable[None]]]] = {
    "echo": _echo,
    "bulk": _bulk,
    "connects": _connects,
    "udp": _udp,
    "request": _request,
}


async def _run(name: str, count: int) -> tuple[float, float]:
    """Return seconds of wall-clock and of processor time."""
    client, server = await _pair()
    await PROGRAMS[name](client, server, max(count // 20, 1))
    wall, processor = time.perf_counter(), time.process_time()
    await PROGRAMS[name](client, server, count)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    await client.aclose()
    await server.aclose()
    return wall, processor


def _in(tree: Path, name: str, count: int, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a checkout."""
    return subprocess.run(
        [*before, str(tree / ".venv/bin/python"), str(HERE), "--run", name, str(count)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )


def _seconds(tree: Path, name: str) -> tuple[float, float]:
    wall, processor = json.loads(_in(tree, name, SIZES[name]).stdout)
    return wall, processor


def _instructions(tree: Path, name: str) -> float:
    """Return instructions of one unit of a program's work."""

    def count(times: int) -> int:
        tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
        said = _in(tree, name, times, *tool).stderr
        return int(next(line for line in said.splitlines() if "Collected" in line).split()[-1])

    few = FEW[name]
    return (count(3 * few) - count(few)) / (2 * few * 1.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--only", default=",".join(PROGRAMS), help="some of: %(default)s")
    parser.add_argument("--instructions", action="store_true", help="count by callgrind")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(asyncio.run(_run(options.run[0], int(options.run[1])))))
        return 0
    if options.other is None:
        parser.error("name the other checkout")
    here, other = HERE.parents[1], options.other.resolve()
    if options.instructions and shutil.which("valgrind") is None:
        parser.error("--instructions needs valgrind")
    for name in options.only.split(","):
        if options.instructions:
            before, after = _instructions(other, name), _instructions(here, name)
            print(f"{name}: {before:,.0f} instructions there, {after:,.0f} here: {after / before:.4f}", flush=True)
            continue
        ratios: list[tuple[float, float]] = []
        for number in range(options.pairs):
            trees = (other, here) if number % 2 else (here, other)
            found = {tree: _seconds(tree, name) for tree in trees}
            ratios.append((found[here][0] / found[other][0], found[here][1] / found[other][1]))
        wall, processor = (statistics.median(ratio[index] for ratio in ratios) for index in (0, 1))
        spread = f"{min(ratio[1] for ratio in ratios):.3f} to {max(ratio[1] for ratio in ratios):.3f}"
        print(f"{name}: time here / there {wall:.3f}, processor time {processor:.3f} ({spread})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
