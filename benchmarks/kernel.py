"""Bulk transfer between a stack and the machine's own kernel, over a TAP device, in each direction.

The kernel's end is a process of its own inside the namespace (`kernel_peer`), so that the stack, the link and
the device are measured, and not two event loops on one core.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.bulk import BOUND, rate
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, alternate
from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import open_tuntap

GROUP: Final = "TAP, the kernel"
UNIT: Final = "Gbit/s"
_ROOT: Final = Path(__file__).resolve().parent.parent
PORT: Final = 9000
_STACK, _KERNEL, _DEVICE = "10.99.0.1", "10.99.0.2", "bench0"


def what_is_missing() -> str | None:
    """Return the first requirement that this machine does not meet, or None."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make a network namespace"
    if not Path("/dev/net/tun").exists():
        return "it needs /dev/net/tun"
    if shutil.which("ip") is None:
        return "it needs iproute2"
    return None


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`, which must succeed."""
    subprocess.run(["ip", *arguments], check=True, timeout=10)


@asynccontextmanager
async def _joined() -> AsyncIterator[tuple[NetworkStack, str]]:
    """Yield a stack on a TAP device, and the name of the namespace at the other end."""
    name = f"tcpip-{secrets.token_hex(4)}"
    ip("netns", "add", name)
    try:
        with open_tuntap(_DEVICE, kind="tap", namespace=name) as device:
            ip("-n", name, "address", "add", f"{_KERNEL}/24", "dev", _DEVICE)
            ip("-n", name, "link", "set", _DEVICE, "up")
            # The default congestion control differs between machines.
            route = ("10.99.0.0/24", "dev", _DEVICE, "src", _KERNEL, "congctl", "cubic")
            ip("-n", name, "route", "change", *route)
            async with await create_stack() as stack:
                link = device.attach(await stack.create_tap_interface(ip=f"{_STACK}/24"))
                yield stack, name
                link.close()
    finally:
        ip("netns", "delete", name)


@asynccontextmanager
async def peer(namespace: str, role: str, host: str, port: int, size: int) -> AsyncIterator[None]:
    """Run the kernel's end inside a namespace (see `kernel_peer`), and wait for it when the context is left.

    Args:
        namespace: its name.
        role: ``send`` or ``receive``.
        host, port: where it connects.
        size: bytes of payload.

    Raises:
        ValueError: the program has failed.
    """
    program = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", namespace, sys.executable, "-m", "benchmarks.kernel_peer"),
        *(role, host, str(port), str(size)),
        cwd=_ROOT,
    )
    try:
        yield
        if await program.wait() != 0:
            raise ValueError(f"the kernel's end failed with status {program.returncode}")
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


@asynccontextmanager
async def server(stack: NetworkStack, host: str, role: str, size: int) -> AsyncIterator[asyncio.Future[float]]:
    """Serve one connection of a peer on a stack, and yield a future of the seconds that it took.

    Args:
        stack: the stack.
        host: its address; the port is `PORT`.
        role: what the peer does: ``send`` or ``receive``.
        size: bytes of payload.
    """
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            started = perf_counter()
            if role == "receive":
                for data in writes(size):
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()
                # The peer sends a byte after it has received and checked all data.
                if (answer := await reader.read()) != b"!":
                    raise ValueError(f"the peer has not received the data: it sent {answer!r}, not b'!'")
            else:
                check = Check()
                while chunk := await reader.read(READ):
                    check.take(chunk)
                check.finish(size)
            done.set_result(perf_counter() - started)
        except (OSError, ValueError) as error:
            done.set_exception(error)
        writer.close()

    async with await stack.start_server(serve, host, PORT):
        yield done


async def _carry(role: str, size: int) -> float:
    """Send `size` bytes to (``receive``) or from (``send``) the kernel's end, and return Gbit/s."""
    async with (
        _joined() as (stack, namespace),
        asyncio.timeout(BOUND),
        server(stack, _STACK, role, size) as done,
        peer(namespace, role, _STACK, PORT, size),
    ):
        return rate(size, await done)


async def measure(size: int, rounds: int) -> list[Measure]:
    """Measure both directions, MTU 1500, with checksums.

    Args:
        size: bytes of one transfer.
        rounds: how often each direction is measured, alternately.
    """
    names = {"receive": "from the stack to the kernel", "send": "from the kernel to the stack"}
    goal = Goal(1.0, "value")
    reason = what_is_missing()
    if reason is not None:
        note = f"skipped: {reason}"
        return [Measure(GROUP, name, None, UNIT, goal=goal, note=note) for name in names.values()]
    figures = await alternate({name: partial(_carry, role, size) for role, name in names.items()}, rounds)
    return [
        Measure(GROUP, name, median(each), UNIT, goal=goal, note=f"{min(each):.3g} to {max(each):.3g}")
        for name, each in figures.items()
    ]
