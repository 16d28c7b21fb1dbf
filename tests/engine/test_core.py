"""The sans-I/O core: handles, errors, determinism, deadlines."""

from __future__ import annotations

import errno
import functools
import random
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from math import inf

import pytest

from tcpip_wasm.engine import Core, abi, decode_endpoint, error_for, record_size, seed_bytes, split_records
from tcpip_wasm.errors import (
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    NetworkError,
    TcpipError,
)
from tests.kit.core_network import START, Host, Network, call_raises_errno, payload, two_hosts

CALLS_BY_HANDLE: list[Callable[[Core, int], object]] = [
    lambda core, handle: core.tcp_received(handle, 0),
    lambda core, handle: core.tcp_shutdown(handle),
    lambda core, handle: core.tcp_close(handle),
    lambda core, handle: core.tcp_abort(handle),
    lambda core, handle: core.tcp_accepted(handle),
    lambda core, handle: core.tcp_option(handle, abi.OPTION_NODELAY, 1),
    lambda core, handle: core.tcp_local_port(handle),
    lambda core, handle: core.tcp_send(handle, memoryview(b"x")),
    lambda core, handle: core.remove_interface(handle),
    lambda core, handle: core.add_address(handle, IPv4Address("10.9.9.9"), 24),
    lambda core, handle: core.set_checksums(handle, True),
]


# --- Handles ------------------------------------------------------------------------------------------------------


def test_stale_handles() -> None:
    network = two_hosts()
    client, server = network.open()
    core = network.hosts[0].core
    listener = core.tcp_listen(None, 81, 1)
    interface = core.add_interface(abi.KIND_TUN, 1500).handle
    core.tcp_close(listener)
    core.remove_interface(interface)
    client.abort()
    network.settle()
    for stale in (client.handle, listener, interface):
        for call in CALLS_BY_HANDLE:
            call_raises_errno(errno.EBADF, lambda call=call, stale=stale: call(core, stale))  # type: ignore[misc]
    assert server.ended == errno.ECONNRESET


def test_stale_handle_does_not_reach_its_successor() -> None:
    core = Core(now=START, seed=seed_bytes(0))
    first = core.tcp_listen(None, 80, 1)
    core.tcp_close(first)
    later = {core.tcp_listen(None, port, 1) for port in range(1000, 1200)}
    assert first not in later
    assert len(later) == 200
    assert first & 0xFFFF in {handle & 0xFFFF for handle in later}, "its slot is in use again"
    call_raises_errno(errno.EBADF, lambda: core.tcp_local_port(first))
    assert {core.tcp_local_port(handle) for handle in later} == set(range(1000, 1200))


def test_forged_handles() -> None:
    network = two_hosts()
    client, server = network.open()
    core = network.hosts[0].core
    held = {client.handle, network.hosts[0].buffers.handle}
    generator = random.Random(1)
    forged = [0, -1, 1, 2, 0x7FFFFFFF, -0x80000000, 0xFFFF, 0x10000 * 5]
    forged += [generator.randrange(-(2**31), 2**31) for _ in range(500)]
    forged += [client.handle ^ (1 << bit) for bit in range(31)]
    for handle in forged:
        if handle not in held:
            for call in CALLS_BY_HANDLE:
                call_raises_errno(errno.EBADF, lambda call=call, handle=handle: call(core, handle))  # type: ignore[misc]
    client.write(b"still here")
    network.run(lambda: server.received == b"still here")


def test_handle_of_another_kind() -> None:
    network = two_hosts()
    client, _ = network.open()
    core = network.hosts[0].core
    interface = network.hosts[0].buffers.handle
    call_raises_errno(errno.EBADF, lambda: core.tcp_close(interface))
    call_raises_errno(errno.EBADF, lambda: core.tcp_send(interface, memoryview(b"x")))
    call_raises_errno(errno.EBADF, lambda: core.remove_interface(client.handle))
    call_raises_errno(errno.EBADF, lambda: core.tcp_local_port(client.handle))
    listener = core.tcp_listen(None, 81, 1)
    call_raises_errno(errno.EBADF, lambda: core.tcp_abort(listener))
    call_raises_errno(errno.EBADF, lambda: core.tcp_send(listener, memoryview(b"x")))


