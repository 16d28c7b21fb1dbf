"""A stack between two kernels: as a router it passes their packets on, as a bridge their frames.

The kernels' own programs judge: curl and SHA-256 that nothing is lost, ping that echoes come back, traceroute and
tracepath that a router says who it is and how much fits.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, create_stack

from .harness.namespaces import Namespace, network_namespace
from .harness.payload import Payload, make_payload
from .harness.requirements import require_kernel_peer

_MEGABYTES = 40
_PORT = 8080
_BOUND = 60.0  # seconds

_versions = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


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
        """The near kernel's curl fetches a file from the far kernel's server; what arrives is what was sent."""
        host = self.addresses[version]
        payload = make_payload(_MEGABYTES)
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

    async def ping(self, version: int) -> None:
        """Echoes come back, whole packets and some in pieces."""
        for size in ("56", "1400", "4000"):
            said = await self.run(
                *("ping", "-c", "5", "-i", "0.01", "-W", "5", "-s", size, self.addresses[version]), check=False
            )
            assert "5 received, 0% packet loss" in said


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


@_versions
def test_a_file_through_a_router(version: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with routed() as between:
            await between.fetch(version, tmp_path)
            figures = between.stack.stats().core
            assert figures.forwarded > _MEGABYTES * 1_000_000 // 1500
            assert figures.tcp_segments_in == 0

    asyncio.run(main())


@_versions
def test_a_file_through_a_router_to_a_narrow_link(version: int, tmp_path: Path) -> None:
    """The kernel learns the path's MTU from what the router says of its first large packets, or its peer's MSS."""

    async def main() -> None:
        async with routed(far_mtu=1300) as between:
            await between.fetch(version, tmp_path)

    asyncio.run(main())


@_versions
def test_ping_through_a_router(version: int) -> None:
    async def main() -> None:
        async with routed() as between:
            await between.ping(version)

    asyncio.run(main())


@_versions
@pytest.mark.parametrize("method", ["udp", "icmp", "tcp"])
def test_traceroute_shows_the_router(version: int, method: str) -> None:
    async def main() -> None:
        async with routed() as between:
            options = {"udp": (), "icmp": ("-I",), "tcp": ("-T", "-p", "9")}[method]
            said = await between.run(
                "traceroute", f"-{version}", "-n", "-q", "2", "-w", "5", *options, between.addresses[version]
            )
            hops = [line.split() for line in said.splitlines()[1:]]
            router = "10.88.1.1" if version == 4 else "fd88:1::1"
            assert [hop[1] for hop in hops] == [router, between.addresses[version]]
            assert "!" not in said
            assert "*" not in said

    require_kernel_peer("traceroute")
    asyncio.run(main())


@_versions
def test_tracepath_finds_the_narrow_link(version: int) -> None:
    async def main() -> None:
        async with routed(far_mtu=1300) as between:
            said = await between.run("tracepath", f"-{version}", "-n", between.addresses[version])
            assert "pmtu 1300" in said
            assert ("10.88.1.1" if version == 4 else "fd88:1::1") in said
            assert "reached" in said
            assert "Resume: pmtu 1300 hops 2" in said

    require_kernel_peer("tracepath")
    asyncio.run(main())


@_versions
def test_the_router_says_that_there_is_no_way(version: int) -> None:
    """No network, and nobody at that address."""

    async def main() -> None:
        async with routed() as between:
            nowhere, nobody = ("192.0.2.1", "10.88.2.77") if version == 4 else ("2001:db8::1", "fd88:2::77")
            router = "10.88.1.1" if version == 4 else "fd88:1::1"
            said = await between.run("ping", "-c", "1", "-W", "5", nowhere, check=False)
            assert f"From {router}" in said
            assert ("Net Unreachable" if version == 4 else "No route") in said
            said = await between.run("ping", "-c", "1", "-W", "20", nobody, check=False)
            assert f"From {router}" in said
            assert ("Host Unreachable" if version == 4 else "Address unreachable") in said

    asyncio.run(main())


@_versions
def test_a_file_through_a_bridge(version: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with bridged() as between:
            await between.fetch(version, tmp_path)
            assert between.stack.stats().core.forwarded == 0

    asyncio.run(main())


@_versions
def test_ping_through_a_bridge_and_to_it(version: int) -> None:
    async def main() -> None:
        async with bridged() as between:
            await between.ping(version)
            own = "10.88.0.3" if version == 4 else "fd88::3"
            said = await between.run("ping", "-c", "3", "-i", "0.01", "-W", "5", own, check=False)
            assert "3 received, 0% packet loss" in said
            # One hop: a bridge is not seen.
            if version == 4:
                said = await between.run("ping", "-c", "1", "-W", "5", "-t", "1", between.addresses[4], check=False)
                assert "1 received" in said

    asyncio.run(main())
