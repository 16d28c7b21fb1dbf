"""Which address of a name comes first."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from tcpip_wasm.names.address_selection import interleave, is_reachable, sort_addresses


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (["10.0.0.1/24", "fd00::1/64"], ["fd00::9", "2001:db8::9", "10.0.0.9", "192.0.2.9"]),
        (["10.0.0.1/24"], ["10.0.0.9", "192.0.2.9", "fd00::9", "2001:db8::9"]),
        (["fd00::1/64"], ["fd00::9", "2001:db8::9", "10.0.0.9", "192.0.2.9"]),
        (["127.0.0.1/8", "::1/128"], ["fd00::9", "2001:db8::9", "10.0.0.9", "192.0.2.9"]),
        (["127.0.0.1/8", "::1/128", "10.0.0.1/24"], ["10.0.0.9", "192.0.2.9", "fd00::9", "2001:db8::9"]),
        (["fe80::1/64", "10.0.0.1/24"], ["10.0.0.9", "192.0.2.9", "fd00::9", "2001:db8::9"]),
    ],
)
def test_sorting(own: list[str], expected: list[str]) -> None:
    given = [ip_address(text) for text in ("10.0.0.9", "fd00::9", "192.0.2.9", "2001:db8::9")]
    assert sort_addresses(given, [ip_interface(text) for text in own]) == [ip_address(text) for text in expected]


def test_reachable() -> None:
    own = [ip_interface("127.0.0.1/8"), ip_interface("10.0.0.1/24")]
    reachable = {"127.0.0.5": True, "10.0.0.7": True, "192.0.2.1": True, "::1": False, "169.254.1.1": False}
    assert {text: is_reachable(ip_address(text), own) for text in reachable} == reachable


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]), (2, ["::1", "::2", "1.1.1.1", "::3", "2.2.2.2"])],
)
def test_interleaving(count: int, expected: list[str]) -> None:
    given = [ip_address(text) for text in ("::1", "::2", "::3", "1.1.1.1", "2.2.2.2")]
    assert interleave(given, count) == [ip_address(text) for text in expected]
    assert interleave([], count) == []