# --- Arguments and errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cls", "number"),
    [
        (abi.ERROR_REFUSED, ConnectionRefused, errno.ECONNREFUSED),
        (abi.ERROR_RESET, ConnectionReset, errno.ECONNRESET),
        (abi.ERROR_TIMED_OUT, ConnectionTimedOut, errno.ETIMEDOUT),
        (abi.ERROR_NO_ROUTE, NetworkError, errno.ENETUNREACH),
        (abi.ERROR_ADDRESS_IN_USE, NetworkError, errno.EADDRINUSE),
        (abi.ERROR_ADDRESS_NOT_AVAILABLE, NetworkError, errno.EADDRNOTAVAIL),
        (abi.ERROR_NO_MEMORY, NetworkError, errno.ENOBUFS),
        (abi.ERROR_NOT_CONNECTED, NetworkError, errno.ENOTCONN),
        (abi.ERROR_INVALID, NetworkError, errno.EINVAL),
        (abi.ERROR_LIMIT, NetworkError, errno.ENOSPC),
        (abi.ERROR_BAD_HANDLE, NetworkError, errno.EBADF),
        (-999, NetworkError, errno.EIO),
    ],
)
def test_error_codes(code: int, cls: type[NetworkError], number: int) -> None:
    error = error_for(code, "what was tried")
    assert type(error) is cls
    assert error.errno == number
    assert "what was tried" in str(error)
    assert isinstance(error, OSError)
    assert isinstance(error, TcpipError)


def test_standard_classes() -> None:
    assert issubclass(ConnectionRefused, ConnectionRefusedError)
    assert issubclass(ConnectionReset, ConnectionResetError)
    assert issubclass(ConnectionTimedOut, TimeoutError)
    assert issubclass(ConnectionAborted, ConnectionAbortedError)


def test_reading_more_than_arrived() -> None:
    network = two_hosts()
    client, server = network.open()
    client.write(b"12345")
    server.reading = False
    network.run(lambda: server.received == b"12345")
    core = network.hosts[1].core
    call_raises_errno(errno.EINVAL, lambda: core.tcp_received(server.handle, 6))
    call_raises_errno(errno.EINVAL, lambda: core.tcp_received(server.handle, -1))
    core.tcp_received(server.handle, 5)
    call_raises_errno(errno.EINVAL, lambda: core.tcp_received(server.handle, 1))


def test_a_full_buffer_is_reported_before_a_refusal() -> None:
    network = two_hosts()
    client, server = network.open()
    core = network.hosts[0].core
    chunk = payload(65536)
    sent = 0
    while not core.send_full:
        assert core.tcp_send(client.handle, chunk) == len(chunk), "taken whole until it says that it is full"
        sent += len(chunk)
    room: list[int] = []
    client.on_event = lambda kind, value, payload: room.append(kind)  # type: ignore[method-assign]
    network.hosts[0].dirty = True
    network.run(lambda: len(server.received) == sent)
    assert server.received == chunk * (sent // len(chunk))
    network.settle()
    assert room == [abi.EVENT_WRITABLE]
    assert core.tcp_send(client.handle, b"more") == 4
    assert not core.send_full


def test_send_on_a_connection_that_is_not_open() -> None:
    network = two_hosts()
    client = network.hosts[0].connect(network.hosts[1], 80)
    core = network.hosts[0].core
    call_raises_errno(errno.ENOTCONN, lambda: core.tcp_send(client.handle, memoryview(b"x")))
    network.run(lambda: client.connected)
    client.finish()
    call_raises_errno(errno.ENOTCONN, lambda: core.tcp_send(client.handle, memoryview(b"x")))


@pytest.mark.parametrize("option", [0, abi.OPTION_MULTICAST_HOP_LIMIT, -1, 99])
def test_unknown_option(option: int) -> None:
    network = two_hosts()
    client, _ = network.open()
    call_raises_errno(errno.EINVAL, lambda: network.hosts[0].core.tcp_option(client.handle, option, 1))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (abi.OPTION_CONGESTION_CONTROL, (-1, 2)),
        (abi.OPTION_PATH_MTU_DISCOVERY, (-1,)),
        (abi.OPTION_USER_TIMEOUT, (-1,)),
        (abi.OPTION_KEEPALIVE_COUNT, (0, 128)),
    ],
)
def test_values_that_an_option_does_not_take(option: int, values: tuple[int, ...]) -> None:
    network = two_hosts()
    client, _ = network.open()
    core = network.hosts[0].core
    for value in values:
        call_raises_errno(errno.EINVAL, functools.partial(core.tcp_option, client.handle, option, value))
    core.tcp_option(client.handle, option, 1)


def test_link_local_address_of_no_interface() -> None:
    core = Core(now=START, seed=seed_bytes(0))
    call_raises_errno(errno.EINVAL, lambda: core.tcp_connect(IPv6Address("fe80::1"), 80, scope=12345))


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1", "fd00::1"]
)
def test_connect_without_any_interface(text: str) -> None:
    core = Core(now=START, seed=seed_bytes(0))
    call_raises_errno(errno.ENETUNREACH, lambda: core.tcp_connect(ip_address(text), 80))
    assert core.statistics().handles == 0
    assert core.statistics().connections == 0


