"""python-zeroconf over a stack, and a responder and a browser on another: each finds the other's services."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tcpip_wasm import connect, create_stack
from tcpip_wasm.services import MdnsBrowser, MdnsResponder, MdnsService
from tests.kit import stacks as stack_kit

zeroconf = pytest.importorskip("zeroconf")

_TYPE = "_test._tcp.local."


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_zeroconf_finds_and_is_found(family: str) -> None:
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    address, version = (
        ("10.0.0.2", zeroconf.IPVersion.V4Only) if family == "v4" else ("fd00::2", zeroconf.IPVersion.V6Only)
    )

    async def main() -> None:
        async with await create_stack(seed=1) as own, await create_stack(seed=2) as other:
            connect(
                await own.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
                await other.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
            )
            with other.polyfill():
                instance = AsyncZeroconf(ip_version=version)
                await instance.zeroconf.async_wait_for_start()
            changes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

            def on_change(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
                changes.put_nowait((name, state_change.name))

            browsing = AsyncServiceBrowser(instance.zeroconf, _TYPE, handlers=[on_change])
            services = [MdnsService("_test._tcp", 8001, "Own service", {"path": "/", "flag": None})]
            async with MdnsResponder(own, "own-host", services), MdnsBrowser(own, "_test._tcp") as browser:
                assert await changes.get() == (f"Own service.{_TYPE}", "Added")
                found = await instance.async_get_service_info(_TYPE, f"Own service.{_TYPE}", timeout=30_000)
                assert found is not None
                assert (found.port, found.server) == (8001, "own-host.local.")
                assert found.properties == {b"path": b"/", b"flag": None}
                assert set(found.parsed_addresses()) == {"10.0.0.1", "fd00::1"}

                events = browser.events()
                packed = socket.inet_pton(socket.AF_INET6 if family == "v6" else socket.AF_INET, address)
                info = zeroconf.ServiceInfo(
                    _TYPE,
                    f"its service.{_TYPE}",
                    addresses=[packed],
                    port=9000,
                    properties={"a": "b"},
                    server="host2.local.",
                )
                await (await instance.async_register_service(info))
                while (event := await anext(events)).instance.name != "its service":
                    pass
                assert (event.kind, event.instance.port, event.instance.host) == ("added", 9000, "host2.local")
                assert list(map(str, event.instance.addresses)) == [address]
                assert event.instance.properties == {"a": b"b"}
                infos = await own.getaddrinfo("host2.local", 80)
                assert {one[4][0] for one in infos} == {address}
                await (await instance.async_unregister_service(info))
                while (event := await anext(events)).kind != "removed":
                    pass
                assert event.instance.name == "its service"
                while not changes.empty():
                    changes.get_nowait()
            while (await changes.get()) != (f"Own service.{_TYPE}", "Removed"):
                pass
            await browsing.async_cancel()
            await instance.async_close()

    stack_kit.run(main())
