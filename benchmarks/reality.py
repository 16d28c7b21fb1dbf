"""Compares goodput on a link between two user-mode Linux guests with netem and between two simulated hosts.

The guests are two kernels of their own. Each sends its Ethernet frames over a socket; this process only copies them
from one to the other: rate, delay and loss are those of netem on each guest's device, for the packets it sends, with
one TCP segment in each packet (no segmentation offload). The simulated hosts have a `Link` of the same bandwidth, delay
and loss, in virtual time. One guest serves a file, the other fetches it with curl; one simulated host sends, the other
reads. The time is measured from the receiver's first byte to its last.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import Measure, compared, progress
from tcpip_wasm import create_stack
from tcpip_wasm.simulation import DropTail, Link, LinkSettings, run_virtually
from tests.interop.harness.uml import user_mode_linux

GROUP: Final = "simulated hosts, beside user-mode Linux"
UNIT: Final = "Mbit/s"
_SENDER, _RECEIVER, _PORT = "10.99.0.1", "10.99.0.2", 8080
_BOUND: Final = 120.0
_PIECE: Final = 65536


@dataclass(frozen=True, slots=True)
class Case:
    """A link, and the size of a transfer.

    Attributes:
        name: for the table.
        bandwidth: bit/s.
        delay: seconds, one way.
        loss: probability, in each direction.
        queue: packets that wait for the transmitter.
        size: bytes of one transfer.
        congestion: the guests' congestion control.
    """

    name: str
    bandwidth: float
    delay: float
    loss: float
    queue: int
    size: int
    congestion: str


def what_is_missing() -> str | None:
    """Return the first requirement of guests that this machine does not meet, or None."""
    for program in ("linux.uml", "busybox", "curl", "ip", "tc"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    return None


@contextmanager
def _wire(a: socket.socket, b: socket.socket) -> Iterator[None]:
    """Copy each frame from one socket to the other; none is dropped, a full socket blocks the other."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while frame := source.recv(65536):
                target.send(frame)

    threads = [threading.Thread(target=carry, args=ends) for ends in ((a, b), (b, a))]
    for end in (a, b):
        end.setblocking(True)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for end in (a, b):
            end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10.0)


def _script(case: Case, program: str) -> str:
    """Return the script of a guest: its side of the link, then its end of the transfer."""
    # netem's limit includes packets under way.
    under_way = round(case.bandwidth * case.delay / 8 / 1514)
    loss = f"loss {case.loss:.3%}" if case.loss else ""
    rule = f"rate {case.bandwidth:.0f}bit delay {case.delay * 1000:g}ms {loss} limit {case.queue + under_way}"
    return f"""
        ip link set vec0 gso_max_segs 1
        echo {case.congestion} > /proc/sys/net/ipv4/tcp_congestion_control
        tc qdisc add dev vec0 root netem {rule}
        {program}
    """


async def between_guests(case: Case) -> float:
    """Carry a transfer between two guests, and return Mbit/s of payload."""
    content = _content(case.size)
    with tempfile.TemporaryDirectory(prefix="tcpip-reality-") as folder:
        await asyncio.to_thread(Path(folder, "payload").write_bytes, content)
        # The daemon listens by the time busybox returns; netem's statistics are printed at the end.
        serving = _script(
            case,
            f"""busybox httpd -p {_PORT} -h {folder} && echo READY
                while sleep 1; do echo NETEM $(tc -s qdisc show dev vec0 root); done""",
        )
        fetching = _script(
            case,
            f"""curl -s -S -f -o arrived --connect-timeout 30 --retry 3 --retry-connrefused \\
                    -w 'CURL %{{time_starttransfer}} %{{time_total}}\\n' http://{_SENDER}:{_PORT}/payload
                echo SHA256 $(sha256sum < arrived)""",
        )
        async with (
            user_mode_linux(serving, addresses=[f"{_SENDER}/24"]) as server,
            user_mode_linux(fetching, addresses=[f"{_RECEIVER}/24"]) as client,
        ):
            with _wire(server.socket, client.socket):
                await server.line("READY", 30.0)
                began, ended = map(float, (await client.line("CURL", _BOUND)).split())
                digest = (await client.line("SHA256", 30.0)).split()[0]
    if digest != hashlib.sha256(content).hexdigest():
        raise ValueError(f"the received data has the SHA-256 {digest}")
    return case.size * 8e-6 / (ended - began)


