"""Data, then the tasks that it wakes, then the end of the data: in this order, as over the kernel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tcpip_wasm import ConnectionReset
from tests.kit.core_network import payload
from tests.kit.stacks import Recorder, connect_batched, iterations, pair, run, until


class Tasks(Recorder):
    """Records also when the tasks that its callbacks create start."""

    pauses = False

    def __init__(self, *, keep_open: bool = False) -> None:
        super().__init__(keep_open=keep_open)
        self.tasks: list[asyncio.Task[None]] = []

    def _begin(self, name: str) -> None:
        async def step() -> None:
            self.calls.append(name)
            if self.pauses:
                self.transport.pause_reading()

        self.tasks.append(asyncio.get_running_loop().create_task(step()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._begin("task of connection_made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.calls.append("data")
        self._begin("task of data")


class Pausing(Tasks):
    pauses = True


class Buffered(asyncio.BufferedProtocol):
    """`Tasks` as a buffered protocol."""

    def __init__(self) -> None:
        self.inner = Tasks()
        self.buffer = bytearray(1000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inner.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.inner.data_received(bytes(self.buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self.inner.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.inner.connection_lost(exc)


async def served(two: Any, factory: Any) -> tuple[Recorder, Any]:
    """Return the protocols of client and server, over a link that delivers frames in batches."""
    connect_batched(two)
    made: list[Any] = []

    def accept() -> Any:
        made.append(factory())
        return made[0]

    server = await two.b.create_server(accept, two.host, 80)
    _, client = await two.a.create_connection(lambda: Recorder(keep_open=True), two.host, 80)
    await until(lambda: bool(made))
    server.close()
    return client, made[0]


@pytest.mark.parametrize("kind", [Tasks, Buffered])
def test_data_and_fin_together(kind: Any) -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, kind)
            recorder = getattr(server, "inner", server)
            await iterations(30)
            client.transport.write(b"request")
            client.transport.write_eof()
            await recorder.lost
            assert recorder.calls[-4:] == ["data", "task of data", "eof", "lost"]
            assert recorder.data == b"request"
            client.transport.close()
            await client.lost

    run(main())


def test_many_chunks_and_fin_together() -> None:
    content = payload(9000)

    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, lambda: Buffered())
            await iterations(30)
            client.transport.write(content)
            client.transport.write_eof()
            await server.inner.lost
            calls = server.inner.calls
            assert server.inner.data == content
            assert calls.count("data") == calls.count("task of data") >= 9
            assert calls.index("eof") > max(at for at, call in enumerate(calls) if call == "task of data")
            client.transport.close()
            await client.lost

    run(main())


def test_an_open_and_a_fin_together() -> None:
    """A connection that sends FIN at once: the tasks that `connection_made` has created start first."""

    async def main() -> None:
        async with pair(cable=False) as two:
            connect_batched(two)
            made: list[Tasks] = []
            server = await two.b.create_server(lambda: made.append(Tasks()) or made[0], two.host, 80)  # type: ignore[func-returns-value]
            _, client = await two.a.create_connection(lambda: Recorder(keep_open=True), two.host, 80)
            client.transport.write_eof()
            await until(lambda: bool(made))
            await made[0].lost
            assert made[0].calls == ["made", "task of connection_made", "eof", "lost"]
            client.transport.close()
            await client.lost
            server.close()

    run(main())


def test_a_task_that_pauses_reading_holds_the_end_back() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, lambda: Pausing(keep_open=True))
            await iterations(30)
            server.transport.resume_reading()
            client.transport.write(b"request")
            client.transport.write_eof()
            await until(lambda: "task of data" in server.calls)
            await iterations(100)
            assert "eof" not in server.calls
            server.transport.resume_reading()
            await server.eof
            server.transport.write(b"answer")
            server.transport.close()
            await client.eof
            assert client.data == b"answer"
            client.transport.close()

    run(main())


def test_data_and_fin_during_a_pause_are_delivered_in_order() -> None:
    """Data and FIN that arrived while reading was paused are delivered in this order, too."""

    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, Tasks)
            await iterations(30)
            server.transport.pause_reading()
            client.transport.write(b"request")
            client.transport.write_eof()
            await iterations(100)
            assert "data" not in server.calls
            server.transport.resume_reading()
            await server.lost
            assert server.calls[-4:] == ["data", "task of data", "eof", "lost"]
            client.transport.close()
            await client.lost

    run(main())


def test_both_ends_finish_while_reading_is_paused() -> None:
    """TCP has closed the connection, but its end is delivered only after reading has resumed."""

    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, lambda: Tasks(keep_open=True))
            await iterations(30)
            server.transport.pause_reading()
            server.transport.write_eof()
            await client.eof
            client.transport.close()
            await iterations(200)
            assert server.calls[-1] == "task of connection_made"
            server.transport.resume_reading()
            await server.eof
            server.transport.close()
            assert await server.lost is None

    run(main())


def test_data_and_reset_together() -> None:
    """The task that the data has woken starts before `connection_lost`, and no EOF is delivered between."""

    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, Tasks)
            await iterations(30)
            client.transport.write(b"request")
            client.transport.abort()
            assert isinstance(await server.lost, ConnectionReset)
            assert server.calls[-3:] == ["data", "task of data", "lost"]
            await client.lost

    run(main())


def test_data_fin_and_reset_together() -> None:
    async def main() -> None:
        async with pair(cable=False) as two:
            client, server = await served(two, lambda: Tasks(keep_open=True))
            await iterations(30)
            client.transport.write(b"request")
            client.transport.write_eof()
            await iterations(1)
            client.transport.abort()
            assert isinstance(await server.lost, ConnectionReset)
            assert server.calls[-3:] == ["data", "task of data", "lost"]
            await client.lost

    run(main())


def test_readers_get_both_at_once() -> None:
    """A reader is a queue: an end after its data loses none of it."""

    async def main() -> None:
        async with pair(cable=False) as two:
            connect_batched(two)
            seen: asyncio.Future[tuple[bytes, bool]] = asyncio.get_running_loop().create_future()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                data = await reader.read(100)
                seen.set_result((data, reader.at_eof()))
                writer.close()

            server = await two.b.start_server(serve, two.host, 80)
            _, writer = await two.a.open_connection(two.host, 80)
            writer.write(b"request")
            writer.write_eof()
            assert await seen == (b"request", True)
            writer.close()
            server.close()
            await server.wait_closed()

    run(main())
