"""A guest's bulk transfers to and from a stack over QEMU's stream, beside gvproxy with the same guest.

At the other end of the stream is a tap of a stack in this process, whose server is asyncio's, or gvproxy, which copies
the guest's connection to a server on this machine's loopback: this process too, with blocking sockets in a thread,
which cost less. gvproxy is measured where the program is in `build/peers`; `make test-guests` builds it.

The guest is, in turn, Linux in QEMU, with one network card at each of the two; and this machine's kernel in a network
namespace, whose TAP device `frame_relay.c` joins to the stream. The first is the real thing, but where QEMU emulates
the processor, that is the limit; the second has no such limit.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

from benchmarks import kernel
from benchmarks.bulk import BOUND, rate
from benchmarks.payload import READ, Check, writes
from benchmarks.report import Goal, Measure, alternate, compared
from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import listen_qemu, open_tuntap
from tests.interop.harness.go import FOLDER
from tests.interop.harness.gvproxy import GUEST, HOST, gvproxy
from tests.interop.harness.qemu import guest_files, initial_files, qemu

GROUP: Final = "guest over QEMU's stream"
UNIT: Final = "Gbit/s"
MTUS: Final = (1500, 65520)
_ROOT: Final = Path(__file__).resolve().parent.parent
_RELAY: Final = Path(__file__).with_name("frame_relay.c")
_PROGRAM: Final = FOLDER / "gvproxy"
_DEVICE: Final = "guest0"
_NETWORK: Final = "192.168.127.0/24"
_BLOCKING_READ: Final = 262144
_BOOT: Final = 120.0

Role = Literal["send", "receive"]
"""What the guest does."""

ROLES: Final[dict[Role, str]] = {"send": "from the guest", "receive": "to the guest"}


class Switch:
    """What is at the other end of a guest's stream.

    Attributes:
        serve: serves one connection of the guest, which plays a role with so many bytes; returns Gbit/s.
        port: of the server, at `HOST`.
    """

    def __init__(self, serve: Callable[[Role, int], Awaitable[float]], port: int) -> None:
        self.serve = serve
        self.port = port


Contender = Callable[[Path, int], AbstractAsyncContextManager[Switch]]


# --- A stack ------------------------------------------------------------------------------------------------------


async def _serve_on_stack(stack: NetworkStack, role: Role, size: int) -> float:
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            started = perf_counter()
            if role == "receive":
                for data in writes(size):
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()
                if await reader.read() != b"!":
                    raise ValueError("the guest received wrong data")
            else:
                check = Check()
                while chunk := await reader.read(READ):
                    check.take(chunk)
                check.finish(size)
            done.set_result(perf_counter() - started)
        except (OSError, ValueError) as error:
            done.set_exception(error)
        writer.close()

    async with await stack.start_server(serve, HOST, kernel.PORT), asyncio.timeout(BOUND):
        return rate(size, await done)


@asynccontextmanager
async def stack_switch(path: Path, mtu: int) -> AsyncIterator[Switch]:
    """A stack with a tap for the guest."""
    async with await create_stack() as stack:
        tap = await stack.create_tap_interface(ip=f"{HOST}/24", mtu=mtu)
        async with await listen_qemu(f"unix:{path}", lambda: tap):
            yield Switch(partial(_serve_on_stack, stack), kernel.PORT)


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
            if connection.recv(16) != b"!":
                raise ValueError("the guest received wrong data")
        else:
            check = Check()
            while chunk := connection.recv(_BLOCKING_READ):
                check.take(chunk)
            check.finish(size)
        return rate(size, perf_counter() - started)


@asynccontextmanager
async def gvproxy_switch(path: Path, mtu: int) -> AsyncIterator[Switch]:
    """gvproxy, and a server on the loopback of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(BOUND)
        async with gvproxy(_PROGRAM, "qemu", "unix", path, mtu=mtu):
            serve = partial(asyncio.to_thread, _serve_on_loopback, listener)
            yield Switch(serve, listener.getsockname()[1])


CONTENDERS: Final[dict[str, Contender]] = {"stack": stack_switch, "gvproxy": gvproxy_switch}


# --- The machine's kernel as the guest ----------------------------------------------------------------------------


def compile_relay(folder: Path) -> Path:
    """Compile the relay with the C compiler that builds the module, and return the program."""
    program = folder / "frame_relay"
    command = (sys.executable, "-m", "ziglang", "cc", "-O2", "-pthread", "-o", str(program), str(_RELAY))
    subprocess.run(command, check=True, timeout=300)
    return program


@contextmanager
def _kernel_guest(relay: Path, path: Path, mtu: int) -> Iterator[str]:
    """Join the kernel to the stream, in a network namespace, and yield its name."""
    name = f"tcpip-{secrets.token_hex(4)}"
    kernel.ip("netns", "add", name)
    try:
        with open_tuntap(_DEVICE, kind="tap", namespace=name, mtu=mtu) as device:
            kernel.ip("-n", name, "address", "add", f"{GUEST}/24", "dev", _DEVICE)
            kernel.ip("-n", name, "link", "set", _DEVICE, "up")
            # The default congestion control differs between machines.
            route = (_NETWORK, "dev", _DEVICE, "src", GUEST, "congctl", "cubic")
            kernel.ip("-n", name, "route", "change", *route)
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


async def _carry_by_kernel(relay: Path, contender: Contender, mtu: int, role: Role, size: int) -> float:
    with tempfile.TemporaryDirectory(prefix="tcpip-") as folder:
        path = Path(folder) / "stream"
        async with contender(path, mtu) as switch:
            with _kernel_guest(relay, path, mtu) as namespace:
                peer = await kernel.peer(namespace, role, HOST, switch.port, size)
                try:
                    figure = await switch.serve(role, size)
                    if await peer.wait() != 0:
                        raise ValueError(f"the guest's program failed with status {peer.returncode}")
                    return figure
                finally:
                    if peer.returncode is None:
                        peer.kill()
                        await peer.wait()
