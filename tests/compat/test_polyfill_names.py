"""Names and Happy Eyeballs inside `polyfill`: the stack's own, with asyncio's arguments. In virtual time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tcpip_wasm.simulation import run_virtually
from tests.kit.stacks import Recorder
from tests.names.test_happy_eyeballs import DEAD4, DEAD6, GOOD4, GOOD6, network, now


@pytest.mark.parametrize(
    ("addresses", "options", "tried", "seconds"),
    [
        ([DEAD6, GOOD4], {"happy_eyeballs_delay": 0.25}, [(0, DEAD6)], 0.25),
        ([DEAD6, GOOD4], {"happy_eyeballs_delay": 2.0}, [(0, DEAD6)], 2.0),
        (["fd01::2", "fd01::3", DEAD4, GOOD4], {"happy_eyeballs_delay": 0.1}, None, 0.3),
        (["fd01::2", "fd01::3", DEAD4, GOOD4], {"happy_eyeballs_delay": 0.1, "interleave": 2}, None, 0.3),
        ([DEAD6, GOOD4], {"family": socket.AF_INET}, [], 0),
        ([DEAD6, GOOD4], {"local_addr": ("10.0.0.1", 7777)}, [], 0),
        (["fd01::2", GOOD4, GOOD6], {"local_addr": ("me", 0), "happy_eyeballs_delay": 0.1}, [(0, "fd01::2")], 0.1),
    ],
)
def test_a_name_with_several_addresses(
    addresses: list[str], options: dict[str, Any], tried: list[tuple[float, str]] | None, seconds: float
) -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = addresses
            net.client.hosts["me"] = ["10.0.0.1", "fd00::1", "fd01::1"]
            await net.server.create_server(Recorder, None, 80)
            loop: Any = asyncio.get_running_loop()
            with net.client.polyfill(route=["web"]):
                begun = now()
                transport, protocol = await loop.create_connection(Recorder, "web", 80, **options)
                assert now() - begun == pytest.approx(seconds, abs=0.01)
                assert transport.get_extra_info("peername")[0] in (GOOD4, GOOD6)
                if options.get("local_addr", ("", 0))[1]:
                    assert transport.get_extra_info("sockname") == options["local_addr"]
                assert protocol.calls == ["made"]
                assert tried is None or net.tried == tried
                if options.get("interleave") == 2:
                    assert [address for _, address in net.tried] == ["fd01::2", "fd01::3", DEAD4]
                transport.abort()
                await protocol.lost

    run_virtually(main())


def test_streams_take_the_same_arguments() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, GOOD4]
            server = await net.server.start_server(lambda _, writer: writer.close(), GOOD4, 80)
            with net.client.polyfill():
                begun = now()
                reader, writer = await asyncio.open_connection("web", "http", happy_eyeballs_delay=0.25)
                assert await reader.read() == b""
                assert now() - begun == pytest.approx(0.25, abs=0.1)
                writer.close()
            server.close()

    run_virtually(main())


@pytest.mark.parametrize("delay", [None, 0.1])
def test_all_errors(delay: float | None) -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [GOOD6, GOOD4]
            net.client.hosts["one"] = [GOOD4]
            loop: Any = asyncio.get_running_loop()
            with net.client.polyfill():
                for name, count in (("web", 2), ("one", 1)):
                    with pytest.raises(ExceptionGroup) as caught:
                        await loop.create_connection(Recorder, name, 81, happy_eyeballs_delay=delay, all_errors=True)
                    assert len(caught.value.exceptions) == count
                    assert all(isinstance(error, ConnectionRefusedError) for error in caught.value.exceptions)
                with pytest.raises(ConnectionRefusedError, match="Multiple exceptions"):
                    await loop.create_connection(Recorder, "web", 81, happy_eyeballs_delay=delay)

    run_virtually(main())


def test_the_machine_s_addresses_of_a_name_are_raced_on_the_stack() -> None:
    async def main() -> None:
        async with network() as net:
            await net.server.create_server(Recorder, GOOD4, 80)
            loop: Any = asyncio.get_running_loop()

            async def machine(host: str, port: int, **_: Any) -> list[Any]:
                kind = socket.SOCK_STREAM
                return [
                    (socket.AF_INET6, kind, 6, "", (DEAD6, port, 0, 0)),
                    (socket.AF_INET, kind, 6, "", ("192.0.2.1", port)),
                    (socket.AF_INET, kind, 6, "", (GOOD4, port)),
                ]

            loop.getaddrinfo = machine
            with net.client.polyfill(route=["10.0.0.0/8", "fd00::/8"]):
                begun = now()
                transport, protocol = await loop.create_connection(Recorder, "outside", 80, happy_eyeballs_delay=0.25)
                assert now() - begun == pytest.approx(0.25, abs=0.01)
                assert transport.get_extra_info("peername") == (GOOD4, 80)
                transport.abort()
                await protocol.lost

    run_virtually(main())


def test_addresses_of_a_routed_name_are_the_stack_s() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = GOOD4
            await net.server.create_server(Recorder, GOOD4, 80)
            loop: Any = asyncio.get_running_loop()
            with net.client.polyfill(route=["web"]) as polyfill:
                assert not polyfill._route.takes(GOOD4)
                transport, protocol = await loop.create_connection(Recorder, "web", 80)
                assert polyfill._route.takes(GOOD4)
                transport.abort()
                await protocol.lost

    run_virtually(main())


@pytest.mark.parametrize("host", ["0.1.1.~1", "1:1:1:1:1:1:1:1:1", "fe80::1%eth9", "10.0.0.256"])
def test_a_malformed_host_raises_the_error_of_an_unknown_name(host: str) -> None:
    async def main() -> None:
        async with network() as net:
            loop: Any = asyncio.get_running_loop()
            with net.client.polyfill(), pytest.raises(socket.gaierror):
                await loop.getaddrinfo(host, 80)
            with net.client.polyfill():
                assert await loop.getaddrinfo("::1", "http", type=socket.SOCK_STREAM) == [
                    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 80, 0, 0))
                ]
                flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                assert await loop.getnameinfo(("10.0.0.2", 80), flags) == ("10.0.0.2", "80")

    run_virtually(main())
