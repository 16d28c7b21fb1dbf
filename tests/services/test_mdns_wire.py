"""Messages of multicast DNS: what is written is read by dnspython and here, and other bytes."""

from __future__ import annotations

import time

import dns.message
import dns.rdatatype
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpip_wasm.services.mdns import records, wire
from tcpip_wasm.services.mdns.records import MdnsService
from tcpip_wasm.services.mdns.wire import Message, Question, Record

_HOST = (b"printer", b"local")
_NAME = (b"My. Printer", b"_http", b"_tcp", b"local")


def sample() -> Message:
    return Message(
        True,
        answers=[
            records.pointer(_NAME[1:], _NAME),
            records.service_record(_NAME, _HOST, 8080),
            Record(_NAME, wire.TXT, records.encode_properties({"a": "b", "key": None, "empty": ""}), 4500, True),
        ],
        additionals=[
            Record(_HOST, wire.A, bytes([10, 0, 0, 1]), 120, True),
            records.denial(_HOST, [wire.A, wire.AAAA]),
        ],
    )


def test_a_message_is_read_by_dnspython_and_here() -> None:
    packed = wire.build(sample())
    read = dns.message.from_wire(wire.build(sample(), legacy=True))  # it knows no bit of uniqueness
    texts = {dns.rdatatype.to_text(rr.rdtype): str(rr[0]) for rr in read.answer + read.additional}
    assert texts == {
        "PTR": "My\\.\\032Printer._http._tcp.local.",
        "SRV": "0 0 8080 printer.local.",
        "TXT": '"a=b" "key" "empty="',
        "A": "10.0.0.1",
        "NSEC": "printer.local. A AAAA",
    }
    again = wire.parse(packed)
    assert again.answers == sample().answers
    assert again.additionals == sample().additionals
    assert records.service_of(again.answers[1]) == (8080, _HOST)
    assert records.decode_properties(again.answers[2].data) == {"a": b"b", "key": None, "empty": b""}
    assert records.text_of(_NAME) == "My\\. Printer._http._tcp.local"


def test_a_message_of_another_program_is_read() -> None:
    """dnspython compresses the names within records, too."""
    text = "id 0\nopcode QUERY\nflags QR AA\n;QUESTION\n;ANSWER\n_http._tcp.local. 4500 IN PTR a._http._tcp.local.\n"
    text += "a._http._tcp.local. 120 IN SRV 0 0 80 a.local.\na.local. 120 IN A 10.0.0.1\n"
    read = wire.parse(dns.message.from_text(text).to_wire())
    assert wire.read_name(read.answers[0].data) == (b"a", b"_http", b"_tcp", b"local")
    assert records.service_of(read.answers[1]) == (80, (b"a", b"local"))


def test_long_messages_are_split() -> None:
    answers = [
        records.pointer((b"_http", b"_tcp", b"local"), (b"n%d" % n, b"_http", b"_tcp", b"local")) for n in range(300)
    ]
    packets = wire.split(Message(questions=[Question((b"_http", b"_tcp", b"local"), wire.PTR)], answers=answers))
    read = [wire.parse(packet) for packet in packets]
    assert all(len(packet) <= wire.MAX_PACKET for packet in packets)
    assert [one.truncated for one in read] == [True] * (len(read) - 1) + [False]
    assert [len(one.questions) for one in read] == [1] + [0] * (len(read) - 1)
    assert [record for one in read for record in one.answers] == answers


@given(st.binary(max_size=300), st.integers(0, 200))
@example(b"\xc0\x0c" * 100, 12)
@example(b"", 0)
def test_any_bytes_are_a_message_or_refused(data: bytes, kept: int) -> None:
    for tried in (data, wire.build(sample())[:kept] + data):
        try:
            message = wire.parse(tried)
        except wire.BadMessage:
            continue
        for record in (*message.answers, *message.additionals):
            if record.rdtype == wire.SRV:
                records.service_of(record)
            elif record.rdtype in (wire.A, wire.AAAA):
                records.address_of(record)
            elif record.rdtype == wire.TXT:
                records.decode_properties(record.data)
        assert wire.parse(wire.build(message)).answers == message.answers


def test_a_message_of_pointers_alone_costs_little() -> None:
    chain = b"".join(b"\x01a" + (0xC000 | 12 + 4 * n - 4).to_bytes(2) if n else b"\x01a\0\0" for n in range(2000))
    data = b"\0\0\x84\0\0\0\1\xff\0\0\0\0" + chain
    began = time.process_time()
    for _ in range(10):
        with pytest.raises(wire.BadMessage):
            wire.parse(data)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: records.type_labels("http"), "type"),
        (lambda: records.type_labels("_http._sctp"), "type"),
        (lambda: records.host_label("a b"), "name"),
        (lambda: records.host_label("a" * 64), "name"),
        (lambda: records.encode_properties({"": "a"}), "properties"),
        (lambda: records.encode_properties({"a": "b" * 300}), "properties"),
        (lambda: records.encode_properties({str(n): "b" * 200 for n in range(20)}), "properties"),
    ],
)
def test_malformed_arguments(call: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()  # type: ignore[operator]
    assert MdnsService("_http._tcp", 80).properties == {}


def test_other_names() -> None:
    assert records.numbered(b"printer", 2, host=True) == b"printer-2"
    assert records.numbered(b"p" * 63, 10, host=True) == b"p" * 60 + b"-10"
    assert records.numbered("ä".encode() * 31, 2, host=False) == "ä".encode() * 29 + b" (2)"
