"""TCP as asyncio's transports: order of callbacks, half-close, closing, `get_extra_info`."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from tcpip_wasm import ConnectionReset, TcpTransport
from tests.kit.core_network import payload
from tests.kit.stacks import (
    WAYS,
    Recorder,
    iterations,
    pair,
    recorders,
    run,
    until,
)

ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_bytes_both_ways(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await recorders(two, client_keeps=True, server_keeps=True)
            client.transport.write(payload(400_000, 1))
            server.transport.write(payload(300_000, 2))
            await until(lambda: len(server.data) == 400_000 and len(client.data) == 300_000)
            assert server.data == payload(400_000, 1)
            assert client.data == payload(300_000, 2)
            client.transport.close()
            assert await client.lost is None
            await server.eof
            server.transport.close()
            assert await server.lost is None
            assert client.calls[0] == server.calls[0] == "made"
            assert client.calls[-1] == server.calls[-1] == "lost"
            assert [call for call in client.calls if call in ("made", "eof", "lost")] == ["made", "lost"]
            assert [call for call in server.calls if call in ("made", "eof", "lost")] == ["made", "eof", "lost"]

    run(main())


@ways
def test_open_connection_and_start_server(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await two.b.start_server(answer, two.host, 7)
            async with server:
                reader, writer = await two.a.open_connection(two.host, 7)
                for word in (b"one\n", b"two\n", b"three\n"):
                    writer.write(word)
                    await writer.drain()
                    assert await reader.readline() == word.upper()
                writer.write_eof()
                assert await reader.read() == b""
                assert reader.at_eof()
                writer.close()
                await writer.wait_closed()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("way", ["tap4", "loopback6"])
def test_five_megabytes_through_asyncio_streams(way: str) -> None:
    data = payload(5_000_000)

    async def main() -> None:
        async with pair(way) as two:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                for at in range(0, len(data), 65536):
                    writer.write(data[at : at + 65536])
                    await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await two.b.start_server(serve, two.host, 80)
            reader, writer = await two.a.open_connection(two.host, 80)
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("first", ["client", "server"])
@ways
def test_half_close(way: str, first: str) -> None:
    """One side sends FIN, and the other goes on sending."""

    async def main() -> None:
        async with pair(way) as two:
            ends = await recorders(two, client_keeps=True, server_keeps=True)
            early, late = ends if first == "client" else ends[::-1]
            assert early.transport.can_write_eof()
            early.transport.write(b"last words")
            early.transport.write_eof()
            await late.eof
            assert late.data == b"last words"
            assert not late.transport.is_closing()
            late.transport.write(payload(200_000))
            await until(lambda: len(early.data) == 200_000)
            assert early.data == payload(200_000)
            assert not early.eof.done()
            late.transport.write_eof()
            await early.eof
            for end in ends:
                end.transport.close()
                assert await end.lost is None
            assert ends[0].calls.count("eof") == ends[1].calls.count("eof") == 1

    run(main())


def test_write_after_write_eof() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, client_keeps=True, server_keeps=True)
            client.transport.write_eof()
            client.transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                client.transport.write(b"more")
            await server.eof
            client.transport.close()
            server.transport.close()
            await client.lost
            await server.lost

    run(main())


def test_eof_closes_unless_it_is_kept() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, client_keeps=True, server_keeps=False)
            server.transport.write(b"answer")
            client.transport.write_eof()
            assert await server.lost is None
            await client.eof
            assert client.data == b"answer"
            client.transport.close()
            assert await client.lost is None

    run(main())


def test_close_delivers_what_was_written() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two, server_keeps=True)
            client.transport.write(payload(3_000_000))
            client.transport.close()
            client.transport.close()
            assert client.transport.is_closing()
            await server.eof
            assert server.data == payload(3_000_000)
            assert await client.lost is None
            server.transport.close()
            assert await server.lost is None

    run(main())


@pytest.mark.parametrize("aborts", ["client", "server"])
@ways
def test_abort(way: str, aborts: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            ends = await recorders(two)
            one, other = ends if aborts == "client" else ends[::-1]
            one.transport.write(b"never mind")
            one.transport.abort()
            one.transport.abort()
            assert await one.lost is None
            error = await other.lost
            assert isinstance(error, ConnectionReset)
            assert isinstance(error, ConnectionResetError)
            assert other.transport.is_closing()
            assert "eof" not in other.calls

    run(main())


def test_reset_in_the_middle_of_a_transfer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            client.transport.write(payload(5_000_000))
            await until(lambda: len(server.data) > 100_000)
            server.transport.abort()
            assert isinstance(await client.lost, ConnectionReset)
            assert client.transport.get_write_buffer_size() == 0
            assert server.data == payload(5_000_000)[: len(server.data)]
            assert await server.lost is None

    run(main())


def test_close_with_unread_data_resets_the_writer() -> None:
    """RFC 1122, section 4.2.2.13: the writer stops after the reset that reports a closed reader."""

    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            server.transport.pause_reading()
            client.transport.write(payload(4_000_000))
            await iterations(100)
            server.transport.close()
            assert isinstance(await client.lost, ConnectionReset)

    run(main())


def test_writes_after_the_end() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            client.transport.close()
            await client.lost
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                for _ in range(4):
                    client.transport.write(b"x")
                assert not seen
                client.transport.write(b"x")
            assert [warning.category for warning in seen] == [ResourceWarning]
            await server.lost
            assert server.data == b""

    run(main())


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
def test_write_of_a_wrong_type(data: Any) -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            with pytest.raises(TypeError, match=type(data).__name__):
                client.transport.write(data)
            client.transport.write(b"right")
            await until(lambda: server.data == b"right")

    run(main())


def test_every_kind_of_buffer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            changing = bytearray(b"bytearray ")
            client.transport.write(changing)
            changing[:] = b"overwritten"[:10]
            client.transport.write(b"")
            client.transport.write(memoryview(b"-a-view-")[::2])
            client.transport.write(memoryview(bytearray(8)).cast("I"))
            client.transport.writelines([b" lines", bytearray(b" of"), memoryview(b" three")])
            expected = b"bytearray --iw" + bytes(8) + b" lines of three"
            await until(lambda: len(server.data) == len(expected))
            assert server.data == expected

    run(main())


def test_large_changing_buffer() -> None:
    """Data that the stack does not accept at once is copied before `write` returns."""

    async def main() -> None:
        async with pair() as two:
            client, server = await recorders(two)
            data = bytearray(payload(3_000_000))
            client.transport.write(data)
            data[:] = bytes(len(data))
            await until(lambda: len(server.data) == 3_000_000)
            assert server.data == payload(3_000_000)

    run(main())


@ways
def test_extra_info(way: str) -> None:
    async def main() -> None:
        async with pair(way) as two:
            client, server = await recorders(two, port=8080)
            sock, peer = (client.transport.get_extra_info(name) for name in ("sockname", "peername"))
            assert server.transport.get_extra_info("sockname") == peer
            assert server.transport.get_extra_info("peername") == sock
            assert peer[:2] == (two.host, 8080)
            assert sock[0] == two.own
            assert 49152 <= sock[1] <= 65535
            assert len(sock) == (2 if way.endswith("4") else 4)
            assert client.transport.get_extra_info("socket").getpeername() == peer
            assert client.transport.get_extra_info("nothing", "default") == "default"
            assert isinstance(client.transport, TcpTransport)
            assert "open" in repr(client.transport)
            client.transport.close()
            await client.lost
            assert client.transport.get_extra_info("peername") == peer
            assert "closed" in repr(client.transport)
            await server.lost

    run(main())


def test_local_address_and_port_of_choice() -> None:
    async def main() -> None:
        async with pair() as two:
            server = await two.b.create_server(Recorder, two.host, 80)
            _, client = await two.a.create_connection(Recorder, two.host, 80, local_addr=("10.0.0.1", 5555))
            assert client.transport.get_extra_info("sockname") == ("10.0.0.1", 5555)
            with pytest.raises(OSError, match="in use"):
                await two.a.create_connection(Recorder, two.host, 80, local_addr=("10.0.0.1", 5555))
            _, other = await two.a.create_connection(Recorder, two.host, 80, local_addr=("10.0.0.1", 0))
            assert other.transport.get_extra_info("sockname")[1] >= 49152
            client.transport.close()
            other.transport.close()
            await client.lost
            await other.lost
            server.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("way", ["tap4", "loopback4"])
def test_one_byte_at_a_time_is_prompt(way: str) -> None:
    """No delayed acknowledgement and no timer in a request-response exchange: one poll for each message."""

    async def main() -> None:
        async with pair(way) as two:
            client, server = await recorders(two)
            before = two.a.stats().turns
            for number in range(1, 201):
                client.transport.write(b"q")
                await until(lambda number=number: len(server.data) == number, limit=50)  # type: ignore[misc]
                server.transport.write(b"a")
                await until(lambda number=number: len(client.data) == number, limit=50)  # type: ignore[misc]
            assert two.a.stats().turns - before <= 200 * 6

    run(main())


def test_at_once_delivers_before_it_returns() -> None:
    async def main() -> None:
        async with pair("loopback4") as two:
            server = Recorder()
            await two.b.create_server(lambda: server, two.host, 80)
            transport, client = await two.a.create_connection(Recorder, two.host, 80)
            await server.made
            await iterations(5)
            driver = two.a._driver
            await until(lambda: not driver._scheduler.scheduled)
            driver.at_once(lambda: transport.write(b"now"))
            assert server.data == b"now"
            await until(lambda: not driver._scheduler.scheduled)
            driver.at_once(lambda: driver.at_once(lambda: transport.write(b", nested")))
            assert server.data == b"now, nested"
            await until(lambda: not driver._scheduler.scheduled)

            def fails() -> None:
                transport.write(b", and in spite of it")
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                driver.at_once(fails)
            assert server.data == b"now, nested, and in spite of it"
            server.transport.write(b"later")
            assert not client.data
            await until(lambda: client.data == b"later")
            transport.abort()
            await client.lost

    run(main())
