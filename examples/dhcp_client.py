"""A stack that gets its address by DHCP from dnsmasq, and releases it.

Creates a network namespace with a TAP device, starts dnsmasq in it, and attaches a stack to the device. The stack's
lease is compared with dnsmasq's file of leases; then the namespace pings the stack by its new address, and the lease is
released. The rest of the machine is not affected, and the program cleans up at its end. Needs Linux, root, iproute2,
ping and dnsmasq; if one is missing it prints which, and exits with status 77, which test runners interpret as
"skipped".

    sudo .venv/bin/python examples/dhcp_client.py
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tcpip_wasm import create_stack
from tcpip_wasm.links import open_tuntap

SKIPPED = 77
DEVICE = "tap0"


def what_is_missing() -> str | None:
    """Return the first requirement that this machine does not meet, or None."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make a network namespace (try sudo)"
    if not Path("/dev/net/tun").exists():
        return "it needs /dev/net/tun"
    for program in ("ip", "ping", "dnsmasq"):
        if shutil.which(program) is None:
            return f"it needs the program {program!r} (on Debian: apt install iproute2 iputils-ping dnsmasq-base)"
    return None


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    name = f"tcpip-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@contextlib.contextmanager
def dnsmasq(name: str, leases: Path) -> Iterator[None]:
    """A DHCP server for 10.66.0.100 to 110 on the kernel's end of the device."""
    for command in (["address", "add", "10.66.0.1/24", "dev", DEVICE], ["link", "set", DEVICE, "up"]):
        subprocess.run(["ip", "-n", name, *command], check=True)
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", name, "dnsmasq", "--no-daemon", "--conf-file=/dev/null"),
            *("--no-hosts", "--no-resolv", "--port=0", f"--interface={DEVICE}", "--bind-interfaces", "--user=root"),
            *("--no-ping", "--pid-file="),
            *("--dhcp-range=10.66.0.100,10.66.0.110,255.255.255.0,2m", "--dhcp-option=6,10.66.0.53"),
            *("--domain=lab.example", f"--dhcp-leasefile={leases}"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        namespace() as name,
        open_tuntap(DEVICE, kind="tap", namespace=name) as device,
        dnsmasq(name, leases := Path(folder) / "leases"),
    ):
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface()
            device.attach(tap)
            lease = await tap.configure(dhcp=True)
            print(f"lease: {lease.address}, router {lease.router}, domain {lease.domain}")
            print(f"name servers: {', '.join(map(str, lease.name_servers))}")
            print(f"to be renewed in {lease.renews - asyncio.get_running_loop().time():.0f} seconds")
            if f"{tap.mac} {lease.address.ip}" not in leases.read_text():
                print("dnsmasq's file has no such lease")
                return 1
            for _ in range(3):  # one at a time: with several, ping has a short timeout for the last answer
                ping = await asyncio.create_subprocess_exec(
                    *("ip", "netns", "exec", name, "ping", "-n", "-c", "1", "-W", "20", str(lease.address.ip)),
                    stdout=subprocess.DEVNULL,
                )
                if await ping.wait() != 0:
                    print("the stack does not answer by its new address")
                    return 1
            print("the namespace pings it: three answers")
            await tap.release()
            for _ in range(1000):
                if not leases.read_text():
                    print("released, and dnsmasq has forgotten it")
                    return 0
                await asyncio.sleep(0.05)
            print("dnsmasq did not receive the release of the lease")
            return 1


if __name__ == "__main__":
    if reason := what_is_missing():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    sys.exit(asyncio.run(main()))
