"""Arguments: addresses, MACs and MTUs; errors name the argument and the value."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import pytest

from tcpip_wasm.interfaces.interface_arguments import parse_addresses, parse_mac, parse_mtu


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ([], []),
        ("192.168.1.1/24", ["192.168.1.1/24"]),
        ("192.168.1.1/255.255.255.0", ["192.168.1.1/24"]),
        ("192.168.1.1", ["192.168.1.1/32"]),
        ("fd00::1/64", ["fd00::1/64"]),
        (ip_interface("10.0.0.1/8"), ["10.0.0.1/8"]),
        (ip_interface("fe80::1/64"), ["fe80::1/64"]),
        (["10.0.0.1/8", "fd00::1/64", ip_interface("fd01::1/48")], ["10.0.0.1/8", "fd00::1/64", "fd01::1/48"]),
        (("10.0.0.1/8",), ["10.0.0.1/8"]),
        (iter(["fd00::1/64"]), ["fd00::1/64"]),
    ],
)
def test_addresses(given: Any, expected: list[str]) -> None:
    assert parse_addresses(given) == [ip_interface(text) for text in expected]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("", "''"),
        ("10.0.0.1/33", "10.0.0.1/33"),
        ("10.0.0/8", "10.0.0/8"),
        ("10.0.0.256/8", "10.0.0.256/8"),
        ("fd00::1/129", "fd00::1/129"),
        ("host/24", "host/24"),
        ("224.0.0.1/4", "224.0.0.1/4"),
        ("ff02::1/16", "ff02::1/16"),
        ("::/0", "::/0"),
        (["10.0.0.1/24", "nonsense"], "nonsense"),
        (["10.0.0.1/24", "10.0.0.2/24"], "10.0.0.2/24"),
    ],
)
def test_malformed_addresses(given: Any, named: str) -> None:
    with pytest.raises(ValueError, match=r"^ip: ") as caught:
        parse_addresses(given)
    assert named in str(caught.value)


@pytest.mark.parametrize(("given", "named"), [(5, "int"), (b"10.0.0.1/8", "bytes"), ([5], "int"), (1.5, "float")])
def test_addresses_of_a_wrong_type(given: Any, named: str) -> None:
    with pytest.raises(TypeError, match=r"^ip must be") as caught:
        parse_addresses(given)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "given",
    ["02:00:00:00:00:0a", "02-00-00-00-00-0A", "02:00:00:00:00:0A", b"\2\0\0\0\0\x0a", bytearray(b"\2\0\0\0\0\x0a")],
)
def test_macs(given: Any) -> None:
    assert parse_mac(given) == b"\2\0\0\0\0\x0a"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:0g",
        "02:00:00:00:00:0a:01",
        "020000000001",
        "02:00:00:00:00:0a\n",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        b"\2\0\0",
        b"\2\0\0\0\0\0\0",
    ],
)
def test_malformed_macs(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^mac: ") as caught:
        parse_mac(given)
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize("given", ["01:23:45:67:89:ab", b"\x01\x23\x45\x67\x89\xab"])
def test_a_group_address_as_a_mac_causes_a_warning(given: Any) -> None:
    """The documentation of tcpip.js has this one."""
    with pytest.warns(UserWarning, match=r"is a group address; frames have 00:23:45:67:89:ab instead"):
        assert parse_mac(given) == b"\x01\x23\x45\x67\x89\xab"


@pytest.mark.parametrize("given", [5, None, 1.5, ["02"]])
def test_macs_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^mac must be"):
        parse_mac(given)


def test_mtus() -> None:
    assert [parse_mtu(mtu) for mtu in (68, 576, 1500, 65535)] == [68, 576, 1500, 65535]


@pytest.mark.parametrize("given", [-1, 0, 67, 65536, 10**9])
def test_mtus_out_of_range(given: int) -> None:
    with pytest.raises(ValueError, match=rf"^mtu: {given} "):
        parse_mtu(given)


@pytest.mark.parametrize("given", ["1500", 1500.0, None, True])
def test_mtus_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^mtu must be"):
        parse_mtu(given)
