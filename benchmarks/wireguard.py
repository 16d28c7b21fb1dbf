"""Bulk transfer between two stacks through WireGuard, over loopback UDP, beside wireguard-go.

Each end is a process of its own: this one receives, and the other runs this file. wireguard-go has two namespaces that
are joined by a virtual cable, and its kernel's TCP; it is measured where the program is in `build/peers`, where
`make test-guests` builds it, or on the PATH, and the user is root.

    python -m benchmarks.wireguard BYTES     a sender, which prints its port
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Final

from benchmarks.bulk import BOUND, rate
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, alternate, compared
from tcpip_wasm import create_stack
from tcpip_wasm.links import WireGuard, WireGuardPeer
from tcpip_wasm.links.wireguard.keys import public_key

GROUP: Final = "WireGuard"
NAME: Final = "stack to stack, two processes, MTU 1420"
UNIT: Final = "Gbit/s"
GOAL: Final = Goal(0.5, "value")
_ROOT: Final = Path(__file__).resolve().parent.parent
_MTU, _PORT = 1420, 9000
_SENDER_KEY, _RECEIVER_KEY = bytes(range(32)), bytes(range(1, 33))
"""Of a tunnel on loopback that carries no secret."""


async def send(size: int) -> None:
    """Serve one connection, and print where."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for data in writes(size):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()
        done.set()

    async with await create_stack() as stack:
        link = await WireGuard.create(
            await stack.create_tun_interface(ip="10.8.0.1/24", mtu=_MTU),
            private_key=_SENDER_KEY,
            host="127.0.0.1",
            peers=[WireGuardPeer(public_key=public_key(_RECEIVER_KEY), allowed_ips=["10.8.0.2"])],
        )
        async with await stack.start_server(serve, "10.8.0.1", _PORT), asyncio.timeout(BOUND):
            print(link.port, flush=True)
            await done.wait()
        link.close()


async def _receive(size: int) -> float:
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.wireguard", str(size)), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert sender.stdout is not None
    try:
        async with await create_stack() as stack, asyncio.timeout(BOUND):
            port = int(await sender.stdout.readline())
            peer = WireGuardPeer(
                public_key=public_key(_SENDER_KEY), endpoint=("127.0.0.1", port), allowed_ips=["10.8.0.1"]
            )
            tun = await stack.create_tun_interface(ip="10.8.0.2/24", mtu=_MTU)
            link = await WireGuard.create(tun, private_key=_RECEIVER_KEY, host="127.0.0.1", peers=[peer])
            reader, writer = await stack.open_connection("10.8.0.1", _PORT)
            check = Check()
            started = perf_counter()
            while chunk := await reader.read(READ):
                check.take(chunk)
            seconds = perf_counter() - started
            check.finish(size)
            writer.close()
            await writer.wait_closed()
            await sender.wait()
            link.close()
    finally:
        if sender.returncode is None:
            sender.kill()
            await sender.wait()
    return rate(size, seconds)


# --- wireguard-go -------------------------------------------------------------------------------------------------


def _program() -> str | None:
    built = _ROOT / "build" / "peers" / "wireguard"
    found = str(built) if built.exists() else shutil.which("wireguard-go")
    return found if os.geteuid() == 0 and shutil.which("wg") and shutil.which("iperf3") else None


def _run(*argv: str, secret: str = "") -> str:
    return subprocess.run(argv, input=secret, capture_output=True, text=True, check=True, timeout=60).stdout


@contextlib.contextmanager
def _wireguard_go(program: str) -> Iterator[tuple[str, str]]:
    """Yield two namespaces with a tunnel between them, 10.8.0.1 and 10.8.0.2."""
    tag = secrets.token_hex(3)
    names = [f"tcpip-{tag}-{number}" for number in (1, 2)]
    devices = [f"wg{tag}{number}" for number in (1, 2)]
    processes: list[subprocess.Popen[bytes]] = []
    private = [_run("wg", "genkey") for _ in names]
    public = [_run("wg", "pubkey", secret=each).strip() for each in private]
    try:
        for name in names:
            _run("ip", "netns", "add", name)
        _run("ip", "-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, (name, device) in enumerate(zip(names, devices, strict=True)):
            _run("ip", "-n", name, "address", "add", f"192.0.2.{number + 1}/24", "dev", "cable")
            _run("ip", "-n", name, "link", "set", "cable", "up")
            inside = ("ip", "netns", "exec", name)
            quiet = subprocess.DEVNULL
            processes.append(subprocess.Popen([*inside, program, "-f", device], stdout=quiet, stderr=quiet))
            until = monotonic() + 30
            while not Path(f"/var/run/wireguard/{device}.sock").exists():
                if monotonic() > until:
                    raise RuntimeError("wireguard-go has made no device")
                sleep(0.02)
            own = ("private-key", "/dev/stdin", "listen-port", "51820")
            peer = ("peer", public[1 - number], "endpoint", f"192.0.2.{2 - number}:51820", "allowed-ips", "10.8.0.0/24")
            _run(*inside, "wg", "set", device, *own, *peer, secret=private[number])
            _run("ip", "-n", name, "address", "add", f"10.8.0.{number + 1}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "mtu", str(_MTU), "up")
        yield names[0], names[1]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for device in devices:
            Path(f"/var/run/wireguard/{device}.sock").unlink(missing_ok=True)
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=60)


async def _receive_beside(program: str, size: int) -> float:
    """Return what iperf3 measures through wireguard-go, as the receiver sees it."""

    def transfer() -> float:
        with _wireguard_go(program) as (near, far):
            server = subprocess.Popen(
                ["ip", "netns", "exec", far, "iperf3", "--server", "--one-off", "--forceflush"],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert server.stdout is not None
            try:
                for line in server.stdout:
                    if "listening" in line:
                        break
                client = ("iperf3", "--client", "10.8.0.2", "--bytes", str(size), "--congestion", "cubic", "--json")
                report = _run("ip", "netns", "exec", near, *client)
            finally:
                server.kill()
                server.wait()
                server.stdout.close()
        return float(json.loads(report)["end"]["sum_received"]["bits_per_second"]) / 1e9

    return await asyncio.to_thread(transfer)


async def measure(size: int, rounds: int) -> list[Measure]:
    """Measure one direction.

    Args:
        size: bytes of one transfer.
        rounds: how often each is measured, alternately.
    """
    program = _program()
    contenders = {"ours": partial(_receive, size)}
    if program is not None:
        contenders["wireguard-go"] = partial(_receive_beside, program, size)
    figures = await alternate(contenders, rounds)
    if program is None:
        spread = f"{min(figures['ours']):.3g} to {max(figures['ours']):.3g}"
        return [Measure(GROUP, NAME, median(figures["ours"]), UNIT, goal=GOAL, note=spread)]
    return [compared(GROUP, NAME, UNIT, figures["ours"], figures["wireguard-go"], GOAL, beside="wireguard-go")]


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1])))
