"""UDP with an authenticated cipher: the format against the primitives, hostile datagrams, peers that restart and move.

The first half has two ends without sockets; the second has links on the machine's loopback.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm.links import EncryptedLink, bind_datagrams
from tcpip_wasm.links.encrypted_datagrams import (
    ANSWER,
    CONFIRMATION,
    HELLO_BYTES,
    LAST_NUMBER,
    OVERHEAD,
    REQUEST,
    EncryptedChannel,
)
from tcpip_wasm.links.wireguard.keys import key_text
from tcpip_wasm.links.wireguard.replay import WINDOW
from tcpip_wasm.testing import MemoryInterface
from tests.kit.core_network import payload
from tests.kit.stacks import until
from tests.links.test_datagrams import free_port
from tests.links.test_stream import BOUND, transfer, two_stacks

KEY = bytes(range(32))
LONGEST = 1518
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "encrypted-datagrams.md"


class End:
    """An end without a socket; what it sends is kept.

    Attributes:
        sent: datagrams of the handshake, and where to.
    """

    def __init__(self, name: str, *, key: bytes = KEY, remote: str | None = None, first: bytes | None = None) -> None:
        self.name = name
        self.sent: list[tuple[bytes, str]] = []
        rng = random.Random(name)
        ids = iter([first] if first else [])
        self.channel = EncryptedChannel(
            key,
            max_frame=LONGEST,
            send=lambda data, to: self.sent.append((data, to)),
            remote=remote,
            random=lambda count: next(ids, None) or rng.randbytes(count),
        )
        self.room = memoryview(bytearray(LONGEST))
        self.now = 0.0

    def receive(self, data: bytes, source: str = "peer") -> bytes:
        """Take a datagram, and return the frame in it, or nothing."""
        length = self.channel.receive(memoryview(bytes(data)), source, self.room, self.now)
        assert 0 <= length <= LONGEST + 1
        return bytes(self.room[:length])

    def seal(self, frame: bytes) -> bytes:
        """Return the datagram for a frame."""
        return bytes(self.channel.seal(memoryview(frame), self.now))

    def take(self) -> bytes:
        """Return the one datagram that it has sent."""
        ((data, _),) = self.sent
        self.sent.clear()
        return data


def joined(a: End, b: End) -> tuple[bytes, bytes, bytes]:
    """Let an end ask for a session, and return the three messages."""
    a.now += 10
    a.channel.request(a.now)
    request = a.take()
    b.receive(request, a.name)
    answer = b.take()
    a.receive(answer, b.name)
    confirmation = a.take()
    b.receive(confirmation, a.name)
    assert not a.sent
    assert not b.sent
    assert a.channel.ready
    assert b.channel.ready
    return request, answer, confirmation


def ends() -> tuple[End, End]:
    """Two ends with a session."""
    a, b = End("a", remote="b"), End("b", remote="a")
    joined(a, b)
    return a, b


# --- The format -------------------------------------------------------------------------------------------------------


def hkdf(salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, of the hash function alone."""
    extracted = hmac.digest(salt or bytes(32), KEY, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def hello(kind: int, own: bytes, peer: bytes) -> bytes:
    text = bytes([kind, 0, 0, 0]) + own + peer
    return text + hmac.digest(hkdf(b"", b"tcpip-wasm encrypted datagrams 1 hello"), text, "sha256")[:16]


def frame_key(sender: bytes, receiver: bytes) -> bytes:
    return hkdf(sender + receiver, b"tcpip-wasm encrypted datagrams 1 frame")


def sealed(sender: bytes, receiver: bytes, number: int, frame: bytes) -> bytes:
    header = b"\4\0\0\0" + receiver[:4] + number.to_bytes(8, "little")
    nonce = bytes(4) + number.to_bytes(8, "little")
    return header + ChaCha20Poly1305(frame_key(sender, receiver)).encrypt(nonce, frame, header)


def test_the_format_is_that_of_the_page() -> None:
    """Made once more of hash function and cipher; the page has the same bytes."""
    id_a, id_b = bytes(range(0xA0, 0xB0)), bytes(range(0xB0, 0xC0))
    a, b = End("a", remote="b", first=id_a), End("b", remote="a", first=id_b)
    made = (*joined(a, b), a.seal(b"hello"))
    expected = (
        hello(REQUEST, id_a, bytes(16)),
        hello(ANSWER, id_b, id_a),
        hello(CONFIRMATION, id_a, id_b),
        sealed(id_a, id_b, 0, b"hello"),
    )
    assert made == expected
    assert b.receive(made[3]) == b"hello"
    assert a.seal(b"") == sealed(id_a, id_b, 1, b"")
    assert b.seal(b"back") == sealed(id_b, id_a, 0, b"back")
    assert [len(each) for each in made] == [HELLO_BYTES] * 3 + [OVERHEAD + 5]
    values = [KEY, id_a, id_b, *made[:3], frame_key(id_a, id_b), frame_key(id_b, id_a), b"hello", made[3]]
    example = PAGE.read_text(encoding="utf-8").partition("## 5. Example")[2]
    assert re.findall(r"([0-9a-f]+)$", example, re.MULTILINE) == [each.hex() for each in values]


# --- Hostile datagrams ------------------------------------------------------------------------------------------------


def test_frames_pass_both_ways_and_once() -> None:
    a, b = ends()
    for size in (0, 1, 60, 1514, LONGEST):
        for near, far in ((a, b), (b, a)):
            frame = payload(size, size)
            data = near.seal(frame)
            assert len(data) == size + OVERHEAD
            assert frame[:16] not in data or not frame
            assert hashlib.sha256(far.receive(data)).digest() == hashlib.sha256(frame).digest()
            replayed = far.channel.replayed
            assert far.receive(data) == b""
            assert far.channel.replayed == replayed + 1
    assert (a.channel.unauthentic, b.channel.unauthentic) == (0, 0)


def test_every_bit_and_every_length_counts() -> None:
    """Of each kind of datagram; none of them changes anything, and each is counted."""
    a, b = End("a", remote="b"), End("b", remote="a")
    messages = joined(a, b)
    good = a.seal(payload(40, 1))
    victim, before = b.channel, b.channel.remote
    tried = 0
    for data in (*messages, good):
        damaged = [data[:length] for length in range(len(data))] + [data + b"\0", data + data]
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(changed))
        for each in damaged:
            assert b.receive(each, "attacker") == b""
            tried += 1
        assert victim.unauthentic == tried
    assert b.sent == []
    assert (victim.remote, victim.sessions, victim.replayed) == (before, 1, 0)
    assert b.receive(good) == payload(40, 1)


