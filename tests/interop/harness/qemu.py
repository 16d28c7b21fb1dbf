"""A Linux guest in QEMU with nothing but a network card: KVM where this machine has it, else emulation.

Owns the initial file system, QEMU's process and the guest's console. The guest runs one script as its first process and
ends when the context ends. Its kernel is Debian's for virtual machines (linux-image-cloud-amd64), its programs are this
machine's busybox and what the test names, with their libraries.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

from .console import Console

__all__ = [
    "NETWORK_BOOT_ROM",
    "UEFI",
    "UEFI_LOADER",
    "accelerators",
    "guest_files",
    "initial_files",
    "linux_guest",
    "qemu",
]

UEFI = Path("/usr/share/ovmf/OVMF.fd")
"""The firmware of Debian's ovmf, for ``-bios``: it keeps no variables."""

UEFI_LOADER = Path("/usr/lib/ipxe/snponly.efi")
"""iPXE as a program for UEFI, which uses the firmware's driver of the card; from Debian's ipxe."""

NETWORK_BOOT_ROM = Path("/usr/lib/ipxe/qemu/efi-virtio.rom")
"""iPXE, the ROM that QEMU gives to a virtio card by default; from Debian's ipxe-qemu. QEMU adapts the identifiers in
this one to the card; one that is named by `romfile` stays as it is, and the BIOS does not run it on another card."""

_MEMORY = "512M"

_ACCELERATED = ("-accel", "kvm", "-cpu", "host")
_EMULATED = ("-accel", "tcg")
_BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio")

_PROBE_SECONDS = 10.0  # with KVM the kernel's first line comes after one

_MODULES = ("virtio_pci", "virtio_net", "af_packet")

_INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ LD_LIBRARY_PATH=/lib
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /etc
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp
for each in $(cat /modules/order); do insmod /modules/$each; done
ip link set lo up
# An address that is still checked for duplicates is not used, and connections would leave from ::1.
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 up
cd /tmp
. /script
while :; do sleep 3600; done
"""

_LEASE = """#!/bin/busybox sh
case "$1" in
bound|renew)
  ip address flush dev eth0 scope global
  ip address add "$ip/$mask" dev eth0
  [ -z "$router" ] || ip route add default via "$router"
  : >/etc/resolv.conf
  [ -z "$domain" ] || echo "search $domain" >>/etc/resolv.conf
  for each in $dns; do echo "nameserver $each" >>/etc/resolv.conf; done;;
esac
"""


def guest_files() -> tuple[Path, Path] | None:
    """Return the guest's kernel and the folder of its modules, or None where it is not installed."""
    kernels = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    if not kernels:
        return None
    return kernels[-1], Path("/lib/modules") / kernels[-1].name.removeprefix("vmlinuz-")


@cache
def accelerators() -> tuple[str, ...]:
    """Return QEMU's options for KVM where a Linux guest boots on it, else for emulation.

    A machine that is a guest itself may have /dev/kvm and run a BIOS on it, but no Linux.
    """
    found = guest_files()
    if found is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return _EMULATED
    probe = subprocess.Popen(
        [
            *(_path_of("qemu-system-x86_64"), *_ACCELERATED, "-m", "256M", *_BARE, "-kernel", str(found[0])),
            *("-append", "console=ttyS0 panic=-1"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert probe.stdout is not None
    timer = threading.Timer(_PROBE_SECONDS, probe.kill)
    timer.start()
    try:
        return _ACCELERATED if any(b"Linux version" in line for line in probe.stdout) else _EMULATED
    finally:
        timer.cancel()
        probe.kill()
        probe.wait()
        probe.stdout.close()


def initial_files(
    folder: Path, script: str, programs: Sequence[str] = (), files: Mapping[str, Path] | None = None
) -> tuple[Path, Path]:
    """Write an initial file system, and return the paths of the kernel and of it.

    Args:
        folder: an empty folder for it.
        script: what the guest runs (busybox's sh, as root, in an empty writable folder) with its card eth0 up. The
            programs of busybox are there; ``udhcpc -i eth0 -s /lease`` applies a lease.
        programs: further programs of this machine, such as ``"curl"``.
        files: further files by their names in the guest's root.
    """
    found = guest_files()
    assert found is not None, "linux-image-cloud-amd64 is not installed"
    kernel, modules = found
    root = folder / "root"
    for name in ("bin", "lib", "lib64", "modules", "etc"):
        (root / name).mkdir(parents=True)
    order = _module_order(modules)
    for module in order:
        shutil.copy(modules / module, root / "modules")
    (root / "modules/order").write_text("\n".join(Path(module).name for module in order))
    shutil.copy(_path_of("busybox"), root / "bin/busybox")
    for program in programs:
        path = _path_of(program)
        shutil.copy(path, root / "bin" / program)
        for library in _libraries(path):
            shutil.copy(library, root / "lib")
    loader = root / "lib/ld-linux-x86-64.so.2"
    if loader.exists():
        shutil.copy(loader, root / "lib64")
    for name, text in (("init", _INIT), ("lease", _LEASE), ("script", script + "\n")):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    for name, source in (files or {}).items():
        shutil.copy(source, root / name)
    archive = folder / "initrd"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with archive.open("wb") as output:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"], cwd=root, input=names.encode(), stdout=output, check=True
        )
    return kernel, archive


@asynccontextmanager
async def qemu(
    netdev: str, *options: str, card: str = "virtio-net-pci", mac: str | None = None
) -> AsyncIterator[Console]:
    """Run a machine with one network card, and yield its console. It ends with the context.

    An exception that leaves the context has what is on the console as a note.

    Args:
        netdev: QEMU's ``-netdev`` without its ``id``.
        options: further options, such as ``-kernel``.
        card: the model of the card.
        mac: its address; None takes QEMU's default.
    """
    options = (*await asyncio.to_thread(accelerators), *options)
    device = f"{card},netdev=card" + (f",mac={mac}" if mac else "")
    process = await asyncio.create_subprocess_exec(
        _path_of("qemu-system-x86_64"),
        *("-m", _MEMORY, *_BARE),
        *("-netdev", f"{netdev},id=card", "-device", device, "-device", "virtio-rng-pci"),
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    console = Console(process.stdout)
    failure: Exception | None = None
    try:
        yield console
    except Exception as error:
        failure = error
        raise
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if failure is not None:
            await console.explain(failure)


@asynccontextmanager
async def linux_guest(
    netdev: str, script: str, *, programs: Sequence[str] = (), mac: str | None = None
) -> AsyncIterator[Console]:
    """Boot a Linux guest directly, without a network; see `initial_files` and `qemu`."""
    with tempfile.TemporaryDirectory(prefix="tcpip-qemu-") as folder:
        kernel, archive = initial_files(Path(folder), script, programs)
        boot = ("-kernel", str(kernel), "-initrd", str(archive), "-append", "console=ttyS0 panic=-1 quiet")
        async with qemu(netdev, *boot, mac=mac) as console:
            yield console


def _module_order(modules: Path) -> list[str]:
    """Return the files of the modules that the guest needs, each after those that it depends on. A module that is built
    into the kernel has none."""
    order: list[str] = []
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).stem in _MODULES:
            order += [each for each in (*reversed(needs.split()), path) if each not in order]
    return order


def _path_of(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(program)
    return path


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)
