"""The resolver against a scripted server on another stack, in virtual time."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from tcpip_wasm import NameResolutionError, StackClosedError, connect, create_stack
from tcpip_wasm.names import query as question
from tcpip_wasm.names import resolver as limits
from tcpip_wasm.simulation import run_virtually
from tests.kit.dns import CLIENT, SERVER, DnsServer, Network, Query, Zone, dns_network
from tests.kit.resolver import BASIC, addresses, failure, now, with_network
from tests.kit.stacks import iterations, until

# --- Queries and answers --------------------------------------------------------------------------------------------


def test_both_families_are_asked_for_at_once() -> None:
    async def work(network: Network) -> None:
        assert await addresses(network.client, "www.test") == ["fd00::9", "10.0.0.9"]
        assert network.server.names == [("www.test", "A"), ("www.test", "AAAA")]
        assert network.asked[0].at == pytest.approx(network.asked[1].at, abs=0.001)
        assert network.asked[0].source[1] != network.asked[1].source[1]
        assert {asked.message.payload for asked in network.asked} == {1232}

    with_network(work)


@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        ("four.test", 0, ["10.0.0.4"]),
        ("six.test", 0, ["fd00::6"]),
        ("WWW.Test.", socket.AF_INET, ["10.0.0.9"]),
        ("www.test", socket.AF_INET6, ["fd00::9"]),
        ("alias.test", 0, ["fd00::9", "10.0.0.9"]),
    ],
)
def test_answers(host: str, family: int, expected: list[str]) -> None:
    async def work(network: Network) -> None:
        assert await addresses(network.client, host, family=family) == expected

    with_network(work)


@pytest.mark.parametrize(
    ("host", "family"),
    [("gone.test", 0), ("text.test", 0), ("four.test", socket.AF_INET6), ("lost.test", 0)],
)
def test_denials(host: str, family: int) -> None:
    async def work(network: Network) -> None:
        error = await failure(network.client, host, family=family)
        assert error.errno == socket.EAI_NONAME

    with_network(work)


def test_canonical_name() -> None:
    async def work(network: Network) -> None:
        infos = await network.client.getaddrinfo("alias.test", 80, flags=socket.AI_CANONNAME)
        assert [info[3] for info in infos] == ["www.test", "", "", ""]

    with_network(work)


def test_reverse_lookup() -> None:
    async def work(network: Network) -> None:
        assert await network.client.getnameinfo(("10.0.0.9", 80)) == ("www.test", "http")
        assert await network.client.getnameinfo(("10.0.0.8", 8000)) == ("10.0.0.8", "8000")
        with pytest.raises(NameResolutionError):
            await network.client.getnameinfo(("10.0.0.8", 80), socket.NI_NAMEREQD)
        asked = len(network.asked)
        assert await network.client.getnameinfo(("10.0.0.7", 80), socket.NI_NUMERICHOST) == ("10.0.0.7", "http")
        network.client.hosts["own"] = "fd00::7"
        assert await network.client.getnameinfo(("fd00::7", 53, 0, 0)) == ("own", "domain")
        assert await network.client.getnameinfo(("::1", 1)) == ("localhost", "1")
        assert len(network.asked) == asked

    with_network(work)


def test_reverse_answers_must_be_host_names() -> None:
    """The owner of an address writes its PTR record: text with a meaning to a shell or a terminal is not a name."""

    def rule(asked: Query) -> bytes:
        return asked.answer(rf"{asked.name} 60 PTR \027[31m\;rm\032-rf.test.").to_wire()

    async def work(network: Network) -> None:
        assert await network.client.getnameinfo(("10.0.0.9", 80)) == ("10.0.0.9", "http")

    with_network(work, rule)


def test_an_address_sends_no_query() -> None:
    async def work(network: Network) -> None:
        network.client.hosts["db"] = "10.0.0.53"
        for host in ("10.0.0.53", "fd00::53", "localhost", "printer.localhost.", "db", "DB.", "[fd00::53]"):
            for connecting in (network.client.connect_tcp(host, 81), network.client.open_connection(host, 81)):
                with pytest.raises(ConnectionRefusedError):
                    await connecting
        assert network.asked == []

    with_network(work)


def test_localhost_is_the_loopback_of_the_host() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as bare:
            await bare.create_loopback_interface("127.0.0.1/8")
            assert await addresses(bare, "LOCALHOST") == ["127.0.0.1"]
            assert await addresses(bare, "a.localhost") == ["127.0.0.1"]
            bare.hosts["b.localhost"] = "127.0.0.5"
            assert await addresses(bare, "b.localhost") == ["127.0.0.5"]
            with pytest.raises(NameResolutionError):
                await addresses(bare, "localhost", family=socket.AF_INET6)

    run_virtually(main())


# --- The search list ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "ndots", "asked"),
    [
        ("www", 1, ["www.none", "www.test"]),
        ("www.test", 1, ["www.test"]),
        ("www.test", 2, ["www.test.none", "www.test.test", "www.test"]),
        ("www.test.", 2, ["www.test"]),
        ("a.b", 1, ["a.b", "a.b.none", "a.b.test"]),
        ("gone.", 1, ["gone"]),
    ],
)
def test_search_list(host: str, ndots: int, asked: list[str]) -> None:
    async def work(network: Network) -> None:
        network.client.resolver.search = ["none", "TEST."]
        network.client.resolver.ndots = ndots
        with suppress(NameResolutionError):
            assert await addresses(network.client, host, family=socket.AF_INET) == ["10.0.0.9"]
        assert [one.name for one in network.asked] == asked

    with_network(work)


def test_search_stops_where_a_server_fails() -> None:
    """A host of that name in a later domain would be the wrong one."""

    def rule(asked: Query) -> bytes:
        return asked.answer(rcode="SERVFAIL").to_wire() if asked.name == "www.first" else BASIC(asked)

    async def work(network: Network) -> None:
        network.client.resolver.search = ["first", "test"]
        error = await failure(network.client, "www")
        assert error.errno == socket.EAI_AGAIN
        assert {one.name for one in network.asked} == {"www.first"}

    with_network(work, rule)


# --- Servers --------------------------------------------------------------------------------------------------------


def test_retries_until_a_server_answers() -> None:
    def rule(asked: Query) -> bytes | None:
        return BASIC(asked) if asked.at - begun > 2.9 else None

    begun = 1000.0

    async def work(network: Network) -> None:
        nonlocal begun
        begun = now()
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]
        assert [one.at - begun for one in network.asked] == pytest.approx([0, 1, 3], abs=0.01)
        assert len({one.source[1] for one in network.asked}) == 3
        assert len({one.message.id for one in network.asked}) == 3
        assert network.client.resolver.statistics().timed_out == 2

    with_network(work, rule)


def test_unanswered_queries_time_out() -> None:
    async def work(network: Network) -> None:
        begun = now()
        error = await failure(network.client, "www.test")
        assert error.errno == socket.EAI_AGAIN
        assert now() - begun == pytest.approx(sum(question.ROUNDS), abs=0.1)
        network.client.name_servers = [(SERVER, port) for port in range(53, 60)]
        begun = now()
        await failure(network.client, "www.test")
        assert now() - begun <= limits.LIFETIME + 0.1

    with_network(work, lambda asked: None)


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTAUTH"])
def test_the_next_server_is_asked(rcode: str) -> None:
    async def work(network: Network) -> None:
        second = await DnsServer(BASIC).serve(network.host, "fd00::53", 5353)
        network.client.name_servers = [(SERVER, 53), ("fd00::53", 5353)]
        before = network.client.stats().core.handles
        begun = now()
        assert await addresses(network.client, "www.test") == ["fd00::9", "10.0.0.9"]
        assert now() - begun < 0.1
        assert len(network.asked) == len(second.asked) == 2
        assert network.client.stats().core.handles == before

    with_network(work, lambda asked: asked.answer(rcode=rcode).to_wire())


def test_an_icmp_error_ends_the_wait_for_a_server() -> None:
    """Its ICMP error reports a closed port."""

    async def work(network: Network) -> None:
        begun = now()
        network.client.name_servers = [(SERVER, 5353)]
        error = await failure(network.client, "four.test", family=socket.AF_INET)
        assert error.errno == socket.EAI_AGAIN
        network.client.name_servers = [(SERVER, 5353), ("fd00::53", 5353), (SERVER, 53)]
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]
        assert now() - begun < 0.1
        assert network.client.resolver.statistics().unreachable == 3

    with_network(work)


def test_all_servers_refuse() -> None:
    async def work(network: Network) -> None:
        begun = now()
        error = await failure(network.client, "www.test")
        assert error.errno == socket.EAI_AGAIN
        assert now() - begun < 0.1, "asking again would not help"
        assert len(network.asked) == 2

    with_network(work, lambda asked: asked.answer(rcode="REFUSED").to_wire())


@pytest.mark.parametrize("repeats", [True, False])
def test_a_server_older_than_edns(repeats: bool) -> None:
    def rule(asked: Query) -> bytes:
        if asked.message.edns < 0:
            return BASIC(asked)
        answer = asked.answer(rcode="FORMERR").to_wire()
        return answer if repeats else answer[:4] + bytes(8)

    async def work(network: Network) -> None:
        assert await addresses(network.client, "four.test", family=socket.AF_INET) == ["10.0.0.4"]

    with_network(work, rule)


def test_a_server_with_a_link_local_address() -> None:
    """As in router advertisements (RFC 8106, section 5.1)."""

    async def work(network: Network) -> None:
        connect(
            await network.client.create_tap_interface(ip="fe80::1/64"),
            await network.host.create_tap_interface(ip="fe80::53/64"),
        )
        client, host = network.client, network.host
        await DnsServer(BASIC).serve(host, f"fe80::53%{host.interfaces[-1].name}")
        client.name_servers = [f"fe80::53%{client.interfaces[-1].name}"]
        assert await addresses(client, "www.test") == ["fd00::9", "10.0.0.9"]
        assert network.asked == []
        await client.remove_interface(client.interfaces[-1])

    with_network(work)


def test_no_route_to_any_server() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as bare:
            assert bare.name_servers == [("127.0.0.1", 53)]
            error = await failure(bare, "www.test")
            assert error.errno == socket.EAI_AGAIN
            assert "127.0.0.1 port 53" in str(error)
            assert "the stack has no name server: assign stack.name_servers, or add the name to" in str(error)
            bare.name_servers = ["192.0.2.53"]
            error = await failure(bare, "www.test")
            assert "no name server gave an answer (192.0.2.53 port 53: Network is unreachable" in str(error)

    run_virtually(main())


def test_the_default_server_is_the_stack_itself() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            await DnsServer(BASIC).serve(stack, "127.0.0.1")
            assert await addresses(stack, "four.test") == ["10.0.0.4"]

    run_virtually(main())


def test_servers_learned_by_interfaces() -> None:
    async def main() -> None:
        async with await create_stack(name_server=("10.0.0.1", 53)) as stack:
            resolver = stack.resolver
            resolver.learn("tap0 dhcp", ["10.0.0.2", ("10.0.0.1", 53)], ["corp.test"])
            resolver.learn("tap0 ra", ["fe80::1%tap0"], ["corp.test", "x.test"])
            assert stack.name_servers == [("10.0.0.1", 53), ("10.0.0.2", 53), ("fe80::1%tap0", 53)]
            assert resolver.search == ["corp.test", "x.test"]
            stack.name_servers = []
            resolver.learn("tap0 dhcp", ["10.0.0.3"])
            assert stack.name_servers == [("10.0.0.3", 53), ("fe80::1%tap0", 53)]
            resolver.forget("tap0 dhcp")
            resolver.forget("tap0 ra")
            assert stack.name_servers == [("127.0.0.1", 53)]
            # The servers that a network announces are bounded.
            resolver.learn("evil", [f"10.9.{n}.1" for n in range(200)], [f"s{n}.test" for n in range(200)])
            assert len(stack.name_servers) == limits.MAX_SERVERS
            assert len(resolver.search) == limits.MAX_SEARCH
            for number in range(limits.MAX_SOURCES - 1):
                resolver.learn(number, [])
            with pytest.raises(ValueError, match="source"):
                resolver.learn("one more", [])

    run_virtually(main())


@pytest.mark.parametrize(
    ("servers", "error"),
    [
        (["example.com"], ValueError),
        ([("10.0.0.1", 0)], ValueError),
        ([("10.0.0.1", 65536)], ValueError),
        ([("10.0.0.1", "53")], TypeError),
        ("10.0.0.1", TypeError),
        ([5], TypeError),
    ],
)
def test_malformed_servers(servers: Any, error: type[Exception]) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            with pytest.raises(error, match="name server"):
                stack.name_servers = servers
            if isinstance(servers, list):
                with pytest.raises(error, match="name server"):
                    await create_stack(name_server=servers[0])

    run_virtually(main())


# --- Truncation -----------------------------------------------------------------------------------------------------

MANY = Zone("\n".join(f"many.test 60 A 10.7.{n // 250}.{n % 250 + 1}" for n in range(300)))


def test_a_truncated_answer_is_repeated_by_tcp() -> None:
    async def work(network: Network) -> None:
        found = await addresses(network.client, "many.test", family=socket.AF_INET)
        assert len(found) == question.MAX_ADDRESSES
        assert len(set(found)) == question.MAX_ADDRESSES
        assert all(one.startswith("10.7.") for one in found)
        assert [one.by for one in network.asked] == ["udp", "tcp"]
        assert network.asked[0].message.id != network.asked[1].message.id
        figures = network.client.resolver.statistics()
        assert (figures.udp_queries, figures.tcp_queries, figures.truncated) == (1, 1, 1)

    with_network(work, MANY)


@pytest.mark.parametrize("answer", ["closes", "garbage", "another id", "truncated again", "silence"])
def test_errors_of_queries_by_tcp(answer: str) -> None:
    def rule(asked: Query) -> bytes | None:
        if asked.by == "udp":
            return MANY(asked)
        good = MANY(asked)
        return {
            "closes": None,
            "garbage": good[:60],
            "another id": bytes([good[0] ^ 1]) + good[1:],
            "truncated again": good[:2] + bytes([good[2] | 2]) + good[3:],
            "silence": b"",
        }[answer]

    async def work(network: Network) -> None:
        begun = now()
        error = await failure(network.client, "many.test", family=socket.AF_INET)
        assert error.errno == socket.EAI_AGAIN
        assert now() - begun < limits.LIFETIME + 0.1
        # The only server answers with an error; another one would be queried.
        second = await DnsServer(MANY).serve(network.host, SERVER, 5353)
        network.client.name_servers = [(SERVER, 53), (SERVER, 5353)]
        assert len(await addresses(network.client, "many.test", family=socket.AF_INET)) == question.MAX_ADDRESSES
        assert [one.by for one in second.asked] == ["udp", "tcp"]

    with_network(work, rule)


# --- Concurrent queries and closing---------------------------------------------------------------------------------


def test_equal_queries_are_shared() -> None:
    async def work(network: Network) -> None:
        found = await asyncio.gather(*(addresses(network.client, host) for host in ["www.test", "WWW.test."] * 50))
        assert found == [["fd00::9", "10.0.0.9"]] * 100
        assert len(network.asked) == 2

    with_network(work)


def test_concurrent_queries_are_bounded() -> None:
    async def work(network: Network) -> None:
        client = network.client
        before = client.stats().core.handles
        tasks = [
            asyncio.create_task(client.getaddrinfo(f"n{n}.test", 80, family=socket.AF_INET))
            for n in range(limits.MAX_QUESTIONS + 50)
        ]
        await asyncio.sleep(0.5)
        assert client.stats().core.handles == before + limits.MAX_CONCURRENT
        assert client.resolver.statistics().under_way == limits.MAX_QUESTIONS
        failed = [task for task in tasks if task.done()]
        assert len(failed) == 50
        assert all("too many" in str(task.exception()) for task in failed)
        begun = now()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, NameResolutionError) and one.errno == socket.EAI_AGAIN for one in results)
        assert now() - begun <= limits.LIFETIME + 0.1

    with_network(work, lambda asked: None)


@pytest.mark.parametrize("answering", [True, False])
def test_cancelled_at_every_loop_iteration(answering: bool) -> None:
    async def work(network: Network) -> None:
        client = network.client
        before = client.stats().core.handles
        for count in range(60):
            client.resolver.flush()
            begun = now()
            task = asyncio.create_task(client.getaddrinfo("many.test", 80))
            await iterations(count)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await iterations(3)
            assert now() == begun, "to be cancelled takes no time"
            assert client.resolver.statistics().under_way == 0
            assert client.stats().core.handles == before
        assert len(asyncio.all_tasks()) == 1 or answering  # the server may still be at its connections

    with_network(work, MANY if answering else lambda asked: None)


def test_cancelling_one_of_several_waiters() -> None:
    async def work(network: Network) -> None:
        tasks = [asyncio.create_task(addresses(network.client, "four.test", family=socket.AF_INET)) for _ in range(3)]
        await asyncio.sleep(1.5)
        tasks[0].cancel()
        await iterations(5)
        assert network.client.resolver.statistics().under_way == 1
        network.server.rule = BASIC
        assert await asyncio.gather(*tasks[1:]) == [["10.0.0.4"], ["10.0.0.4"]]
        assert tasks[0].cancelled()
        assert len(network.asked) == 3

    with_network(work, lambda asked: None)


def test_closing_the_stack_ends_lookups() -> None:
    async def main() -> None:
        async with dns_network(lambda asked: None) as network:
            tasks = [
                asyncio.create_task(network.client.getaddrinfo("www.test", 80)),
                asyncio.create_task(network.client.connect_tcp("www.test", 80)),
                *(asyncio.create_task(network.client.getaddrinfo(f"n{n}.test", 80)) for n in range(100)),
            ]
            await asyncio.sleep(0.5)
            await network.client.aclose()
            await until(lambda: all(task.done() for task in tasks))
            assert {type(task.exception()) for task in tasks} == {StackClosedError}
            with pytest.raises(StackClosedError):
                await network.client.getaddrinfo("www.test", 80)
            with pytest.raises(StackClosedError):
                await network.client.getnameinfo((CLIENT, 80))

    run_virtually(main())