def test_another_key_is_of_no_use() -> None:
    a, b = ends()
    other = End("other", key=bytes(32), remote="b")
    other.channel.request(0.0)
    b.receive(other.take(), "other")
    assert b.sent == []
    x, y = End("x", key=bytes(32), remote="y"), End("y", key=bytes(32), remote="x")
    for data in (*joined(x, y), x.seal(b"frame"), y.seal(b"frame")):
        assert b.receive(data, "other") == b""
    assert (b.channel.unauthentic, b.channel.remote) == (6, "a")
    assert b.receive(a.seal(b"frame")) == b"frame"


def test_the_order_of_arrival_within_the_window_does_not_matter() -> None:
    a, b = ends()
    frames = [number.to_bytes(8) for number in range(WINDOW + 1)]
    data = [a.seal(frame) for frame in frames]
    order = list(range(WINDOW + 1))
    random.Random(3).shuffle(order)
    assert {b.receive(data[number]) for number in order} == set(frames)
    assert all(b.receive(each) == b"" for each in data)
    assert b.channel.replayed == len(data)
    late, later = a.seal(b"late"), [a.seal(b"") for _ in range(WINDOW + 1)]
    assert b.receive(later[-1]) == b""
    assert b.receive(late) == b"", "one more than the window was sent after it"
    assert b.receive(later[0]) == b""
    assert b.channel.replayed == len(data) + 1
    assert b.channel.unauthentic == 0


@given(st.binary(max_size=100), st.integers(1, 5), st.integers(0, 60))
def test_any_bytes_are_dropped(data: bytes, kind: int, kept: int) -> None:
    a, b = ends()
    good = a.seal(b"frame")
    for each in (data, bytes([kind, 0, 0, 0]) + data, good[:kept] + data):
        if each != good:
            assert b.receive(each, "attacker") == b""
    assert b.channel.remote == "a"
    assert b.receive(good) == b"frame"


