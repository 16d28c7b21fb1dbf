"""What must work against a kernel over its TAP device as well as over its TUN device: the tests differ by the
kind.

Here a stack and a namespace meet; the harness beside this file knows no stack, and the stack no harness.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import Link
from tcpip_wasm.links.tuntap import Kind

from .harness.http import download, file_server
from .harness.namespaces import Namespace, network_namespace
from .harness.payload import Payload

__all__ = ["KERNEL_ADDRESSES", "STACK_ADDRESSES", "KernelPeer", "kernel_peer"]

STACK_ADDRESSES = {4: "10.88.0.1", 6: "fd88::1"}
KERNEL_ADDRESSES = {4: "10.88.0.2", 6: "fd88::2"}
_PREFIXES = {4: 24, 6: 64}
_PORT = 8080

# Seconds. 100 MB at the 1 Gbit/s that is asked for take less than one; this is for a machine that does much
# else.
_TRANSFER_BOUND = 200.0


def _with_prefixes(addresses: dict[int, str]) -> list[str]:
    return [f"{address}/{_PREFIXES[version]}" for version, address in addresses.items()]


@dataclass(frozen=True)
class KernelPeer:
    """A stack and the kernel's end in a namespace, with IPv4 and IPv6 addresses on one subnet."""

    stack: NetworkStack
    namespace: Namespace
    link: Link

    async def curl_from_stack(self, payload: Payload, version: int, folder: Path) -> float:
        """The kernel's curl fetches the payload from a server in the stack; returns Gbit/s by curl's clock.

        Raises:
            AssertionError: what arrived is not what was sent.
        """
        host = STACK_ADDRESSES[version]
        server = await self.stack.start_server(file_server(payload), host, _PORT)
        arrived = folder / "arrived"
        try:
            report = await asyncio.to_thread(
                self.namespace.run,
                *("curl", "--silent", "--show-error", "--fail", "--globoff", "--noproxy", "*"),
                *("--max-time", str(_TRANSFER_BOUND), "--output", str(arrived)),
                *("--write-out", "%{speed_download}", _url(host)),
                timeout=_TRANSFER_BOUND + 5,
            )
        finally:
            server.close()
            await server.wait_closed()
        assert Payload.of(arrived).sha256 == payload.sha256
        return float(report.stdout) * 8 / 1e9

    async def stack_from_server(self, payload: Payload, version: int, folder: Path) -> float:
        """The stack fetches the payload from a server in the namespace; returns Gbit/s.

        Raises:
            AssertionError: what arrived is not what was sent.
        """
        host = KERNEL_ADDRESSES[version]
        payload.write_to(folder)
        await asyncio.to_thread(
            self.namespace.start,
            *(sys.executable, "-I", "-u", "-m", "http.server", str(_PORT)),
            *("--bind", host, "--directory", str(folder)),
            ready="Serving HTTP",
        )
        async with asyncio.timeout(_TRANSFER_BOUND):
            result = await download(*await self.stack.open_connection(host, _PORT), "/payload")
        assert result.length == len(payload.data)
        assert result.sha256 == payload.sha256
        return result.gigabits_per_second

    async def ping_from_kernel(self, version: int) -> None:
        """The kernel's ping gets an answer to each of its ten requests, large ones included."""
        for size in (56, 1400):
            await asyncio.to_thread(self.namespace.echoes, STACK_ADDRESSES[version], 5, size=size)

    async def refused_by_kernel(self, version: int) -> None:
        """No listener: the kernel's RST ends the call at once."""
        async with asyncio.timeout(60.0):
            with pytest.raises(ConnectionRefusedError):
                await self.stack.open_connection(KERNEL_ADDRESSES[version], _PORT)

    async def refused_by_stack(self, version: int) -> None:
        """In the other direction: the stack refuses the kernel's curl (exit status 7)."""
        report = await asyncio.to_thread(
            self.namespace.run,
            *("curl", "--silent", "--globoff", "--noproxy", "*", "--max-time", "60"),
            _url(STACK_ADDRESSES[version]),
            timeout=100.0,
            check=False,
        )
        assert report.returncode == 7, report.stderr


@asynccontextmanager
async def kernel_peer(
    kind: Kind, namespace: Namespace | None = None, *, seed: bytes | None = b"interop"
) -> AsyncIterator[KernelPeer]:
    """Connect a new stack and the kernel of a namespace by a TAP or TUN device.

    Args:
        kind: of the device, which goes at the end.
        namespace: one that is there and stays; None makes one, which goes at the end.
        seed: of the stack; None is another one each time, for several that meet the same kernel.
    """
    with (
        nullcontext(namespace) if namespace else network_namespace() as namespace,
        namespace.open_device(kind, _with_prefixes(KERNEL_ADDRESSES)) as device,
    ):
        async with await create_stack(seed=seed) as stack:
            create = stack.create_tap_interface if kind == "tap" else stack.create_tun_interface
            link = device.attach(await create(ip=_with_prefixes(STACK_ADDRESSES)))
            try:
                yield KernelPeer(stack, namespace, link)
            finally:
                device.close()


def _url(host: str) -> str:
    return f"http://[{host}]:{_PORT}/" if ":" in host else f"http://{host}:{_PORT}/"
