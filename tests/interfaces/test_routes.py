"""The routing table: what it takes, what it refuses, which of its routes wins, and how they go."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest

from tcpip_wasm import NetworkError, NetworkStack, Route, TapInterface, TcpipError, UdpDatagram, create_stack
from tcpip_wasm.engine import abi, split_records
from tests.kit.stacks import iterations, run


async def stack_with_taps(*addresses: Any) -> tuple[NetworkStack, list[TapInterface]]:
    stack = await create_stack(seed=1)
    return stack, [await stack.create_tap_interface(ip=address) for address in addresses]


def test_what_the_table_says() -> None:
    async def main() -> None:
        stack, (one, two) = await stack_with_taps(["10.0.1.1/24", "fd01::1/48"], "10.0.2.1/32")
        async with stack:
            connected = [str(route.network) for route in stack.routes]
            assert connected == ["127.0.0.0/8", "10.0.1.0/24", "fd01::/48"]
            assert all(route.connected and route.via is None for route in stack.routes)
            default = stack.add_route("0.0.0.0/0", via="10.0.1.254")
            assert default == Route(ip_network("0.0.0.0/0"), IPv4Address("10.0.1.254"), one)
            stack.add_route(ip_network("192.168.0.0/16"), interface=two, metric=7)
            stack.add_route("::/0", via="fe80::1%tap0")
            stack.add_route("fd09::/16", via=IPv6Address("fe80::2"), interface=one)
            added = stack.routes[3:]
            assert added[0] is default
            assert [(str(r.network), r.metric, r.interface.name, r.connected) for r in added[1:]] == [
                ("192.168.0.0/16", 7, "tap1", False),
                ("::/0", 0, "tap0", False),
                ("fd09::/16", 0, "tap0", False),
            ]
            stack.remove_route("::/0")
            stack.remove_route("0.0.0.0/0", via="10.0.1.254", metric=0)
            assert [str(route.network) for route in stack.routes[3:]] == ["192.168.0.0/16", "fd09::/16"]
            await stack.remove_interface(one)
            assert [str(route.network) for route in stack.routes] == ["127.0.0.0/8", "192.168.0.0/16"]
            # The module has dropped it, too: the same can be added again.
            three = await stack.create_tap_interface(ip="fd09::1/64")
            stack.add_route("fd09::/16", interface=three)

    run(main())


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("10.0.0.1/24", {"via": "10.0.1.2"}, "host bits"),
        ("10.0.0.0/33", {"via": "10.0.1.2"}, "10.0.0.0/33"),
        ("nonsense", {"via": "10.0.1.2"}, "nonsense"),
        ("10.0.0.0/24", {"via": "nobody"}, "nobody"),
        ("10.0.0.0/24", {"via": "fd01::2"}, "families"),
        ("fd00::/8", {"via": "10.0.1.2"}, "families"),
        ("10.0.0.0/24", {}, "needs via"),
        ("10.0.0.0/24", {"via": "10.0.1.1"}, "of this host"),
        ("10.0.0.0/24", {"via": "224.0.0.1"}, "neighbour"),
        ("10.0.0.0/24", {"via": "0.0.0.0"}, "neighbour"),
        ("::/0", {"via": "fe80::1"}, "link-local"),
        ("::/0", {"via": "fe80::1%eth9"}, "eth9"),
        ("10.0.0.0/24", {"via": "10.0.1.2", "metric": -1}, "metric"),
        ("10.0.0.0/24", {"via": "10.0.1.2", "metric": 2**31}, "metric"),
    ],
)
def test_malformed(network: str, options: dict[str, Any], message: str) -> None:
    async def main() -> None:
        stack, _ = await stack_with_taps(["10.0.1.1/24", "fd01::1/64"])
        async with stack:
            before = stack.routes
            with pytest.raises(ValueError, match=message):
                stack.add_route(network, **options)
            assert stack.routes == before

    run(main())


def test_wrong_types() -> None:
    async def main() -> None:
        stack, (tap,) = await stack_with_taps("10.0.1.1/24")
        async with stack:
            for network, options, name in (
                (5, {"via": "10.0.1.2"}, "network"),
                ("10.0.0.0/24", {"via": 5}, "via"),
                ("10.0.0.0/24", {"interface": "tap0"}, "interface"),
                ("10.0.0.0/24", {"via": "10.0.1.2", "metric": "1"}, "metric"),
            ):
                with pytest.raises(TypeError, match=name):
                    stack.add_route(network, **options)  # type: ignore[arg-type]
            other, (foreign,) = await stack_with_taps("10.0.1.1/24")
            async with other:
                with pytest.raises(ValueError, match="none of this stack"):
                    stack.add_route("10.0.0.0/24", interface=foreign)
            await stack.remove_interface(tap)
            with pytest.raises(NetworkError) as caught:
                stack.add_route("10.0.0.0/24", interface=tap)
            assert caught.value.errno == errno.ENODEV

    run(main())


def test_errors_of_the_network() -> None:
    async def main() -> None:
        stack, (one, two) = await stack_with_taps(["10.0.1.1/24", "fd01::1/64"], "10.0.2.1/24")
        async with stack:

            def refused(expected: int, network: str, **options: Any) -> None:
                with pytest.raises(NetworkError) as caught:
                    stack.add_route(network, **options)
                assert caught.value.errno == expected
                assert isinstance(caught.value, TcpipError)

            refused(errno.ENETUNREACH, "0.0.0.0/0", via="10.0.3.1")
            refused(errno.ENETUNREACH, "0.0.0.0/0", via="10.0.1.2", interface=two)
            refused(errno.ENETUNREACH, "::/0", via="fd02::1")
            stack.add_route("0.0.0.0/0", via="10.0.1.2")
            refused(errno.EEXIST, "0.0.0.0/0", via="10.0.2.2")
            stack.add_route("0.0.0.0/0", via="10.0.2.2", metric=1)
            stack.add_route("::/0", via="fd01::2", interface=one)
            # A gateway behind a gateway is none: what it is reached by is not its link.
            stack.add_route("10.9.0.0/16", via="10.0.1.2")
            refused(errno.ENETUNREACH, "10.8.0.0/16", via="10.9.0.1")
            for network, options in (
                ("10.0.0.0/8", {}),
                ("0.0.0.0/0", {"metric": 2}),
                ("0.0.0.0/0", {"via": "10.0.1.3"}),
                ("10.0.1.0/24", {}),
            ):
                with pytest.raises(NetworkError) as caught:
                    stack.remove_route(network, **options)
                assert caught.value.errno == errno.ESRCH
            stack.remove_route("0.0.0.0/0", interface=two)
            stack.remove_route("0.0.0.0/0")
            assert [str(r.network) for r in stack.routes if not r.connected] == ["::/0", "10.9.0.0/16"]

    run(main())


def test_the_table_is_bounded() -> None:
    async def main() -> None:
        stack, (tap,) = await stack_with_taps("10.0.1.1/24")
        async with stack:
            for number in range(abi.MAX_ROUTES):
                stack.add_route(f"172.16.{number}.0/24", interface=tap)
            with pytest.raises(NetworkError) as caught:
                stack.add_route("172.17.0.0/24", interface=tap)
            assert caught.value.errno == errno.ENOSPC
            stack.remove_route("172.16.77.0/24")
            stack.add_route("172.17.0.0/24", interface=tap)

    run(main())


class Keeper:
    """A port that keeps the frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def transmit(self, records: memoryview) -> int:
        self.frames += [bytes(frame) for frame in split_records(records)]
        return len(records)

    def detached(self, error: Exception | None) -> None:
        pass


