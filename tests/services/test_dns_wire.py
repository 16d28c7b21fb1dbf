"""DNS messages of the server: what dnspython writes is read, what is written dnspython reads, and other bytes."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpip_wasm.services.dns import wire

_NAME = (b"www", b"lab", b"internal")


def query(name: str = "www.lab.internal", rdtype: str = "A", **options: object) -> dns.message.Message:
    return dns.message.make_query(name, rdtype, **options)  # type: ignore[arg-type]


def test_a_query_is_read() -> None:
    message = query("wWw.Lab.internal", "AAAA", use_edns=0, payload=4096, want_dnssec=True)
    read = wire.parse_query(message.to_wire())
    assert (read.number, read.rdtype, read.rdclass) == (message.id, wire.AAAA, wire.IN)
    assert read.labels == (b"wWw", b"Lab", b"internal")
    assert read.name == _NAME
    assert (read.size, read.version, read.wants_dnssec, read.limit(False), read.limit(True)) == (
        4096,
        0,
        True,
        1232,
        65535,
    )
    plain = wire.parse_query(query().to_wire())
    assert (plain.has_edns, plain.limit(False)) == (False, 512)
    root = wire.parse_query(query(".", "NS").to_wire())
    assert root.labels == ()


def test_an_answer_is_read_by_dnspython() -> None:
    message = query(use_edns=0)
    read = wire.parse_query(message.to_wire())
    records = [wire.Record(b"", wire.A, 60, bytes([10, 0, 0, n])) for n in range(3)]
    built = wire.build_answer(read, 1232, flags=wire.AA | wire.RA, answers=records)
    answer = dns.message.from_wire(built)
    assert message.is_response(answer)
    assert sorted(record.address for record in answer.answer[0]) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert dns.flags.to_text(answer.flags) == "QR AA RD RA"
    assert (answer.edns, answer.payload) == (0, 1232)
    short = dns.message.from_wire(wire.build_answer(read, 80, answers=records * 5), raise_on_truncation=False)
    assert short.flags & dns.flags.TC
    assert not short.answer
    bad = dns.message.from_wire(wire.build_answer(read, 512, rcode=wire.BADVERS))
    assert bad.rcode() == dns.rcode.BADVERS


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (bytes(2000), None),
        (b"\0\1\x80\0\0\1" + bytes(6), None),  # an answer
        (b"\0\1\x28\0\0\1" + bytes(6), wire.NOTIMP),  # an update
        (b"\0\1\0\0\0\0" + bytes(6), wire.FORMERR),  # no question
        (b"\0\1\0\0\0\2" + bytes(6), wire.FORMERR),
        (b"\0\1\0\0\0\1" + bytes(6), wire.FORMERR),  # cut
        (b"\0\1\0\0\0\1" + bytes(6) + b"\xc0\x0c\0\1\0\1", wire.FORMERR),  # a pointer
        (b"\0\1\0\0\0\1" + bytes(6) + b"\x3f" + b"a" * 10, wire.FORMERR),
        (b"\0\1\0\0\0\1" + bytes(6) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", wire.FORMERR),  # too long
        (b"\0\1" + query(use_edns=0).to_wire()[2:-1], wire.FORMERR),  # the identifier of dnspython's is random
    ],
)
def test_what_is_no_query_is_refused(data: bytes, rcode: int | None) -> None:
    with pytest.raises(wire.BadMessage) as caught:
        wire.parse_query(data)
    answer = caught.value.answer
    assert (answer and answer[3] & 15) == rcode
    assert answer is None or (answer[:2] == data[:2] and answer[2] & 0x80)


@given(st.binary(max_size=300), st.integers(0, 40))
@example(b"\xc0" * 200, 12)
def test_any_bytes_are_a_query_or_refused(data: bytes, kept: int) -> None:
    for tried in (data, query(use_edns=0).to_wire()[:kept] + data):
        try:
            read = wire.parse_query(tried)
        except wire.BadMessage:
            continue
        built = wire.build_answer(read, read.limit(False), answers=[wire.Record(b"", 1, 1, b"abcd")] * 20)
        assert len(built) <= read.limit(False)
        assert built[:2] == tried[:2]


def _answer(records: str, *, edns: bool = True) -> tuple[dns.message.Message, bytes]:
    text = f"id 7\nopcode QUERY\nrcode NOERROR\nflags QR RD RA AD\n{'edns 0' if edns else ''}\n;QUESTION\n"
    text += f"www.lab.internal. IN A\n;ANSWER\n{records}\n;AUTHORITY\nlab.internal. 50 IN NS ns.lab.internal.\n"
    text += ";ADDITIONAL\nns.lab.internal. 70 IN A 10.0.0.53\n"
    message = dns.message.from_text(text)
    return message, message.to_wire()


@pytest.mark.parametrize("edns", [True, False])
def test_a_forwarded_answer_gets_the_clients_question_and_age(edns: bool) -> None:
    _, packed = _answer("www.lab.internal. 60 IN A 10.0.0.1\nwww.lab.internal. 60 IN A 10.0.0.2")
    read = wire.read_forwarded(packed)
    assert (len(read.ttls), read.ttl) == (4, 50)
    asked = wire.parse_query(query("WWW.lab.internal", use_edns=0 if edns else False).to_wire())
    answer = dns.message.from_wire(wire.build_forwarded(asked, read, 20, 1232))
    assert (answer.id, answer.edns) == (asked.number, 0 if edns else -1)
    assert answer.question[0].name.to_text() == "WWW.lab.internal."
    assert (answer.answer[0].ttl, answer.authority[0].ttl, answer.additional[0].ttl) == (40, 30, 50)
    assert dns.flags.to_text(answer.flags) == "QR RD RA"
    short = dns.message.from_wire(wire.build_forwarded(asked, read, 0, 60), raise_on_truncation=False)
    assert short.flags & dns.flags.TC


@given(st.data())
def test_a_damaged_forwarded_answer_is_read_or_refused(data: st.DataObject) -> None:
    _, packed = _answer("www.lab.internal. 60 IN A 10.0.0.1")
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    asked = wire.parse_query(query().to_wire())
    try:
        read = wire.read_forwarded(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except wire.BadMessage:
        return
    built = wire.build_forwarded(asked, read, 10, 512)
    assert len(built) <= 512
    assert built[:2] == asked.number.to_bytes(2)
