"""avahi in a namespace, over a TAP device: it finds the stack's responder, the stack's browser finds its services, and
both sides resolve each other's names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tcpip_wasm.services import MdnsBrowser, MdnsResponder, MdnsService

from .harness.avahi import Avahi
from .harness.message_bus import MessageBus
from .harness.requirements import require_kernel_peer
from .scenarios import KERNEL_ADDRESSES, STACK_ADDRESSES, KernelPeer, kernel_peer


@asynccontextmanager
async def _avahi(folder: Path) -> AsyncIterator[tuple[KernelPeer, MessageBus]]:
    """Start avahi with a message bus of its own; its files are mounted for it alone."""
    bus = MessageBus(folder, f"{folder}/bus")
    avahi = Avahi(folder, "kernel-side", "peer0", "Kernel service", "_test._tcp", 7000, "path=/there")
    async with kernel_peer("tap") as peer, asyncio.timeout(200):
        start = peer.namespace.start
        await asyncio.to_thread(start, *bus.command, ready="unix:")
        command = ("env", bus.environment, "sh", "-c", avahi.command)
        await asyncio.to_thread(start, *command, ready="successfully established")
        yield peer, bus


async def _run(peer: KernelPeer, bus: MessageBus, *command: str) -> str:
    argv = ("env", bus.environment, *command)
    return (await asyncio.to_thread(peer.namespace.run, *argv, timeout=60.0, check=False)).stdout


def test_avahi_finds_and_is_found(tmp_path: Path) -> None:
    require_kernel_peer("avahi-daemon", "avahi-browse", "avahi-resolve", "dbus-daemon")

    async def main() -> None:
        async with _avahi(tmp_path) as (peer, bus):
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

                listed = await _run(peer, bus, "avahi-browse", "--resolve", "--terminate", "--parsable", "_test._tcp")
                assert f";stack-side.local;{STACK_ADDRESSES[4]};8001;" in listed
                assert '"path=/here"' in listed
                for version, address in STACK_ADDRESSES.items():
                    resolved = await _run(peer, bus, "avahi-resolve", f"-{version}", "-n", "stack-side.local")
                    assert resolved.split() == ["stack-side.local", address]
                reverse = await _run(peer, bus, "avahi-resolve", "-a", STACK_ADDRESSES[4])
                assert reverse.split() == [STACK_ADDRESSES[4], "stack-side.local"]
                # avahi has its name already: the second host of this name takes another.
                async with MdnsResponder(peer.stack, "kernel-side") as second:
                    assert second.host == "kernel-side-2.local"

    asyncio.run(main())
