"""Multicast DNS in virtual time: probing, conflicts, answers, services that come and go, hostile messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest

from tcpip_wasm import NameResolutionError, NetworkStack, UdpDatagram, UdpSocket, connect, create_stack
from tcpip_wasm.services import MdnsBrowser, MdnsResponder, MdnsService
from tcpip_wasm.services.mdns import records, wire
from tcpip_wasm.services.mdns.wire import Message, Question, Record
from tcpip_wasm.simulation import run_virtually

_GROUP = "224.0.0.251"
_HOST = (b"printer", b"local")
_TYPE = (b"_http", b"_tcp", b"local")
_INSTANCE = (b"Laser", *_TYPE)
_SERVICES = [MdnsService("_http._tcp", 80, "Laser", {"paper": "a4", "color": None}), MdnsService("_ipp._tcp", 631)]


@asynccontextmanager
async def two(seed: int = 1) -> AsyncIterator[tuple[NetworkStack, NetworkStack]]:
    async with await create_stack(seed=seed) as a, await create_stack(seed=seed + 1) as b:
        connect(
            await a.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await b.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )
        yield a, b


class Peer:
    """Sends and receives messages of multicast DNS from a stack, by IPv4, as another host may write them."""

    def __init__(self, udp: UdpSocket) -> None:
        self.udp = udp

    async def send(self, message: Message | bytes, host: str = _GROUP) -> None:
        packet = message if isinstance(message, bytes) else wire.build(message)
        await self.udp.send(UdpDatagram(host, 5353, packet))

    async def received(self, seconds: float) -> list[Message]:
        """Return what arrives in so many seconds."""
        messages = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(wire.BadMessage):
                        messages.append(wire.parse((await self.udp.receive()).data))
        except TimeoutError:
            return messages

    async def ask(self, name: tuple[bytes, ...], rdtype: int, *known: Record, **options: Any) -> list[Record]:
        """Ask, and return the records of the answer section of all answers within half a second."""
        await self.received(2.5)  # so that nothing was sent within a second
        await self.send(Message(questions=[Question(name, rdtype)], answers=list(known), **options))
        return [record for one in await self.received(0.7) if one.response for record in one.answers]


@asynccontextmanager
async def peer(stack: NetworkStack, port: int = 5353) -> AsyncIterator[Peer]:
    interface = stack.interfaces[-1]
    async with await stack.open_udp("0.0.0.0", port, reuse_port=True, multicast_interface=interface) as udp:
        if port == 5353:
            stack._driver.core.udp.join(udp._handle, ip_address(_GROUP), interface.handle)
        yield Peer(udp)


def test_names_are_found_wherever_a_host_may_be_a_name() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer", _SERVICES) as responder:
            assert responder.host == "printer.local"
            assert responder.services == ("Laser._http._tcp.local", "printer._ipp._tcp.local")
            await a.start_server(lambda reader, writer: writer.close(), port=80)
            async with MdnsResponder(b, "guest"):
                _, writer = await b.open_connection("Printer.local", 80)
                assert writer.get_extra_info("peername")[0] == "fd00::1"
                writer.close()
                infos = await a.getaddrinfo("guest.local.", 80)
                assert {info[4][0] for info in infos} == {"10.0.0.2", "fd00::2"}
                assert {info[4][0] for info in await a.getaddrinfo("printer.local", 80)} == {"10.0.0.1", "fd00::1"}
                began = asyncio.get_running_loop().time()
                with pytest.raises(NameResolutionError):
                    await b.getaddrinfo("none.local", 80)
                assert asyncio.get_running_loop().time() - began == pytest.approx(3, abs=0.01)
            assert not b._lookup.local

    run_virtually(main())


def test_probing_and_announcing() -> None:
    async def main() -> None:
        async with two() as (a, b), peer(b) as other:
            task = asyncio.create_task(MdnsResponder(a, "printer", _SERVICES[:1]).start())
            messages = await other.received(5)
            probes = [one for one in messages if not one.response]
            assert len(probes) == 3
            for probe in probes:
                assert [(q.name, q.rdtype) for q in probe.questions] == [(_HOST, wire.ANY), (_INSTANCE, wire.ANY)]
                assert {r.rdtype for r in probe.authorities} == {wire.A, wire.AAAA, wire.SRV, wire.TXT}
            announced = [one for one in messages if one.response]
            assert len(announced) == 2
            (address,) = [r for r in announced[0].answers if r.rdtype == wire.A]
            assert (address.name, address.data, address.ttl, address.unique) == (_HOST, bytes([10, 0, 0, 1]), 120, True)
            (pointer,) = [r for r in announced[0].answers if r.name == _TYPE]
            assert (pointer.unique, pointer.ttl, wire.read_name(pointer.data)) == (False, 4500, _INSTANCE)
            responder = await task
            await responder.aclose()
            (goodbye,) = await other.received(1)
            assert {record.ttl for record in goodbye.answers} == {0}

    run_virtually(main())


def test_a_name_of_another_host_is_not_taken() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer", _SERVICES):
            async with MdnsResponder(b, "PRINTER", [MdnsService("_http._tcp", 8080, "laser")]) as second:
                assert second.host == "PRINTER-2.local"
                assert second.services == ("laser (2)._http._tcp.local",)
                assert second.statistics.conflicts >= 1

    run_virtually(main())


@pytest.mark.parametrize("seed", range(1, 9, 2))
def test_two_hosts_that_probe_at_the_same_time(seed: int) -> None:
    async def main() -> None:
        async with two(seed) as (a, b):
            first, second = MdnsResponder(a, "printer", _SERVICES), MdnsResponder(b, "printer", _SERVICES)
            async with asyncio.TaskGroup() as group:
                group.create_task(first.start())
                group.create_task(second.start())
            assert {first.host, second.host} == {"printer.local", "printer-2.local"}
            assert {first.services[0], second.services[0]} == {"Laser._http._tcp.local", "Laser (2)._http._tcp.local"}
            await first.aclose()
            await second.aclose()

    run_virtually(main())


def test_a_conflict_after_the_name_was_taken() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer") as responder, peer(b) as other:
            conflict = Message(True, answers=[Record(_HOST, wire.A, bytes([10, 0, 0, 2]), 120, True)])
            await other.send(conflict)
            await asyncio.sleep(0.4)
            assert responder.host == "printer.local", "it probes first"
            await other.send(conflict)
            await asyncio.sleep(3)
            assert responder.host == "printer-2.local"
            for _ in range(2000):  # a host that has every name
                await other.send(conflict)
                number = responder.host.partition(".")[0].encode()
                await other.send(Message(True, answers=[Record((number, b"local"), wire.A, bytes(4), 120, True)]))
                await asyncio.sleep(0.01)
            assert responder.statistics.conflicts < 60
            await asyncio.sleep(20)
            assert {i[4][0] for i in await a.getaddrinfo(responder.host, 80)} == {"10.0.0.1", "fd00::1"}

    run_virtually(main())


def test_answers() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer", _SERVICES), peer(b) as other:
            (address,) = await other.ask(_HOST, wire.A)
            assert address.data == bytes([10, 0, 0, 1])
            assert {r.rdtype for r in await other.ask((b"PRINTER", b"LOCAL"), wire.ANY)} == {wire.A, wire.AAAA}
            (denied,) = await other.ask(_HOST, wire.TXT)
            assert denied.rdtype == wire.NSEC
            (pointer,) = await other.ask(_TYPE, wire.PTR)
            assert wire.read_name(pointer.data) == _INSTANCE
            types = await other.ask(records.ALL_TYPES, wire.PTR)
            assert {wire.read_name(r.data)[0] for r in types} == {b"_http", b"_ipp"}
            (service,) = await other.ask(_INSTANCE, wire.SRV)
            assert records.service_of(service) == (80, _HOST)
            (text,) = await other.ask(_INSTANCE, wire.TXT)
            assert records.decode_properties(text.data) == {"paper": b"a4", "color": None}
            reverse = await other.ask((b"1", b"0", b"0", b"10", b"in-addr", b"arpa"), wire.PTR)
            assert wire.read_name(reverse[0].data) == _HOST
            assert await other.ask((b"other", b"local"), wire.A) == []
            # What is known is not said again, if half of its time is left; what was just said is not repeated.
            assert await other.ask(_TYPE, wire.PTR, pointer) == []
            assert await other.ask(_TYPE, wire.PTR, Record(_TYPE, wire.PTR, pointer.data, 1000)) == [pointer]
            await other.send(Message(questions=[Question(_HOST, wire.A)]))
            await other.send(Message(questions=[Question(_HOST, wire.A)]))
            answers = [record for one in await other.received(0.5) for record in one.answers]
            assert answers in ([], [address])

    run_virtually(main())


def test_known_answers_in_several_packets() -> None:
    async def main() -> None:
        services = [MdnsService("_http._tcp", 80, f"Service number {n} with a long name") for n in range(60)]
        async with two() as (a, b), MdnsResponder(a, "printer", services), peer(b) as other:
            found = await other.ask(_TYPE, wire.PTR)
            assert len(found) == 60
            await other.received(2)
            for packet in wire.split(Message(questions=[Question(_TYPE, wire.PTR)], answers=found[:-1])):
                await other.send(packet)
            answers = [record for one in await other.received(2) if one.response for record in one.answers]
            assert answers == found[-1:]

    run_virtually(main())


def test_a_legacy_client_gets_a_servers_answer() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer", _SERVICES), peer(b, 40_000) as other:
            await other.send(Message(number=77, questions=[Question(_HOST, wire.A)]))
            (answer,) = await other.received(1)
            assert (answer.number, answer.questions) == (77, [Question(_HOST, wire.A)])
            assert (answer.answers[0].ttl, answer.answers[0].unique) == (10, False)

    run_virtually(main())


def test_services_come_change_and_go() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsBrowser(b, "_http._tcp") as browser:
            events = browser.events()
            async with MdnsResponder(a, "printer", _SERVICES):
                added = (await anext(events)).instance
                assert (added.name, added.host, added.port, added.type) == ("Laser", "printer.local", 80, "_http._tcp")
                assert set(map(str, added.addresses)) == {"10.0.0.1", "fd00::1"}
                assert added.properties == {"paper": b"a4", "color": None}
                await asyncio.sleep(10_000)  # it is asked for again before it ends
                assert browser.instances == (added,)
                assert browser.statistics.sent < 300
            removed = await anext(events)
            assert (removed.kind, removed.instance) == ("removed", added)
            responder = await MdnsResponder(a, "printer", _SERVICES).start()
            assert (await anext(events)).kind == "added"
            a.abort()  # without a goodbye
            assert responder.closed
            assert (await anext(events)).kind == "removed"
            assert not browser.instances

    run_virtually(main())


def test_an_address_that_comes_later_is_announced() -> None:
    from tcpip_wasm.services import DhcpServer

    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            tap, end = await a.create_tap_interface(), await b.create_tap_interface(ip="10.0.0.1/24")
            connect(tap, end)
            async with (
                DhcpServer(end, pool=("10.0.0.100", "10.0.0.110")),
                MdnsResponder(a, "guest"),
                MdnsBrowser(b, "_http._tcp"),
            ):
                await tap.configure(dhcp=True)
                await asyncio.sleep(1)
                infos = await b.getaddrinfo("guest.local", 80)
                assert "10.0.0.100" in {info[4][0] for info in infos}

    run_virtually(main())


def test_messages_of_other_links_do_not_count() -> None:
    async def main() -> None:
        async with two() as (a, b), MdnsResponder(a, "printer") as responder:
            far = await create_stack(seed=9)
            connect(
                await far.create_tap_interface(ip="10.9.0.2/24"), tap := await a.create_tap_interface(ip="10.9.0.1/24")
            )
            far.add_route("10.0.0.0/24", via="10.9.0.1")
            async with await far.open_udp(port=5353) as udp:
                conflict = Message(True, answers=[Record(_HOST, wire.A, bytes(4), 120, True)])
                await udp.send(UdpDatagram("10.0.0.1", 5353, wire.build(conflict)))
                await asyncio.sleep(2)
            assert responder.statistics.off_link >= 1
            assert responder.statistics.conflicts == 0
            assert tap.name == "tap1"
            await far.aclose()
            del b

    run_virtually(main())


def test_damaged_messages_and_floods() -> None:
    async def main() -> None:
        rng = random.Random(2)
        async with (
            two() as (a, b),
            MdnsResponder(a, "printer", _SERVICES) as responder,
            MdnsBrowser(a, "_http._tcp") as browser,
            peer(b) as other,
        ):
            pointer = records.pointer(_TYPE, (b"x", *_TYPE))
            valid = [
                wire.build(
                    Message(True, answers=[pointer, records.service_record((b"x", *_TYPE), (b"h", b"local"), 1)])
                ),
                wire.build(
                    Message(questions=[Question(_TYPE, wire.PTR), Question(_HOST, wire.ANY, True)], truncated=True)
                ),
                wire.build(Message(questions=[Question(_HOST, wire.ANY)], authorities=[Record(_HOST, 1, b"abcd")])),
            ]
            for number in range(3000):
                data = bytearray(rng.choice(valid))
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                await other.send(bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data))
                if number % 100 == 0:
                    await asyncio.sleep(0.05)
            for number in range(600):
                name = (b"n%d" % number, *_TYPE)
                flood = [Record((b"%d-%d" % (number, n), b"local"), 1, bytes(4)) for n in range(20)]
                await other.send(Message(True, answers=[records.pointer(_TYPE, name), *flood]))
                if number % 50 == 0:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(10)
            assert responder.statistics.malformed > 500
            assert len(browser._cache) <= 4096
            assert len(browser._asked) <= 1024
            assert len(responder._pending) <= 256
            assert len(responder._truncated) <= 256
            assert await other.ask(tuple(part.encode() for part in responder.host.split(".")), wire.A)

    run_virtually(main())


def test_malformed_arguments() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            given: list[Any] = [("_http._tcp", 80), {"type": "_ipp._tcp", "port": 631, "name": "Other"}]
            assert MdnsResponder(stack, "a", given).services == ("a._http._tcp.local", "Other._ipp._tcp.local")
            with pytest.raises(TypeError, match="services"):
                MdnsResponder(stack, "a", [("_http._tcp",)])
            for name, services, text in [
                ("a b", [], "name"),
                ("a", [MdnsService("http", 80)], "type"),
                ("a", [MdnsService("_http._tcp", 70_000)], "port"),
                ("a", [MdnsService("_http._tcp", 80), MdnsService("_http._tcp", 81)], "twice"),
            ]:
                with pytest.raises(ValueError, match=text):
                    MdnsResponder(stack, name, services)
            with pytest.raises(ValueError, match="no tap"):
                await MdnsResponder(stack, "a").start()

    run_virtually(main())
