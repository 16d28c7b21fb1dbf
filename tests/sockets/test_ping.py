"""Ping: replies match their requests, ICMP errors name their senders, several at once, and in virtual time."""

from __future__ import annotations

import asyncio
import errno
import pickle
import struct
from typing import Any

import pytest

from tcpip_wasm import (
    ConnectionTimedOut,
    DestinationUnreachableError,
    PingSession,
    StackClosedError,
    TimeExceededError,
    TunInterface,
    create_stack,
)
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, iterations, pair, raises_errno, run, until


@pytest.mark.parametrize("way", WAYS)
def test_sizes(way: str) -> None:
    most = 65_507 if way.endswith("4") else 65_487

    async def main() -> None:
        async with pair(way) as two, await two.a.create_ping_session(two.host) as session:
            sizes = (0, 1, 56, 1400, 1472, 1473, 20_000, most)
            for number, size in enumerate(sizes):
                reply = await session.ping(payload(size), timeout=10)
                assert reply.payload == payload(size)
                assert (reply.host, reply.identifier) == (two.host, session.identifier)
                assert reply.sequence_number == number + 1
                assert 0 <= reply.round_trip_time < 10  # uvloop's clock has milliseconds
            await raises_errno(errno.EMSGSIZE, session.ping(bytes(most + 1)))
            assert len((await session.ping()).payload) == 56

    run(main())


def test_many_at_once() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            sessions = [await two.a.create_ping_session(two.host) for _ in range(20)]
            assert len({session.identifier for session in sessions}) == 20
            replies = await asyncio.gather(
                *[session.ping(payload(200, 100 * i + j), 20) for i, session in enumerate(sessions) for j in range(20)]
            )
            expected = [payload(200, 100 * i + j) for i in range(20) for j in range(20)]
            assert [reply.payload for reply in replies] == expected
            assert len({(reply.identifier, reply.sequence_number) for reply in replies}) == 400
            for session in sessions:
                await session.close()
            assert two.a.stats().core.icmp_unmatched == 0

    run(main())


def test_sequence_numbers_wrap() -> None:
    async def main() -> None:
        async with pair("loopback4") as two, await two.a.create_ping_session("127.0.0.1") as session:
            session._sequence = 0xFFFE
            numbers = [(await session.ping()).sequence_number for _ in range(3)]
            assert numbers == [0xFFFF, 0, 1]

    run(main())


def test_no_answer_times_out() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tun = await stack.create_tun_interface(ip="10.0.0.1/24")
            session = await stack.create_ping_session("10.0.0.2")
            _ = tun.readable
            started = asyncio.get_running_loop().time()
            with pytest.raises(ConnectionTimedOut):
                await session.ping(timeout=2.5)
            assert asyncio.get_running_loop().time() - started == pytest.approx(2.5, abs=0.01)
            assert not session._pending

    run_virtually(main())


def test_round_trip_time_uses_the_loops_clock() -> None:
    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            near, far = two.interfaces
            session = await two.a.create_ping_session(two.host)
            task = asyncio.create_task(session.ping(timeout=5))
            request = await near.readable.get_reader().read()
            assert request is not None
            await asyncio.sleep(0.75)
            await far.writable.get_writer().write(request)
            reply = await far.readable.get_reader().read()
            assert reply is not None
            await asyncio.sleep(0.5)
            await near.writable.get_writer().write(reply)
            assert (await task).round_trip_time == pytest.approx(1.25, abs=0.01)

    run_virtually(main())


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp_about(packet: bytes, reporter: bytes, kind: int, code: int) -> bytes:
    """Return the ICMP error of a router about a packet."""
    if packet[0] >> 4 == 4:
        message = bytes([kind, code]) + bytes(6) + packet[:28]
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, reporter, packet[12:16])
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + message
    message = bytes([kind, code]) + bytes(6) + packet[:200]
    pseudo = reporter + packet[8:24] + struct.pack("!II", len(message), 58)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return struct.pack("!IHBB", 0x60000000, len(message), 58, 64) + reporter + packet[8:24] + message


ERRORS = [
    (4, 11, 0, TimeExceededError, errno.EHOSTUNREACH),
    (4, 3, 0, DestinationUnreachableError, errno.ENETUNREACH),
    (4, 3, 1, DestinationUnreachableError, errno.EHOSTUNREACH),
    (4, 3, 13, DestinationUnreachableError, errno.EHOSTUNREACH),
    (6, 3, 0, TimeExceededError, errno.EHOSTUNREACH),
    (6, 1, 0, DestinationUnreachableError, errno.ENETUNREACH),
    (6, 1, 3, DestinationUnreachableError, errno.EHOSTUNREACH),
]


@pytest.mark.parametrize(("family", "kind", "code", "error", "number"), ERRORS)
def test_errors_of_routers(family: int, kind: int, code: int, error: type[Any], number: int) -> None:
    async def main() -> None:
        async with pair(f"tun{family}", cable=False) as two, await two.a.create_ping_session(two.host) as session:
            near = two.interfaces[0]
            assert isinstance(near, TunInterface)
            with near.readable.get_reader() as reader:
                task = asyncio.create_task(session.ping(payload(3000), timeout=5, ttl=7))
                packet = await reader.read()
                assert packet is not None
                assert packet[8 if family == 4 else 7] == 7
                reporter = "10.0.0.254" if family == 4 else "fd00::fe"
                raw = bytes([10, 0, 0, 254]) if family == 4 else b"\xfd" + bytes(14) + b"\xfe"
                near.inject(icmp_about(packet, raw, kind, code))
                with pytest.raises(error) as caught:
                    await task
            assert issubclass(error, OSError)
            assert (caught.value.reporter, caught.value.code, caught.value.errno) == (reporter, code, number)
            copy = pickle.loads(pickle.dumps(caught.value))
            assert (copy.reporter, copy.code, copy.errno) == (reporter, code, number)

    run(main())


