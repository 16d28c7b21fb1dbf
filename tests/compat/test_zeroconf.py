"""Unmodified python-zeroconf: two hosts find each other's services, over IPv4 and IPv6, on blocking sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, connect, create_stack
from tcpip_wasm.compat import StackThread, VirtualHost, polyfill_socket
from tests.kit import stacks as stack_kit

zeroconf = pytest.importorskip("zeroconf")

KIND = "_test._tcp.local."
BOUND = 30.0
"""Time limit in seconds for finding a service."""

FAMILIES = {
    "v4": (zeroconf.IPVersion.V4Only, "10.0.0.{}"),
    "v6": (zeroconf.IPVersion.V6Only, "fd00::{}"),
    "both": (zeroconf.IPVersion.All, "10.0.0.{}"),
}


def service(number: int, address: str) -> Any:
    """Return the service of a host; each has a name, a port and properties of its own."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return zeroconf.ServiceInfo(
        KIND,
        f"service {number}.{KIND}",
        addresses=[packed],
        port=8000 + number,
        properties={"number": str(number), "empty": "", "long": "x" * 200},
        server=f"host{number}.local.",
    )


def check(found: Any, number: int, address: str) -> None:
    """Assert that the service found is the one that the host has registered."""
    assert found is not None
    assert found.port == 8000 + number
    assert found.server == f"host{number}.local."
    assert found.properties == {b"number": str(number).encode(), b"empty": b"", b"long": b"x" * 200}
    assert found.parsed_addresses() == [address]


class Browser:
    """Waits until a service appears."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._changed = threading.Condition()

    def add_service(self, _: Any, __: str, name: str) -> None:
        with self._changed:
            self.names.add(name)
            self._changed.notify_all()

    def remove_service(self, _: Any, __: str, name: str) -> None:
        with self._changed:
            self.names.discard(name)
            self._changed.notify_all()

    def update_service(self, *_: Any) -> None:
        pass

    def wait(self, *names: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.names >= set(names), BOUND), self.names

    def wait_without(self, name: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: name not in self.names, BOUND), self.names


@asynccontextmanager
async def two_stacks() -> AsyncIterator[list[NetworkStack]]:
    """Two hosts on one link."""
    async with await create_stack(seed=1) as one, await create_stack(seed=2) as two:
        ends = []
        for number, stack in enumerate((one, two), 1):
            tap = await stack.create_tap_interface(ip=[f"10.0.0.{number}/24", f"fd00::{number}/64"])
            ends.append(tap)
        connect(*ends)
        yield [one, two]


@contextmanager
def two_hosts() -> Iterator[list[VirtualHost]]:
    """The same in a thread."""
    stacks: list[NetworkStack] = []

    @asynccontextmanager
    async def setup() -> AsyncIterator[NetworkStack]:
        async with two_stacks() as made:
            stacks.extend(made)
            yield made[0]

    with StackThread(setup, loop_factory=stack_kit.loop_factory) as thread:
        yield [thread, VirtualHost(stacks[1])]


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("interfaces", ["all", "named"])
def test_two_hosts_find_each_others_services(family: str, interfaces: str) -> None:
    version, pattern = FAMILIES[family]
    with two_hosts() as hosts:
        instances, browsers, services = [], [], []
        try:
            for number, host in enumerate(hosts, 1):
                with polyfill_socket(host):
                    chosen: Any = zeroconf.InterfaceChoice.All if interfaces == "all" else [pattern.format(number)]
                    instances.append(zeroconf.Zeroconf(interfaces=chosen, ip_version=version))
            for number, instance in enumerate(instances, 1):
                services.append(service(number, pattern.format(number)))
                instance.register_service(services[-1])
            for instance in instances:
                browsers.append(Browser())
                zeroconf.ServiceBrowser(instance, KIND, browsers[-1])
            for number, instance in enumerate(instances, 1):
                other = 3 - number
                browsers[number - 1].wait(*(one.name for one in services))  # its own one, too
                found = instance.get_service_info(KIND, f"service {other}.{KIND}", timeout=int(BOUND * 1000))
                check(found, other, pattern.format(other))
            instances[0].unregister_service(services[0])
            browsers[1].wait_without(services[0].name)
        finally:
            for instance in instances:
                instance.close()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_two_hosts_find_each_others_services_under_the_polyfill(family: str) -> None:
    """On the stacks' own loop: each host's program is created inside its polyfill, and works after it."""
    version, pattern = FAMILIES[family]
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    async def main() -> None:
        async with two_stacks() as stacks:
            instances, services, browsers = [], [], []
            for number, stack in enumerate(stacks, 1):
                with stack.polyfill():
                    instances.append(AsyncZeroconf(ip_version=version))
                    await instances[-1].zeroconf.async_wait_for_start()
                services.append(service(number, pattern.format(number)))
            for instance, one in zip(instances, services, strict=True):
                await (await instance.async_register_service(one))
            seen = [Changes() for _ in instances]
            for instance, changes in zip(instances, seen, strict=True):
                browsers.append(AsyncServiceBrowser(instance.zeroconf, KIND, handlers=[changes.on_change]))
            for number, instance in enumerate(instances, 1):
                other = 3 - number
                await seen[number - 1].wait({one.name for one in services})
                name = f"service {other}.{KIND}"
                found = await instance.async_get_service_info(KIND, name, timeout=int(BOUND * 1000))
                check(found, other, pattern.format(other))
            assert all(stack.stats().core.udp_in >= 3 for stack in stacks)  # none of it passed by the machine
            for browser in browsers:
                await browser.async_cancel()
            for instance in instances:
                await instance.async_close()

    stack_kit.run(main())


class Changes:
    """The names that a browser has found."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._changed = asyncio.Event()

    def on_change(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        self.names.add(name)
        self._changed.set()

    async def wait(self, names: set[str]) -> None:
        async with asyncio.timeout(BOUND):
            while not self.names >= names:
                self._changed.clear()
                await self._changed.wait()


def test_the_same_over_the_kernels_loopback() -> None:
    registered = service(1, "127.0.0.1")
    instances = [zeroconf.Zeroconf(interfaces=["127.0.0.1"]) for _ in range(2)]
    try:
        instances[0].register_service(registered)
        browser = Browser()
        zeroconf.ServiceBrowser(instances[1], KIND, browser)
        browser.wait(registered.name)
        check(instances[1].get_service_info(KIND, registered.name, timeout=BOUND * 1000), 1, "127.0.0.1")
    finally:
        for instance in instances:
            instance.close()
