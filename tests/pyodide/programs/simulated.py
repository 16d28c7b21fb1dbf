"""Runs a scenario in virtual time, at the top level and in a task; prints each trace's digest, and a hash of the data.

CPython prints the same, outside of a task: the test compares. The scenario has a link with loss, jitter and a limited
bandwidth, names, a server of asyncio, and a crash.
"""

import asyncio
import hashlib
import random
import sys
import time

from tcpip_wasm.simulation import Network, TimeLimitError, run

DATA = random.Random(1).randbytes(300_000)
BEGIN = time.time()


async def serve() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(hashlib.sha256(data).digest() + data)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "0.0.0.0", 8000) as server:
        await server.serve_forever()


async def ask(name: str) -> bytes:
    reader, writer = await asyncio.open_connection(name, 8000)
    writer.write(DATA)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def scenario(network: Network) -> str:
    alice, bob = network.host("alice", "10.0.0.1/24"), network.host("bob", "10.0.0.2/24")
    network.link(alice, bob, delay=0.01, jitter=0.002, loss=0.02, bandwidth=10_000_000)
    bob.start(serve)
    await asyncio.sleep(1)
    answer = await alice.run(ask("bob"))
    assert answer == hashlib.sha256(DATA).digest() + DATA
    failing = alice.run(ask("10.0.0.2"))
    await asyncio.sleep(0.05)
    bob.crash()
    bob.restart()
    await asyncio.sleep(1)
    assert isinstance((await asyncio.gather(failing, return_exceptions=True))[0], ConnectionError)
    assert 946_684_800 < time.time() < 946_684_900
    return hashlib.sha256(answer).hexdigest()


def report(seed: int) -> None:
    done = run(scenario, seed=seed)
    print(seed, done.digest, f"{done.duration:.9f}", done.value, done.leaked)


async def in_a_task() -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    ticks = asyncio.create_task(asyncio.sleep(0.01, "the outer loop goes on"))
    report(2)
    assert (asyncio.current_task(), asyncio.get_running_loop()) == (task, loop)
    print(await ticks)


report(1)
try:
    run(scenario, seed=1, limit=0.5)
except TimeLimitError as error:
    print(type(error).__name__)
assert abs(time.time() - BEGIN) < 3600
if sys.platform == "emscripten":
    asyncio.run(in_a_task())
else:
    report(2)
    print("the outer loop goes on")
