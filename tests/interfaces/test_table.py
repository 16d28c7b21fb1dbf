"""The interface table: names, scopes and own addresses of one stack."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_interface

import pytest

from tcpip_wasm import create_stack
from tcpip_wasm.addresses import parse_address
from tcpip_wasm.errors import MalformedHostError
from tcpip_wasm.stack_parts import parts_of
from tests.kit.stacks import run


def test_names_scopes_and_own_addresses() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            first = await stack.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"])
            second = await stack.create_tap_interface(ip="10.1.0.1/24")
            table = parts_of(stack).interfaces
            local = IPv6Address("fe80::7")
            assert [one.name for one in table] == ["lo0", "tap0", "tap1"]
            for scope in ("tap1", str(second.handle)):
                assert table.parse(f"fe80::7%{scope}") == (local, second.handle)
            assert table.parse("[fe80::7%tap0]") == (local, first.handle)
            assert table.text(local, second.handle) == "fe80::7%tap1"
            assert table.text(local, 0) == "fe80::7"
            assert table.parse("tap1.example") is None
            assert table.resolve("::ffff:10.0.0.9") == (IPv4Address("10.0.0.9"), 0)
            assert table.is_own(IPv4Address("10.1.0.1"))
            assert not table.is_own(IPv4Address("10.1.0.2"))
            assert ip_interface("fd00::1/64") in table.own_addresses()
            assert table.handle_of("10.1.0.1") == table.handle_of(second.handle) == second.handle
            assert table.handle_of(0) == 0
            with pytest.raises(MalformedHostError, match="fe80::7%tap9"):
                table.parse("fe80::7%tap9")
            with pytest.raises(MalformedHostError, match="a name"):
                table.resolve("a name")
            with pytest.raises(OSError, match=r"10\.9\.9\.9"):
                table.handle_of("10.9.9.9")
            with pytest.raises(TypeError, match="int"):
                table.parse(7)  # type: ignore[arg-type]

    run(main())


def test_a_removed_interface_is_no_scope_and_its_name_is_not_used_again() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            table = parts_of(stack).interfaces
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            handle = tap.handle
            await stack.remove_interface(tap)
            assert tap not in table
            assert table.by_handle(handle) is None
            assert table.text(IPv6Address("fe80::7"), handle) == f"fe80::7%{handle}"
            with pytest.raises(MalformedHostError):
                table.parse("fe80::7%tap0")
            assert (await stack.create_tap_interface()).name == "tap1"

    run(main())


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "[10.0.0.1", "10.0.0.1]", "10.0.0", "::1::", "localhost", "[fe80::1%]"]
)
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None
