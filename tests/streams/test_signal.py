"""`Signal`, by which waiters learn of a change."""

from __future__ import annotations

import asyncio

from tcpip_wasm.streams.locks import Signal


def test_a_signal_wakes_its_waiters_in_order_and_keeps_no_cancelled_one() -> None:
    async def main() -> None:
        signal = Signal()
        woken: list[int] = []

        async def wait(number: int) -> None:
            await signal.wait()
            woken.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(20)]
        await asyncio.sleep(0)
        for _ in range(2000):
            signal.wait().cancel()
        assert len(signal._waiters) < 100
        tasks[3].cancel()
        signal.fire()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert woken == [number for number in range(20) if number != 3]
        late = signal.wait()
        await asyncio.sleep(0)
        assert not late.done(), "a signal that fired before is not remembered"

    asyncio.run(main())
