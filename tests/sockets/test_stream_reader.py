"""The reader that keeps chunks: it reads as asyncio's does, and returns chunks as they arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm.sockets.tcp.stream_reader import PieceReader, keep_pieces
from tests.kit.core_network import payload
from tests.kit.stacks import pair, run

Step = tuple[str, Any]

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.one_of(st.binary(max_size=30), st.integers(4000, 9000).map(payload))),
        st.tuples(st.just("read"), st.integers(0, 9000)),
        st.tuples(st.just("readexactly"), st.one_of(st.integers(0, 30), st.integers(0, 9000))),
        st.tuples(st.just("readline"), st.none()),
        st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"\r\n", b"\0\0"])),
        st.tuples(st.just("at_eof"), st.none()),
    ),
    max_size=40,
)


class _Transport(asyncio.ReadTransport):
    """Records whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


async def _play(reader: asyncio.StreamReader, steps: list[Step], *, short_reads: bool) -> list[Any]:
    """Feed and read, and cancel a read that would wait. Return the result of each step."""
    transport = _Transport()
    reader.set_transport(transport)
    given: list[Any] = []

    async def one(name: str, argument: Any) -> Any:
        method = getattr(reader, name)
        try:
            async with asyncio.timeout(0):
                return await (method() if argument is None else method(argument))
        except TimeoutError:
            return "would wait"
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            return (type(error), str(error))

    for name, argument in steps:
        if name == "feed":
            reader.feed_data(argument)
        elif name == "at_eof":
            given.append(reader.at_eof())
        elif name == "read" and not short_reads:
            # Compared by content: a read may return less than is buffered, so it is repeated until the buffer is empty.
            parts, left = [], argument
            while left and (part := await one("read", left)) not in ("would wait", b""):
                parts.append(part)
                left -= len(part)
            given.append(b"".join(parts))
        else:
            given.append(await one(name, argument))
    reader.feed_eof()
    given.append(await reader.read())
    given.append(reader.at_eof())
    assert not transport.paused, "all was read, and the peer is still held back"
    return given


def _adopted(limit: int, loop: asyncio.AbstractEventLoop) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit, loop)
    keep_pieces(asyncio.StreamReaderProtocol(reader, loop=loop))
    assert isinstance(reader, PieceReader)
    return reader


@pytest.mark.parametrize("make", [PieceReader, _adopted])
@settings(max_examples=200)
@given(_STEPS)
def test_reads_the_same_as_asyncio(make: Callable[..., asyncio.StreamReader], steps: list[Step]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours = await _play(make(3000, loop), steps, short_reads=False)
        assert ours == await _play(asyncio.StreamReader(3000), steps, short_reads=False)

    asyncio.run(main())


async def _woken(reader: asyncio.StreamReader, method: str, meanwhile: Callable[[], object]) -> bytes:
    """Wait for four bytes, and do something between their arrival in two chunks and the reader's next step."""
    reading = asyncio.create_task(getattr(reader, method)(4))
    await asyncio.sleep(0)
    reader.feed_data(b"fo")
    reader.feed_data(b"ur")
    meanwhile()
    data = await reading
    assert isinstance(data, bytes)
    return data


@pytest.mark.parametrize("make", [asyncio.StreamReader, PieceReader, _adopted])
@pytest.mark.parametrize("method", ["read", "readexactly"])
def test_changes_before_a_woken_reader_continues(make: Callable[..., asyncio.StreamReader], method: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader = make(1000, loop)
        assert await _woken(reader, method, lambda: repr(reader)) == b"four", "repr looks at the buffer"
        assert await _woken(reader, method, reader.at_eof) == b"four"
        assert await _woken(reader, method, reader.feed_eof) == b"four"
        reader = make(1000, loop)
        assert await _woken(reader, method, lambda: reader.set_exception(OSError("gone"))) == b"four"
        with pytest.raises(OSError, match="gone"):
            await reader.read(4)

    asyncio.run(main())


def test_a_reader_of_another_class_is_not_replaced() -> None:
    class Reader(asyncio.StreamReader):
        pass

    async def main() -> None:
        reader = Reader()
        keep_pieces(asyncio.StreamReaderProtocol(reader))
        keep_pieces(asyncio.Protocol())
        assert type(reader) is Reader
        reader.feed_data(b"as before")
        assert await reader.read(100) == b"as before"

    asyncio.run(main())


def test_a_large_chunk_is_returned_in_parts() -> None:
    async def main() -> None:
        reader = PieceReader(65536, asyncio.get_running_loop())
        data = payload(200_000)
        reader.feed_data(data[:150_000])
        reader.feed_data(data[150_000:])
        assert await reader.readexactly(4) == data[:4]
        assert await reader.read(65536) == data[4:65540]
        assert await reader.readexactly(100_000) == data[65540:165540]
        reader.feed_eof()
        assert await reader.read(65536) == data[165540:]

    asyncio.run(main())


def test_a_chunk_is_returned_as_it_arrived() -> None:
    async def main() -> None:
        reader = PieceReader(65536, asyncio.get_running_loop())
        first, second = payload(65536), payload(5000)
        reader.feed_data(first)
        assert await reader.readexactly(65536) is first
        reader.feed_data(first)
        reader.feed_data(second)
        assert await reader.read(65536) is first
        assert await reader.read(65536) is second

    asyncio.run(main())


def test_small_chunks_are_returned_together() -> None:
    async def main() -> None:
        reader = PieceReader(65536, asyncio.get_running_loop())
        for number in range(100):
            reader.feed_data(b"%02d" % number)
        assert await reader.read(65536) == b"".join(b"%02d" % number for number in range(100))

    asyncio.run(main())


def test_a_chunk_of_a_mutable_buffer_is_copied() -> None:
    async def main() -> None:
        reader = PieceReader(65536, asyncio.get_running_loop())
        buffer = bytearray(b"before")
        reader.feed_data(buffer)
        buffer[:] = b"after!"
        assert await reader.read(100) == b"before"

    asyncio.run(main())


def test_reading_pauses_at_four_limits_and_resumes_at_two() -> None:
    async def main() -> None:
        reader = PieceReader(1000, asyncio.get_running_loop())
        transport = _Transport()
        reader.set_transport(transport)
        for _ in range(4):
            reader.feed_data(bytes(1000))
        assert not transport.paused
        reader.feed_data(b"one byte more"[:1])
        assert transport.paused
        await reader.read(1000)
        await reader.read(1000)
        assert transport.paused
        await reader.read(1000)
        assert not transport.paused

    asyncio.run(main())


def test_a_cancelled_read_takes_nothing_and_a_second_reader_is_refused() -> None:
    async def main() -> None:
        reader = PieceReader(1000, asyncio.get_running_loop())
        waiting = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine"):
            await reader.read(10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        reader.feed_data(b"here")
        assert await reader.read(10) == b"here"
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await reader.read(10)

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 65536, 65537, 1_000_000])
def test_chunks_of_a_connection_fit_a_read(size: int) -> None:
    """No chunk is larger than the usual size of a read, so that none is divided."""

    async def main() -> None:
        sent = payload(size)
        async with pair() as two:
            received = bytearray()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while chunk := await reader.read(2**20):
                    assert len(chunk) <= 65536
                    received.extend(chunk)
                writer.close()

            server = await two.b.start_server(serve, two.host, 80)
            reader, writer = await two.a.open_connection(two.host, 80)
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            server.close()
            assert received == sent

    run(main())
