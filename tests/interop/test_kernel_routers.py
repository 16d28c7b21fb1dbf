"""A stack behind kernels that forward: their addresses, their ICMP errors, and TCP over a last link with a small MTU.

Three namespaces in a row, joined by veth pairs; the stack is on the first one's TAP.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from examples.traceroute import traceroute
from tcpip_wasm import DestinationUnreachableError, NetworkStack, TimeExceededError, create_stack
from tests.kit.core_network import payload

from .harness.namespaces import network_namespace
from .harness.requirements import require_kernel_peer

_PORT = 7007
_NARROW = 1300
_WAIT = 250.0

_ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], 7007), family=family) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
"""

pytestmark = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


def _address(version: int, link: int, end: int) -> str:
    return f"10.9{link}.0.{end}" if version == 4 else f"fd9{link}::{end:x}"


def _with_prefix(link: int, end: int) -> list[str]:
    return [f"{_address(4, link, end)}/24", f"{_address(6, link, end)}/64"]


@asynccontextmanager
async def _behind_routers(version: int) -> AsyncIterator[NetworkStack]:
    """A stack, .1 on link 0; each link's .2 routes to the next. On the last link, number 2, .2 echoes TCP."""
    require_kernel_peer("ping", "sysctl")
    with ExitStack() as held:
        kernels = [held.enter_context(network_namespace()) for _ in range(3)]
        for kernel in kernels:  # or addresses, link-local ones too, are of no use for their first second
            kernel.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        device = held.enter_context(kernels[0].open_device("tap", _with_prefix(0, 2)))
        for link, (near, far) in enumerate(pairwise(kernels), 1):
            near.run("ip", "link", "add", f"to{link}", "type", "veth", "peer", f"from{link}", "netns", far.name)
            for kernel, name, end in ((near, f"to{link}", 1), (far, f"from{link}", 2)):
                for address in _with_prefix(link, end):
                    kernel.run("ip", "address", "add", address, "dev", name, *["nodad"] * (":" in address))
                kernel.run("ip", "link", "set", name, "mtu", str(_NARROW if link == 2 else 1500), "up")
            for kind, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
                if link == 1:
                    near.run("ip", f"-{kind}", "route", "add", everything, "via", _address(kind, link, 2))
                far.run("ip", f"-{kind}", "route", "add", _network(kind, 0), "via", _address(kind, link, 1))
                if link == 2:
                    far.run("ip", f"-{kind}", "route", "add", _network(kind, 1), "via", _address(kind, link, 1))
        for kernel in kernels:
            kernel.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            kernel.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        kernels[2].start(sys.executable, "-I", "-c", _ECHO, _address(version, 2, 2), ready="ready")
        async with await create_stack(seed=b"routers") as stack:
            device.attach(await stack.create_tap_interface(ip=_with_prefix(0, 1)))
            stack.add_route("0.0.0.0/0", via=_address(4, 0, 2))
            stack.add_route("::/0", via=_address(6, 0, 2))
            yield stack


def _network(kind: int, link: int) -> str:
    return f"10.9{link}.0.0/24" if kind == 4 else f"fd9{link}::/64"


def test_each_router_reports_its_address(version: int) -> None:
    async def main() -> None:
        async with _behind_routers(version) as stack, asyncio.timeout(_WAIT):
            way = [_address(version, link, 2) for link in range(3)]
            # The second router knows no way there. It is asked first: Linux counts its errors for each host.
            nowhere = "192.0.2.1" if version == 4 else "2001:db8::1"
            async with await stack.create_ping_session(nowhere) as session:
                with pytest.raises(DestinationUnreachableError) as unreachable:
                    await session.ping(timeout=60)
                assert unreachable.value.reporter == way[1]
            assert await traceroute(stack, way[-1]) == way
            async with await stack.create_ping_session(way[-1]) as session:
                for hops, router in enumerate(way[:-1], 1):
                    # In fragments, too: a router reports the first.
                    for size in (0, 1200, 5000):
                        with pytest.raises(TimeExceededError) as caught:
                            await session.ping(payload(size), ttl=hops, timeout=60)
                        assert caught.value.reporter == router
                # Several at once, each with its own end.
                ends = await asyncio.gather(
                    *(session.ping(ttl=1 + number % 3, timeout=60) for number in range(30)), return_exceptions=True
                )
                assert [getattr(end, "reporter", None) or getattr(end, "host", None) for end in ends] == way * 10

    asyncio.run(main())


def test_tcp_over_a_small_mtu_behind_routers(version: int) -> None:
    async def main() -> None:
        async with _behind_routers(version) as stack, asyncio.timeout(_WAIT):
            data = payload(2_000_000)
            reader, writer = await stack.open_connection(_address(version, 2, 2), _PORT)
            answer = asyncio.create_task(reader.readexactly(len(data)))
            writer.write(data)
            writer.write_eof()
            assert hashlib.sha256(await answer).digest() == hashlib.sha256(data).digest()
            writer.close()
            # What is too big for the narrow link, and learned to be so.
            async with await stack.create_ping_session(_address(version, 2, 2)) as session:
                for size in (1400, 9000):
                    for attempt in range(3):
                        try:
                            reply = await session.ping(payload(size), timeout=2)
                            break
                        except OSError:
                            assert attempt < 2
                    assert reply.payload == payload(size)

    asyncio.run(main())
