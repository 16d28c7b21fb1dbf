"""Requirements of peers; a test is skipped with the reason where one is missing.

With `TCPIP_WASM_REQUIRE_PEERS=1` a missing peer fails instead, so that a continuous run that claims to have
real peers cannot quietly have none.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from .networkd import NETWORKD
from .qemu import NETWORK_BOOT_ROM, UEFI, UEFI_LOADER, guest_files

__all__ = [
    "missing",
    "require_kernel_peer",
    "require_network_boot",
    "require_networkd",
    "require_postgresql",
    "require_programs",
    "require_qemu",
    "require_uefi_boot",
    "require_user_mode_linux",
]


def require_kernel_peer(*programs: str) -> None:
    """Skip unless namespaces and TUN/TAP devices can be made here, and the named programs are installed."""
    _require_linux()
    if os.geteuid() != 0:
        missing("root is needed for network namespaces")
    if not Path("/dev/net/tun").exists():
        missing("no /dev/net/tun on this machine")
    require_programs("ip", *programs)


def require_networkd() -> None:
    """Skip unless what `require_kernel_peer` asks for, systemd-networkd and its message bus are installed."""
    require_kernel_peer("networkctl", "nsenter", "dbus-daemon")
    if not NETWORKD.exists():
        missing("Debian's systemd is not installed")


def require_user_mode_linux() -> None:
    """Skip unless Debian's user-mode-linux and what the guest runs are installed."""
    _require_linux()
    if os.uname().machine != "x86_64":
        missing(f"user-mode-linux runs on x86_64, not on {os.uname().machine}")
    require_programs("linux.uml", "busybox", "ip", "tc", "curl")
    if not any(Path("/usr/lib/uml/modules").glob("*/kernel/net/sched/sch_netem.ko")):
        missing("the modules of user-mode-linux are not installed")


def require_qemu(*programs: str) -> None:
    """Skip unless QEMU, a Linux kernel for its guests and what they run are installed."""
    _require_linux()
    if os.uname().machine != "x86_64":
        missing(f"the guests run on x86_64, not on {os.uname().machine}")
    require_programs("qemu-system-x86_64", "busybox", "cpio", "ldd", *programs)
    if guest_files() is None:
        missing("Debian's linux-image-cloud-amd64 is not installed")


def require_network_boot(*programs: str) -> None:
    """Skip unless what `require_qemu` asks for and iPXE as the ROM of a card are installed."""
    require_qemu(*programs)
    if not NETWORK_BOOT_ROM.exists():
        missing("Debian's ipxe-qemu is not installed")


def require_uefi_boot(*programs: str) -> None:
    """Skip unless what `require_qemu` asks for, a UEFI firmware and iPXE as its program are installed."""
    require_qemu(*programs)
    for path, package in ((UEFI, "ovmf"), (UEFI_LOADER, "ipxe")):
        if not path.exists():
            missing(f"Debian's {package} is not installed")


def require_programs(*programs: str) -> None:
    """Skip unless each program is on the path."""
    for program in programs:
        if shutil.which(program) is None:
            missing(f"the program {program} is not installed")


def require_postgresql() -> Path:
    """Skip unless Debian's PostgreSQL is installed, and a user to run it; return the folder of its programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not folders:
        missing("Debian's PostgreSQL is not installed")
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        missing("there is no user postgres")
    return folders[-1].parent


def _require_linux() -> None:
    if sys.platform != "linux":
        missing(f"Linux is needed, this is {sys.platform}")


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where peers are required."""
    if os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1":
        pytest.fail(f"a real peer is required: {reason}", pytrace=False)
    pytest.skip(reason)