def test_what_an_end_has_sent_is_not_for_itself() -> None:
    a, b = ends()
    a.now += 10
    a.channel.request(a.now)
    request = a.take()
    frame = a.seal(b"frame")
    for data in (request, frame):
        assert a.receive(data, "mirror") == b""
    assert a.sent == [], "the answer would have been to itself"
    b.receive(request, "a")
    answer = b.take()
    assert b.receive(answer, "mirror") == b""
    a.receive(answer, "b")
    confirmation = a.take()
    assert a.receive(confirmation, "mirror") == b""
    assert (a.channel.sessions, a.channel.remote, b.channel.sessions) == (2, "b", 1)


def test_recorded_datagrams_are_of_no_use_after_a_restart() -> None:
    """Neither those to the end that was restarted, nor its own to the other end."""
    a, b = End("a", remote="b"), End("b", remote="a")
    recorded = [*joined(a, b)]
    recorded += [a.seal(payload(50, n)) for n in range(10)]
    for data in recorded[3:]:
        assert b.receive(data)
    from_b = [b.seal(payload(60, n)) for n in range(10)]
    again = End("b again", remote="a")
    for data in (*recorded, *from_b):
        assert again.receive(data, "attacker") == b""
    assert not again.channel.ready
    assert [data[0] for data, _ in again.sent] == [ANSWER, REQUEST], "an answer changes nothing"
    again.sent.clear()
    assert again.channel.unauthentic == len(recorded) + len(from_b) - 1
    joined(again, a)
    assert a.channel.sessions == 2
    assert again.receive(a.seal(b"new"), "a") == b"new"
    assert a.receive(again.seal(b"new"), "b again") == b"new"
    assert a.receive(from_b[0]) == payload(60, 0), "of the session before, and new: it was under way"
    assert a.channel.remote == "b again"
    joined(again, a)
    assert a.receive(from_b[1]) == b"", "of the session before that"


def test_no_number_is_used_twice_with_a_key() -> None:
    """Over restarts of both ends in any order, with old messages of the handshake thrown in."""
    rng = random.Random(8)
    pair = [End("0", remote="1"), End("1", remote="0")]
    recorded: list[bytes] = []
    used: set[tuple[bytes, bytes, bytes]] = set()
    count = 0
    for step in range(400):
        near = rng.randrange(2)
        a, b = pair[near], pair[1 - near]
        choice = rng.random()
        if choice < 0.1:
            pair[near] = End(f"{near} {step}", remote=str(1 - near))
        elif choice < 0.3 and recorded:
            for data in rng.choices(recorded, k=5):
                a.receive(data, "attacker")
        elif choice < 0.6:
            a.now += 1
            a.channel.request(a.now)
        for end, other in ((a, b), (b, a)) * 3:
            for data, _ in end.sent:
                recorded.append(data)
                if rng.random() < 0.8:
                    other.receive(data, end.name)
            end.sent.clear()
        for end in pair:
            if end.channel.ready:
                session = end.channel._current
                assert session is not None
                datagram = end.seal(b"frame")
                recorded.append(datagram)
                used.add((session.own, session.peer, datagram[8:16]))
                count += 1
    assert count == len(used) > 200
    # An identifier of an end is in one session only.
    sessions = {(own, peer) for own, peer, _ in used}
    assert len({own for own, _ in sessions}) == len(sessions) > 20


def test_lost_messages_of_the_handshake_are_made_up_for() -> None:
    """Whichever of the three is lost, both ends have one session when frames have been sent."""
    for lost in range(8):
        a, b = End("a", remote="b"), End("b", remote="a")
        number = 0
        for second in range(10):
            for end in (a, b):
                end.now = 10.0 * second
                if not end.channel.ready:
                    end.channel.request(end.now)
            for end, other in ((a, b), (b, a)) * 3:
                for data, _ in end.sent:
                    if number >= 3 or not lost >> number & 1:
                        other.receive(data, end.name)
                    number += 1
                end.sent.clear()
            for end, other in ((a, b), (b, a)):
                if end.channel.ready:
                    other.receive(end.seal(b"frame"), end.name)
        assert b.receive(a.seal(b"there")) == b"there", lost
        assert a.receive(b.seal(b"back")) == b"back", lost