@pytest.mark.parametrize("text", ["0.0.0.0", "255.255.255.255", "10.0.0.255", "224.0.0.1", "::", "::1", "ff02::1"])
def test_connect_to_an_address_that_is_not_unicast(text: str) -> None:
    """RFC 1122, section 4.2.3.10."""
    host = Host("10.0.0.1/24", "fd00::1/64")
    call_raises_errno(errno.ENETUNREACH, lambda: host.core.tcp_connect(ip_address(text), 80))
    assert host.core.statistics().handles == 1


def test_failed_calls_leak_nothing() -> None:
    host = Host("10.0.0.1/24")
    before = host.core.statistics()
    for _ in range(1000):
        call_raises_errno(errno.ENETUNREACH, lambda: host.core.tcp_connect(IPv4Address("10.9.0.1"), 80))
        call_raises_errno(errno.EADDRNOTAVAIL, lambda: host.core.tcp_listen(IPv4Address("10.9.0.1"), 80, 1))
        call_raises_errno(
            errno.EADDRNOTAVAIL,
            lambda: host.core.tcp_connect(IPv4Address("10.0.0.2"), 80, local=IPv4Address("10.9.0.1")),
        )
    after = host.core.statistics()
    assert (after.handles, after.connections, after.heap_used) == (
        before.handles,
        before.connections,
        before.heap_used,
    )


def test_seeds() -> None:
    assert seed_bytes(1) == seed_bytes(b"1")
    assert seed_bytes(1) != seed_bytes(2)
    assert seed_bytes(None) != seed_bytes(None)
    assert {len(seed_bytes(seed)) for seed in (0, -1, 2**200, b"", b"x" * 100, None)} == {16}
    with pytest.raises(TypeError, match="str"):
        seed_bytes("1")  # type: ignore[arg-type]


# --- Records and endpoints ----------------------------------------------------------------------------------------


def test_records() -> None:
    frames = [b"", b"a", b"ab", b"abc", b"abcd", b"x" * 1514]
    records = b"".join(
        len(frame).to_bytes(4, "little") + frame.ljust(record_size(len(frame)) - 4, b"\0") for frame in frames
    )
    assert [bytes(frame) for frame in split_records(memoryview(records))] == frames
    assert [record_size(length) for length in (0, 1, 4, 5, 1514)] == [4, 8, 8, 12, 1520]


def test_endpoints() -> None:
    four = struct.pack("<III16s", 4, 80, 7, IPv4Address("10.1.2.3").packed)
    six = struct.pack("<III16s", 6, 443, 7, IPv6Address("fe80::5").packed)
    assert decode_endpoint(four) == (IPv4Address("10.1.2.3"), 80, 0)
    assert decode_endpoint(four + six, 28) == (IPv6Address("fe80::5"), 443, 7)


def test_receive_buffer_is_bounded() -> None:
    host = Host("10.0.0.1/24")
    frame = b"\0" * 1000
    taken = 0
    while host.buffers.receive_frame(frame):
        taken += 1
    assert taken == abi.RECEIVE_CAPACITY // record_size(1000)
    assert len(host.buffers.receive_view()) < record_size(1000)
    host.poll(START)
    assert host.buffers.receive_length == 0
    assert host.buffers.counters()[0] == taken
    assert host.buffers.receive_frame(frame)


def test_malformed_records_are_dropped() -> None:
    host = Host("10.0.0.1/24")
    for length in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 65536, 5):
        view = host.buffers.receive_view()
        view[:4] = length.to_bytes(4, "little")
        host.buffers.received(8)
        host.poll(START)
        assert host.buffers.receive_length == 0
    for length in (0xFFFFFFFF, 0x80000000, abi.RECEIVE_CAPACITY + 4, 3, 1):
        host.core._instance.words[host.buffers._block + abi.BLOCK_RECEIVE_LENGTH] = length
        host.poll(START)
        for _ in range(40):  # a buffer of empty records is more than one poll takes in
            if not host.core.more:
                break
            host.poll(START)
        assert host.buffers.receive_length == 0
    assert host.core.statistics().handles == 1


# --- Determinism --------------------------------------------------------------------------------------------------


def frames_of(seed: int) -> list[list[bytes]]:
    network = two_hosts(seed=seed)
    for address in (0, 1, 0):
        client, server = network.open(address=address)
        client.write(payload(20_000))
        client.finish()
        network.run(lambda end=server: end.eof)  # type: ignore[misc]
        server.write(b"thank you")
        server.finish()
        network.run(lambda end=client: end.eof)  # type: ignore[misc]
    network.settle()
    return [host.sent for host in network.hosts]


def test_same_seed_same_frames() -> None:
    first = frames_of(5)
    assert first == frames_of(5)
    assert all(len(sent) > 10 for sent in first)


def test_other_seed_other_frames() -> None:
    assert frames_of(5) != frames_of(6)


