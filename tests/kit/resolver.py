"""A resolver in a network with a scripted server: runs a test of it, and queries it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tcpip_wasm import NameResolutionError, NetworkStack, TcpipError
from tcpip_wasm.simulation import run_virtually
from tests.kit.dns import Network, Rule, Zone, dns_network
from tests.kit.stacks import iterations

BASIC = Zone(
    """
    www.test 60 A 10.0.0.9
    www.test 60 AAAA fd00::9
    four.test 60 A 10.0.0.4
    six.test 60 AAAA fd00::6
    text.test 60 TXT nothing
    alias.test 60 CNAME second.test.
    second.test 30 CNAME www.test.
    lost.test 60 CNAME gone.test.
    9.0.0.10.in-addr.arpa 60 PTR www.test.
    """
)


def with_network(work: Callable[[Network], Coroutine[Any, Any, None]], rule: Rule = BASIC, seed: int = 7) -> None:
    """Run a test against a server, and see that it leaves no question and no socket behind."""

    async def main() -> None:
        async with dns_network(rule, seed=seed) as network:
            before = network.client.stats().core.handles
            await work(network)
            await iterations(20)
            assert network.client.resolver.statistics().under_way == 0
            # Connections that finish by themselves hold no handle.
            assert network.client.stats().core.handles == before

    run_virtually(main())


async def addresses(stack: NetworkStack, host: str, **options: Any) -> list[str]:
    return [info[4][0] for info in await stack.getaddrinfo(host, 80, type=socket.SOCK_STREAM, **options)]


async def failure(stack: NetworkStack, host: str, **options: Any) -> NameResolutionError:
    with pytest.raises(NameResolutionError) as caught:
        await stack.getaddrinfo(host, 80, **options)
    assert isinstance(caught.value, socket.gaierror)
    assert isinstance(caught.value, TcpipError)
    assert host.lower().rstrip(".") in str(caught.value)
    return caught.value


def now() -> float:
    return asyncio.get_running_loop().time()