def test_a_lost_confirmation_needs_no_other_session() -> None:
    a, b = End("a", remote="b"), End("b", remote="a")
    a.channel.request(0.0)
    b.receive(a.take())
    a.receive(b.take())
    assert a.take()[0] == CONFIRMATION
    lost = a.seal(b"lost")
    assert b.receive(lost, "a") == b""
    a.receive(b.take(), "b")  # for a datagram that is not authentic to it, b asks
    b.receive(a.take(), "a")
    a.receive(b.take(), "b")
    assert (a.channel.sessions, b.channel.sessions, a.sent) == (1, 1, [])
    assert b.receive(lost, "a") == b"lost"


def exchange(*pair: End, lost: Callable[[bytes], bool] = lambda _: False) -> None:
    """Pass messages of the handshake on until there are none, to the end of the name that they go to."""
    while any(end.sent for end in pair):
        for end in pair:
            sent, end.sent = end.sent, []
            for data, to in sent:
                for other in pair:
                    if to == other.name.partition(" ")[0] and not lost(data):
                        other.receive(data, end.name.partition(" ")[0])


def test_an_end_that_waits_for_the_peer_may_be_restarted() -> None:
    """It cannot ask, since it knows no address: the peer asks, once nothing has come back for a while."""
    a, b = End("a", remote="b"), End("b")
    joined(a, b)
    b = End("b again")
    began = a.now
    received = []
    for tenth in range(100):
        a.now = b.now = began + tenth / 10
        received.append(b.receive(a.seal(b"frame"), "a"))
        exchange(a, b)
    assert received == [b""] * 51 + [b"frame"] * 49
    assert a.receive(b.seal(b"back"), "b") == b"back"
    assert (a.channel.sessions, b.channel.sessions) == (2, 1)


def test_both_ends_restart_in_turn() -> None:
    """Whichever of them knows the other's address, and with frames one way alone."""
    for knows_a, knows_b in ((True, True), (True, False), (False, True)):
        addresses = {"a": "b" if knows_a else None, "b": "a" if knows_b else None}
        pair = {name: End(name, remote=addresses[name]) for name in "ab"}
        now = 0.0
        for turn in range(12):
            name = "ab"[turn % 2]
            pair[name] = End(f"{name} {turn}", remote=addresses[name])
            for end in pair.values():
                end.now = now
                end.channel.request(now)
            exchange(*pair.values())
            for _ in range(80):
                now += 0.1
                for end, other in (tuple(pair.values()), tuple(pair.values())[::-1]):
                    end.now = now
                    if end.channel.ready and (end.name[0] == "a" or turn % 4 < 2):
                        other.receive(end.seal(b"frame"), end.name[0])
                    elif addresses[end.name[0]]:
                        end.channel.request(now)
                    exchange(*pair.values())
            a, b = pair.values()
            for end, other in ((a, b), (b, a)):
                assert other.receive(end.seal(b"there"), end.name[0]) == b"there", (knows_a, knows_b, turn)


def test_two_ends_that_begin_at_once_have_one_session() -> None:
    """In every order in which the first two requests and what follows them can arrive."""
    for order in range(64):
        rng = random.Random(order)
        a, b = End("a", remote="b"), End("b", remote="a")
        a.channel.request(0.0)
        b.channel.request(0.0)
        under_way = []
        while True:
            for end, other in ((a, b), (b, a)):
                under_way += [(data, end, other) for data, _ in end.sent]
                end.sent.clear()
            if not under_way:
                break
            data, end, other = under_way.pop(rng.randrange(len(under_way)))
            other.receive(data, end.name)
        assert (a.channel.sessions, b.channel.sessions) == (1, 1)
        assert b.receive(a.seal(b"there"), "a") == b"there"
        assert a.receive(b.seal(b"back"), "b") == b"back"