def _content(size: int) -> bytes:
    return hashlib.shake_128(b"reality").digest(size)


async def _simulated(case: Case, seed: int) -> float:
    loop = asyncio.get_running_loop()
    content = _content(case.size)
    done: asyncio.Future[float] = loop.create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        digest = hashlib.sha256(await reader.read(_PIECE))
        began = ended = loop.time()
        while data := await reader.read(_PIECE):
            digest.update(data)
            ended = loop.time()
        writer.close()
        if digest.digest() == hashlib.sha256(content).digest():
            done.set_result(ended - began)
        else:
            done.set_exception(ValueError(f"the received data has the SHA-256 {digest.hexdigest()}"))

    settings = LinkSettings(
        bandwidth=case.bandwidth, delay=case.delay, loss=case.loss, queue=DropTail(packets=case.queue)
    )
    async with await create_stack(seed=2 * seed) as a, await create_stack(seed=2 * seed + 1) as b:
        tap_a = await a.create_tap_interface(ip=f"{_SENDER}/24")
        tap_b = await b.create_tap_interface(ip=f"{_RECEIVER}/24")
        link = Link(tap_a, tap_b, settings, seed=seed)
        server = await b.start_server(receive, _RECEIVER, _PORT)
        _, writer = await a.open_connection(_RECEIVER, _PORT)
        for at in range(0, case.size, _PIECE):
            writer.write(content[at : at + _PIECE])
            await writer.drain()
        writer.close()
        seconds = await done
        await writer.wait_closed()
        server.close()
        link.close()
    return case.size * 8e-6 / seconds


def between_simulated_hosts(case: Case, seed: int) -> float:
    """Carry a transfer between two simulated hosts, and return Mbit/s of payload."""
    return run_virtually(_simulated(case, seed))


def cases(quick: bool) -> list[Case]:
    """Return the cases to measure."""
    share = 10 if quick else 1
    return [
        Case(f"{name}, {congestion}", bandwidth, delay, loss, queue, size // share, congestion)
        for name, bandwidth, delay, loss, queue, size in (
            ("10 Mbit/s, 20 ms, 1 % loss", 10e6, 0.02, 0.01, 1000, 6_000_000),
            ("50 Mbit/s, 40 ms", 50e6, 0.04, 0.0, 1000, 50_000_000),
            ("50 Mbit/s, 40 ms, queue of 330 packets", 50e6, 0.04, 0.0, 330, 50_000_000),
        )
        for congestion in ("cubic", "reno")
    ]


async def measure(rounds: int, *, quick: bool = False) -> list[Measure]:
    """Measure each link between guests and between simulated hosts.

    Args:
        rounds: how often. Guests run in real time, and other load of the machine slows them down: without random loss
            the best round is the result, otherwise the median.
        quick: transfers a tenth of the bytes.
    """
    reason = what_is_missing()
    measures = []
    for case in cases(quick):
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(rounds):
            ours.append(await asyncio.to_thread(between_simulated_hosts, case, number))
            progress(f"round {number + 1} of {rounds}: {case.name}: simulated {ours[-1]:.3g}")
            if reason is None:
                theirs.append(await between_guests(case))
                progress(f"round {number + 1} of {rounds}: {case.name}: guests {theirs[-1]:.3g}")
        if theirs and not case.loss:
            theirs = [max(theirs)] * len(theirs)
        if reason is None:
            measures.append(compared(GROUP, case.name, UNIT, ours, theirs))
        else:
            measures.append(Measure(GROUP, case.name, ours[0], UNIT, note=f"no guests: {reason}"))
    return measures
