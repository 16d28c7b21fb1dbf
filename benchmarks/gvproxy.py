"""A guest's bulk transfers to and from a stack over QEMU's stream, beside gvproxy with the same guest.

At the other end of the stream is a tap of a stack in this process, whose server is asyncio's, or gvproxy, which copies
the guest's connection to a server on this machine's loopback: this process too, with blocking sockets in a thread,
which cost less. gvproxy is measured where the program is in `build/peers`; `make test-guests` builds it.

The guest is, in turn, Linux in QEMU, with a network card at each of the two; and this machine's kernel in a network
namespace, whose TAP device `frame_relay.c` joins to the stream. The first is the real thing, but where QEMU emulates
the processor, that is the limit; the second has no such limit. Processor time is what the stack's side spends: this
process, and gvproxy.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Final, Literal

from benchmarks import kernel
from benchmarks.bulk import BOUND, rate
from benchmarks.payload import WRITE, Check, writes
from benchmarks.report import Goal, Measure, alternate, compared
from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import listen_qemu, open_tuntap
from tests.interop.harness.console import Console
from tests.interop.harness.go import FOLDER
from tests.interop.harness.gvproxy import GUEST, HOST, gvproxy
from tests.interop.harness.qemu import guest_files, initial_files, qemu

GROUP: Final = "guest over QEMU's stream"
UNIT: Final = "Gbit/s"
OURS, BESIDE = "stack", "gvproxy"
MTUS: Final = (1500, 65520)
_RELAY: Final = Path(__file__).with_name("frame_relay.c")
_PROGRAM: Final = FOLDER / "gvproxy"
_DEVICE: Final = "guest0"
_BLOCKING_READ: Final = 262144
_BOOT: Final = 180.0

FILE: Final = 10 * 5 * WRITE
"""Bytes of the guest's file: whole periods of the payload, so that the file repeated is the payload of greater size."""

Role = Literal["send", "receive"]
"""What the guest does."""

ROLES: Final[dict[Role, str]] = {"send": "from the guest", "receive": "to the guest"}


@dataclass(frozen=True, slots=True)
class Switch:
    """What is at the other end of a guest's stream.

    Attributes:
        host, port: the server's address and port, as the guest reaches it.
        guest: the guest's address; the prefix has 24 bits.
        serve: serves one connection of a guest with a role and so many bytes, and returns Gbit/s.
        processor_time: returns the processor time that this side has spent so far, in seconds.
    """

    host: str
    port: int
    guest: str
    serve: Callable[[Role, int], Awaitable[float]]
    processor_time: Callable[[], float]


Contender = Callable[[Path, int], AbstractAsyncContextManager[Switch]]

# --- A stack ------------------------------------------------------------------------------------------------------

_STACK: Final = "10.99.0.1"


async def _serve_on_stack(stack: NetworkStack, role: Role, size: int) -> float:
    async with kernel.server(stack, _STACK, role, size) as done, asyncio.timeout(BOUND):
        return rate(size, await done)


@asynccontextmanager
async def _stack_at(path: Path, mtu: int) -> AsyncIterator[NetworkStack]:
    """Yield a stack with a tap for the guest."""
    async with await create_stack() as stack:
        tap = await stack.create_tap_interface(ip=f"{_STACK}/24", mtu=mtu)
        async with await listen_qemu(f"unix:{path}", lambda: tap):
            yield stack


def _switch_of(stack: NetworkStack) -> Switch:
    return Switch(_STACK, kernel.PORT, "10.99.0.2", partial(_serve_on_stack, stack), process_time)


@asynccontextmanager
async def stack_switch(path: Path, mtu: int) -> AsyncIterator[Switch]:
    """Yield a stack with a tap for the guest."""
    async with _stack_at(path, mtu) as stack:
        yield _switch_of(stack)


# --- gvproxy ------------------------------------------------------------------------------------------------------


def _serve_on_loopback(listener: socket.socket, role: Role, size: int) -> float:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(BOUND)
        started = perf_counter()
        if role == "receive":
            for data in writes(size):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            if (answer := connection.recv(16)) != b"!":
                raise ValueError(f"the guest has not received the data: it sent {answer!r}, not b'!'")
        else:
            check = Check()
            while chunk := connection.recv(_BLOCKING_READ):
                check.take(chunk)
            check.finish(size)
        return rate(size, perf_counter() - started)


