"""A user-mode Linux guest: a second kernel, of another version, with a network emulator the host's kernel
lacks.

Owns the guest's process group, its console and the socket that carries its Ethernet frames. The guest sees
the host's file system read-only, so that its programs are the host's and a file made here is a file there; it
runs one script as its first process, and ends when the context ends, whatever state it is in.

The frames: the guest's `bess` transport connects an AF_UNIX *seqpacket* socket to a path on which the test
listens when the guest brings its device up; then one message is one frame, either way, without any header. The guest
closes the socket when it brings the device down, and connects again when it brings it up. Its end has no name: with
`src=PATH` it would be bound to a file that the guest does not remove, so that it could not connect a second time.

The impairments: netem acts on what leaves a device. What the guest sends passes the netem of its network
device; what it receives is redirected to an `ifb` device and passes the netem there. So one rule impairs both
directions.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from .console import Console
from .fxsave_only import ENVIRONMENT

__all__ = ["Guest", "uml_guest", "user_mode_linux"]

_MEMORY = "256M"
_BOOT_SECONDS = 120.0  # it takes 1 to 3; a busy machine gets the benefit of the doubt

_MODULES = (
    "kernel/lib/crc-ccitt.ko",  # IPv6 needs it
    "kernel/net/ipv6/ipv6.ko",
    "kernel/net/sched/sch_netem.ko",
    "kernel/net/sched/sch_ingress.ko",
    "kernel/net/sched/cls_matchall.ko",
    "kernel/net/sched/act_mirred.ko",
    "kernel/drivers/net/ifb.ko",
)


class Guest(Console):
    """A running guest.

    Attributes:
        socket: carries its Ethernet frames, one a message; of type SOCK_SEQPACKET.
    """

    def __init__(self, frames: socket.socket, console: asyncio.StreamReader) -> None:
        super().__init__(console)
        self.socket = frames


@asynccontextmanager
async def user_mode_linux(script: str, *, addresses: Sequence[str], netem: str | None = None) -> AsyncIterator[Guest]:
    """Start a guest, wait until its network device is up, and end it with the context.

    Args:
        script: what the guest runs (sh, as root, in an empty writable folder) once its network is set up.
        What it
            prints appears in `Guest.line`.
        addresses: of the guest's device vec0, with prefix lengths; IPv4 and IPv6.
        netem: netem's options, applied to both directions, such as "loss 1% delay 20ms".
    """
    with (
        tempfile.TemporaryDirectory(prefix="tcpip-uml-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening,
    ):
        listening.setblocking(False)
        wire = Path(folder) / "wire"
        listening.bind(str(wire))
        listening.listen(1)
        async with _process(script, wire, addresses, netem) as process:
            assert process.stdout is not None
            with await _accept(listening, process) as frames:
                yield Guest(frames, process.stdout)


@asynccontextmanager
async def uml_guest(
    script: str, wire: Path, *, addresses: Sequence[str] = (), mac: str | None = None
) -> AsyncIterator[Console]:
    """Start a guest whose network device connects to a socket, and yield its console. It ends with the context.

    An exception that leaves the context has what is on the console as a note.

    Args:
        script: see `user_mode_linux`. It runs also where nothing listens at the socket: then the device is down.
        wire: the path of the socket, which has type SOCK_SEQPACKET.
        addresses: of the guest's device vec0, with prefix lengths; IPv4 and IPv6.
        mac: the device's hardware address; None is a random one.
    """
    async with _process(script, wire, addresses, None, mac) as process:
        assert process.stdout is not None
        console = Console(process.stdout)
        try:
            yield console
        except Exception as failure:
            await _kill(process)
            await console.explain(failure)
            raise


@asynccontextmanager
async def _process(
    script: str, wire: Path, addresses: Sequence[str], netem: str | None, mac: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    folder = Path(tempfile.mkdtemp(prefix="tcpip-uml-"))
    process: asyncio.subprocess.Process | None = None
    try:
        first = folder / "init"
        first.write_text(_init(script, addresses, netem))
        first.chmod(0o755)
        process = await asyncio.create_subprocess_exec(
            *_command(folder, first, f"dst={wire}" + (f",mac={mac}" if mac else "")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        yield process
    finally:
        if process is not None:
            await _kill(process)
        shutil.rmtree(folder)


async def _accept(listening: socket.socket, process: asyncio.subprocess.Process) -> socket.socket:
    loop = asyncio.get_running_loop()
    accepting = asyncio.create_task(loop.sock_accept(listening))
    exiting = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({accepting, exiting}, timeout=_BOOT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            return accepting.result()[0]
    finally:
        accepting.cancel()
        exiting.cancel()
    await _kill(process)
    assert process.stdout is not None
    console = (await process.stdout.read()).decode(errors="replace")
    raise RuntimeError(f"the guest did not bring its network up:\n{console[-4000:]}")


async def _kill(process: asyncio.subprocess.Process) -> None:
    # The guest's processes are processes of the host, all in the group of the first one.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _command(folder: Path, first: Path, device: str) -> list[str]:
    program = shutil.which("linux.uml")
    if program is None:
        raise FileNotFoundError("linux.uml")
    return [
        sys.executable,
        str(Path(__file__).with_name("fxsave_only.py")),
        program,
        f"mem={_MEMORY}",
        "root=/dev/root",
        "rootfstype=hostfs",
        "ro",
        "quiet",
        "panic=1",
        f"uml_dir={folder}",
        "con=null",
        "con0=null,fd:1",
        f"vec0:transport=bess,{device}",
        f"init={first}",
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
    ]


def _init(script: str, addresses: Sequence[str], netem: str | None) -> str:
    lines = [
        "#!/bin/sh",
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "mount -t proc none /proc && mount -t sysfs none /sys && mount -t tmpfs none /mnt && cd /mnt",
        'modules="/usr/lib/uml/modules/$(uname -r)"',
        f'for each in {" ".join(_MODULES)}; do busybox insmod "$modules/$each"; done',
        "ip link set lo up",
        *(f"ip address add {address} dev vec0" + (" nodad" if ":" in address else "") for address in addresses),
    ]
    if netem is not None:
        # The limit is in packets: the default of 1000 would drop more than the rule asks for.
        lines += [
            f"tc qdisc add dev vec0 root netem {netem} limit 20000",
            "ip link set ifb0 up",
            f"tc qdisc add dev ifb0 root netem {netem} limit 20000",
            "tc qdisc add dev vec0 handle ffff: ingress",
            "tc filter add dev vec0 parent ffff: matchall action mirred egress redirect dev ifb0",
        ]
    # The first process must never end: the kernel would panic. The context's end kills it.
    lines += ["ip link set vec0 up", script, "while :; do sleep 3600; done", ""]
    return "\n".join(lines)