async def asked_for(destination: str, *taps: TapInterface) -> tuple[int, str] | None:
    """Connect, and return by which tap (its index) whose link-layer address is asked for; None for no route."""
    await iterations(3)
    keepers = [Keeper() for _ in taps]
    for tap, keeper in zip(taps, keepers, strict=True):
        tap.attach(keeper)
    driver = taps[0].driver
    try:
        handle = driver.core.tcp_connect(ip_address(destination), 80)
        driver.wake()
        await iterations(5)
        driver.core.tcp_abort(handle)
    except OSError as error:
        if error.errno != errno.ENETUNREACH:
            raise
        return None
    finally:
        for tap in taps:
            tap.detach()
    for number, keeper in enumerate(keepers):
        for frame in keeper.frames:
            if frame[12:14] == b"\x08\x06" and frame[28:32] != frame[38:42]:
                return number, str(IPv4Address(frame[38:42]))
            if frame[12:14] == b"\x86\xdd" and frame[54] == 135 and frame[22:38] != bytes(16):
                return number, str(IPv6Address(frame[62:78]))
    raise AssertionError(f"no neighbour was resolved for {destination}")


def test_which_route_wins() -> None:
    async def main() -> None:
        stack, (one, two, three) = await stack_with_taps("10.0.1.1/24", "10.0.2.1/24", "10.0.1.129/25")
        async with stack:
            taps = (one, two, three)
            assert await asked_for("192.0.2.1", *taps) is None
            stack.add_route("0.0.0.0/0", via="10.0.1.2", metric=5)
            assert await asked_for("192.0.2.1", *taps) == (0, "10.0.1.2")
            stack.add_route("0.0.0.0/0", via="10.0.2.2", metric=4)
            assert await asked_for("192.0.2.2", *taps) == (1, "10.0.2.2")
            stack.add_route("192.0.2.0/24", via="10.0.1.3", metric=9)
            assert await asked_for("192.0.2.3", *taps) == (0, "10.0.1.3")
            stack.add_route("192.0.2.128/25", interface=two)
            assert await asked_for("192.0.2.130", *taps) == (1, "192.0.2.130")
            assert await asked_for("10.0.1.9", *taps) == (0, "10.0.1.9")
            assert await asked_for("10.0.1.200", *taps) == (2, "10.0.1.200"), "the longer of two own networks"
            stack.add_route("10.0.1.16/28", via="10.0.1.5")
            assert await asked_for("10.0.1.17", *taps) == (0, "10.0.1.5"), "a part of the own network"
            stack.remove_route("192.0.2.0/24")
            stack.add_route("0.0.0.0/0", via="10.0.2.3", metric=3)
            assert await asked_for("192.0.2.4", *taps) == (1, "10.0.2.3")
            stack.remove_route("0.0.0.0/0", metric=4)
            stack.remove_route("0.0.0.0/0", metric=3)
            stack.remove_route("0.0.0.0/0", metric=5)
            assert await asked_for("192.0.2.5", *taps) is None

    run(main())


