"""Messages of DHCP servers and routers: valid options, and any other bytes, which must not raise."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm.engine import (
    build_advertisement,
    dhcp_domain,
    dhcp_name_servers,
    dhcp_options,
    dhcp_search,
    parse_advertisement,
)


def message(options: bytes, *, file: bytes = b"", name: bytes = b"") -> bytes:
    fixed = bytes(44) + name.ljust(64, b"\0") + file.ljust(128, b"\0") + b"\x63\x82\x53\x63"
    assert len(fixed) == 240
    return fixed + options


def option(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def test_options_are_found() -> None:
    found = dhcp_options(message(b"\0\0" + option(53, b"\x05") + option(15, b"lab") + b"\xff" + option(6, b"lost")))
    assert found == {53: b"\x05", 15: b"lab"}


def test_a_long_option_is_split() -> None:
    """RFC 3396."""
    assert dhcp_options(message(option(15, b"lab.") + option(6, b"1234") + option(15, b"example"))) == {
        15: b"lab.example",
        6: b"1234",
    }


@pytest.mark.parametrize(("overload", "found"), [(1, b"file"), (2, b"name"), (3, b"filename"), (4, b""), (0, b"")])
def test_options_continue_in_other_fields(overload: int, found: bytes) -> None:
    options = dhcp_options(
        message(option(52, bytes([overload])), file=option(15, b"file") + b"\xff", name=option(15, b"name") + b"\xff")
    )
    assert options.get(15, b"") == found


def test_a_truncated_option_is_ignored() -> None:
    assert dhcp_options(message(option(15, b"lab") + b"\x06\x09\x01")) == {15: b"lab"}
    assert dhcp_options(message(option(15, b"lab") + b"\x06")) == {15: b"lab"}
    assert dhcp_options(b"") == {}


def test_name_servers_are_checked_and_bounded() -> None:
    packed = bytes([0, 0, 0, 0, 10, 0, 0, 1, 224, 0, 0, 1, 255, 255, 255, 255, 10, 0, 0, 1, 10, 0, 0, 2, 10, 0])
    assert dhcp_name_servers({6: packed}) == (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    many = b"".join(bytes([10, 0, 1, i]) for i in range(60))
    assert len(dhcp_name_servers({6: many})) == 8
    assert dhcp_name_servers({}) == ()


@pytest.mark.parametrize(
    ("packed", "domain"),
    [
        (b"lab.example", "lab.example"),
        (b"lab.example\0", "lab.example"),
        (b"", None),
        (b"..", None),
        (b"with space", None),
        (b"\xff\xfe", None),
        (b"line\nbreak", None),
        (b"a" * 64, None),
        (b"a." * 127, None),
    ],
)
def test_domain(packed: bytes, domain: str | None) -> None:
    assert dhcp_domain({15: packed}) == domain


def test_search_list_with_a_pointer() -> None:
    """The example of RFC 3397, section 3."""
    packed = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
    assert dhcp_search({119: packed}) == ("eng.apple.com", "marketing.apple.com")


@pytest.mark.parametrize("packed", [b"\xc0\x00", b"\x03eng\xc0\x00", b"\x3fshort", b"\x03e g\x00", b"\xc0", b"\x00"])
def test_malformed_search_lists(packed: bytes) -> None:
    assert dhcp_search({119: packed}) == ()


@given(st.binary(max_size=700))
def test_random_bytes_raise_no_error(data: bytes) -> None:
    options = dhcp_options(data)
    dhcp_name_servers(options)
    dhcp_domain(options)
    dhcp_search(options)
    dhcp_search({119: data})
    parse_advertisement(data)


def advertisement(**changes: object) -> bytes:
    given: dict[str, object] = {
        "mac": b"\x02\0\0\0\0\1",
        "prefixes": (IPv6Network("2001:db8:1::/64"),),
        "lifetime": 600,
        "preferred": 300,
        "router_lifetime": 1800,
        "mtu": 1400,
        "name_servers": (IPv6Address("2001:db8::53"), IPv6Address("fe80::1")),
    }
    return build_advertisement(**(given | changes))  # type: ignore[arg-type]


def test_built_options_are_parsed() -> None:
    read = parse_advertisement(advertisement())
    assert read.lifetime == 1800
    assert read.name_servers == ((IPv6Address("2001:db8::53"), 600), (IPv6Address("fe80::1"), 600))
    assert parse_advertisement(advertisement(name_servers=(), router_lifetime=0)).name_servers == ()


def test_scapy_parses_built_options() -> None:
    inet6 = pytest.importorskip("scapy.layers.inet6")
    read = inet6.ICMPv6ND_RA(advertisement())
    assert (read.routerlifetime, read.chlim) == (1800, 64)
    assert read[inet6.ICMPv6NDOptMTU].mtu == 1400
    assert read[inet6.ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"
    prefix = read[inet6.ICMPv6NDOptPrefixInfo]
    assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("2001:db8:1::", 64, 1, 1)
    assert (prefix.validlifetime, prefix.preferredlifetime) == (600, 300)
    servers = read[inet6.ICMPv6NDOptRDNSS]
    assert (servers.lifetime, servers.dns) == (600, ["2001:db8::53", "fe80::1"])


def test_name_servers_of_advertisements_are_bounded() -> None:
    servers = tuple(IPv6Address(0x20010DB8 << 96 | i) for i in range(1, 40))
    assert len(parse_advertisement(advertisement(name_servers=servers)).name_servers) == 8
    wrong = (IPv6Address("ff02::1"), IPv6Address("::"), IPv6Address("::1"))
    assert parse_advertisement(advertisement(name_servers=wrong)).name_servers == ()
