"""Crashes, restarts and partitions of hosts."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest

from tcpip_wasm import StackClosedError, TcpipError
from tcpip_wasm.simulation import (
    Network,
    run,
)
from tests.kit.simulation_hosts import ask, serve_upper, star, two


def test_a_crash_sends_nothing_and_ends_tasks() -> None:
    async def scenario(network: Network) -> None:
        a, b = two(network)
        log: list[str] = []
        b.start(serve_upper)

        async def client() -> None:
            reader, writer = await asyncio.open_connection("b", 7)
            try:
                writer.write(b"line\n")
                assert await reader.readline() == b"LINE\n"
                asyncio.get_running_loop().call_later(5, log.append, "timer")
                writer.write(b"never arrives\n" * 1000)
                await asyncio.sleep(100)
            finally:
                log.append("finally")
                with pytest.raises(OSError, match="a has crashed") as caught:
                    await asyncio.open_connection("b", 7)
                assert isinstance(caught.value, (StackClosedError, TcpipError))

        task = a.run(client())
        await asyncio.sleep(0.5)
        sent = len(network.trace().observations)
        a.crash()
        a.crash()
        assert not a.up
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.cancelled()
        assert log == ["finally"]
        await asyncio.sleep(60)
        after = network.trace().observations[sent:]
        assert not [one for one in after if one.outgoing], "a is the first end of the link"
        assert log == ["finally"], "its timers are gone"
        for call in (lambda: a.stack, lambda: a.run(client()), lambda: a.start(client), lambda: a.interface()):
            with pytest.raises(OSError, match="a has crashed") as caught:
                call()
            assert caught.value.errno == getattr(socket, "EHOSTDOWN", None) or caught.value.errno

    run(scenario)


def test_a_service_comes_back_while_a_client_tries_again() -> None:
    async def scenario(network: Network) -> list[float]:
        a, b = two(network)
        lives: list[float] = []

        async def service() -> None:
            lives.append(network.loop.time())
            await serve_upper()

        async def client() -> int:
            attempts = 0
            while True:
                attempts += 1
                try:
                    async with asyncio.timeout(3):
                        assert await ask("b") == b"QUESTION\n"
                    return attempts
                except OSError:
                    await asyncio.sleep(1)

        b.start(service)
        mac = b.adapters[0].mac
        assert await a.run(client()) == 1
        old = b.stack
        network.at(10, b.crash)
        network.at(30, b.restart)
        await asyncio.sleep(15 - network.loop.time())
        assert await a.run(client()) > 3
        assert 30 <= network.loop.time() < 36
        assert b.stack is not old
        assert old.closed
        assert b.adapters[0].mac == mac
        assert [str(one) for one in b.stack.interfaces[1].addresses] == ["10.0.0.2/8", "fd00::2/64"]
        return lives

    result = run(scenario)
    assert result.value == [0.0, 30.0]
    assert not result.leaked


def test_an_open_connection_is_reset_after_a_restart() -> None:
    async def scenario(network: Network) -> float:
        a, b = two(network)
        b.start(serve_upper)

        async def client() -> None:
            reader, writer = await asyncio.open_connection("b", 7)
            writer.write(b"one\n")
            assert await reader.readline() == b"ONE\n"
            b.restart()
            writer.write(b"two\n")
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            writer.close()

        await a.run(client())
        return network.loop.time()

    assert run(scenario).value < 1


# --- Partitions -----------------------------------------------------------------------------------------------------


def test_tcp_survives_a_partition() -> None:
    async def scenario(network: Network) -> tuple[float, float]:
        hosts = star(network, 3)
        a, b, c = hosts
        for host in hosts:
            host.start(serve_upper)

        async def talk() -> list[float]:
            reader, writer = await asyncio.open_connection("h1", 7)
            times = []
            for number in range(20):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
                times.append(network.loop.time())
                await asyncio.sleep(0.5)
            writer.close()
            await writer.wait_closed()
            return times

        network.at(2.2, network.partition, [a, "h2"], [b])
        network.at(12.2, network.heal)

        async def others() -> None:
            """Within a group packets are delivered, between groups none, in either direction."""
            await asyncio.sleep(5)
            assert network.partitioned
            assert await c.run(ask("h0")) == b"QUESTION\n"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(b.run(ask("h2")), 3)

        beside = asyncio.create_task(others())
        times = await a.run(talk())
        await beside
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return max(gaps), times[-1]

    result = run(scenario)
    longest, _ = result.value
    assert 10 < longest < 25, "nothing came through for ten seconds, and then it went on"
    assert any(one.comment == "partition" for one in result.network.trace().observations)
    assert not result.leaked


def test_partitions_are_checked() -> None:
    async def scenario(network: Network) -> None:
        a, b, c = star(network, 3)
        for groups, message in (
            ((), "no group of hosts"),
            (([a], [a, b]), "h0 is in two of them"),
            ((["unknown"],), "'unknown' is no host"),
        ):
            with pytest.raises(ValueError, match=message):
                network.partition(*groups)
        with pytest.raises(TypeError, match="expected a host or its name, not int"):
            network.partition([7])  # type: ignore[list-item]
        assert not network.partitioned
        for host in (a, b, c):
            host.start(serve_upper)
        network.partition(a)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(b.run(ask("h0")), 2)
        assert await b.run(ask("h2")) == b"QUESTION\n", "the others are one group"
        network.partition([a], [b])
        assert await a.run(ask("h2")) == b"QUESTION\n", "a host in no group reaches all hosts"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(b.run(ask("h0")), 2)
        network.heal()
        assert await b.run(ask("h0")) == b"QUESTION\n"

    run(scenario)