def test_replies_of_others_are_ignored() -> None:
    async def main() -> None:
        async with pair("tun4", cable=False) as two, await two.a.create_ping_session(two.host) as session:
            near = two.interfaces[0]
            with near.readable.get_reader() as reader:
                task = asyncio.create_task(session.ping(b"12345678", timeout=5))
                request = await reader.read()
            assert request is not None

            def reply(**changes: Any) -> bytes:
                at = {"identifier": 4, "sequence": 6}
                message = bytearray(b"\0" + request[21:])
                for name, value in changes.items():
                    if name in at:
                        struct.pack_into("!H", message, at[name], value)
                struct.pack_into("!H", message, 2, 0)
                struct.pack_into("!H", message, 2, checksum(bytes(message)) ^ changes.get("sum", 0))
                source = changes.get("source", request[16:20])
                size = 20 + len(message)
                header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 1, 0, source, request[12:16])
                return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + bytes(message)

            near.inject(reply(identifier=session.identifier ^ 1))
            near.inject(reply(source=bytes([10, 0, 0, 77])))
            near.inject(reply(sum=1))
            near.inject(reply(sequence=9999))
            await until(lambda: two.a.stats().core.icmp_in == 4)
            await iterations(3)
            assert not task.done()
            statistics = two.a.stats().core
            assert (statistics.icmp_unmatched, statistics.checksum_errors) == (2, 1)
            near.inject(reply())
            near.inject(reply())
            assert (await task).payload == b"12345678"

    run(main())


def test_wrong_arguments() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            for host in ("224.0.0.1", "ff02::1", "0.0.0.0", "no..name"):
                with pytest.raises(ValueError, match="host"):
                    await two.a.create_ping_session(host)
            for ttl in (0, 256):
                with pytest.raises(ValueError, match="ttl"):
                    await two.a.create_ping_session(two.host, ttl=ttl)
            session = await two.a.create_ping_session(two.host)
            with pytest.raises(ValueError, match="ttl"):
                await session.ping(ttl=300)
            for timeout, error in (("1", TypeError), (True, TypeError), (float("nan"), ValueError)):
                with pytest.raises(error, match="timeout"):
                    await session.ping(timeout=timeout)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="payload"):
                await session.ping("text")  # type: ignore[arg-type]
            lost = await two.a.create_ping_session("192.168.9.9")
            await raises_errno(errno.ENETUNREACH, lost.ping())
            assert not lost._pending

    run(main())


async def in_flight(stack: Any) -> tuple[PingSession, asyncio.Task[Any]]:
    session = await stack.create_ping_session("10.0.0.77")
    task = asyncio.create_task(session.ping(timeout=None))
    await iterations(3)
    assert not task.done()
    return session, task


def test_closing_ends_pending_pings() -> None:
    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            _ = two.interfaces[0].readable
            session, task = await in_flight(two.a)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not session._pending
            session, task = await in_flight(two.a)
            await session.close()
            await session.close()
            await raises_errno(errno.ECONNABORTED, task)
            await raises_errno(errno.ECONNABORTED, session.ping())
            session, task = await in_flight(two.a)
            await two.a.aclose()
            with pytest.raises(StackClosedError):
                await task
            with pytest.raises(StackClosedError):
                await session.ping()
            await session.close()

    run(main())


def test_pings_wait_for_buffer_space() -> None:
    async def main() -> None:
        async with pair("tun4", cable=False) as two, await two.a.create_ping_session(two.host) as session:
            near = two.interfaces[0]
            with near.readable.get_reader() as reader:
                tasks = [asyncio.create_task(session.ping(bytes(60_000), timeout=20)) for _ in range(20)]
                seen = 0
                while seen < 20 * 60_008:
                    packet = await reader.read()
                    assert packet is not None
                    seen += len(packet) - 20
            assert near.statistics().transmit_full == 0
            assert not any(task.done() for task in tasks)
            await session.close()
            for task in tasks:
                await raises_errno(errno.ECONNABORTED, task)

    run(main())


def test_a_connect_fails_with_the_icmp_error_of_a_router() -> None:
    async def main() -> None:
        async with pair("tun4", cable=False) as two:
            near = two.interfaces[0]
            loop = asyncio.get_running_loop()
            with near.readable.get_reader() as reader:
                task = asyncio.create_task(two.a.open_connection(two.host, 80))
                syn = await reader.read()
                assert syn is not None
                near.inject(icmp_about(syn, bytes([10, 0, 0, 254]), 3, 1))
                await iterations(5)
                assert not task.done(), "it goes on: RFC 1122, section 4.2.3.9"
                started = loop.time()
                await raises_errno(errno.EHOSTUNREACH, task)
                assert loop.time() - started > 3

    run_virtually(main())
