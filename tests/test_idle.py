"""Scheduling: idle stacks do not wake, busy ones leave time for other callbacks of the loop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from math import inf

import pytest

from tcpip_wasm import driver
from tcpip_wasm.simulation import run_virtually
from tests.kit.core_network import payload
from tests.kit.stacks import WAYS, Pair, Recorder, iterations, pair, read_all, recorders, run, send_all, until


@pytest.mark.parametrize("way", WAYS)
def test_idle_stacks_do_not_wake(way: str) -> None:
    """An hour with an open, idle connection."""

    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections()
            writer, reader = client.writable.get_writer(), server.readable.get_reader()
            await writer.write(b"hello")
            assert await reader.read() == b"hello"
            # Neighbour discovery and the detection of duplicate addresses have some seconds' worth of timers.
            await pass_time(60)
            drivers = [stack._driver for stack in (two.a, two.b)]
            assert [driver.core.deadline for driver in drivers] == [inf, inf]
            assert not any(driver.core.more for driver in drivers)
            before = [driver.turns for driver in drivers]
            await pass_time(3600)
            await iterations(1000)
            assert [driver.turns for driver in drivers] == before
            await writer.write(b"awake again")
            assert await reader.read() == b"awake again"

    run_virtually(main())


def test_idle_stacks_arm_no_timer() -> None:
    async def main() -> None:
        async with pair() as two:
            await two.connections()
            await pass_time(60)
            assert not asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            assert [stack._driver._timer for stack in (two.a, two.b)] == [None, None]

    run_virtually(main())


def test_deadline_that_is_over_on_a_loop_that_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyodide's loop raises for such a time, which comes up when other callbacks have taken longer than a tick."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_at, refused = loop.call_at, 0

        def refusing(when: float, *arguments: object, **options: object) -> object:
            nonlocal refused
            if when < loop.time() + 10:  # every deadline of TCP
                refused += 1
                raise ValueError("Can't schedule in the past")
            return call_at(when, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_at", refusing)
        monkeypatch.setattr(
            loop, "call_later", lambda delay, *arguments, **options: call_at(loop.time() + delay, *arguments)
        )
        async with pair() as two:
            client, server = await two.connections()
            writer, reader = client.writable.get_writer(), server.readable.get_reader()
            await writer.write(b"hello")
            assert await reader.read() == b"hello"
            assert refused > 0

    run(main())


async def pass_time(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.call_later(seconds, waiter.set_result, None)
    await waiter


def test_sending_on_one_interface_does_not_delay_another() -> None:
    """A window opens on the loopback, which only a poll serves; then a write is sent by the cable without a poll."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair() as two:
            client, server = await recorders(two)
            near, far = await recorders(Pair(two.a, two.a, "127.0.0.1", "127.0.0.1"), port=99)
            far.transport.auto_credit = False
            data = payload(3_000_000)
            near.transport.write(data)
            read = 0
            while True:
                await pass_time(0.1)
                two.a._driver.wake()  # brings TCP's clock up to date, so that the write leaves at once
                await iterations(10)
                began, arrived = loop.time(), len(far.data)
                if arrived == len(data):
                    break
                far.transport.credit(arrived - read)
                client.transport.write(b"!")
                read = arrived
                await until(lambda: len(far.data) > arrived or loop.time() > began)  # noqa: B023
                assert loop.time() == began, "the opened window waited for a timer"
            assert far.data == data
            for recorder in (client, server, near, far):
                recorder.transport.abort()
            await iterations(10)

    run_virtually(main())


def test_timer_keeps_firing_during_a_saturating_transfer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            loop = asyncio.get_running_loop()
            fired = 0
            timers: list[asyncio.TimerHandle] = []

            def tick() -> None:
                nonlocal fired
                fired += 1
                timers[:] = [loop.call_later(0.01, tick)]

            timers.append(loop.call_later(0.01, tick))

            async def flood() -> None:
                chunk = payload(65536)
                with client.writable.get_writer() as writer:
                    while fired < 40:
                        await writer.write(chunk)
                    await writer.close()

            flooding = asyncio.create_task(flood())
            received = 0
            async for chunk in server:
                received += len(chunk)
            await flooding
            timers[0].cancel()
            assert fired >= 40
            assert received % 65536 == 0
            assert received > 1_000_000

    run(main())


def test_other_callbacks_run_during_a_saturating_transfer() -> None:
    """Between two iterations of another task, only a slice of the transfer's work is done."""

    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            sending = asyncio.create_task(send_all(client, payload(20_000_000)))
            receiving = asyncio.create_task(read_all(server))
            count = 0
            while not receiving.done():
                await asyncio.sleep(0)
                count += 1
            assert receiving.result() == payload(20_000_000)
            await sending
            # 2 ms at 20 Gbit/s, more than any machine of today moves, are 5 MB.
            assert count > 20_000_000 // 5_000_000

    run(main())


def test_other_callbacks_run_during_an_endless_exchange() -> None:
    """Two protocols that answer each other from their callbacks would otherwise never return to the loop."""

    class Answering(Recorder):
        left = 0

        def data_received(self, data: bytes) -> None:
            self.data[:] = data
            self.left -= 1
            if self.left >= 0:
                self.transport.write(data)

    async def main() -> None:
        async with pair() as two:
            made: list[Answering] = []

            def factory() -> Answering:
                made.append(Answering())
                made[-1].left = 10_000
                return made[-1]

            server = await two.b.create_server(factory, two.host, 80)
            transport, client = await two.a.create_connection(factory, two.host, 80)
            transport.write(b"to and fro")
            count = 0
            while all(end.left >= 0 for end in made):
                await asyncio.sleep(0)
                count += 1
            assert client.data == b"to and fro"
            # 10,000 answers in less than 20 ms would be needed to get through with fewer.
            assert count >= 10
            transport.abort()
            await client.lost
            server.close()
            await server.wait_closed()

    run(main())


def test_waiting_stacks_are_polled_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight stacks write in every loop iteration, which has time to poll four: a ninth is still polled."""
    monkeypatch.setattr(driver, "MOST_TURNS", 4)

    async def main() -> None:
        async with AsyncExitStack() as entered:
            greedy = [await entered.enter_async_context(pair("tun4", seed=2 * number)) for number in range(8)]
            quiet = await entered.enter_async_context(pair("tun4", seed=100))
            await quiet.b.create_server(asyncio.Protocol, quiet.host, 80)
            transport, _ = await quiet.a.create_connection(asyncio.Protocol, quiet.host, 80)
            transports = []
            for two in greedy:
                await two.b.create_server(asyncio.Protocol, two.host, 80)
                transports.append((await two.a.create_connection(asyncio.Protocol, two.host, 80))[0])
            before = quiet.b.stats().turns
            transport.write(b"one word")
            for _ in range(100):
                for each in transports:
                    each.write(b"a")
                    each.write(b"b")  # waits for the acknowledgement of what came before, so that it takes a poll
                await asyncio.sleep(0)
            assert quiet.b.stats().turns > before
            transport.abort()
            for each in transports:
                each.abort()

    run_virtually(main())


def test_no_poll_without_work() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            for _ in range(3):
                before = two.a.stats().turns
                await iterations(100)
                assert two.a.stats().turns - before <= 5
            await client.close()
            await server.close()
            await until(lambda: two.a.stats().core.time_wait == 1)

    run(main())