def test_traffic_in_one_direction_costs_a_handshake_in_five_seconds() -> None:
    a, b = ends()
    began, messages = a.now, 0
    for hundredth in range(3000):
        a.now = b.now = began + hundredth / 100
        assert b.receive(a.seal(b"frame"), "a") == b"frame"
        for _ in range(3):
            for end, other in ((a, b), (b, a)):
                messages += len(end.sent)
                for data, _ in end.sent:
                    other.receive(data, end.name)
                end.sent.clear()
    assert a.channel.sessions == b.channel.sessions == 6
    assert messages == 3 * 5
    assert (a.channel.unauthentic, b.channel.unauthentic) == (0, 0)


def test_a_confirmation_that_is_lost_while_frames_arrive() -> None:
    """The peer was restarted in the middle of a transfer: it has a session, and this end does not know yet."""
    a, b = ends()
    b.now = a.now
    assert b.receive(a.seal(b"frame"), "a") == b"frame"
    again = End("a again", remote="b")
    again.now = b.now
    again.channel.request(again.now)
    exchange(again, b, lost=lambda data: data[0] == CONFIRMATION)
    assert (again.channel.ready, b.channel.sessions) == (True, 1)
    assert b.receive(again.seal(b"lost"), "a") == b""
    exchange(again, b)
    assert b.receive(again.seal(b"next"), "a") == b"next"
    assert (again.channel.sessions, b.channel.sessions) == (1, 2)


def test_an_attacker_who_was_followed_once_does_not_keep_the_link() -> None:
    """A frame that it has passed on from its own address, before the peer's own arrived, moves the peer to it."""
    a, b = ends()
    began = b.now
    b.receive(a.seal(b"frame"), "attacker")
    assert b.channel.remote == "attacker"
    b.receive(a.seal(b"frame"), "a")
    assert b.channel.remote == "a", "the next frame of the peer"
    b.receive(a.seal(b"frame"), "attacker")
    assert b.channel.remote == "attacker"
    for second in range(10):  # the peer only answers
        a.now = b.now = began + second
        data = b.seal(b"frame")
        if b.channel.remote == "a":
            assert a.receive(data, "b") == b"frame"
        exchange(a, b)
    assert b.channel.remote == "a"
    assert b.channel.sessions == 2


def test_no_recording_makes_an_end_send_more_than_it_receives() -> None:
    """All that two ends have ever sent, and parts of it, from one and many addresses, for a minute."""
    a, b = ends()
    recorded = list(joined(a, b)) + list(joined(b, a)) + [a.seal(bytes(60)) for _ in range(9)]
    for data in recorded[-9:]:
        assert b.receive(data, "a")
    for end in (a, b):
        before = end.channel.sessions
        current = end.channel._current
        began, received = end.now, 0
        for tick in range(6000):
            end.now = began + tick / 100
            data = recorded[tick % len(recorded)]
            for each in (data, data[:HELLO_BYTES], data[:33]):
                end.receive(each, f"attacker {tick % 7}")
                received += len(each)
        sent = [len(data) for data, to in end.sent if to.startswith("attacker")]
        asked = [data for data, to in end.sent if not to.startswith("attacker")]
        assert sum(sent) < received / 4
        assert len(asked) <= 61
        assert (end.channel.sessions, end.channel._current) == (before, current)
        assert (end.channel.remote, end.channel.of_another_key) == ("b" if end is a else "a", 0)


def test_one_request_a_second_at_most() -> None:
    """However many frames are lost, and however many datagrams arrive that are not authentic."""
    a = End("a", remote="b")
    for hundredth in range(1000):
        a.now = hundredth / 100
        a.channel.request(a.now)
        a.receive(b"\4" + bytes(60), "attacker")
    assert [to for _, to in a.sent] == ["b"] * 10
    a, b = ends()
    a.receive(b.seal(b"frame"), "b")
    since = a.now
    for tenth in range(100):
        a.now = since + tenth / 10
        a.receive(b"\4" + bytes(60), "attacker")
    assert len(a.sent) == 5, "none in the five seconds after a frame of the peer"
    waiting = End("waiting")
    waiting.channel.request(0.0)
    waiting.receive(bytes(60), "attacker")
    assert waiting.sent == [], "the peer's address is not known"


