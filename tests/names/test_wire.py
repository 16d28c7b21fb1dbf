"""Parsing answers: their content, and that any bytes give an answer or `BadMessage`, in bounded time."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import dns.message
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpip_wasm.names import wire
from tcpip_wasm.names.wire import AAAA, MAX_STEPS, TCP_SIZE, A, BadMessage, build_query, name_of, read_response

NAME = name_of("www.test")
NUMBER = 0x1234
HEADER = bytes.fromhex("1234 8180 0001 0001 0000 0000")
QUESTION = b"\x03www\x04test\x00\x00\x01\x00\x01"


def read(data: bytes, rdtype: int = A) -> wire.Response:
    return read_response(data, number=NUMBER, name=NAME, rdtype=rdtype)


def built(*records: str) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(build_query(NAME, A, NUMBER, edns=True)))
    for record in records:
        name, rdtype, value = record.split(maxsplit=2)
        message.answer.append(dns.rrset.from_text(name, 60, "IN", rdtype, value))
    return message.to_wire(max_size=65535)


def test_a_query() -> None:
    query = dns.message.from_wire(build_query(NAME, AAAA, NUMBER, edns=True))
    assert (query.id, query.payload, query.edns) == (NUMBER, 1232, 0)
    assert query.question[0].to_text() == "www.test. IN AAAA"
    assert dns.message.from_wire(build_query(NAME, AAAA, NUMBER, edns=False)).edns == -1


def test_an_answer() -> None:
    response = read(built("www.test. CNAME web.test.", "web.test. A 10.0.0.9", "web.test. TXT anything"))
    assert [(r.owner.to_text(), r.ttl) for r in response.answers] == [("www.test.", 60), ("web.test.", 60)]
    assert response.answers[0].value == name_of("web.test")
    assert response.answers[1].value == IPv4Address("10.0.0.9")
    assert response.denial is None


def test_extended_codes_count() -> None:
    """BADVERS is 16: its low bits alone would read as success (RFC 6891, section 6.1.3)."""
    query = dns.message.from_wire(build_query(NAME, A, NUMBER, edns=True))
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.BADVERS)
    assert read(answer.to_wire()).rcode == 16


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "malformed"),
        (HEADER[:11], "malformed"),
        (HEADER, "malformed"),
        (b"\x12\x35" + built()[2:], "unasked"),
        (built()[:2] + b"\x01\x00" + built()[4:], "unasked"),
        (built()[:2] + b"\xa9\x80" + built()[4:], "unasked"),
        (built()[:4] + b"\x00\x02" + built()[6:], "unasked"),
        (HEADER + QUESTION.replace(b"www", b"wwx"), "unasked"),
        (HEADER + QUESTION[:-1] + b"\x03", "unasked"),
        (HEADER + QUESTION, "malformed"),
        (HEADER + QUESTION + b"\xc0\x1b" + bytes(10), "malformed"),
        (HEADER + QUESTION + b"\xc0\x0c\x00\x01\x00\x01\x80\x00\x00\x00\x00\x05\x0a\x00\x00\x01\x00", "malformed"),
        (HEADER + QUESTION + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00", "malformed"),
        (HEADER + QUESTION + b"\x80\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01", "malformed"),
        (built("www.test. A 10.0.0.9").ljust(TCP_SIZE + 1, b"\0"), "malformed"),
    ],
)
def test_messages_that_are_not_answers(data: bytes, cause: str) -> None:
    with pytest.raises(BadMessage) as caught:
        read(data)
    assert caught.value.cause == cause


def test_errors_without_the_question_are_accepted() -> None:
    assert read(bytes.fromhex("1234 8181 0000 0000 0000 0000")).rcode == 1
    for header in ("1234 8180 0000 0000 0000 0000", "1235 8181 0000 0000 0000 0000", "1234 0181 0000 0000 0000 0000"):
        with pytest.raises(BadMessage):
            read(bytes.fromhex(header))


def test_case_makes_no_difference() -> None:
    assert read(HEADER[:6] + bytes(6) + QUESTION.upper().replace(b"\x03WWW", b"\x03wWw")).answers == ()


def test_a_ttl_with_the_highest_bit_is_zero() -> None:
    data = HEADER + QUESTION + b"\xc0\x0c\x00\x01\x00\x01\xff\xff\xff\xff\x00\x04\x0a\x00\x00\x01"
    assert read(data).answers[0].ttl == 0


def test_chains_of_pointers_are_bounded() -> None:
    """As many names as fit, each with as many pointers as fit: unbounded, they would take seconds."""
    chain = b"\x00\x00" + b"".join((12 + len(QUESTION) + at).to_bytes(2, "big") for at in range(0, 8000, 2))
    chain = bytes(b | 0xC0 if i % 2 == 0 and i > 1 else b for i, b in enumerate(chain))
    last = (0xC000 | 12 + len(QUESTION) + 11 + len(chain) - 2).to_bytes(2, "big")
    first = b"\x00\x00\x10\x00\x01\x00\x00\x00\x00" + len(chain).to_bytes(2, "big")
    bomb = HEADER[:6] + b"\x02\x00" + HEADER[8:] + QUESTION + first + chain
    bomb += (last + b"\x00\x01\x00\x01\x00\x00\x00\x05\x00\x00") * ((TCP_SIZE - len(bomb)) // 12)
    begun = time.process_time()
    with pytest.raises(BadMessage):
        read(bomb)
    assert time.process_time() - begun < 1.0, "a bound of work, not of time: this is far above what it takes"


def test_an_answer_of_a_thousand_addresses_is_read() -> None:
    """The largest answer by TCP is parsed in bounded time."""
    data = built(*(f"www.test. A 10.1.{n // 250}.{n % 250}" for n in range(1000)))
    assert len(data) < TCP_SIZE
    assert len(read(data).answers) == 1000


@given(st.binary(max_size=1300))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(BadMessage):
        read(data)


@given(st.binary(max_size=600), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
@example(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c", 1, 0, 0)
def test_random_records(data: bytes, answers: int, authority: int, additional: int) -> None:
    counts = b"".join(n.to_bytes(2, "big") for n in (1, answers, authority, additional))
    try:
        response = read(HEADER[:4] + counts + QUESTION + data)
    except BadMessage as error:
        assert error.cause == "malformed"  # noqa: PT017
    else:
        assert len(response.answers) <= answers


@given(st.data())
def test_corrupted_answers(data: st.DataObject) -> None:
    packed = bytearray(built("www.test. CNAME web.test.", "web.test. A 10.0.0.9", "web.test. A 10.0.0.8"))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        response = read(bytes(packed[: data.draw(st.integers(0, len(packed)))]))
    except BadMessage:
        return
    assert len(response.answers) <= 3


def test_the_bound_counts_steps() -> None:
    reader = wire._Reader(b"\0" * (MAX_STEPS + 2))
    for _ in range(MAX_STEPS):
        reader.get_uint8()
    with pytest.raises(ValueError, match="work"):
        reader.get_uint8()
