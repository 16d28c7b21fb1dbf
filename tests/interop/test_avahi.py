"""avahi in a namespace, over a TAP device: it finds the stack's responder, the stack's browser finds its services, and
both sides resolve each other's names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tcpip_wasm.services import MdnsBrowser, MdnsResponder, MdnsService

from .harness.requirements import require_kernel_peer
from .scenarios import KERNEL_ADDRESSES, STACK_ADDRESSES, KernelPeer, kernel_peer

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""
_CONF = """[server]
host-name=kernel-side
use-ipv4=yes
use-ipv6=yes
allow-interfaces=peer0
enable-dbus=yes
[publish]
publish-workstation=no
[rlimits]
"""
_SERVICE = """<?xml version="1.0" standalone='no'?><!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group><name>Kernel service</name><service><type>_test._tcp</type><port>7000</port>
<txt-record>path=/there</txt-record></service></service-group>
"""


@asynccontextmanager
async def _avahi(folder: Path) -> AsyncIterator[KernelPeer]:
    """Start avahi with a message bus of its own; its files are mounted for it alone."""
    (folder / "bus.conf").write_text(_BUS.format(folder=folder))
    (folder / "avahi.conf").write_text(_CONF)
    (folder / "services").mkdir()
    (folder / "services" / "test.service").write_text(_SERVICE)
    async with kernel_peer("tap") as peer, asyncio.timeout(200):
        start = peer.namespace.start
        bus = ("dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile", "--print-address=1")
        await asyncio.to_thread(start, *bus, ready="unix:")
        mounts = f"mount --bind {folder}/services /etc/avahi/services && mount -t tmpfs tmpfs /run && exec avahi-daemon"
        command = f"{mounts} --no-drop-root --no-chroot --no-rlimits --debug -f {folder}/avahi.conf 2>&1"
        environment = ("env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={folder}/bus")
        await asyncio.to_thread(start, *environment, "sh", "-c", command, ready="successfully established")
        yield peer


async def _run(peer: KernelPeer, folder: Path, *command: str) -> str:
    argv = ("env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={folder}/bus", *command)
    return (await asyncio.to_thread(peer.namespace.run, *argv, timeout=60.0, check=False)).stdout


def test_avahi_finds_and_is_found(tmp_path: Path) -> None:
    require_kernel_peer("avahi-daemon", "avahi-browse", "avahi-resolve", "dbus-daemon")

    async def main() -> None:
        async with _avahi(tmp_path) as peer:
            services = [MdnsService("_test._tcp", 8001, "Stack service", {"path": "/here"})]
            async with (
                MdnsBrowser(peer.stack, "_test._tcp") as browser,
                MdnsResponder(peer.stack, "stack-side", services),
            ):
                events = browser.events()
                while not any(one.name == "Kernel service" for one in browser.instances):
                    await anext(events)
                (found,) = [one for one in browser.instances if one.name == "Kernel service"]
                assert (found.port, found.host) == (7000, "kernel-side.local")
                assert found.properties == {"path": b"/there"}
                assert KERNEL_ADDRESSES[4] in map(str, found.addresses)
                infos = await peer.stack.getaddrinfo("kernel-side.local", 80)
                assert KERNEL_ADDRESSES[4] in {info[4][0] for info in infos}

                listed = await _run(
                    peer, tmp_path, "avahi-browse", "--resolve", "--terminate", "--parsable", "_test._tcp"
                )
                assert f";stack-side.local;{STACK_ADDRESSES[4]};8001;" in listed
                assert '"path=/here"' in listed
                for version, address in STACK_ADDRESSES.items():
                    resolved = await _run(peer, tmp_path, "avahi-resolve", f"-{version}", "-n", "stack-side.local")
                    assert resolved.split() == ["stack-side.local", address]
                reverse = await _run(peer, tmp_path, "avahi-resolve", "-a", STACK_ADDRESSES[4])
                assert reverse.split() == [STACK_ADDRESSES[4], "stack-side.local"]
                # avahi has its name already: the second host of this name takes another.
                async with MdnsResponder(peer.stack, "kernel-side") as second:
                    assert second.host == "kernel-side-2.local"

    asyncio.run(main())
