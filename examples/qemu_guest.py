"""A virtual machine whose only network is a stack: Linux in QEMU fetches a file, and is fetched from.

The stack listens at a Unix socket for QEMU's `-netdev stream`. The guest is Debian's kernel for virtual machines with
busybox as its only program, in memory. SHA-256 of the files is compared. Needs no root, but qemu-system-x86,
linux-image-cloud-amd64, busybox-static and cpio; if one is missing the program prints which, and exits with status 77,
which test runners interpret as "skipped". The processor is emulated, so that it runs everywhere; where KVM is
there, replace `tcg` by `kvm`.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import listen_qemu

SKIPPED = 77
MODULES = ("virtio_pci", "virtio_net", "af_packet")
INIT = """#!/busybox sh
/busybox --install -s /bin
mount -t devtmpfs none /dev
for each in $(cat /order); do insmod /$each; done
ip link set eth0 up
ip address add 10.0.2.2/24 dev eth0
wget -q -O /file http://10.0.2.1/file
nc -l -p 80 -e cat /file
sleep 1000
"""


def what_is_missing() -> str | None:
    """Return the first requirement that this machine does not meet, or None."""
    for program, package in (
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("cpio", "cpio"),
    ):
        if shutil.which(program) is None:
            return f"it needs the program {program!r} (on Debian: apt install {package})"
    if not list(Path("/boot").glob("vmlinuz-*-cloud-amd64")):
        return "it needs a kernel for the guest (on Debian: apt install linux-image-cloud-amd64)"
    return None


def guest_files(folder: Path) -> tuple[Path, Path]:
    """Return the paths of a kernel and of an initial file system, which is written to the folder."""
    kernel = max(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
    root = folder / "root"
    for name in ("bin", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "busybox")
    order: list[str] = []
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).stem in MODULES:
            order += [each for each in (*reversed(needs.split()), path) if each not in order]
    for module in order:
        shutil.copy(modules / module, root)
    (root / "order").write_text("\n".join(Path(module).name for module in order))
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    archive = folder / "initrd"
    with archive.open("wb") as output:
        command = ["cpio", "--create", "--format=newc", "--quiet"]
        subprocess.run(command, cwd=root, input=names.encode(), stdout=output, check=True)
    return kernel, archive


async def main() -> None:
    data = random.Random(1).randbytes(1_000_000)
    fetched = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
        writer.close()
        fetched.set()

    with tempfile.TemporaryDirectory() as temporary:
        kernel, archive = guest_files(Path(temporary))
        socket = f"{temporary}/vm.sock"
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.2.1/24")
            async with await stack.start_server(serve, None, 80), await listen_qemu(f"unix:{socket}", lambda: tap):
                machine = await asyncio.create_subprocess_exec(
                    *("qemu-system-x86_64", "-accel", "tcg", "-m", "256M", "-display", "none", "-nodefaults"),
                    *("-kernel", str(kernel), "-initrd", str(archive), "-append", "quiet panic=-1", "-no-reboot"),
                    *("-netdev", f"stream,id=card,server=off,addr.type=unix,addr.path={socket}"),
                    *("-device", "virtio-net-pci,netdev=card"),
                )
                try:
                    await asyncio.wait_for(fetched.wait(), 120)
                    print("the guest has fetched the file")
                    print(f"the stack has fetched it back: {await fetch_back(stack, data)}")
                finally:
                    machine.kill()
                    await machine.wait()


async def fetch_back(stack: NetworkStack, data: bytes) -> str:
    """Return whether what the guest serves is what it fetched; it listens some time after the fetch."""
    async with asyncio.timeout(60):
        while True:
            try:
                reader, writer = await stack.open_connection("10.0.2.2", 80)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
        arrived = await reader.read(-1)
    writer.close()
    return "the same" if hashlib.sha256(arrived).digest() == hashlib.sha256(data).digest() else "it differs"


if __name__ == "__main__":
    if reason := what_is_missing():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    asyncio.run(main())
