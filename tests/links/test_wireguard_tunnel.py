"""WireGuard without sockets: handshakes, sessions and timers of the protocol paper, in a time that is a number."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from random import Random

import pytest

from tcpip_wasm.links.wireguard.messages import (
    COOKIE,
    HEADER,
    INITIATION,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    RESPONSE,
    TRANSPORT,
)
from tcpip_wasm.links.wireguard.noise import Initiated
from tcpip_wasm.links.wireguard.peer import STAGED, Session
from tcpip_wasm.links.wireguard.replay import WINDOW
from tests.kit.wireguard import MTU, End, Message, Network, connected, current, packet, two

TO_B = packet("10.0.0.1", "10.0.0.2")
TO_A = packet("10.0.0.2", "10.0.0.1")
KEEPALIVE_BYTES = 32


def kinds(network: Network, since: float = 0.0) -> list[int]:
    """Return the types of messages that were sent."""
    return [kind for _, kind, _ in network.kinds(since)]


# --- Handshakes ---------------------------------------------------------------------------------------------------


def test_packets_pass_both_ways_after_a_handshake_of_the_papers_sizes() -> None:
    network, a, b, far, near = two()
    a.send(TO_B, packet("fd00::1", "fd00::2", b"six"))
    network.settle()
    assert b.arrived == [TO_B, packet("fd00::1", "fd00::2", b"six")]
    assert [(kind, size) for _, kind, size in network.kinds()][:2] == [(INITIATION, 148), (RESPONSE, 92)]
    assert near.endpoint == a.address
    b.send(TO_A)
    network.settle()
    assert a.arrived == [TO_A]
    assert current(far).initiator
    assert not current(near).initiator
    assert a.tunnel.counters.handshakes == b.tunnel.counters.handshakes == 1


def test_the_responder_sends_only_after_it_has_received() -> None:
    """The paper, section 5.4: the initiator proves with its first message that it has the keys."""
    network, a, b, far, near = two()
    far.timers.persistent = network.now
    a.tunnel.initiate(far, network.now)
    network.rule = lambda message: [message] if message[0][0] != TRANSPORT else []
    network.settle()
    assert near.next is not None
    assert near.current is None
    b.send(TO_A)
    network.rule = lambda message: [message]
    a.tunnel.send_keepalive(far, network.now)
    network.settle()
    assert near.next is None
    assert a.arrived == [TO_A]


def test_packets_are_padded_but_not_beyond_the_mtu() -> None:
    network, a, b, *_ = connected()
    sizes = [1, 12, 13, 500, MTU - 20]
    network.sent.clear()
    for size in sizes:
        a.send(packet("10.0.0.1", "10.0.0.2", b"x" * size))
    network.settle()
    assert [len(each) for each in b.arrived] == [size + 20 for size in sizes]
    assert [size for _, _, size in network.kinds()] == [32 + 32, 32 + 32, 32 + 48, 32 + 528, 32 + MTU]


def test_both_ends_may_begin_at_once() -> None:
    network, a, b, _far, near = two()
    near.endpoint = a.address
    a.send(TO_B)
    b.send(TO_A)
    network.settle()
    assert (a.arrived, b.arrived) == ([TO_A], [TO_B])
    for _ in range(3):
        a.send(TO_B)
        b.send(TO_A)
        network.settle()
    assert len(a.arrived) == len(b.arrived) == 4


@pytest.mark.parametrize("keys", [(b"a" * 32, b"b" * 32), (b"a" * 32, None), (None, b"a" * 32)])
def test_different_preshared_keys_make_no_session(keys: tuple[bytes | None, bytes | None]) -> None:
    network = Network()
    a, b = network.end(), network.end()
    far = a.add(b, "10.0.0.2", preshared_key=keys[0])
    b.add(a, "10.0.0.1", preshared_key=keys[1])
    a.send(TO_B)
    network.settle()
    assert far.current is None
    assert not b.arrived
    assert a.tunnel.counters.forged == 1


def test_the_same_preshared_key_makes_a_session() -> None:
    _, _, _, far, near = connected(preshared_key=b"k" * 32)
    assert far.preshared == near.preshared == b"k" * 32


def test_an_initiation_is_answered_once() -> None:
    """Its timestamp is not greater than the last one; an older one is not answered either."""
    network, a, b, _far, _ = connected()
    first = next(message for _, message in network.sent if message[0][0] == INITIATION)
    network.run(130)
    a.send(TO_B)
    network.settle()
    assert kinds(network).count(INITIATION) == 2
    before = kinds(network).count(RESPONSE)
    b.receive(first[0], a.address)
    network.settle()
    assert kinds(network).count(RESPONSE) == before
    assert b.tunnel.counters.replayed == 1


def test_timestamps_grow_though_the_clock_goes_back() -> None:
    network, a, b, far, _near = connected()
    stamps = [far.last_stamp]
    a.tunnel._wall = lambda: 5.0
    for _ in range(3):
        network.run(10)
        a.tunnel.initiate(far, network.now)
        network.settle()
        stamps.append(far.last_stamp)
    assert stamps == sorted(set(stamps))
    assert b.tunnel.counters.handshakes == 4
    assert b.tunnel.counters.replayed == 0


def test_a_stranger_gets_no_answer() -> None:
    network, _a, b, _, _ = connected()
    stranger = network.end()
    stranger.add(b, "10.0.0.2")
    network.sent.clear()
    stranger.send(packet("10.0.0.3", "10.0.0.2"))
    network.settle()
    assert kinds(network) == [INITIATION]
    assert b.tunnel.counters.forged == 1
    assert not b.arrived


def test_a_sender_that_does_not_know_the_public_key_gets_no_answer_under_load_either() -> None:
    network, _a, b, _far, _ = two()
    for number in range(200):
        b.receive(bytes([INITIATION, 0, 0, 0]) + bytes(144), ("192.0.2.99", 1000 + number))
    network.settle()
    assert network.sent == []
    assert b.tunnel.counters.forged == 200


# --- Several peers, allowed addresses -----------------------------------------------------------------------------


def test_the_longest_prefix_decides_to_which_peer_a_packet_goes() -> None:
    network = Network()
    hub, near, wide = network.end(), network.end(), network.end()
    hub.add(near, "10.1.0.0/16")
    hub.add(wide, "10.0.0.0/8", "0.0.0.0/0")
    for end in (near, wide):
        end.add(hub, "0.0.0.0/0")
    hub.send(*(packet("10.0.0.1", to) for to in ("10.1.2.3", "10.2.0.1", "10.1.0.1", "192.0.2.1", "10.1.2.4")))
    network.settle()
    hub.send(*(packet("10.0.0.1", to) for to in ("10.1.2.3", "10.2.0.1", "10.1.0.1", "192.0.2.1", "10.1.2.4")))
    network.settle()
    assert near.arrived == [packet("10.0.0.1", to) for to in ("10.1.2.3", "10.1.0.1", "10.1.2.4")] * 2
    assert wide.arrived == [packet("10.0.0.1", to) for to in ("10.2.0.1", "192.0.2.1")] * 2


def test_packets_from_addresses_of_others_are_dropped() -> None:
    network = Network()
    hub, one, other = network.end(), network.end(), network.end()
    hub.add(one, "10.0.0.2/32")
    hub.add(other, "10.0.0.3/32", "10.0.0.0/24")
    for end in (one, other):
        end.add(hub, "0.0.0.0/0", "::/0")
    one.send(*(packet(source, "10.0.0.1") for source in ("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.2")))
    one.send(packet("fd00::2", "fd00::1"))
    other.send(*(packet(source, "10.0.0.1") for source in ("10.0.0.2", "10.0.0.3", "10.0.0.4")))
    network.settle()
    assert [each[12:16] for each in hub.arrived] == [bytes([10, 0, 0, number]) for number in (2, 2, 3, 4)]
    assert hub.tunnel.counters.not_allowed == 4


def test_packets_to_no_peer_are_dropped_and_counted() -> None:
    network, a, _, _, _ = connected()
    a.send(packet("10.0.0.1", "10.9.9.9"), b"\x00" * 40, packet("fd00::1", "fd99::1"))
    network.settle()
    assert a.tunnel.counters.not_allowed == 3


@pytest.mark.parametrize(
    "inner",
    [
        b"\x45" + bytes(9),
        b"\x45\x00\x00\x10" + bytes(8) + bytes([10, 0, 0, 1, 10, 0, 0, 2]),
        b"\x45\x00\xff\xff" + bytes(8) + bytes([10, 0, 0, 1, 10, 0, 0, 2]),
        b"\x60" + bytes(20),
        b"\x75" + bytes(40),
    ],
    ids=["short", "length below the header", "length beyond the message", "short IPv6", "version"],
)
def test_a_peer_that_sends_no_packets_is_counted(inner: bytes) -> None:
    network, a, b, far, _ = connected()
    a.tunnel._seal(current(far), inner)
    network.settle()
    assert b.arrived == []
    assert b.tunnel.counters.malformed == 1


def test_a_removed_peer_is_gone() -> None:
    network, a, b, _far, near = connected()
    assert b.tunnel.remove_peer(near.public)
    a.send(TO_B)
    network.settle()
    assert b.arrived == []
    assert not b.tunnel.sessions
    assert not b.tunnel.remove_peer(near.public)
    assert b.tunnel.counters.forged == 1


def test_the_own_key_is_no_peer() -> None:
    network = Network()
    a = network.end()
    with pytest.raises(ValueError, match="own key"):
        a.add(a, "10.0.0.1")
    other = End(network, 8)
    other.public = bytes(32)
    with pytest.raises(ValueError, match="not a key"):
        a.add(other, "10.0.0.2")


# --- Roaming ------------------------------------------------------------------------------------------------------


def test_messages_go_to_where_the_last_authentic_one_came_from() -> None:
    network, a, b, _far, near = connected()
    old, a.address = a.address, ("198.51.100.7", 4000)
    network.ends[a.address] = network.ends.pop(old)
    b.receive(b"\x04\x00\x00\x00" + bytes(60), ("203.0.113.1", 1))  # forged
    b.send(TO_A)  # still to the old address
    network.settle()
    assert a.arrived == []
    a.send(TO_B)
    network.settle()
    assert near.endpoint == a.address
    b.send(TO_A)
    network.settle()
    assert a.arrived == [TO_A]


# --- Timers -------------------------------------------------------------------------------------------------------


def test_the_initiator_rekeys_after_120_seconds_while_it_sends() -> None:
    network, a, b, _far, _near = connected()
    began = network.now
    while network.now < began + 400:
        network.run(1)
        a.send(TO_B)
        network.settle()
    initiations = [at - began for at, kind, _ in network.kinds(began + 1) if kind == INITIATION]
    assert initiations == [121, 242, 363]
    assert len(b.arrived) == 400, "none was lost meanwhile"
    assert b.tunnel.counters.forged == 0
    assert len(a.tunnel.sessions) <= 3


def test_the_responder_leaves_rekeying_to_the_initiator() -> None:
    """Though only the responder sends packets: the initiator's keepalives show it the session's age."""
    network, a, b, _far, _near = connected()
    began = network.now
    while network.now < began + 200:
        network.run(1)
        b.send(TO_A)
        network.settle()
    initiations = [
        (at - began, source) for at, (data, source, _) in network.sent if data[0] == INITIATION and at > began
    ]
    assert initiations == [(121, a.address)]
    assert len(a.arrived) == 200


@pytest.mark.parametrize(("age", "count"), [(164, 0), (166, 1)])
def test_an_initiator_that_receives_at_the_end_of_a_session_begins_the_next(age: float, count: int) -> None:
    """165 seconds: early enough for a keepalive and a handshake before the session ends at 180."""
    network, a, b, _far, _near = connected()
    network.run(age)
    network.sent.clear()
    b.send(TO_A)
    b.send(TO_A)
    network.settle()
    assert [source for _, (data, source, _) in network.sent if data[0] == INITIATION] == [a.address] * count
    assert a.arrived == [TO_A] * 2


def test_a_session_ends_after_180_seconds() -> None:
    network, a, b, far, _near = connected()
    session = current(far)
    network.run(179)
    assert session.is_usable(network.now)
    network.run(1.5)
    b.tunnel.initiate = lambda *_, **__: None  # type: ignore[method-assign]
    message = bytearray(32)
    HEADER.pack_into(message, 0, TRANSPORT, session.remote, session.sent)
    session.seal(bytes(4) + session.sent.to_bytes(8, "little"), b"", None, memoryview(message)[16:])
    forged = b.tunnel.counters.forged
    b.receive(bytes(message), a.address)
    assert b.tunnel.counters.forged == forged + 1
    network.sent.clear()
    a.send(TO_B)
    network.settle()
    assert kinds(network)[0] == INITIATION
    assert b.arrived == [TO_B]


def test_message_numbers_have_their_limits() -> None:
    network, a, b, far, near = connected()
    network.run(6)
    current(far).sent = REKEY_AFTER_MESSAGES
    a.send(TO_B)
    network.settle()
    assert kinds(network, network.now)[:1] == [TRANSPORT]
    assert INITIATION in kinds(network, network.now)
    network.run(6)
    current(far).sent = REJECT_AFTER_MESSAGES
    a.send(TO_B)
    network.settle()
    assert kinds(network, network.now)[0] == INITIATION
    assert b.arrived == [TO_B] * 2
    b.receive(HEADER.pack(TRANSPORT, current(near).local, REJECT_AFTER_MESSAGES) + bytes(16), a.address)
    assert b.tunnel.counters.forged == 1


def test_initiations_are_repeated_for_90_seconds_with_jitter() -> None:
    network, a, b, far, _ = two()
    began = network.now
    network.rule = lambda _: []
    a.send(TO_B)
    network.run(600)
    times = [at for at, kind, _ in network.kinds() if kind == INITIATION]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 19
    assert all(5.0 < gap <= 5.334 for gap in gaps)
    assert len(set(gaps)) == len(gaps)
    assert 90 <= times[-1] - began < 97
    assert not far.staged
    assert a.tunnel.counters.staged_dropped == 1
    network.run(100)
    assert a.tunnel.soonest == float("inf")
    network.rule = lambda message: [message]
    a.send(TO_B)
    network.settle()
    assert b.arrived == [TO_B]


def test_initiations_are_at_least_five_seconds_apart_whatever_is_sent() -> None:
    network, a, _, _, _ = two()
    network.rule = lambda _: []
    for _ in range(200):
        a.send(TO_B)
        network.run(0.1)
    times = [at for at, kind, _ in network.kinds() if kind == INITIATION]
    assert all(after - before >= 5.0 for before, after in itertools.pairwise(times))
    assert len(times) == 4


def test_an_end_that_receives_and_sends_nothing_sends_a_keepalive_after_ten_seconds() -> None:
    network, a, b, _far, _near = connected()
    network.run(60)
    began = network.now
    a.send(TO_B)
    network.run(100)
    after = [(at - began, size, data[1] == b.address) for at, data, size in (
        (at, message, len(message[0])) for at, message in network.sent if at > began
    )]  # fmt: skip
    assert after == [(10, KEEPALIVE_BYTES, True)], "the peer has answered: no handshake, and nothing more"


def test_a_peer_from_which_nothing_comes_back_gets_an_initiation_after_fifteen_seconds() -> None:
    network, a, _b, _far, _near = connected()
    network.run(30)
    began = network.now
    network.rule = lambda message: [message] if message[1] == a.address else []
    a.send(TO_B)
    network.run(16)
    times = [at - began for at, (data, source, _) in network.sent if data[0] == INITIATION and at > began]
    assert len(times) == 1
    assert 15.0 < times[0] <= 15.334


def test_a_persistent_keepalive_begins_the_session_and_keeps_it() -> None:
    network = Network()
    a, b = network.end(), network.end()
    a.add(b, "10.0.0.2", keepalive=25)
    near = b.add(a, "10.0.0.1", known=False)
    network.run(0.1)
    assert near.endpoint == a.address
    began = network.now
    network.run(1000)
    own = [at - began for at, (data, source, _) in network.sent if source == a.address and data[0] == TRANSPORT]
    assert all(after - before <= 25.5 for before, after in itertools.pairwise(own))
    b.send(TO_A)
    network.settle()
    assert a.arrived == [TO_A]


def test_idle_ends_send_nothing() -> None:
    network, a, b, _, _ = connected()
    network.run(60)
    count = len(network.sent)
    network.run(100_000)
    assert len(network.sent) == count
    assert a.tunnel.soonest == b.tunnel.soonest == float("inf")


def test_keys_are_erased_after_540_seconds_with_no_reference_kept() -> None:
    network, a, b, far, near = connected()
    network.run(130)
    a.send(TO_B)  # a second session, so that there is one before
    network.settle()
    began = network.now
    network.rule = lambda _: []
    b.send(TO_A)
    network.run(1)
    gc.collect()
    assert sum(isinstance(each, Session) for each in gc.get_objects()) >= 4
    network.run(began + 539 - network.now)
    assert far.current is not None
    network.run(100)  # the attempts that the lost packet has caused end, too
    network.sent.clear()
    assert [far.current, far.previous, far.next, far.initiated] == [None] * 4
    assert [near.current, near.previous, near.next, near.initiated] == [None] * 4
    assert not a.tunnel.sessions
    assert not a.tunnel._initiated
    a.sealer = b.sealer = None  # type: ignore[assignment]
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, (Session, Initiated))] == []


def test_at_most_128_packets_wait_for_a_session() -> None:
    network, a, b, _far, _ = two()
    numbered = [packet("10.0.0.1", "10.0.0.2", number.to_bytes(2)) for number in range(300)]
    for each in numbered:
        a.send(each)
    network.settle()
    assert b.arrived == numbered[-STAGED:]
    assert a.tunnel.counters.staged_dropped == 300 - STAGED


def test_packets_to_a_peer_without_endpoint_are_dropped() -> None:
    _network, _, b, _, near = two()
    b.send(TO_A)
    assert not near.staged
    assert b.tunnel.counters.staged_dropped == 1


# --- Cookies ------------------------------------------------------------------------------------------------------


def crowd(b: End, network: Network, count: int) -> None:
    """Have so many messages with a valid mac1 arrive at an end, from senders that it does not know."""
    stranger = End(network, 77)
    peer = stranger.add(b, "10.0.0.2")
    stranger.tunnel.initiate(peer, network.now)
    message = stranger.tunnel.outgoing.pop()[0]
    for number in range(count):
        b.receive(message, ("203.0.113.5", 1000 + number))
    b.tunnel.outgoing.clear()


def test_under_load_a_peer_gets_a_cookie_and_then_a_session() -> None:
    network, a, b, _far, _near = two()
    crowd(b, network, 60)
    a.send(TO_B)
    network.settle()
    assert kinds(network) == [INITIATION, COOKIE]
    assert a.tunnel.counters.cookies_received == 1
    assert not b.arrived
    while not b.arrived:
        crowd(b, network, 60)
        network.run(0.5)
        assert network.now < 1020
    assert kinds(network)[2:4] == [INITIATION, RESPONSE], "the second initiation proves its address"


def test_a_cookie_is_of_its_address() -> None:
    network, a, b, far, _near = two()
    crowd(b, network, 60)
    a.send(TO_B)
    network.settle()
    crowd(b, network, 60)
    network.now += 5.5
    crowd(b, network, 60)
    a.tunnel.initiate(far, network.now)
    message = a.tunnel.outgoing.pop()[0]
    assert message[-16:] != bytes(16)
    for wrong in (("192.0.2.1", 51821), ("192.0.2.9", 51820)):
        before = b.tunnel.counters.cookies_sent
        b.receive(message, wrong)
        assert b.tunnel.counters.cookies_sent == before + 1
    b.tunnel.outgoing.clear()
    b.receive(message, a.address)
    assert [data[0] for data, _ in b.tunnel.outgoing] == [RESPONSE]


def test_cookies_end_after_120_seconds() -> None:
    network, a, b, far, _near = two()
    crowd(b, network, 60)
    a.send(TO_B)
    network.settle()
    assert a.tunnel.counters.cookies_received == 1
    network.rule = lambda _: []
    network.run(114)
    a.tunnel.initiate(far, network.now)
    (message, _), *_ = a.tunnel.outgoing
    assert message[-16:] != bytes(16)
    a.tunnel.outgoing.clear()
    network.now += 6
    a.tunnel.initiate(far, network.now)
    assert a.tunnel.outgoing[0][0][-16:] == bytes(16)


def test_a_forged_cookie_changes_nothing() -> None:
    network, a, b, _far, _near = two()
    network.rule = lambda _: []
    a.send(TO_B)
    network.settle()
    sender = network.sent[0][1][0][4:8]
    for number in range(50):
        a.receive(bytes([COOKIE, 0, 0, 0]) + sender + Random(number).randbytes(56), b.address)
    assert a.tunnel.counters.cookies_received == 0
    assert a.tunnel.counters.forged == 50
    network.rule = lambda message: [message]
    network.run(6)
    assert b.arrived == [TO_B]


def test_one_source_cannot_take_all_handshakes_under_load() -> None:
    network, a, b, far, _near = two()
    crowd(b, network, 60)
    a.send(TO_B)
    network.settle()
    network.now += 5.5
    crowd(b, network, 60)
    a.tunnel.initiate(far, network.now)
    message = a.tunnel.outgoing.pop()[0]
    limited = b.tunnel.counters.limited
    for _ in range(100):
        b.receive(message, a.address)
    assert b.tunnel.counters.limited - limited == 95
    assert b.tunnel.counters.handshakes == 1


# --- A hostile network --------------------------------------------------------------------------------------------


def test_messages_pass_once_in_any_order_within_the_window() -> None:
    network, a, b, _far, _near = connected()
    held: list[Message] = []
    network.rule = lambda message: held.append(message) or []  # type: ignore[func-returns-value]
    sent = [packet("10.0.0.1", "10.0.0.2", number.to_bytes(4)) for number in range(WINDOW + 500)]
    for first in range(0, len(sent), 100):
        a.send(*sent[first : first + 100])
    network.rule = lambda message: [message]
    assert len(held) == len(sent)
    newest, *others = reversed(held)
    late = others[WINDOW:]
    within = others[:WINDOW]
    b.receive(newest[0], a.address)
    Random(1).shuffle(within)
    for data, source, _ in within + late + within[:200]:
        b.receive(data, source)
    assert sorted(b.arrived) == sorted(sent[-WINDOW - 1 :])
    assert b.tunnel.counters.replayed == len(late) + 200


def test_a_network_that_loses_repeats_and_reorders() -> None:
    """Only whole packets arrive, each at most once, whatever happens to handshakes."""
    random = Random(4)
    network, a, b, _far, _near = two()
    held: list[Message] = []

    def rule(message: Message) -> list[Message]:
        draw = random.random()
        if draw < 0.2:
            return []
        if draw < 0.4:
            held.append(message)
            return []
        if draw < 0.6:
            return [message, message, *(held.pop(random.randrange(len(held))) for _ in range(min(2, len(held))))]
        return [message]

    network.rule = rule
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    for number in range(2000):
        sent["a"].append(packet("10.0.0.1", "10.0.0.2", number.to_bytes(4)))
        a.send(sent["a"][-1])
        sent["b"].append(packet("10.0.0.2", "10.0.0.1", number.to_bytes(4)))
        b.send(sent["b"][-1])
        network.run(random.random())
    for end, other in ((a, "b"), (b, "a")):
        assert set(end.arrived) <= set(sent[other])
        assert max(Counter(end.arrived).values()) == 1
        assert len(end.arrived) > 1200
        assert len(end.tunnel.sessions) <= 3
        assert len(end.tunnel._initiated) <= 1


def test_ten_thousand_mutated_messages_do_nothing() -> None:
    """Bits flipped, cut, extended, mixed, or of random bytes: none passes, none raises, and the tunnel goes on."""
    random = Random(5)
    network, a, b, far, near = connected()
    network.rule = lambda message: [message]
    a.send(*(packet("10.0.0.1", "10.0.0.2", random.randbytes(random.randrange(1, 1300))) for _ in range(20)))
    network.settle()
    b.send(TO_A)
    network.settle()
    crowd(b, network, 55)
    a.tunnel.initiate(far, network.now + 1000)
    originals = [message for _, message in network.sent] + [
        (a.tunnel.outgoing.pop()[0], a.address, b.address),
        (bytes([COOKIE, 0, 0, 0]) + random.randbytes(60), b.address, a.address),
    ]
    a.arrived.clear()
    b.arrived.clear()
    endpoints, handshakes = (far.endpoint, near.endpoint), (a.tunnel.counters.handshakes, b.tunnel.counters.handshakes)
    for number in range(10_000):
        data, _, destination = random.choice(originals)
        changed = bytearray(data)
        kind = number % 5
        if kind == 0:
            for _ in range(random.randrange(1, 4)):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[random.randrange(len(changed)) :]
        elif kind == 2:
            changed += random.randbytes(random.randrange(1, 64))
        elif kind == 3:
            other = random.choice(originals)[0]
            at = random.randrange(min(len(data), len(other)))
            changed[at:] = other[at:]
        else:
            changed = bytearray(random.randbytes(random.randrange(1, 200)))
            changed[0] %= 6
        if any(bytes(changed) == each[0] for each in originals):
            continue
        end = network.ends[destination]
        end.receive(bytes(changed), ("203.0.113.66", 666))
        if number % 100 == 0:
            network.now += 0.001
    assert (a.arrived, b.arrived) == ([], [])
    assert (far.endpoint, near.endpoint) == endpoints
    assert (a.tunnel.counters.handshakes, b.tunnel.counters.handshakes) == handshakes
    assert len(b.tunnel.outgoing) < 10_000
    a.tunnel.outgoing.clear()
    b.tunnel.outgoing.clear()
    a.send(TO_B)
    b.send(TO_A)
    network.settle()
    assert (a.arrived, b.arrived) == ([TO_A], [TO_B])


def test_coalesced_messages_are_split_and_one_that_is_forged_spoils_no_other() -> None:
    network, a, b, _far, _near = connected()
    held: list[Message] = []
    network.rule = lambda message: held.append(message) or []  # type: ignore[func-returns-value]
    packets = [packet("10.0.0.1", "10.0.0.2", bytes([number]) * 100) for number in range(10)]
    a.send(*packets)
    messages = [data for data, _, _ in held]
    messages[3] = messages[3][:-1] + bytes([messages[3][-1] ^ 1])
    messages[5] = messages[4]
    b.receive(b"".join(messages) + b"\x04\x00", a.address, len(messages[0]))
    assert b.arrived == packets[:3] + packets[4:5] + packets[6:]
    assert (b.tunnel.counters.forged, b.tunnel.counters.replayed, b.tunnel.counters.malformed) == (1, 1, 1)
