"""Hostile and malformed answers to the resolver, in virtual time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, connect
from tcpip_wasm.names import query as question
from tests.kit.dns import SERVER, DnsServer, Network, Query, Zone
from tests.kit.resolver import BASIC, addresses, failure, now, with_network
from tests.kit.stacks import iterations


def test_loops_of_cnames() -> None:
    loops = Zone("\n".join(f"n{n}.test 60 CNAME n{n + 1}.test." for n in range(40)))

    def rule(asked: Query) -> bytes:
        if asked.name == "a.test":
            return asked.answer("a.test 60 CNAME b.test.", "b.test 60 CNAME a.test.").to_wire()
        if asked.name.startswith("x"):  # an endless chain, one record in each answer
            return asked.answer(f"{asked.name} 60 CNAME x{asked.name}.").to_wire()
        return loops(asked)

    async def work(network: Network) -> None:
        for name in ("a.test", "n0.test", "x.test"):
            network.asked.clear()
            error = await failure(network.client, name, family=socket.AF_INET)
            assert error.errno == socket.EAI_AGAIN
            assert len(network.asked) <= question.MAX_CHAIN + 1
        assert (await failure(network.client, "n30.test")).errno == socket.EAI_NONAME

    with_network(work, rule)


def test_a_chain_is_followed_over_several_answers() -> None:
    def rule(asked: Query) -> bytes:
        if asked.name == "first.test":
            return asked.answer("first.test 60 CNAME four.test.").to_wire()
        return BASIC(asked)

    async def work(network: Network) -> None:
        assert await addresses(network.client, "first.test", family=socket.AF_INET) == ["10.0.0.4"]
        assert [one.name for one in network.asked] == ["first.test", "four.test"]

    with_network(work, rule)


FORGED = "10.0.0.66"


def forged(asked: Query, forgery: str) -> bytes:
    """Return an answer to a query that is forged in one way."""
    answer = asked.answer(f"{asked.name} 60 A {FORGED}")
    if forgery == "id":
        answer.id ^= 0x0100
    elif forgery == "query":
        answer.flags &= 0x7FFF
    packed = answer.to_wire()
    if forgery == "name":
        packed = packed.replace(b"\x04four", b"\x04fouR", 1).replace(b"\x04fouR", b"\x04foux")
    elif forgery == "type":
        packed = packed.replace(b"\x04test\x00\x00\x01", b"\x04test\x00\x00\x1c", 1)
    elif forgery == "garbage":
        packed = packed[:2] + bytes(range(100))
    elif forgery == "oversize":
        packed = packed.ljust(1233, b"\0")
    elif forgery == "loop":
        packed = packed[:28] + b"\xc0\x1c" + packed[30:]
    return packed


@pytest.mark.parametrize("forgery", ["id", "name", "type", "query", "port", "host", "garbage", "oversize", "loop"])
def test_forged_answers_are_not_taken(forgery: str) -> None:
    """A forged answer arrives before the right one, or alone."""
    hosts: list[NetworkStack] = []
    tasks: list[asyncio.Task[None]] = []
    alone = False
    server: DnsServer

    def rule(asked: Query) -> list[bytes]:
        packed = forged(asked, forgery)
        if forgery in ("port", "host"):
            # The right answer, from another address or port.
            tasks.append(asyncio.create_task(send_from_elsewhere(packed, asked)))
            return []
        return [packed] if alone else [packed, BASIC(asked)]

    async def send_from_elsewhere(packed: bytes, asked: Query) -> None:
        local = (SERVER if forgery == "port" else "10.0.0.54", 5353 if forgery == "port" else 53)
        transport, _ = await hosts[0].create_datagram_endpoint(asyncio.DatagramProtocol, local)
        transport.sendto(packed, asked.source[:2])
        transport.close()
        await iterations(50)
        if not alone:
            server.transport.sendto(BASIC(asked), asked.source)

    async def work(network: Network) -> None:
        nonlocal alone, server
        server = network.server
        hosts.append(network.host)
        if forgery == "host":
            # The same host under another address, on another cable.
            connect(
                await network.client.create_tap_interface(ip="10.0.1.1/24"),
                await network.host.create_tap_interface(ip="10.0.0.54/32"),
            )
        before = network.client.resolver.statistics()
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]
        after = network.client.resolver.statistics()
        if forgery in ("id", "name", "type", "query"):
            assert after.unasked == before.unasked + 1
        elif forgery in ("garbage", "oversize", "loop"):
            assert after.malformed + after.unasked == before.malformed + before.unasked + 1
        network.client.resolver.flush()
        alone = True
        begun = now()
        error = await failure(network.client, "four.test", family=socket.AF_INET)
        assert error.errno == socket.EAI_AGAIN
        assert now() - begun == pytest.approx(sum(question.ROUNDS), abs=0.1), "it was waited for the right one"
        await asyncio.gather(*tasks)
        for interface in network.client.interfaces[2:]:
            await network.client.remove_interface(interface)

    with_network(work, rule)


def test_answers_of_other_hosts_on_an_unconnected_socket() -> None:
    """The resolver itself filters if the socket does not."""

    class Talking:
        def __init__(self, transport: Any, server: Any) -> None:
            self._transport, self._server = transport, server

        def sendto(self, data: bytes) -> None:
            self._transport.sendto(data, self._server)

        def abort(self) -> None:
            self._transport.abort()

    def rule(asked: Query) -> bytes:
        elsewhere.sendto(asked.answer(f"{asked.name} 60 A {FORGED}").to_wire(), asked.source)
        return BASIC(asked)

    elsewhere: Any = None

    async def work(network: Network) -> None:
        nonlocal elsewhere

        async def unconnected(factory: Any, server: Any, port: int) -> Any:
            transport, protocol = await network.client.create_datagram_endpoint(factory, ("0.0.0.0", port))
            return Talking(transport, server), protocol

        elsewhere, _ = await network.host.create_datagram_endpoint(asyncio.DatagramProtocol, (SERVER, 5353))
        network.client.resolver._open = unconnected, network.client.resolver._open[1]
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]
        assert network.client.resolver.statistics().strangers == 1
        elsewhere.close()

    with_network(work, rule)


def test_a_flood_of_bad_answers_is_bounded() -> None:
    def rule(asked: Query) -> list[bytes]:
        return [asked.answer(f"{asked.name} 60 A {FORGED}").to_wire()[:-13]] * 300

    async def work(network: Network) -> None:
        await failure(network.client, "four.test", family=socket.AF_INET)
        figures = network.client.resolver.statistics()
        assert figures.malformed == 100 * len(question.ROUNDS)

    with_network(work, rule)


def test_only_records_of_the_question_are_cached() -> None:
    """Other records of an answer are neither used nor cached, in any section."""

    def rule(asked: Query) -> bytes:
        if asked.name != "four.test":
            return BASIC(asked)
        message = asked.answer("four.test 60 A 10.0.0.4", f"www.test 60 A {FORGED}", f"bank.test 60 A {FORGED}")
        message.additional.append(message.answer[-1])
        message.authority.append(message.answer[-1])
        return message.to_wire()

    async def work(network: Network) -> None:
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]
        assert network.client.resolver.statistics().cached == 1
        assert await addresses(network.client, "www.test", family=socket.AF_INET) == ["10.0.0.9"]
        assert (await failure(network.client, "bank.test", family=socket.AF_INET)).errno == socket.EAI_NONAME

    with_network(work, rule)


def test_a_denial_out_of_bailiwick_is_not_cached() -> None:
    denying = Zone("", origin="elsewhere")

    async def work(network: Network) -> None:
        for _ in range(2):
            assert (await failure(network.client, "www.test", family=socket.AF_INET)).errno == socket.EAI_NONAME
        assert len(network.asked) == 2
        assert network.client.resolver.statistics().cached == 0

    with_network(work, denying)
