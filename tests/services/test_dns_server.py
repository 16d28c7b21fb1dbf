"""The DNS server in virtual time: records, wildcards, denials, functions, other servers, bounds."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from tcpip_wasm import NameResolutionError, NetworkStack, StackClosedError, UdpDatagram, connect, create_stack
from tcpip_wasm.services import DnsServer
from tcpip_wasm.services.dns.server import MAX_CONNECTIONS
from tcpip_wasm.services.rate import MAX_CLIENTS, RateLimit
from tcpip_wasm.simulation import run_virtually
from tests.kit.dns import CLIENT, SERVER, Zone, dns_network

_RECORDS = {
    "db.lab.internal": ["10.0.0.5", "fd00::5"],
    "www.lab.internal": "CNAME db.lab.internal.",
    "away.lab.internal": "CNAME host.test.",
    "to-function.lab.internal": "CNAME aliased.example.",
    "loop.lab.internal": "CNAME loop.lab.internal.",
    "lab.internal": ["MX 10 mail.lab.internal.", 'TXT "a text"'],
    "*.wild.lab.internal": "10.0.0.9",
    "there.wild.lab.internal": "10.0.0.10",
    "a.b.deep.lab.internal": "10.0.0.11",
    "many.lab.internal": [f"10.1.{n // 200}.{n % 200 + 1}" for n in range(500)],
}


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[DnsServer, NetworkStack, NetworkStack]]:
    """A server on one stack, and a client that asks it."""
    async with await create_stack(seed=1, name_server=(SERVER, 53)) as client, await create_stack(seed=2) as host:
        connect(
            await client.create_tap_interface(ip=[f"{CLIENT}/24", "fd00::1/64"]),
            await host.create_tap_interface(ip=[f"{SERVER}/24", "fd00::53/64"]),
        )
        async with DnsServer(host, **{"records": _RECORDS, **options}) as server:
            yield server, client, host


async def ask(
    client: NetworkStack, name: str, rdtype: str = "A", *, host: str = SERVER, tcp: bool = False, **options: Any
) -> dns.message.Message:
    """Ask by dnspython's messages, and return the answer."""
    message = dns.message.make_query(name, rdtype, **options)
    if tcp:
        reader, writer = await client.open_connection(host, 53)
        packed = message.to_wire()
        writer.write(len(packed).to_bytes(2) + packed)
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        writer.close()
    else:
        async with await client.open_udp() as udp:
            await udp.send(UdpDatagram(host, 53, message.to_wire()))
            async with asyncio.timeout(30):
                data = (await udp.receive()).data
    answer = dns.message.from_wire(data, raise_on_truncation=False)
    assert message.is_response(answer)
    return answer


def values(answer: dns.message.Message) -> list[str]:
    """The content of the answer section, sorted."""
    return sorted(f"{dns.rdatatype.to_text(rr.rdtype)} {item.to_text()}" for rr in answer.answer for item in rr)


def rcode(answer: dns.message.Message) -> str:
    return dns.rcode.to_text(answer.rcode())


def test_records_of_all_kinds() -> None:
    async def main() -> None:
        async with served() as (_, client, _):
            for host in (SERVER, "fd00::53"):
                assert values(await ask(client, "db.lab.internal", host=host)) == ["A 10.0.0.5"]
                assert values(await ask(client, "DB.lab.INTERNAL", "AAAA", host=host)) == ["AAAA fd00::5"]
                assert values(await ask(client, "db.lab.internal", tcp=True, host=host)) == ["A 10.0.0.5"]
            chain = await ask(client, "www.lab.internal")
            assert values(chain) == ["A 10.0.0.5", "CNAME db.lab.internal."]
            assert [rr.name.to_text() for rr in chain.answer] == ["www.lab.internal.", "db.lab.internal."]
            assert values(await ask(client, "www.lab.internal", "CNAME")) == ["CNAME db.lab.internal."]
            assert values(await ask(client, "lab.internal", "MX")) == ["MX 10 mail.lab.internal."]
            assert values(await ask(client, "lab.internal", "TXT")) == ['TXT "a text"']
            assert len(values(await ask(client, "lab.internal", "ANY"))) == 1
            assert values(await ask(client, "5.0.0.10.in-addr.arpa", "PTR")) == ["PTR db.lab.internal."]
            assert await client.getnameinfo(("fd00::5", 80)) == ("db.lab.internal", "http")
            assert dns.flags.to_text(chain.flags) == "QR AA RD"
            loop = await ask(client, "loop.lab.internal")
            assert len(loop.answer) == 1

    run_virtually(main())


