"""A stack between two namespaces, as a router or as a bridge, for the tests of both."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tcpip_wasm import NetworkStack, create_stack

from .harness.namespaces import Namespace, network_namespace
from .harness.payload import Payload, make_payload
from .harness.requirements import require_kernel_peer

__all__ = ["MEGABYTES", "Between", "bridged", "routed"]

MEGABYTES = 40
"""Size of the file that `Between.fetch` fetches."""

_PORT = 8080
_BOUND = 200.0  # seconds


@dataclass(frozen=True)
class Between:
    """A stack, a namespace on either side of it, and the address of the second one's kernel."""

    stack: NetworkStack
    near: Namespace
    far: Namespace
    addresses: dict[int, str]

    async def run(self, *argv: str, check: bool = True) -> str:
        """Run a program in the near namespace and return its output."""
        done = await asyncio.to_thread(self.near.run, *argv, timeout=_BOUND + 5, check=check)
        return done.stdout

    async def fetch(self, version: int, folder: Path) -> None:
        """Let the near kernel's curl fetch a file from the far kernel's server, and compare it."""
        host = self.addresses[version]
        payload = make_payload(MEGABYTES)
        payload.write_to(folder)
        await asyncio.to_thread(
            self.far.start,
            *(sys.executable, "-I", "-u", "-m", "http.server", str(_PORT)),
            *("--bind", host, "--directory", str(folder)),
            ready="Serving HTTP",
        )
        arrived = folder / "arrived"
        speed = await self.run(
            *("curl", "--silent", "--show-error", "--fail", "--globoff", "--noproxy", "*"),
            *("--max-time", str(_BOUND), "--output", str(arrived), "--write-out", "%{speed_download}"),
            f"http://[{host}]:{_PORT}/payload" if version == 6 else f"http://{host}:{_PORT}/payload",
        )
        assert Payload.of(arrived).sha256 == payload.sha256
        print(f"IPv{version} through the stack: {float(speed) * 8 / 1e9:.2f} Gbit/s")

    def counters(self) -> str:
        """Return counters and neighbours of both kernels, and counters of the stack, for a failure's message."""
        kernels = [
            namespace.run(*command.split(), check=False).stdout
            for namespace in (self.near, self.far)
            for command in ("ip -s link show peer0", "ip -s neighbour", "nstat -a -s")
        ]
        return "\n".join([*kernels, repr(self.stack.stats())])

    async def ping(self, version: int) -> None:
        """Echo replies arrive, for whole packets and for fragmented ones."""
        for size in (56, 1400, 4000):
            await asyncio.to_thread(self.near.echoes, self.addresses[version], 5, size=size)


@asynccontextmanager
async def routed(*, far_mtu: int = 1500) -> AsyncIterator[Between]:
    """Two kernels on networks of their own, and a stack that routes between them."""
    require_kernel_peer("curl", "ping")
    async with AsyncExitStack() as held:
        stack = await held.enter_async_context(await create_stack(seed=b"router"))
        stack.forwarding = True
        namespaces = []
        for number, mtu in ((1, 1500), (2, far_mtu)):
            namespace = held.enter_context(network_namespace())
            kernel = [f"10.88.{number}.2/24", f"fd88:{number}::2/64"]
            device = held.enter_context(namespace.open_device("tap", kernel))
            namespace.run("ip", "link", "set", "peer0", "mtu", str(mtu))
            tap = await stack.create_tap_interface(ip=[f"10.88.{number}.1/24", f"fd88:{number}::1/64"], mtu=mtu)
            device.attach(tap)
            for option, gateway in (("-4", f"10.88.{number}.1"), ("-6", f"fd88:{number}::1")):
                namespace.run("ip", option, "route", "add", "default", "via", gateway)
            namespaces.append(namespace)
        yield Between(stack, namespaces[0], namespaces[1], {4: "10.88.2.2", 6: "fd88:2::2"})


@asynccontextmanager
async def bridged() -> AsyncIterator[Between]:
    """Two kernels on one network, and a stack that bridges them; it is on that network, too."""
    require_kernel_peer("curl", "ping")
    async with AsyncExitStack() as held:
        stack = await held.enter_async_context(await create_stack(seed=b"bridge"))
        namespaces, taps = [], []
        for number in (1, 2):
            namespace = held.enter_context(network_namespace())
            device = held.enter_context(namespace.open_device("tap", [f"10.88.0.{number}/24", f"fd88::{number}/64"]))
            taps.append(await stack.create_tap_interface())
            device.attach(taps[-1])
            namespaces.append(namespace)
        await stack.create_bridge_interface(taps, ip=["10.88.0.3/24", "fd88::3/64"])
        yield Between(stack, namespaces[0], namespaces[1], {4: "10.88.0.2", 6: "fd88::2"})