def synchronization(frames: list[bytes]) -> tuple[int, int]:
    """Return the source port and the initial sequence number of the first SYN over IPv4."""
    for frame in frames:
        if frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[47] == 2:
            port, _, sequence = struct.unpack_from("!HHI", frame, 34)
            return port, sequence
    raise AssertionError("no SYN")


def test_ports_and_sequence_numbers_cannot_be_predicted() -> None:
    chosen = []
    for seed in range(64):
        network = two_hosts(seed=seed)
        network.open()
        chosen.append(synchronization(network.hosts[0].sent))
    ports, numbers = [port for port, _ in chosen], [number for _, number in chosen]
    assert all(49152 <= port <= 65535 for port in ports)
    assert len(set(ports)) > 56
    assert len(set(numbers)) == 64
    # Each of the upper bits takes either value: 64 equal draws have a chance of 2 to the -63.
    for bit in range(24, 32):
        assert {number >> bit & 1 for number in numbers} == {0, 1}
    for bit in range(8, 14):
        assert {(port - 49152) >> bit & 1 for port in ports} == {0, 1}


def test_ports_differ_between_destinations() -> None:
    a = Host("10.0.0.1/24", *(f"fd00::{i:x}/64" for i in range(0x10, 0x17)), seed=3)
    b = Host("10.0.0.2/24", *(f"fd00::{i:x}/64" for i in range(0x20, 0x27)), seed=4)
    b.listen(80)
    network = Network(a, b)
    ports = [network.open(address=address)[0].local[1] for address in range(8)]
    steps = {(later - earlier) % 16384 for earlier, later in pairwise(ports)}
    assert len(set(ports)) == 8
    assert len(steps) > 5, "no fixed step from one destination to the next"


def test_macs_derive_from_the_seed() -> None:
    cores = [Core(now=START, seed=seed_bytes(seed)) for seed in (1, 1, 2)]
    macs = [[core.random_mac() for _ in range(3)] for core in cores]
    assert macs[0] == macs[1]
    assert len({mac for row in macs for mac in row}) == 6
    assert all(mac[0] & 3 == 2 and len(mac) == 6 for row in macs for mac in row), "local, of one station"


# --- Deadlines ----------------------------------------------------------------------------------------------------


def test_no_deadline_when_idle() -> None:
    core = Core(now=START, seed=seed_bytes(0))
    core.poll(START)
    assert core.deadline == inf
    assert not core.more


def test_no_deadline_with_an_idle_open_connection() -> None:
    network = two_hosts()
    for address in (0, 1):
        client, server = network.open(address=address)
        client.write(b"hello")
        network.run(lambda end=server: end.received == b"hello")  # type: ignore[misc]
    network.settle(seconds=30)
    assert [host.core.deadline for host in network.hosts] == [inf, inf]
    network.now += 3600
    for end in (client, server):
        end.write(b"an hour later")
    network.run(lambda: client.received == b"an hour later" and server.received == b"helloan hour later")


def test_no_deadline_in_time_wait() -> None:
    network = two_hosts()
    client, server = network.open()
    client.close()
    network.run(lambda: server.eof)
    server.close()
    network.settle(seconds=30)
    assert network.hosts[0].core.statistics().time_wait == 1
    network.now += 120
    network.hosts[0].poll(network.now)
    network.hosts[0].poll(network.now)
    assert network.hosts[0].core.statistics().time_wait == 0


def test_deadline_while_data_is_unacknowledged() -> None:
    network = two_hosts(rule=lambda number, frame: [])
    network.hosts[0].connect(network.hosts[1], 80)
    network.hosts[0].poll(START)
    deadline = network.hosts[0].core.deadline
    assert START < deadline <= START + 1


def test_a_clock_that_steps_back_is_stopped() -> None:
    network = two_hosts()
    client, server = network.open()
    network.now -= 500
    client.write(payload(10_000))
    for _ in range(50):
        network.step()
        if len(server.received) == 10_000:
            break
    assert server.received == payload(10_000)


def test_keepalive_has_a_deadline_and_detects_a_dead_peer() -> None:
    cut = False
    network = two_hosts(rule=lambda number, frame: [] if cut else [(0.0, frame)])
    client, _ = network.open()
    core = network.hosts[0].core
    for option, value in (
        (abi.OPTION_KEEPALIVE, 1),
        (abi.OPTION_KEEPALIVE_IDLE, 10_000),
        (abi.OPTION_KEEPALIVE_INTERVAL, 1_000),
        (abi.OPTION_KEEPALIVE_COUNT, 3),
    ):
        core.tcp_option(client.handle, option, value)
    network.hosts[0].dirty = True
    before = network.now
    for _ in range(2000):
        network.step()
        if network.now > before + 100:
            break
    assert client.ended is None, "the peer answers"
    cut = True
    begin = network.now
    network.run(lambda: client.ended is not None, seconds=100)
    assert client.ended == errno.ETIMEDOUT
    assert network.now - begin < 30