def test_nodata_and_nxdomain_differ() -> None:
    async def main() -> None:
        async with served(ttl=90) as (_, client, _):
            for name, rdtype, code in [
                ("db.lab.internal", "MX", "NOERROR"),
                ("deep.lab.internal", "A", "NOERROR"),  # only names below it exist: RFC 8020
                ("b.deep.lab.internal", "A", "NOERROR"),
                ("c.deep.lab.internal", "A", "NXDOMAIN"),
                ("x.db.lab.internal", "A", "NXDOMAIN"),
                ("lab.test", "A", "NXDOMAIN"),
                ("wild.lab.internal", "A", "NOERROR"),
                ("away.lab.internal", "MX", "NOERROR"),
            ]:
                answer = await ask(client, name, rdtype)
                assert (rcode(answer), answer.answer == [] or rdtype == "MX") == (code, True), name
                if name != "away.lab.internal":
                    (soa,) = answer.authority
                    assert (soa.rdtype, soa.ttl, soa[0].minimum) == (dns.rdatatype.SOA, 90, 90)
            with pytest.raises(NameResolutionError) as caught:
                await client.getaddrinfo("none.lab.internal", 80)
            assert caught.value.errno == socket.EAI_NONAME

    run_virtually(main())


def test_wildcards() -> None:
    async def main() -> None:
        async with served() as (_, client, _):
            assert values(await ask(client, "any.wild.lab.internal")) == ["A 10.0.0.9"]
            assert values(await ask(client, "a.b.c.wild.lab.internal")) == ["A 10.0.0.9"]
            assert values(await ask(client, "there.wild.lab.internal")) == ["A 10.0.0.10"]
            assert rcode(await ask(client, "x.there.wild.lab.internal")) == "NXDOMAIN"  # RFC 4592, section 2.2.1
            nodata = await ask(client, "any.wild.lab.internal", "AAAA")
            assert (rcode(nodata), nodata.answer) == ("NOERROR", [])

    run_virtually(main())


