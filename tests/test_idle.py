"""Who sleeps and who is kept waiting: idle stacks do not wake, busy ones leave the loop its turns."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from tests.support import payload
from tests.support_stacks import pair, read_all, run, send_all, turns, until


@pytest.mark.parametrize("way", ["tap4", "tap6", "tun4", "tun6", "loopback4"])
def test_idle_stacks_do_not_wake(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await two.connections()
            with client.writable.get_writer() as writer:
                await writer.write(b"hello")
            assert await server.readable.get_reader().read() == b"hello"
            drivers = [stack._driver for stack in (two.a, two.b)]
            # Neighbour discovery and duplicate address detection have a few seconds' worth of timers.
            async with asyncio.timeout(25):
                while any(driver.core.deadline != inf for driver in drivers):
                    now = asyncio.get_running_loop().time()
                    next_ = min(driver.core.deadline for driver in drivers)
                    waiting = asyncio.get_running_loop().create_future()
                    asyncio.get_running_loop().call_at(max(next_, now) + 0.001, waiting.set_result, None)
                    await waiting
            before = [driver.turns for driver in drivers]
            assert not any(driver.core.more for driver in drivers)
            await turns(1000)
            assert [driver.turns for driver in drivers] == before
            await send_all(client, b"awake again")
            assert await asyncio.wait_for(read_all_of(server), 5) == b"awake again"

    async def read_all_of(server) -> bytes:  # type: ignore[no-untyped-def]
        server.readable._owner = None
        return await read_all(server)

    run(main(), seconds=40)


def test_timer_keeps_firing_during_a_saturating_transfer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            loop = asyncio.get_running_loop()
            fired = 0

            def tick() -> None:
                nonlocal fired, timer
                fired += 1
                timer = loop.call_later(0.01, tick)

            timer = loop.call_later(0.01, tick)

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
            timer.cancel()
            assert fired >= 40
            assert received % 65536 == 0
            assert received > 1_000_000

    run(main())


def test_others_get_their_turns_during_a_saturating_transfer() -> None:
    """Between two turns of somebody else, only a slice of the transfer's work is done."""

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


def test_no_turn_without_work() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            for _ in range(3):
                before = two.a.stats().turns
                await turns(100)
                assert two.a.stats().turns - before <= 5
            await client.close()
            await server.close()
            await until(lambda: two.a.stats().core.time_wait == 1)

    run(main())