def test_only_what_is_new_and_authentic_moves_the_peer() -> None:
    a, b = ends()
    first, second = a.seal(b"first"), a.seal(b"second")
    assert b.receive(second, "elsewhere") == b"second"
    assert b.channel.remote == "elsewhere"
    assert b.receive(first, "a") == b"first"
    assert b.channel.remote == "elsewhere", "it is older"
    for data in (first, second, b"\4" + bytes(60)):
        b.receive(data, "attacker")
    a.now += 10
    a.channel.request(a.now)
    request = a.take()
    b.receive(request, "attacker")
    assert b.channel.remote == "elsewhere", "a request may be an old one"


def test_a_session_ends_before_its_numbers_do() -> None:
    a, b = ends()
    session = a.channel._current
    assert session is not None
    session.sent = LAST_NUMBER - 1
    assert b.receive(a.seal(b"last")) == b"last"
    assert not a.channel.ready
    joined(a, b)
    assert b.receive(a.seal(b"first")) == b"first"
    assert (a.channel.sessions, b.channel.sessions) == (2, 2)


def test_a_frame_that_is_too_long_is_authenticated_all_the_same() -> None:
    a, b = ends()
    data = a.seal(payload(LONGEST, 1))
    b.room = b.room[:1000]
    assert b.channel.receive(memoryview(data), "a", b.room, 0.0) == 1001
    assert b.channel.receive(memoryview(data), "a", b.room, 0.0) == 0
    assert (b.channel.replayed, b.channel.unauthentic) == (1, 0)


# --- Links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_two_stacks_over_encrypted_datagrams(host: str) -> None:
    """One end knows no address; the other is closed, comes back at another port, and is followed."""

    async def main() -> None:
        there = f"udp:{host}:{free_port()}"
        async with two_stacks() as (a, near, b, far):
            link = await bind_datagrams(near, there, key=KEY)
            with pytest.raises(OSError, match="has a listener already"):
                await bind_datagrams(near, "udp:127.0.0.1:0", key=KEY)
            assert (link.remote, link.ready) == (None, False)
            for times in (1, 2):
                back = await bind_datagrams(far, f"udp:{host}:{free_port()}", there, key=key_text(KEY))
                await until(lambda: link.ready and back.ready)  # noqa: B023
                await transfer(a, b, 1_000_000)
                await transfer(b, a, 1_000_000, "fd00::1")
                assert link.remote == back._sock.getsockname()[:2]
                assert back.remote == link._sock.getsockname()[:2]
                assert (link.sessions, back.sessions) == (times, 1)
                assert (link.unauthentic, link.replayed) == (0, 0)
                assert link.counters.frames_received >= back.counters.frames_received // 4 > 0
                back.close()
                await until(lambda: not far.attached)
            link.close()
            assert link._sock.fileno() == -1

    asyncio.run(main())


@contextmanager
def attacker() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def joined_links(one: int, other: int) -> tuple[MemoryInterface, EncryptedLink, MemoryInterface, EncryptedLink]:
    """Return two interfaces, each with its link, which have agreed on a session.

    Args:
        one, other: their ports on loopback.
    """
    near, far = MemoryInterface(), MemoryInterface()
    link = await bind_datagrams(near, f"udp:127.0.0.1:{one}", f"udp:127.0.0.1:{other}", key=KEY)
    back = await bind_datagrams(far, f"udp:127.0.0.1:{other}", f"udp:127.0.0.1:{one}", key=KEY)
    await until(lambda: link.ready and back.ready)
    return near, link, far, back


def test_a_flood_from_elsewhere_neither_enters_nor_stops_a_link() -> None:
    async def main() -> None:
        one, other = free_port(), free_port()
        near, link, far, back = await joined_links(one, other)
        frames = [payload(size, size) for size in range(60, 260)]
        rng = random.Random(1)
        with attacker() as sock:
            for number, frame in enumerate(frames):
                for size in (1, 31, 32, 52, 92, 1500, 9000):
                    sock.sendto(rng.randbytes(size), ("127.0.0.1", one))
                far.send(frame)
                await until(lambda: len(near.received) == number + 1)  # noqa: B023
        assert list(near.received) == frames
        await until(lambda: link.unauthentic == 7 * len(frames))
        assert (link.remote, link.sessions) == (("127.0.0.1", other), 1)
        assert not link.closed
        link.close()
        back.close()

    asyncio.run(main())


