"""Flow control of transports: paused reading, water marks, `drain`; memory stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from tcpip_wasm.engine import abi, split_records
from tcpip_wasm.sockets.tcp.transport import CREDIT
from tests.kit.core_network import payload
from tests.kit.stacks import (
    Wire,
    iterations,
    pair,
    recorders,
    run,
    until,
)


def test_paused_reading_holds_the_writer_back() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, server_keeps=True)
            server.transport.pause_reading()
            assert not server.transport.is_reading()
            client.transport.write(payload(8_000_000))
            await iterations(500)
            assert server.data == b""
            held = client.transport.get_write_buffer_size()
            assert held >= 8_000_000 - 3 * abi.TCP_FIRST_WINDOW  # the send buffer has as much, and a write more
            assert sum(map(len, server.transport._arrived)) <= abi.TCP_FIRST_WINDOW
            assert two.a.stats().core.heap_used < 8 << 20
            assert two.b.stats().core.heap_used < 8 << 20
            assert client.calls[-1] == "pause"
            server.transport.resume_reading()
            assert server.transport.is_reading()
            await until(lambda: len(server.data) == 8_000_000)
            assert server.data == payload(8_000_000)
            await until(lambda: client.calls[-1] == "resume")
            assert client.transport.get_write_buffer_size() == 0

    run(main())


def test_pausing_and_resuming_repeatedly() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, server_keeps=True)
            client.transport.write(payload(2_000_000))
            client.transport.write_eof()
            while not server.eof.done():
                before = len(server.data)
                server.transport.pause_reading()
                await iterations(2)
                assert len(server.data) == before
                server.transport.resume_reading()
                await iterations(1)
            assert server.data == payload(2_000_000)
            assert server.calls == ["made", "eof"]
            server.transport.close()
            await server.lost
            client.transport.abort()

    run(main())


def test_eof_waits_until_reading_resumes() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, server_keeps=True)
            server.transport.pause_reading()
            client.transport.write(b"data, then the end")
            client.transport.write_eof()
            await iterations(50)
            assert server.calls == ["made"]
            server.transport.resume_reading()
            server.transport.pause_reading()
            await iterations(5)
            assert server.data == b""
            server.transport.resume_reading()
            await server.eof
            assert server.data == b"data, then the end"
            client.transport.abort()
            await server.lost

    run(main())


@pytest.mark.parametrize("data", [b"", b"data"])
def test_eof_is_delivered_once(data: bytes) -> None:
    """Even if reading is paused and resumed around it."""

    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, client_keeps=True, server_keeps=True)
            server.transport.pause_reading()
            client.transport.write(data)
            client.transport.write_eof()
            await iterations(50)
            for _ in range(3):
                server.transport.resume_reading()
                server.transport.pause_reading()
            server.transport.resume_reading()
            await server.eof
            await iterations(5)
            server.transport.pause_reading()
            server.transport.resume_reading()
            await iterations(5)
            assert server.calls == ["made", "eof"]
            assert server.data == data
            server.transport.close()
            client.transport.close()
            await server.lost
            await client.lost

    run(main())


def test_close_while_paused() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            server.transport.pause_reading()
            client.transport.write(b"unread")
            await iterations(20)
            server.transport.close()
            assert await server.lost is None
            assert server.data == b""
            await client.lost

    run(main())


def test_reading_while_a_window_update_is_sent() -> None:
    """The update is sent within `credit`, by a port that makes the test read the rest: each byte is credited once."""

    async def main() -> None:
        async with pair(cable=False) as two:
            ports = [Reading(far) for far in two.interfaces[::-1]]
            for near, port in zip(two.interfaces, ports, strict=True):
                near.attach(port)
            client, server = await recorders(two)
            server.transport.auto_credit = False
            data = payload(3 * abi.TCP_FIRST_WINDOW)
            client.transport.write(data)
            read = 0
            while read < len(data):
                await until(lambda read=read: len(server.data) > read + CREDIT)  # type: ignore[misc]
                left = len(server.data) - read - CREDIT
                read = len(server.data)
                ports[1].callback = partial(server.transport.credit, left)
                server.transport.credit(CREDIT)
                await until(lambda: ports[1].callback is None)
                if len(data) - read <= CREDIT:
                    await until(lambda: len(server.data) == len(data))
                    break
            assert server.data == data
            ports[0].callback = lambda: client.transport.write(b"and its end")
            client.transport.write(b"one line, ")
            await until(lambda: len(server.data) == len(data) + 21)
            assert server.data[-21:] == b"one line, and its end"
            client.transport.abort()
            await iterations(10)

    run(main())


class Reading:
    """A port that passes frames to another interface, and calls a function once."""

    def __init__(self, far: Wire) -> None:
        self.callback: Callable[[], None] | None = None
        self._far = far

    def transmit(self, records: memoryview) -> int:
        for frame in split_records(records):
            assert self._far.inject(bytes(frame))
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()
        return len(records)

    def detached(self, error: Exception | None) -> None:
        """See `Port`."""


def test_water_marks() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            transport = client.transport
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits(high=0)
            assert transport.get_write_buffer_limits() == (0, 0)
            with pytest.raises(ValueError, match="high"):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(ValueError, match="low"):
                transport.set_write_buffer_limits(high=1, low=-1)
            transport.set_write_buffer_limits(high=100_000, low=50_000)
            server.transport.pause_reading()
            while "pause" not in client.calls:
                before = transport.get_write_buffer_size()
                transport.write(bytes(10_000))
                await iterations(3)
            assert before <= 100_000 < transport.get_write_buffer_size() <= before + 10_000
            server.transport.resume_reading()
            await until(lambda: client.calls[-1] == "resume")
            assert transport.get_write_buffer_size() <= 50_000
            assert client.calls == ["made", "pause", "resume"]

    run(main())


def test_drain_waits() -> None:
    async def main() -> None:
        async with pair() as two:
            readers: list[asyncio.StreamReader] = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                readers.append(reader)
                await finished.wait()
                writer.close()
                await writer.wait_closed()

            finished = asyncio.Event()
            server = await two.b.start_server(serve, two.host, 80)
            reader, writer = await two.a.open_connection(two.host, 80)
            writer.write(payload(4_000_000))
            draining = asyncio.create_task(writer.drain())
            await iterations(300)
            assert not draining.done()
            received = await readers[0].readexactly(4_000_000)
            assert received == payload(4_000_000)
            await draining
            finished.set()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    run(main())
