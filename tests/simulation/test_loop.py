"""`VirtualLoop`: a clock that jumps, external work that stops it, and waits without an end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from tcpip_wasm.errors import TcpipError
from tcpip_wasm.simulation import DeadlockError, SimulationError, TimeLimitError, VirtualLoop, run_virtually
from tcpip_wasm.simulation.time import loop as loop_module

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes are POSIX's")


def running() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


# --- The clock ------------------------------------------------------------------------------------------------------


def test_hours_pass_at_once() -> None:
    async def main() -> list[float]:
        assert running().time() == 0.0
        await asyncio.sleep(3600)
        first = running().time()
        await asyncio.sleep(10 * 86400)
        return [first, running().time()]

    # The time limit of tests ensures that neither an hour nor ten days of real time pass.
    assert run_virtually(main()) == [3600.0, 867_600.0]


def test_timers_fire_in_order_and_at_their_time() -> None:
    async def main() -> list[tuple[float, float]]:
        fired: list[tuple[float, float]] = []
        loop = running()

        def note(delay: float) -> None:
            fired.append((delay, loop.time()))

        for delay in (0.3, 0.1, 1e-9, 0.2, 0.1000000004, 7e-4):
            loop.call_later(delay, note, delay)
        await asyncio.sleep(1)
        assert loop.time_ns() == 1_000_000_000
        return fired

    fired = run_virtually(main())
    assert [delay for delay, _ in fired] == [1e-9, 7e-4, 0.1, 0.1000000004, 0.2, 0.3]
    assert all(abs(at - delay) < 1e-9 for delay, at in fired)


def test_time_does_not_pass_while_callbacks_run() -> None:
    async def main() -> None:
        loop = running()
        asyncio.get_running_loop().call_later(1e-6, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
            assert loop.time() == 0.0
        assert loop.jumps == 0
        await asyncio.sleep(1e-6)
        assert loop.jumps >= 1

    run_virtually(main())


def test_timers_far_in_the_future_fire() -> None:
    """Where adjacent floating point numbers differ by more than a nanosecond."""

    async def main() -> None:
        loop = running()
        await asyncio.sleep(3e8)
        for _ in range(100):
            before = loop.time()
            await asyncio.sleep(0.001)
            assert loop.time() - before == pytest.approx(0.001, abs=1e-6)

    run_virtually(main())


def test_timeouts_and_cancelled_timers() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        running().call_later(100, lambda: None).cancel()
        return running().time()

    assert run_virtually(main()) == 5.0


def test_tasks_are_numbered_and_hash_by_it() -> None:
    async def main() -> list[str]:
        async def nothing() -> None:
            await asyncio.sleep(0)

        tasks = [asyncio.create_task(nothing()) for _ in range(20)]
        named = asyncio.create_task(nothing(), name="mine")
        assert [task.get_name() for task in set(tasks)] == [task.get_name() for task in tasks]
        assert named.get_name() == "mine"
        assert running().unfinished()[1:] == [*tasks, named]
        await asyncio.gather(*tasks, named)
        return [task.get_name() for task in tasks]

    assert run_virtually(main()) == run_virtually(main()) == [f"Task-{number}" for number in range(2, 22)]


# --- External work -------------------------------------------------------------------------------------------------


def test_a_thread_stops_the_clock(tmp_path: Path) -> None:
    """While a job runs, a timer that is due in a microsecond waits for it."""
    file = tmp_path / "file"

    def slow() -> str:
        file.write_text("written")
        time.sleep(0.05)
        return file.read_text()

    async def main() -> None:
        loop = running()
        fired: list[float] = []
        loop.call_later(1e-6, lambda: fired.append(loop.time()))
        assert await asyncio.to_thread(slow) == "written"
        assert loop.time() == 0.0
        assert not fired
        await asyncio.sleep(1)
        assert fired == [1e-6]

    run_virtually(main())


def test_jobs_arrive_in_the_order_of_their_submission() -> None:
    """Whatever time each takes."""

    async def main() -> list[int]:
        order: list[int] = []

        async def job(number: int) -> None:
            await asyncio.to_thread(time.sleep, 0.05 if number % 2 else 0.0)
            order.append(number)

        await asyncio.gather(*[job(number) for number in range(4)])
        assert running().time() == 0.0
        return order

    assert run_virtually(main()) == [0, 1, 2, 3]


def test_a_job_that_needs_a_later_one_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "OVERTAKE_AFTER", 0.05)

    async def main() -> None:
        released = threading.Event()

        async def second() -> None:
            await asyncio.to_thread(lambda: None)
            released.set()

        first = asyncio.create_task(asyncio.to_thread(released.wait, 50))
        await asyncio.sleep(0)
        await second()
        assert await first

    run_virtually(main())


def test_a_failing_and_a_cancelled_job() -> None:
    async def main() -> None:
        loop = running()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        release = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            job = loop.run_in_executor(pool, release.wait)
            behind = loop.run_in_executor(pool, release.set)
            job.cancel()
            behind.cancel()
            await asyncio.sleep(5)  # it was cancelled
            assert loop.time() == 5.0
            release.set()

    run_virtually(main())


def test_calls_from_other_threads() -> None:
    """A coroutine that a thread passes to the loop, inside `hold`."""

    async def double(number: int) -> int:
        await asyncio.sleep(10)
        return number * 2

    async def main() -> None:
        loop = running()
        results: list[int] = []

        def work() -> None:
            time.sleep(0.01)
            results.append(asyncio.run_coroutine_threadsafe(double(21), loop).result(50))

        await asyncio.to_thread(lambda: time.sleep(0.0))
        thread = threading.Thread(target=work)
        done = asyncio.Event()
        with loop.hold():
            thread.start()
            loop.call_later(1, lambda: None)
            while loop.unfinished() == [asyncio.current_task()]:
                await loop.run_in_executor(None, time.sleep, 0.001)
            assert loop.time() == 0.0, "the clock stood while the thread had not called"
        loop.call_later(11, done.set)
        await done.wait()
        await asyncio.to_thread(thread.join)
        assert results == [42]

    run_virtually(main())


def test_jobs_that_wait_for_the_loop_do_not_stop_the_clock() -> None:
    async def main() -> None:
        loop = running()

        async def slow(number: int) -> int:
            await asyncio.sleep(3600)
            return number

        def job(number: int) -> int:
            time.sleep(0.002)
            return asyncio.run_coroutine_threadsafe(slow(number), loop).result(50)

        assert await asyncio.to_thread(job, 1) == 1
        assert loop.time() == 3600.0
        assert await asyncio.gather(*[asyncio.to_thread(job, number) for number in range(3)]) == [0, 1, 2]
        assert loop.time() == 7200.0

    run_virtually(main())


def test_threads_of_anyio() -> None:
    """Frameworks run functions that are not coroutines in them."""
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    from_thread, to_thread = import_module("anyio.from_thread"), import_module("anyio.to_thread")

    async def main() -> None:
        loop = running()

        def work() -> str:
            time.sleep(0.03)
            return "done"

        for _ in range(3):
            with anyio.fail_after(0.001):
                assert await to_thread.run_sync(work) == "done"
        assert loop.time() == 0.0
        await asyncio.sleep(3600)  # idle threads do not stop the clock

        def ask() -> float:
            time.sleep(0.002)
            from_thread.run(asyncio.sleep, 100)
            return loop.time()

        assert await to_thread.run_sync(ask) == 3700.0

    run_virtually(main())


def test_a_thread_is_waited_for_without_timers() -> None:
    async def main() -> None:
        loop, done = running(), asyncio.Event()

        def work() -> None:
            time.sleep(0.05)
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        thread.join()

    run_virtually(main())


@posix
def test_subprocesses_and_pipes() -> None:
    async def main() -> None:
        loop = running()
        loop.call_later(1e-6, lambda: None)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(.05); print(input()[::-1])", stdin=-1, stdout=-1
        )
        output, _ = await process.communicate(b"desserts\n")
        assert output.split() == [b"stressed"]
        assert loop.time() < 1
        shell = await asyncio.create_subprocess_shell("exit 7")
        assert await shell.wait() == 7

    run_virtually(main())


@posix
def test_descriptors_are_polled_before_each_jump_and_do_not_stop_the_clock() -> None:
    async def main() -> None:
        loop = running()
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            receiving = asyncio.create_task(loop.sock_recv(reading, 100))
            await asyncio.sleep(3600)
            assert not receiving.done()
            assert loop.time() == 3600.0
            writing.send(b"now")
            await asyncio.sleep(1e-9)
            assert receiving.done()
            assert receiving.result() == b"now"

    run_virtually(main())


def test_a_real_wait_is_bounded() -> None:
    async def main() -> None:
        release = threading.Event()
        try:
            await asyncio.to_thread(release.wait)
        finally:
            release.set()

    with pytest.raises(TimeLimitError, match=r"0\.1 real seconds.*1 jobs of executors") as caught:
        run_virtually(main(), real_limit=0.1)
    assert "test_loop.py" in caught.value.waiting[0]


# --- Waits without an end -------------------------------------------------------------------------------------------


def test_a_deadlock_lists_the_waiting_tasks() -> None:
    async def main() -> None:
        lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int]()

        async def holder() -> None:
            async with lock:
                await event.wait()

        async def wants_lock() -> None:
            await lock.acquire()

        async def wants_item() -> None:
            await queue.get()

        async def wants_task(task: asyncio.Task[None]) -> None:
            await task

        async with asyncio.TaskGroup() as group:
            holding = group.create_task(holder(), name="holder")
            group.create_task(wants_lock(), name="wants lock")
            group.create_task(wants_item(), name="wants item")
            group.create_task(wants_task(holding), name="wants task")
            group.create_task(asyncio.wait([running().create_future()]), name="wants future")
            await asyncio.sleep(2)

    with pytest.raises(DeadlockError, match=r"no task can run again at 2\.0+ s") as caught:
        run_virtually(main())
    error = caught.value
    assert isinstance(error, (TcpipError, RuntimeError))
    assert isinstance(error, SimulationError)
    texts = {text.strip().partition(",")[0]: text for text in error.waiting}
    assert list(texts) == ["Task-1", "holder", "wants lock", "wants item", "wants task", "wants future"]
    assert "wait() of <asyncio.locks.Event" in texts["holder"]
    assert "acquire() of <asyncio.locks.Lock" in texts["wants lock"]
    assert "get() of <Queue" in texts["wants item"]
    assert "the task holder" in texts["wants task"]
    lines = Path(__file__).read_text().splitlines()
    for name, source in (("holder", "await event.wait()"), ("wants lock", "await lock.acquire()")):
        number = int(texts[name].partition("test_loop.py:")[2].partition(" ")[0])
        assert source in lines[number - 1]
    assert all(text in str(error) for text in error.waiting)


def test_the_limit_of_virtual_time() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(TimeLimitError, match="limit of 100 s of virtual time"):
        run_virtually(main(), limit=100)


def test_endless_callbacks_without_time_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "MAX_ITERATIONS", 1000)

    async def main() -> None:
        await asyncio.sleep(1)
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(TimeLimitError, match=r"1,000 times at 1\.0+ s without any time passing"):
        run_virtually(main())


@posix
@pytest.mark.parametrize("idle", [False, True], ids=["busy", "waiting for a thread"])
def test_an_interrupt_gets_through(idle: bool) -> None:
    """As with Ctrl-C, in a run without an end."""
    release = threading.Event()

    async def main() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        if idle:
            await asyncio.to_thread(release.wait, 50)
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    threading.Timer(0.2, release.set).start()  # the interrupted job has to end, too
    with pytest.raises(KeyboardInterrupt):
        run_virtually(main())


@posix
def test_signal_handlers_of_the_loop() -> None:
    async def main() -> None:
        got = asyncio.Event()
        running().add_signal_handler(signal.SIGUSR1, got.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not got.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        running().remove_signal_handler(signal.SIGUSR1)

    run_virtually(main())


def test_real_files_and_timers(tmp_path: Path) -> None:
    async def main() -> bytes:
        with (tmp_path / "file").open("w+b") as file:  # a real file, without a thread
            file.write(b"bytes")
            file.seek(0)
            await asyncio.sleep(1)
            return file.read()

    assert run_virtually(main()) == b"bytes"