def test_another_key_at_the_other_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        one, other = free_port(), free_port()
        near, far = MemoryInterface(), MemoryInterface()
        link = await bind_datagrams(near, f"udp:127.0.0.1:{one}", key=KEY)
        with caplog.at_level("WARNING", "tcpip_wasm.links"):
            back = await bind_datagrams(far, f"udp:127.0.0.1:{other}", f"udp:127.0.0.1:{one}", key=bytes(32))
            await until(lambda: link.unauthentic > 0)
        assert (link.ready, back.ready, link.remote) == (False, False, None)
        (record,) = caplog.records
        assert record.getMessage().endswith(f"127.0.0.1 port {other} uses another key")
        caplog.clear()
        with attacker() as sock, caplog.at_level("WARNING", "tcpip_wasm.links"):
            for number in range(200):
                sock.sendto(b"\1\0\0\0" + bytes(HELLO_BYTES - 4), ("127.0.0.1", one))
                await until(lambda: link.unauthentic == 2 + number)  # noqa: B023
        assert len(caplog.records) < 20, "however many there are"
        link.close()
        back.close()

    asyncio.run(main())


def test_an_address_that_cannot_be_sent_to_loses_frames_alone() -> None:
    """A broadcast address stands for each of them: that of a route that forbids it has the same error, EACCES."""

    async def main() -> None:
        near, link, far, back = await joined_links(free_port(), free_port())
        for number, address in enumerate([("127.255.255.255", 9), ("127.0.0.1", 0), ("255.255.255.255", 9)], 1):
            link._channel.remote = address
            near.send(bytes(60))
            assert (link.closed, link.counters.send_dropped) == (False, number)
        far.send(payload(60, 1))
        await until(lambda: len(near.received) == 1)
        near.send(payload(60, 2))
        await until(lambda: len(far.received) == 1)
        assert list(far.received) == [payload(60, 2)]
        link.close()
        back.close()

    asyncio.run(main())


def test_wrong_arguments() -> None:
    async def main() -> None:
        interface = MemoryInterface()
        wrong: list[tuple[str, str | None, bytes | str, str]] = [
            ("unix:x", "unix:y", KEY, "local: udp:HOST:PORT is needed, not 'unix:x'"),
            ("udp:127.0.0.1:0", "unix:y", KEY, "remote: udp:HOST:PORT is needed, not 'unix:y'"),
            ("udp:127.0.0.1:0", None, KEY[1:], "key: a key has 32 bytes, not 31"),
            ("udp:127.0.0.1:0", None, "key", "key: a key is 44 characters of base64"),
        ]
        for local, remote, key, text in wrong:
            with pytest.raises(ValueError, match=text):
                await bind_datagrams(interface, local, remote, key=key)
        with pytest.raises(TypeError, match="key: a key is text in base64 or bytes, not int"):
            await bind_datagrams(interface, "udp:127.0.0.1:0", key=1)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="remote: the peer's address is needed without a key"):
            await bind_datagrams(interface, "udp:127.0.0.1:0")  # type: ignore[call-overload]
        link = await bind_datagrams(interface, "udp:127.0.0.1:0", key=KEY)
        assert isinstance(link, EncryptedLink)
        link.close()
        await asyncio.wait_for(link.wait_closed(), BOUND)

    asyncio.run(main())


def test_the_library_is_needed_for_a_key_alone() -> None:
    """In a process in which cryptography cannot be imported."""
    code = """
import asyncio, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name="cryptography")
sys.meta_path.insert(0, Hidden())
from tcpip_wasm.links import bind_datagrams
from tcpip_wasm.testing import MemoryInterface
async def main():
    link = await bind_datagrams(MemoryInterface(), "udp:127.0.0.1:0", "udp:127.0.0.1:9")
    link.close()
    try:
        await bind_datagrams(MemoryInterface(), "udp:127.0.0.1:0", key=bytes(32))
    except ImportError as error:
        print(error)
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "pip install 'tcpip-wasm[wireguard]'" in ran.stdout