def _processor_time(pid: int) -> float:
    """Return the seconds that this process and another one have run; see proc(5), `/proc/PID/stat`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def gvproxy_switch(path: Path, mtu: int) -> AsyncIterator[Switch]:
    """Yield gvproxy and a server on the loopback of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(BOUND)
        async with gvproxy(_PROGRAM, "qemu", "unix", path, mtu=mtu) as process:

            async def serve(role: Role, size: int) -> float:
                return await asyncio.to_thread(_serve_on_loopback, listener, role, size)

            yield Switch(HOST, listener.getsockname()[1], GUEST, serve, partial(_processor_time, process.pid))


CONTENDERS: Final[dict[str, Contender]] = {OURS: stack_switch, BESIDE: gvproxy_switch}

# --- The machine's kernel as the guest ----------------------------------------------------------------------------


def compile_relay(folder: Path) -> Path:
    """Compile the relay with the C compiler that builds the module, and return the program."""
    program = folder / "frame_relay"
    command = (sys.executable, "-m", "ziglang", "cc", "-O2", "-pthread", "-o", str(program), str(_RELAY))
    subprocess.run(command, check=True, timeout=300)
    return program


@contextmanager
def _kernel_guest(relay: Path, path: Path, switch: Switch, mtu: int) -> Iterator[str]:
    """Join the kernel to the stream, in a network namespace, and yield its name."""
    name = f"tcpip-{secrets.token_hex(4)}"
    kernel.ip("netns", "add", name)
    try:
        with open_tuntap(_DEVICE, kind="tap", namespace=name, mtu=mtu) as device:
            kernel.ip("-n", name, "address", "add", f"{switch.guest}/32", "dev", _DEVICE)
            kernel.ip("-n", name, "link", "set", _DEVICE, "up")
            # The default congestion control differs between machines.
            kernel.ip("-n", name, "route", "add", switch.host, "dev", _DEVICE, "congctl", "cubic")
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(path))
                ends = (device.fd, stream.fileno())
                process = subprocess.Popen([relay, *map(str, ends)], pass_fds=ends)
            try:
                yield name
            finally:
                process.kill()
                process.wait()
    finally:
        kernel.ip("netns", "delete", name)


async def by_kernel(relay: Path, contender: Contender, mtu: int, role: Role, size: int, spent: list[float]) -> float:
    """Carry so many bytes with the kernel as the guest, and return Gbit/s.

    Args:
        relay: the program that `compile_relay` returns.
        contender: makes the other end of the stream.
        mtu: of the guest's device, in bytes.
        role: what the guest does.
        size: bytes of payload.
        spent: where the processor time is appended, in seconds for each GiB.
    """
    with tempfile.TemporaryDirectory(prefix="tcpip-") as folder:
        path = Path(folder) / "stream"
        async with contender(path, mtu) as switch:
            with _kernel_guest(relay, path, switch, mtu) as namespace:
                async with kernel.peer(namespace, role, switch.host, switch.port, size):
                    return await _measured(switch, role, size, spent)


async def _measured(switch: Switch, role: Role, size: int, spent: list[float]) -> float:
    before = switch.processor_time()
    figure = await switch.serve(role, size)
    spent.append((switch.processor_time() - before) * 2**30 / size)
    return figure


# --- Linux in QEMU as the guest -----------------------------------------------------------------------------------

_COMMANDS: Final = 9001

_SCRIPT: Final = """
ip link set eth1 up
for each in eth0 eth1; do ip link set $each mtu {mtu}; done
ip address add {first}/24 dev eth0
ip address add {second}/24 dev eth1
while nc {host} {port} </dev/null >command; do . ./command; done
"""
"""It fetches a command from the stack over the first card, runs it, and does so again."""

_RUN: Final[dict[Role, str]] = {
    "send": "nc {host} {port} -e cat {files}\n",
    "receive": "nc {host} {port} -e sh -c 'dd of=got bs=64k 2>error; printf !'; "
    "echo HASH $(sha256sum <got | cut -d ' ' -f 1)\n",
}