def test_long_answers_are_truncated_and_whole_by_tcp() -> None:
    async def main() -> None:
        async with served() as (server, client, _):
            for edns in (False, 0):
                short = await ask(client, "many.lab.internal", use_edns=edns, payload=1232)
                assert short.flags & dns.flags.TC
                assert short.answer == []
            assert len(values(await ask(client, "many.lab.internal", tcp=True))) == 500
            infos = await client.getaddrinfo("many.lab.internal", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
            assert len(infos) == 256  # the resolver's own bound
            assert server.statistics().truncated == 3

    run_virtually(main())


def test_what_is_not_served_is_refused() -> None:
    async def main() -> None:
        async with served() as (_, client, _):
            assert rcode(await ask(client, "lab.internal", "AXFR")) == "REFUSED"
            assert rcode(await ask(client, "db.lab.internal", rdclass="CH")) == "REFUSED"
            message = dns.message.make_query("db.lab.internal", "A", use_edns=1)
            async with await client.open_udp() as udp:
                await udp.send(UdpDatagram(SERVER, 53, message.to_wire()))
                answer = dns.message.from_wire((await udp.receive()).data)
                assert (rcode(answer), answer.edns) == ("BADVERS", 0)

    run_virtually(main())


def test_a_function_answers() -> None:
    async def main() -> None:
        asked = []

        async def handler(name: str, rdtype: str) -> Any:
            asked.append((name, rdtype))
            await asyncio.sleep(1)
            if name == "broken.example":
                raise ZeroDivisionError
            answers = {"a.example": ["10.9.9.9"], "empty.example": [], "mx.example": "10 mail.example."}
            return answers.get(name)

        async with served(handler=handler) as (server, client, _):
            reports: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
            assert values(await ask(client, "a.example")) == ["A 10.9.9.9"]
            assert values(await ask(client, "db.lab.internal")) == ["A 10.0.0.5"]
            assert values(await ask(client, "mx.example", "MX")) == ["MX 10 mail.example."]
            wrong = await ask(client, "a.example", "AAAA")
            assert (rcode(wrong), wrong.answer, len(wrong.authority)) == ("NOERROR", [], 1)
            assert rcode(await ask(client, "empty.example")) == "NOERROR"
            assert rcode(await ask(client, "none.example")) == "NXDOMAIN"
            assert not reports
            assert rcode(await ask(client, "broken.example", tcp=True)) == "SERVFAIL"
            assert (server.statistics().failed, len(reports)) == (1, 1)
            assert asked[0] == ("a.example", "A")

    run_virtually(main())


_ZONE = Zone(
    "host.test 300 A 10.3.3.3\nhost.test 300 AAAA fd00:3::3\nhost.test 300 TXT text\nmany.test 60 A 10.4.0.1\n"
    + "\n".join(f"many.test 60 A 10.4.{n // 200}.{n % 200 + 1}" for n in range(200))
)


def test_questions_are_forwarded_and_kept() -> None:
    async def main() -> None:
        async with dns_network(_ZONE) as network:
            middle = network.client  # its resolver asks the other server
            async with (
                DnsServer(middle, records=_RECORDS, forward=middle.resolver, zones=["lab.internal"]) as server,
                await create_stack(seed=50) as client,
            ):
                connect(
                    await client.create_tap_interface(ip="10.8.0.2/24"),
                    await middle.create_tap_interface(ip="10.8.0.1/24"),
                )
                near = "10.8.0.1"
                answer = await ask(client, "host.test", host=near)
                assert values(answer) == ["A 10.3.3.3"]
                assert dns.flags.to_text(answer.flags) == "QR RD RA"
                assert answer.edns == -1
                assert values(await ask(client, "host.test", "TXT", host=near, use_edns=0)) == ['TXT "text"']
                count = len(network.asked)
                await asyncio.sleep(100)
                kept = await ask(client, "HOST.test", host=near, use_edns=0)
                assert (values(kept), kept.answer[0].ttl, kept.edns) == (["A 10.3.3.3"], 200, 0)
                assert len(network.asked) == count
                assert rcode(await ask(client, "none.test", host=near)) == "NXDOMAIN"
                assert rcode(await ask(client, "none.lab.internal", host=near)) == "NXDOMAIN"
                assert [q for q, _ in network.server.names].count("none.lab.internal") == 0
                assert rcode(await ask(client, "none.test", host=near)) == "NXDOMAIN"
                assert len(network.asked) == count + 1
                away = await ask(client, "away.lab.internal", host=near)
                assert values(away) == ["A 10.3.3.3", "CNAME host.test."]
                many = await ask(client, "many.test", host=near)
                assert many.flags & dns.flags.TC
                assert len(values(await ask(client, "many.test", host=near, tcp=True))) == 200
                at_once = await asyncio.gather(*[ask(client, "x.test", "TXT", host=near) for _ in range(20)])
                assert {rcode(one) for one in at_once} == {"NXDOMAIN"}
                assert server.statistics().forwarded == 5
                network.server.rule = lambda _: None
                assert rcode(await ask(client, "silent.test", host=near)) == "SERVFAIL"

    run_virtually(main())


def test_a_resolver_without_servers_does_not_ask_its_own_stack() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack, DnsServer(stack, forward=stack.resolver) as server:
            assert rcode(await ask(stack, "a.test", host="127.0.0.1")) == "SERVFAIL"
            assert server.statistics().udp_queries == 1

    run_virtually(main())


def test_functions_that_are_not_async_and_both_kinds() -> None:
    async def main() -> None:
        async def handler(name: str, rdtype: str) -> Any:
            return "10.9.9.9" if name in ("a.example", "aliased.example") else None

        def forward(name: str, rdtype: str) -> Any:
            return {"host.test": ["10.3.3.3", "fd00:3::3"], "b.example": []}.get(name)

        async with served(handler=handler, forward=forward, zones=["lab.internal"]) as (_, client, _):
            assert values(await ask(client, "a.example")) == ["A 10.9.9.9"]
            answer = await ask(client, "host.test", "AAAA")
            assert (values(answer), dns.flags.to_text(answer.flags)) == (["AAAA fd00:3::3"], "QR RD RA")
            assert values(await ask(client, "away.lab.internal")) == ["A 10.3.3.3", "CNAME host.test."]
            assert rcode(await ask(client, "b.example")) == "NOERROR"
            assert values(await ask(client, "to-function.lab.internal")) == ["A 10.9.9.9", "CNAME aliased.example."]
            assert rcode(await ask(client, "c.example")) == "NXDOMAIN"

    run_virtually(main())


def test_records_are_replaced() -> None:
    async def main() -> None:
        async with served() as (server, client, _):
            await ask(client, "db.lab.internal")
            await ask(client, "db.lab.internal")
            assert server.statistics().encoded_hits == 1
            server.set_records({"db.lab.internal": "10.0.0.77"})
            assert values(await ask(client, "db.lab.internal")) == ["A 10.0.0.77"]
            with pytest.raises(ValueError, match="neither an address nor a type"):
                server.set_records({"db.lab.internal": "nonsense"})
            assert values(await ask(client, "db.lab.internal")) == ["A 10.0.0.77"]

    run_virtually(main())


def test_a_rate_limit() -> None:
    async def main() -> None:
        async with served(rate_limit=10) as (server, client, _), await client.open_udp() as udp:
            packed = dns.message.make_query("db.lab.internal", "A").to_wire()
            for _ in range(50):
                await udp.send(UdpDatagram(SERVER, 53, packed))
            await asyncio.sleep(2)
            assert server.statistics().limited == 40
            assert values(await ask(client, "db.lab.internal")) == ["A 10.0.0.5"]

    run_virtually(main())
    limit = RateLimit(5)
    for number in range(3 * MAX_CLIENTS):
        limit.allows(str(number), 0.0)
    assert len(limit._tokens) == MAX_CLIENTS


def test_damaged_queries_and_a_flood_of_questions() -> None:
    async def main() -> None:
        stuck = asyncio.Event()

        async def handler(name: str, rdtype: str) -> None:
            await stuck.wait()

        rng = random.Random(5)
        async with served(handler=handler) as (server, client, _), await client.open_udp() as udp:
            valid = dns.message.make_query("db.lab.internal", "A", use_edns=0).to_wire()
            for _ in range(3000):
                data = bytearray(valid)
                for _ in range(rng.randrange(1, 8)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                await udp.send(UdpDatagram(SERVER, 53, bytes(data[: rng.randrange(1, len(data) + 1)])))
            for number in range(3000):
                query = dns.message.make_query(f"n{number}.example", "A").to_wire()
                await udp.send(UdpDatagram(SERVER, 53, query))
            await asyncio.sleep(5)
            assert len(server._tasks) == 1024
            assert server.statistics().dropped > 1000
            assert server.statistics().malformed > 1000
            assert len(server._encoded) <= 4096
            assert values(await ask(client, "db.lab.internal")) == ["A 10.0.0.5"]
            stuck.set()

    run_virtually(main())


def test_connections_that_send_nothing_end() -> None:
    async def main() -> None:
        async with served() as (server, client, _):
            held = [await client.open_connection(SERVER, 53) for _ in range(MAX_CONNECTIONS + 5)]
            await asyncio.sleep(1)
            assert server.statistics().connections_refused == 5
            held[0][1].write(b"\xff\xff")
            held[1][1].write(b"\0\x20abc")
            await asyncio.sleep(15)
            assert server._connections == 0
            assert values(await ask(client, "db.lab.internal", tcp=True)) == ["A 10.0.0.5"]
            for _, writer in held:
                writer.close()

    run_virtually(main())


def test_queries_in_a_row_on_one_connection() -> None:
    async def main() -> None:
        async with served() as (_, client, _):
            reader, writer = await client.open_connection(SERVER, 53)
            queries = [
                dns.message.make_query(name, "A") for name in ("db.lab.internal", "there.wild.lab.internal") * 50
            ]
            for query in queries:
                packed = query.to_wire()
                writer.write(len(packed).to_bytes(2) + packed)
            for query in queries:
                data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                assert query.is_response(dns.message.from_wire(data))
            writer.close()

    run_virtually(main())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"records": {"a..b": "10.0.0.1"}}, "not a name"),
        ({"records": {"a": "MX x"}}, "records: 'MX x'"),
        ({"records": {"a": ["CNAME b.", "10.0.0.1"]}}, "CNAME beside others"),
        ({"port": 70000}, "port"),
        ({"ttl": -1}, "ttl"),
        ({"rate_limit": 0}, "rate_limit"),
    ],
)
def test_malformed_arguments(options: dict[str, Any], text: str) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(ValueError, match=text):
                DnsServer(stack, **options)

    run_virtually(main())


def test_the_server_ends_with_its_stack() -> None:
    async def main() -> None:
        async with served() as (server, client, host):
            _, writer = await client.open_connection(SERVER, 53)
            await asyncio.sleep(0.1)
            await host.aclose()
            assert server.closed
            with pytest.raises(StackClosedError):
                DnsServer(host)
            writer.close()

    run_virtually(main())
