"""A stack and the machine's own kernel: each fetches a file from the other.

Creates a network namespace with a TAP device, attaches a stack to the device, and transfers a file in each
direction over IPv4 and IPv6:

  - the kernel's curl fetches it from an HTTP server inside the stack;
  - the stack fetches it from Python's http.server inside the namespace.

The SHA-256 of the received files is compared, and the throughput printed. The rest of the machine is not
affected, and the program cleans up at its end. Needs Linux, root, iproute2 and curl; if one is missing it
prints which, and exits with status 77, which test runners interpret as "skipped".

    sudo .venv/bin/python examples/kernel_tap.py [megabytes]
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import open_tuntap

SKIPPED = 77
DEVICE = "tap0"
PORT = 8080
STACK, KERNEL = ("10.77.0.1", "fd77::1"), ("10.77.0.2", "fd77::2")
PREFIX = {"10.77.0.1": 24, "10.77.0.2": 24, "fd77::1": 64, "fd77::2": 64}


def what_is_missing() -> str | None:
    """Return the first requirement that this machine does not meet, or None."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make a network namespace (try sudo)"
    if not Path("/dev/net/tun").exists():
        return "it needs /dev/net/tun"
    for program in ("ip", "curl"):
        if shutil.which(program) is None:
            return f"it needs the program {program!r} (on Debian: apt install iproute2 curl)"
    return None


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    name = f"tcpip-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def configure_kernel(name: str) -> None:
    """Configure the addresses of the kernel's end of the device, and bring it up."""
    for address in KERNEL:
        # Duplicate address detection would delay the use of the IPv6 address by a second.
        options = ["nodad"] if ":" in address else []
        cidr = f"{address}/{PREFIX[address]}"
        subprocess.run(["ip", "-n", name, "address", "add", cidr, "dev", DEVICE, *options], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", DEVICE, "up"], check=True)


def url(host: str) -> str:
    return f"http://[{host}]:{PORT}/payload" if ":" in host else f"http://{host}:{PORT}/payload"


async def kernel_fetches(stack: NetworkStack, name: str, host: str, data: bytes, folder: Path) -> float:
    """Let the kernel's curl fetch the data from a server on the stack; return Gbit/s."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        view = memoryview(data)
        for offset in range(0, len(view), 65536):
            writer.write(view[offset : offset + 65536])
            await writer.drain()
        writer.close()

    async with await stack.start_server(serve, host, PORT):
        arrived = folder / "arrived"
        curl = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", name, "curl", "--silent", "--show-error", "--fail", "--globoff"),
            *("--noproxy", "*", "--max-time", "120", "--write-out", "%{speed_download}"),
            *("--output", str(arrived), url(host)),
            stdout=asyncio.subprocess.PIPE,
        )
        speed, _ = await curl.communicate()
        if curl.returncode != 0:
            raise SystemExit(f"curl ended with status {curl.returncode}")
    check(hashlib.sha256(arrived.read_bytes()), data)
    return float(speed) * 8 / 1e9


async def stack_fetches(stack: NetworkStack, name: str, host: str, data: bytes, folder: Path) -> float:
    """Let the stack fetch the data from Python's HTTP server in the namespace; return Gbit/s."""
    (folder / "payload").write_bytes(data)
    server = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", name, sys.executable, "-I", "-u", "-m", "http.server", str(PORT)),
        *("--bind", host, "--directory", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        await server.stdout.readline()  # it prints a line when it listens
        clock = asyncio.get_running_loop().time
        reader, writer = await stack.open_connection(host, PORT)
        started = clock()
        writer.write(b"GET /payload HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        digest = hashlib.sha256()
        while chunk := await reader.read(65536):
            digest.update(chunk)
        seconds = clock() - started
        writer.close()
    finally:
        server.kill()
        await server.wait()
    check(digest, data)
    return len(data) * 8 / seconds / 1e9


def check(arrived: hashlib._Hash, sent: bytes) -> None:
    if arrived.hexdigest() != hashlib.sha256(sent).hexdigest():
        raise SystemExit("the received data differs from the data sent")


def report(megabytes: int, route: str, rate: float) -> None:
    print(f"{megabytes} MB {route}: same SHA-256, {rate:.2f} Gbit/s", flush=True)


async def main(megabytes: int) -> None:
    source = random.Random(1)
    data = b"".join(source.randbytes(1_000_000) for _ in range(megabytes))
    with (
        tempfile.TemporaryDirectory() as temporary,
        namespace() as name,
        open_tuntap(DEVICE, kind="tap", namespace=name) as device,
    ):
        folder = Path(temporary)
        configure_kernel(name)
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface(ip=[f"{host}/{PREFIX[host]}" for host in STACK])
            link = device.attach(tap)
            for ours, theirs in zip(STACK, KERNEL, strict=True):
                rate = await kernel_fetches(stack, name, ours, data, folder)
                report(megabytes, f"from the stack ({ours}) to the kernel's curl", rate)
                rate = await stack_fetches(stack, name, theirs, data, folder)
                report(megabytes, f"from the kernel ({theirs}) to the stack", rate)
            link.close()
            print(link.counters)


if __name__ == "__main__":
    if reason := what_is_missing():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
