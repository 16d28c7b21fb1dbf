"""Interfaces without IPv6: they send nothing of it, whatever they receive."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from typing import Any

import pytest

from tcpip_wasm import UdpDatagram, connect, create_stack
from tcpip_wasm.simulation import Network, run

IPV6 = b"\x86\xdd"


class _Seen:
    """The EtherTypes of the frames that leave an interface."""

    def __init__(self) -> None:
        self.types: list[bytes] = []

    def observed(self, interface: Any, outgoing: bool, frame: memoryview) -> None:
        if outgoing:
            self.types.append(bytes(frame[12:14]))

    def unobserved(self, interface: Any) -> None:
        pass


@pytest.mark.parametrize("ipv6", [True, False])
def test_a_tap_with_an_ipv4_address_sends_nothing_of_ipv6(ipv6: bool) -> None:
    async def program(_: Network) -> tuple[int, int]:
        async with await create_stack(seed=1) as near, await create_stack(seed=2) as far:
            tap = await near.create_tap_interface(ip="10.0.0.1/24", ipv6=ipv6)
            other = await far.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"])
            seen = _Seen()
            tap.observe(seen)
            connect(tap, other)
            # A peer with IPv6 looks for neighbours, sends to all nodes, advertises itself as a router.
            await other.advertise()
            udp = await far.open_udp()
            await udp.send(UdpDatagram(f"ff02::1%{other.name}", 9, b"to all nodes"))
            with pytest.raises(OSError, match="fd00::1"):
                await far.connect_tcp("fd00::1", 80, timeout=5.0)
            reply = await (await near.create_ping_session("10.0.0.2")).ping()
            assert reply.host == "10.0.0.2"
            await asyncio.sleep(30)
            return seen.types.count(IPV6), len(seen.types)

    of_ipv6, all_frames = run(program).value
    assert all_frames > 1
    assert (of_ipv6 > 0) is ipv6


def test_arguments() -> None:
    async def program(_: Network) -> None:
        async with await create_stack() as stack:
            with pytest.raises(ValueError, match=r"^ipv6: it is False, and ip has fd00::1/64"):
                await stack.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"], ipv6=False)
            with pytest.raises(TypeError, match=r"^ipv6 must be a bool, not int"):
                await stack.create_tun_interface(ipv6=1)  # type: ignore[arg-type]
            tap = await stack.create_tap_interface(ipv6=False)
            assert tap.link_local is None
            with pytest.raises(ValueError, match=r"^slaac: tap0 was created with ipv6=False"):
                await tap.configure(slaac=True)
            bridge = await stack.create_bridge_interface([tap], ip="10.0.0.1/24", ipv6=False)
            assert not bridge.ipv6
            assert (await stack.create_tap_interface()).link_local is not None

    run(program)


def test_a_group_mac_is_no_stations_in_frames() -> None:
    async def program(_: Network) -> None:
        async with await create_stack() as near, await create_stack() as far:
            with pytest.warns(UserWarning, match="group address"):
                tap = await near.create_tap_interface("01:23:45:67:89:ab", "10.0.0.1/24")
            assert tap.mac == "01:23:45:67:89:ab"
            assert tap.link_local == IPv6Address("fe80::223:45ff:fe67:89ab")
            connect(tap, await far.create_tap_interface(ip="10.0.0.2/24"))
            assert (await (await far.create_ping_session("10.0.0.1")).ping()).host == "10.0.0.1"

    run(program)
