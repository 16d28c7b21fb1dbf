"""DHCP messages: what is read, what is written, and bytes that are neither."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpip_wasm.engine import dhcp_options
from tcpip_wasm.services.dhcp import wire
from tests.kit.dhcp_messages import DISCOVER, REQUEST, addresses, message

_MAC = "02:00:00:00:00:05"
_SERVER = IPv4Address("10.0.0.1")


def test_a_request_is_read() -> None:
    options = {50: addresses("10.0.0.7"), 54: addresses("10.0.0.1"), 12: b"guest-1\0", 93: b"\0\7", 61: b"\xff\1\2"}
    request = wire.parse_request(message(REQUEST, _MAC, options, transaction=0xDEADBEEF, flags=0x8000))
    assert (request.kind, request.mac, request.transaction, request.broadcast) == (REQUEST, _MAC, 0xDEADBEEF, True)
    assert (request.requested, request.server) == (IPv4Address("10.0.0.7"), _SERVER)
    assert (request.hostname, request.architecture, request.identity) == ("guest-1", 7, b"\xff\1\2")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({12: b"a.b-c"}, "a.b-c"),
        ({12: b"bad\nname"}, None),
        ({12: b"\xff\xfe"}, None),
        ({12: b"x" * 254}, None),
        ({81: b"\0\0\0full.name"}, "full.name"),
        ({81: b"\4\0\0\4full\0"}, None),
        ({81: b"\0"}, None),
        ({}, None),
    ],
)
def test_names_of_clients_have_characters_of_names(options: dict[int, bytes], name: str | None) -> None:
    assert wire.parse_request(message(DISCOVER, _MAC, options)).hostname == name


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:239],
        lambda m: b"\2" + m[1:],
        lambda m: m[:1] + b"\6" + m[2:],
        lambda m: m[:2] + b"\x10" + m[3:],
        lambda m: m[:236] + b"\0\0\0\0" + m[240:],
        lambda m: m[:28] + b"\1" + m[29:],
        lambda m: m[:28] + bytes(6) + m[34:],
        lambda m: m[:240] + b"\xff",
        lambda m: m[:242] + b"\2" + m[243:],
        lambda m: m[:242] + b"\x09" + m[243:],
        lambda m: m + bytes(4096),
    ],
)
def test_what_is_no_request_is_refused(change: object) -> None:
    with pytest.raises(wire.BadMessage):
        wire.parse_request(change(message(DISCOVER, _MAC)))  # type: ignore[operator]


@given(st.binary(max_size=700))
@example(message(DISCOVER, _MAC, {12: b"a" * 255, 55: bytes(range(255))}))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for tried in (data, message(DISCOVER, _MAC)[:240] + data):
        try:
            request = wire.parse_request(tried)
        except wire.BadMessage:
            continue
        reply = wire.Reply(wire.OFFER, IPv4Address("10.0.0.9"), options={1: b"\xff\xff\xff\0"})
        built = wire.build_reply(request, reply, _SERVER)
        assert len(built) <= request.longest_reply
        assert dhcp_options(built)[53] == b"\2"
        assert (request.hostname is None) or request.hostname.isascii()


_VALUES = st.dictionaries(st.integers(100, 254), st.binary(max_size=400), max_size=12)


@given(_VALUES, st.sampled_from([b"", b"file"]), st.sampled_from([b"", b"name"]), st.integers(0, 2000))
def test_a_reply_is_no_longer_than_the_client_takes(
    values: dict[int, bytes], file: bytes, name: bytes, size: int
) -> None:
    request = wire.parse_request(message(DISCOVER, _MAC, {57: size.to_bytes(2), 55: bytes(values)}))
    needed = {1: b"\xff\xff\xff\0", 51: b"\0\0\0\1"}
    reply = wire.Reply(wire.OFFER, IPv4Address("10.0.0.9"), boot_file=file, boot_server=name, options=needed | values)
    built = wire.build_reply(request, reply, _SERVER)
    assert 300 <= len(built) <= request.longest_reply
    found = dhcp_options(built)
    assert {code: found[code] for code in needed} == needed
    for code, value in values.items():
        assert found.get(code, value) == value, "an option is whole or left out"
    total = sum(len(v) + 2 * (1 + len(v) // 255) for v in values.values())
    if total < 200:
        assert all(found.get(code) == value for code, value in values.items())
    if file:
        assert built[108:236].rstrip(b"\0") == file


def test_options_go_on_in_the_free_fields() -> None:
    values = {200: b"a" * 200, 201: b"b" * 100, 202: b"c" * 50}
    request = wire.parse_request(message(DISCOVER, _MAC))
    built = wire.build_reply(request, wire.Reply(wire.OFFER, options=values), _SERVER)
    assert len(built) <= 548
    found = dhcp_options(built)
    assert {code: found[code] for code in values} == values
    assert found[52] in (b"\1", b"\2", b"\3")


def test_search_lists() -> None:
    assert wire.encode_search(["lab.internal", "b."]) == b"\3lab\10internal\0\1b\0"
    with pytest.raises(ValueError, match=r"search: 'a\.\.b'"):
        wire.encode_search(["a..b"])
