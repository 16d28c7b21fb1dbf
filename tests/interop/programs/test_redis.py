"""redis-py, on a loop and on blocking sockets, with Debian's Redis in a namespace, over TAP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from tcpip_wasm import NetworkStack
from tests.interop.harness.requirements import require_programs
from tests.interop.programs import databases
from tests.interop.programs.places import HOST, Place
from tests.programs.bodies import block

COMMANDS = 10_000
LARGE = b"".join(map(block, range(10)))


@pytest.fixture(scope="module")
def store(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where Redis runs."""
    require_programs("redis-server")
    folder: Path = tmp_path_factory.mktemp("redis")
    with databases.redis(place.namespace, folder):
        yield place


def test_on_a_loop(store: Place) -> None:
    async def main(stack: NetworkStack) -> None:
        async with redis.asyncio.Redis(host=HOST) as client:
            await client.flushall()
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(COMMANDS // 2):
                    pipeline.set(f"key {number}", f"{number}" * (number % 10))
                    pipeline.incrby("sum", number)
                answers = await pipeline.execute()
            sums = [number * (number + 1) // 2 for number in range(COMMANDS // 2)]
            assert answers == [answer for total in sums for answer in (True, total)]
            values = await client.mget([f"key {number}" for number in range(COMMANDS // 2)])
            assert values == [f"{number}".encode() * (number % 10) for number in range(COMMANDS // 2)]
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.rpush("list", *range(1000))
                pipeline.lrange("list", 0, -1)
                assert await pipeline.execute() == [1000, [b"%d" % number for number in range(1000)]]
            assert stack.stats().core.connections == 1
            await client.set("large", LARGE)
            assert await client.strlen("large") == len(LARGE)
            # Redis knows SHA-1: what it has is what was sent.
            sha1 = await client.eval("return redis.sha1hex(redis.call('get', KEYS[1]))", 1, "large")
            assert sha1 == hashlib.sha1(LARGE).hexdigest().encode()
            assert await client.get("large") == LARGE

    store.run(main)


def test_publish_and_subscribe(store: Place) -> None:
    async def main(stack: NetworkStack) -> None:
        async with redis.asyncio.Redis(host=HOST) as client, client.pubsub() as subscriber:
            await subscriber.subscribe("news")
            await subscriber.psubscribe("sport.*")
            for _ in range(2):
                assert await subscriber.get_message(timeout=100) is not None
            for number in range(1000):
                assert await client.publish("news" if number % 2 else f"sport.{number}", f"{number}") == 1
            heard = []
            async with asyncio.timeout(100):
                async for message in subscriber.listen():
                    heard.append((message["channel"], message["data"]))
                    if len(heard) == 1000:
                        break
            names = [b"news" if number % 2 else b"sport.%d" % number for number in range(1000)]
            assert heard == [(name, b"%d" % number) for number, name in enumerate(names)]
            assert stack.stats().core.connections == 2
            # A wait that is cancelled leaves the connection in order.
            waiting = asyncio.create_task(subscriber.get_message(ignore_subscribe_messages=True, timeout=None))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await subscriber.unsubscribe()
            await subscriber.punsubscribe()

    store.run(main)


def test_on_blocking_sockets(store: Place) -> None:
    with store.blocking(), redis.Redis(host=HOST, socket_timeout=100) as client:
        client.flushall()
        with client.pipeline(transaction=False) as pipeline:
            for number in range(COMMANDS):
                pipeline.incrby("sum", number)
            assert pipeline.execute()[-1] == sum(range(COMMANDS))
        client.set("large", LARGE)
        assert client.get("large") == LARGE
        with client.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.subscribe("news")
            assert subscriber.get_message(timeout=60) is None  # the subscription's own
            assert client.publish("news", "hello") == 1
            message: dict[str, Any] | None = subscriber.get_message(timeout=60)
            assert message is not None
            assert message["data"] == b"hello"