class MachineGuest:
    """A running guest that takes commands."""

    def __init__(self, console: Console, commands: asyncio.Queue[str]) -> None:
        self._console = console
        self._commands = commands

    async def carry(self, switch: Switch, role: Role, size: int, spent: list[float]) -> float:
        """Carry so many bytes, a multiple of `FILE`, and return Gbit/s; see `by_kernel`."""
        files = " ".join(["/payload"] * (size // FILE))
        self._commands.put_nowait(_RUN[role].format(host=switch.host, port=switch.port, files=files))
        figure = await _measured(switch, role, size, spent)
        if role == "receive":
            expected = hashlib.sha256()
            for data in writes(size):
                expected.update(data)
            if (received := await self._console.line("HASH", BOUND)) != expected.hexdigest():
                raise ValueError(f"the guest received data with SHA-256 {received}, not {expected.hexdigest()}")
        return figure


@asynccontextmanager
async def machine_guest(mtu: int) -> AsyncIterator[tuple[MachineGuest, dict[str, Switch]]]:
    """Boot a machine with a card at a stack and a card at gvproxy. Yield the machine, and both other ends by name."""
    commands: asyncio.Queue[str] = asyncio.Queue()

    async def command(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await commands.get()).encode())
        writer.close()

    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="tcpip-")))
        paths = [folder / name for name in ("first", "second")]
        stack = await exits.enter_async_context(_stack_at(paths[0], mtu))
        second = await exits.enter_async_context(gvproxy_switch(paths[1], mtu))
        first = _switch_of(stack)
        await exits.enter_async_context(await stack.start_server(command, _STACK, _COMMANDS))
        payload = folder / "payload"
        payload.write_bytes(b"".join(writes(FILE)))
        script = _SCRIPT.format(mtu=mtu, first=first.guest, second=second.guest, host=_STACK, port=_COMMANDS)
        (files := folder / "files").mkdir()
        boot, archive = initial_files(files, script, files={"payload": payload})
        nets = [f"stream,server=off,addr.type=unix,addr.path={path}" for path in paths]
        options = (
            *("-kernel", str(boot), "-initrd", str(archive), "-append", "console=ttyS0 panic=-1 quiet"),
            *("-netdev", f"{nets[1]},id=second", "-device", "virtio-net-pci,netdev=second,mac=52:54:00:12:34:57"),
        )
        console = await exits.enter_async_context(qemu(nets[0], *options))
        yield MachineGuest(console, commands), {OURS: first, BESIDE: second}


# --- The parts ----------------------------------------------------------------------------------------------------


def what_is_missing(*, machine: bool) -> str | None:
    """Return the first requirement that this machine does not meet, or None."""
    if reason := kernel.what_is_missing():
        return reason
    if not _PROGRAM.exists():
        return "gvproxy is not in build/peers, where make test-guests builds it"
    if machine and guest_files() is None:
        return "Debian's linux-image-cloud-amd64 is not installed"
    return None


Figures = dict[str, list[float]]


def _measures(name: str, figures: Figures, spent: Figures) -> list[Measure]:
    time, least = f"{name}, processor time", Goal(1.0, most=True)
    return [
        compared(GROUP, name, UNIT, figures[OURS], figures[BESIDE], Goal(1.0), beside=BESIDE),
        compared(GROUP, time, "s/GiB", spent[OURS], spent[BESIDE], least, beside=BESIDE),
    ]


def _best(figures: Figures, spent: Figures) -> tuple[Figures, Figures]:
    """Return the best round of each: the highest rate, and the lowest processor time.

    An emulated guest takes more than one of two processors: other work on them changes a round by half.
    """
    return {name: [max(each)] for name, each in figures.items()}, {name: [min(each)] for name, each in spent.items()}


async def measure(size: int, rounds: int, machine: tuple[int, int] | None) -> list[Measure]:
    """Measure both directions and both MTUs, with checksums.

    Args:
        size: bytes of one transfer of the kernel.
        rounds: how often each is measured, alternately.
        machine: size and rounds for the guest in QEMU, of which the best round counts; None leaves it out.
    """
    if reason := what_is_missing(machine=machine is not None):
        return [Measure(GROUP, "from and to the guest", None, UNIT, note=f"skipped: {reason}")]
    measures: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="tcpip-") as folder:
        relay = compile_relay(Path(folder))
        for mtu in MTUS:
            for role, direction in ROLES.items():
                spent: dict[str, list[float]] = {name: [] for name in CONTENDERS}
                figures = await alternate(
                    {
                        name: partial(by_kernel, relay, contender, mtu, role, size, spent[name])
                        for name, contender in CONTENDERS.items()
                    },
                    rounds,
                )
                measures += _measures(f"{direction} (the kernel), MTU {mtu}", figures, spent)
    if machine is None:
        return measures
    size, rounds = machine
    for mtu in MTUS:
        async with machine_guest(mtu) as (guest, switches):
            for role, direction in ROLES.items():
                for switch in switches.values():  # what QEMU has translated once is faster from then on
                    await guest.carry(switch, role, size, [])
                spent = {name: [] for name in CONTENDERS}
                figures = await alternate(
                    {name: partial(guest.carry, switch, role, size, spent[name]) for name, switch in switches.items()},
                    rounds,
                )
                measures += _measures(f"{direction} (in QEMU), MTU {mtu}", *_best(figures, spent))
    return measures
