"""Connecting to a name with several addresses, in virtual time: order and times of attempts, and their cancellation."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from tcpip_wasm import (
    ConnectionRefused,
    ConnectionTimedOut,
    NetworkError,
    NetworkStack,
    StackClosedError,
    TunInterface,
    connect,
    create_stack,
)
from tcpip_wasm.simulation import run_virtually
from tcpip_wasm.sockets.tcp.connect import MAX_ATTEMPTS
from tests.kit.core_network import Rule
from tests.kit.stacks import FrameRelay, Recorder, iterations, until

DEAD6 = "fd01::2"
DEAD4 = "10.1.0.2"
GOOD6 = "fd00::2"
GOOD4 = "10.0.0.2"
"""Networks by kind: ``alive`` is connected by a cable to a host, ``dead`` is an interface without a peer."""


@dataclass
class Net:
    """A client and a server, and what the client sent into nothing.

    Attributes:
        client, server: stacks.
        hole: an interface of the client that swallows what is sent.
        tried: (seconds since the beginning, destination) of each SYN into the hole, retransmissions left out.
    """

    client: NetworkStack
    server: NetworkStack
    hole: TunInterface
    tried: list[tuple[float, str]] = field(default_factory=list)

    def held(self) -> list[tuple[int, int]]:
        """Handles and connections of both stacks, without connections that are closing."""
        figures = [stack.stats().core for stack in (self.client, self.server)]
        return [(one.handles, one.connections - one.time_wait) for one in figures]


@asynccontextmanager
async def network(*, rule: Rule | None = None) -> AsyncIterator[Net]:
    """Create the network; with a rule for frames, a `FrameRelay` replaces the cable."""
    async with AsyncExitStack() as exits:
        client = await exits.enter_async_context(await create_stack(seed=1))
        server = await exits.enter_async_context(await create_stack(seed=2))
        ends = (
            await client.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await server.create_tap_interface(ip=[f"{GOOD4}/24", f"{GOOD6}/64"]),
        )
        if rule is not None:
            await exits.enter_async_context(FrameRelay(*ends, rule))
        else:
            connect(*ends)
        net = Net(client, server, await client.create_tun_interface(ip=["10.1.0.1/24", "fd01::1/64"]))
        begun = now()

        async def swallow() -> None:
            seen = set()
            async for packet in net.hole:
                version = packet[0] >> 4
                header = packet[24:40] if version == 6 else packet[16:20]
                if packet[6 if version == 6 else 9] == 6 and header not in seen:
                    seen.add(header)
                    net.tried.append((round(now() - begun, 2), str(ip_address(header))))

        task = asyncio.create_task(swallow())
        await iterations(1)
        try:
            yield net
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("how", ["connect_tcp", "open_connection", "create_connection"])
def test_a_black_hole_delays_by_a_quarter_of_a_second(how: str) -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, GOOD4]
            server = await net.server.create_server(Recorder, GOOD4, 80)
            before = net.held()
            begun = now()
            if how == "connect_tcp":
                connection = await net.client.connect_tcp("web", 80)
                peer = connection.remote_address
                connection.abort()
            elif how == "open_connection":
                _, writer = await net.client.open_connection("web", 80)
                peer = writer.get_extra_info("peername")
                writer.transport.abort()
            else:
                transport, _ = await net.client.create_connection(Recorder, "web", 80, happy_eyeballs_delay=0.25)
                peer = transport.get_extra_info("peername")
                transport.abort()
            assert peer == (GOOD4, 80)
            assert now() - begun == pytest.approx(0.25, abs=0.01)
            assert net.tried == [(0, DEAD6)]
            await iterations(20)
            assert net.held() == before
            server.close()

    run_virtually(main())


def test_asyncio_s_own_default_waits_for_each() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, GOOD4]
            await net.server.create_server(Recorder, GOOD4, 80)
            begun = now()
            transport, protocol = await net.client.create_connection(Recorder, "web", 80)
            assert now() - begun > 5, "TCP has given up on the first"
            assert protocol.calls == ["made"]
            transport.abort()
            await protocol.lost

    run_virtually(main())


def test_the_families_alternate() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = ["fd01::2", "fd01::3", "fd01::4", "10.1.0.2", "10.1.0.3", GOOD4]
            await net.server.create_server(Recorder, GOOD4, 80)
            connection = await net.client.connect_tcp("web", 80)
            connection.abort()
            order = ["fd01::2", "10.1.0.2", "fd01::3", "10.1.0.3", "fd01::4"]
            assert net.tried == [(0.25 * number, address) for number, address in enumerate(order)]
            net.tried.clear()
            begun = now()
            transport, protocol = await net.client.create_connection(
                Recorder, "web", 80, happy_eyeballs_delay=0.1, interleave=2
            )
            assert now() - begun == pytest.approx(0.5, abs=0.01)
            transport.abort()
            await protocol.lost

    run_virtually(main())


def test_a_refusal_does_not_wait_for_the_delay() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [GOOD6, GOOD4]
            await net.server.create_server(Recorder, GOOD4, 80)
            begun = now()
            connection = await net.client.connect_tcp("web", 80)
            assert connection.remote_address == (GOOD4, 80)
            assert now() - begun < 0.05
            connection.abort()

    run_virtually(main())


def test_families_without_a_route_come_last() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = ["2001:db8::1", GOOD4]
            await net.client.remove_interface(net.hole)
            async with await create_stack() as other:
                connect(
                    await other.create_tap_interface(ip="10.9.0.1/24"),
                    await net.server.create_tap_interface(ip="10.9.0.2/24"),
                )
                other.hosts["web"] = [GOOD6, "10.9.0.2"]
                await net.server.create_server(Recorder, None, 80)
                infos = await other.getaddrinfo("web", 80, type=1)
                assert [info[4][0] for info in infos] == ["10.9.0.2", GOOD6]
                begun = now()
                transport, protocol = await other.create_connection(Recorder, "web", 80)
                assert now() - begun < 0.05
                transport.abort()
                await protocol.lost

    run_virtually(main())


def test_both_answer_at_once_and_one_connection_remains() -> None:
    """The late answer to the first attempt arrives together with that to the second: both connections are open."""

    def hold_the_first(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        is_syn_ack = frame[12:14] == b"\x86\xdd" and frame[20] == 6 and frame[14 + 40 + 13] == 0x12
        return [(1.0 if is_syn_ack else 0.0, frame)]

    async def main() -> None:
        async with network(rule=hold_the_first) as net:
            net.client.hosts["web"] = [GOOD6, GOOD4]
            accepted: list[Recorder] = []

            def factory() -> Recorder:
                accepted.append(Recorder())
                return accepted[-1]

            server = await net.server.create_server(factory, None, 80)
            before = net.held()
            made: list[Recorder] = []

            def client_factory() -> Recorder:
                made.append(Recorder())
                return made[-1]

            transport, protocol = await net.client.create_connection(client_factory, "web", 80, happy_eyeballs_delay=0)
            assert made == [protocol]
            assert protocol.calls == ["made"]
            await until(lambda: len(accepted) == 2 and any(one.lost.done() for one in accepted))
            assert sum(one.lost.done() for one in accepted) == 1, "the loser was reset"
            winner = next(one for one in accepted if not one.lost.done())
            winner.transport.write(b"you have won")
            await until(lambda: bytes(protocol.data) == b"you have won")
            transport.abort()
            await winner.lost
            await protocol.lost
            await iterations(20)
            assert net.held() == before
            server.close()

    run_virtually(main())


def test_data_that_arrives_with_the_connection_is_not_lost() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, GOOD4, DEAD4]

            async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"hello at once")
                writer.close()

            await net.server.start_server(greet, GOOD4, 80)
            reader, writer = await net.client.open_connection("web", 80)
            assert await reader.read() == b"hello at once"
            writer.close()
            await writer.wait_closed()

    run_virtually(main())


@pytest.mark.parametrize("delay", [None, 0.25])
def test_all_refuse(delay: float | None) -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [GOOD6, GOOD4]
            before = net.held()
            with pytest.raises(ConnectionRefusedError) as caught:
                await net.client.create_connection(Recorder, "web", 81, happy_eyeballs_delay=delay)
            assert type(caught.value) is ConnectionRefused
            assert caught.value.errno == errno.ECONNREFUSED
            assert "Multiple exceptions: " in str(caught.value)
            assert GOOD6 in str(caught.value)
            assert GOOD4 in str(caught.value)
            assert net.held() == before

    run_virtually(main())


def test_attempts_fail_with_different_errors() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [GOOD6, DEAD4]
            begun = now()
            with pytest.raises(NetworkError, match=r"Multiple exceptions: .*refused.*timed out") as caught:
                await net.client.connect_tcp("web", 81)
            assert type(caught.value) is NetworkError
            assert caught.value.errno is None
            assert now() - begun < 130  # the SYN is tried for 127 s
            net.client.hosts["one"] = DEAD4
            with pytest.raises(ConnectionTimedOut):
                await net.client.connect_tcp("one", 81)

    run_virtually(main())


def test_no_route_to_either_address() -> None:
    async def main() -> None:
        async with await create_stack(initialize_loopback=False) as stack:
            stack.hosts["web"] = [GOOD6, GOOD4]
            with pytest.raises(NetworkError) as caught:
                await stack.connect_tcp("web", 80)
            assert caught.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)

    run_virtually(main())


def test_the_number_of_attempts_is_bounded() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [f"fd01::1:{n}" for n in range(MAX_ATTEMPTS + 20)]
            with pytest.raises(OSError):  # noqa: PT011
                await net.client.connect_tcp("web", 80)
            assert len(net.tried) == MAX_ATTEMPTS

    run_virtually(main())


@pytest.mark.parametrize("addresses", [[DEAD6, GOOD4], [GOOD6, GOOD4], [DEAD6, DEAD4]], ids=["hole", "good", "dead"])
def test_cancelled_at_any_time(addresses: list[str]) -> None:
    """At every loop iteration, and while it waits."""

    async def attempt(net: Net, wait: Callable[[], Any]) -> bool:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[0]

        task = asyncio.create_task(net.client.create_connection(factory, "web", 80, happy_eyeballs_delay=0.25))
        await wait()
        working = not task.done()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            task.result()[0].abort()
        await iterations(20)
        assert not made or made[0].calls in ([], ["made", "lost"])
        return working

    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = addresses
            await net.server.create_server(Recorder, GOOD4, 80)
            before = net.held()
            for count in range(30):
                await attempt(net, lambda count=count: iterations(count))  # type: ignore[misc]
                assert net.held() == before
            for seconds in (0.2, 0.25, 0.2501, 0.4):
                await attempt(net, lambda seconds=seconds: asyncio.sleep(seconds))  # type: ignore[misc]
                assert net.held() == before

    run_virtually(main())


def test_a_factory_that_raises_fails_the_call() -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise ZeroDivisionError

        def connection_lost(self, error: BaseException | None) -> None:
            """Nothing was made."""

    async def main() -> list[Any]:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, GOOD4]
            await net.server.create_server(Recorder, GOOD4, 80)
            before = net.held()
            with pytest.raises(ZeroDivisionError):
                await net.client.create_connection(Failing, "web", 80, happy_eyeballs_delay=0.25)
            await iterations(20)
            assert net.held() == before
        return reports

    assert [type(one["exception"]) for one in run_virtually(main())] == [ZeroDivisionError]


def test_closing_the_stack_ends_all_attempts() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [DEAD6, DEAD4]
            task = asyncio.create_task(net.client.connect_tcp("web", 80))
            await asyncio.sleep(0.4)
            await net.client.aclose()
            with pytest.raises(StackClosedError):
                await task

    run_virtually(main())


def test_local_address_of_the_right_family() -> None:
    async def main() -> None:
        async with network() as net:
            net.client.hosts["web"] = [GOOD6, GOOD4]
            net.client.hosts["me"] = "10.0.0.1"
            await net.server.create_server(Recorder, None, 80)
            for own in ("10.0.0.1", "me"):
                transport, protocol = await net.client.create_connection(Recorder, "web", 80, local_addr=(own, 0))
                assert transport.get_extra_info("sockname")[0] == "10.0.0.1"
                assert transport.get_extra_info("peername")[0] == GOOD4
                transport.abort()
                await protocol.lost
            with pytest.raises(ValueError, match="local_addr"):
                await net.client.create_connection(Recorder, GOOD6, 80, local_addr=("me", 0))

    run_virtually(main())