def test_which_route_wins_ipv6() -> None:
    async def main() -> None:
        stack, (one, two) = await stack_with_taps("fd01::1/124", "fd02::1/48")
        async with stack:
            taps = (one, two)
            assert await asked_for("fd01::2", *taps) == (0, "fd01::2")
            assert await asked_for("fd02:0:0:9::2", *taps) == (1, "fd02:0:0:9::2"), "of a network of 48 bits"
            assert await asked_for("fd01::99", *taps) is None, "outside a network of 124 bits"
            stack.add_route("fd01::/64", via="fd01::3")
            assert await asked_for("fd01::99", *taps) == (0, "fd01::3")
            stack.add_route("::/0", via="fe80::7", interface=two)
            assert await asked_for("2001:db8::1", *taps) == (1, "fe80::7")
            stack.add_route("2001:db8::/32", via="fd02::5", metric=3)
            assert await asked_for("2001:db8::2", *taps) == (1, "fd02::5")
            stack.add_route("2001:db8::/32", via="fd01::4", metric=2)
            assert await asked_for("2001:db8::2", *taps) == (0, "fd01::4"), "it was under way elsewhere before"

    run(main())


def test_an_error_says_which_networks_there_are() -> None:
    async def main() -> None:
        stack, _ = await stack_with_taps(["10.0.0.1", "fd01::1/64"], "10.0.1.1/24")
        why = "no route, tap0 has 10.0.0.1/32, tap1 has 10.0.1.1/24"

        async def said(host: str) -> list[str]:
            ping = await stack.create_ping_session(host)
            texts = []
            for attempt in (stack.connect_tcp(host, 7), stack.open_udp(remote=(host, 7)), ping.ping()):
                with pytest.raises(NetworkError) as caught:
                    await attempt
                assert caught.value.errno == errno.ENETUNREACH
                texts.append(str(caught.value))
            return texts

        async with stack:
            assert all(text.endswith(f": {why}") for text in await said("10.0.0.2"))
            assert all("no route, tap0 has fd01::1/64" in text for text in await said("fd02::2"))
            with pytest.raises(NetworkError) as caught:
                await stack.connect_tcp("10.0.1.255", 7)
            assert "no route" not in str(caught.value), "there is one, but TCP knows no broadcasts"
            udp = await stack.open_udp()
            with pytest.raises(NetworkError, match=r"10\.0\.0\.2:7"):
                await udp.send(UdpDatagram("10.0.0.2", 7, b""))
        async with await create_stack(initialize_loopback=False) as bare:
            with pytest.raises(NetworkError, match="no interface has an IPv6 address"):
                await bare.connect_tcp("fd01::2", 7)
            for number in range(10):
                await bare.create_tun_interface(f"10.0.{number}.1/24")
            with pytest.raises(NetworkError, match=r"tun7 has 10\.0\.7\.1/24, and 2 more$"):
                await bare.connect_tcp("10.1.0.1", 7)

    run(main())


def test_an_address_without_a_prefix_reaches_neighbours_by_a_route() -> None:
    async def main() -> None:
        stack, (tap,) = await stack_with_taps("10.0.0.1")
        async with stack:
            stack.add_route("10.0.0.0/24", interface=tap)
            assert await asked_for("10.0.0.2", tap) == (0, "10.0.0.2")

    run(main())
