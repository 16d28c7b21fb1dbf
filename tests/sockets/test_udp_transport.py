"""UDP as in asyncio: the same protocol has the same callbacks with asyncio's own transport and with ours."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tcpip_wasm import StackClosedError, UdpTransport
from tcpip_wasm.sockets.payload import HIGH_WATER
from tcpip_wasm.sockets.udp.udp_handle import QUEUE_BYTES
from tests.kit.core_network import payload
from tests.kit.stacks import iterations, pair, run, run_with_reports, until


class Recorder(asyncio.DatagramProtocol):
    """Records its callbacks."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        assert type(data) is bytes
        self.calls.append((data, addr))

    def error_received(self, error: Exception) -> None:
        self.calls.append(error)

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(error)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    async def next(self, count: int) -> list[Any]:
        """Wait for a number of calls, and return and remove them."""
        await until(lambda: len(self.calls) >= count)
        calls, self.calls = self.calls, []
        return calls


Open = Callable[..., Any]


@asynccontextmanager
async def place(name: str) -> AsyncIterator[tuple[Open, Open, str]]:
    """Yield asyncio's function at both ends, and the address of the second."""
    if name == "kernel":
        loop = asyncio.get_running_loop()
        yield loop.create_datagram_endpoint, loop.create_datagram_endpoint, "127.0.0.1"
    else:
        async with pair(name) as two:
            yield two.a.create_datagram_endpoint, two.b.create_datagram_endpoint, two.host


PLACES = ["kernel", "tap4", "tap6", "tun4", "loopback4"]


@pytest.mark.parametrize("name", PLACES)
def test_same_as_asyncio(name: str) -> None:
    async def main() -> None:
        async with place(name) as (here, there, host):
            far, server = await there(Recorder, local_addr=(host, 0))
            address = far.get_extra_info("sockname")
            assert far.get_extra_info("peername") is None
            assert far.get_extra_info("nothing", 5) == 5
            near, client = await here(Recorder, remote_addr=address[:2])
            assert near.get_extra_info("peername")[:2] == address[:2]
            assert server.calls == client.calls == ["made"]
            server.calls.clear()
            client.calls.clear()
            near.sendto(b"one")
            near.sendto(bytearray(b"two"), None)
            near.sendto(memoryview(b"three"), near.get_extra_info("peername"))
            got = await server.next(3)
            mine = near.get_extra_info("sockname")
            assert got == [(b"one", mine), (b"two", mine), (b"three", mine)]
            far.sendto(b"back", mine)
            assert await client.next(1) == [(b"back", far.get_extra_info("sockname"))]
            with pytest.raises(ValueError, match=r"[Ii]nvalid address"):
                near.sendto(b"x", (host, 1))
            with pytest.raises(TypeError):
                near.sendto("text")
            far.close()
            assert far.is_closing()
            assert await server.lost is None
            near.sendto(b"nobody there")
            (error,) = await client.next(1)
            assert isinstance(error, ConnectionRefusedError)
            near.close()
            near.close()
            near.abort()
            assert await client.lost is None
            near.sendto(b"late")
            await iterations(3)
            assert client.calls == ["lost"]
            assert server.calls == ["lost"]

    run(main())


@pytest.mark.parametrize("name", ["kernel", "tap4"])
def test_errors_are_the_same_as_asyncios(name: str, loop_kind: str) -> None:
    async def main() -> None:
        async with place(name) as (here, _, host):
            transport, protocol = await here(Recorder, local_addr=("127.0.0.1", 0))
            protocol.calls.clear()
            transport.sendto(bytes(65_508), (host, 1))
            (error,) = protocol.calls
            assert isinstance(error, OSError)
            assert error.errno == errno.EMSGSIZE
            protocol.calls.clear()
            transport.close()
            await protocol.lost
            transport, protocol = await here(Recorder, family=socket.AF_INET)
            protocol.calls.clear()
            transport.sendto(b"x", ("255.255.255.255", 1))
            (error,) = protocol.calls
            assert isinstance(error, PermissionError)
            transport.abort()
            with pytest.raises(ValueError, match="unexpected address family"):
                await here(Recorder)
            # uvloop keeps its own transport where that could not be bound, and the loop's end then hangs.
            if (name, loop_kind) != ("kernel", "uvloop"):
                taken, _ = await here(Recorder, local_addr=("127.0.0.1", 0))
                with pytest.raises(OSError, match=r"(?i)address already in use") as caught:
                    await here(Recorder, local_addr=("127.0.0.1", taken.get_extra_info("sockname")[1]))
                assert caught.value.errno == errno.EADDRINUSE
                taken.close()
            with pytest.raises(TypeError):
                await here(Recorder, local_addr="127.0.0.1")
            await iterations(3)

    run(main())


def test_flow_control() -> None:
    async def main() -> None:
        async with pair("tap4", cable=False) as two:
            near, client = await two.a.create_datagram_endpoint(Recorder, family=socket.AF_INET, allow_broadcast=True)
            assert isinstance(near, UdpTransport)
            reader = two.interfaces[0].readable.get_reader()
            client.calls.clear()
            everybody = ("10.0.0.255", 9)
            count = 0
            while near.get_write_buffer_size() == 0:
                near.sendto(payload(1400, count), everybody)
                count += 1
            while not client.calls:
                near.sendto(payload(1400, count), everybody)
                count += 1
            assert client.calls == ["pause"]
            assert HIGH_WATER < near.get_write_buffer_size() < HIGH_WATER + 2000
            while len(client.calls) == 1:
                near.sendto(payload(1400, count), everybody)
                count += 1
            error = client.calls.pop()
            assert isinstance(error, OSError)
            assert error.errno == errno.ENOBUFS
            assert near.get_write_buffer_size() <= QUEUE_BYTES
            near.close()
            assert not client.lost.done(), "what was taken is sent first"
            seen = 0
            while seen < count - 1:
                frame = await reader.read()
                assert frame is not None
                if frame[12:14] == b"\x08\x00" and frame[23] == 17:
                    assert frame[42:] == payload(1400, seen)
                    seen += 1
            assert await client.lost is None
            assert client.calls == ["pause", "resume", "lost"]

    run(main())


def test_water_marks() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            near, _ = await two.a.create_datagram_endpoint(Recorder, family=socket.AF_INET)
            assert near.get_write_buffer_limits() == (HIGH_WATER // 4, HIGH_WATER)
            near.set_write_buffer_limits(1000)
            assert near.get_write_buffer_limits() == (250, 1000)
            near.set_write_buffer_limits(low=10)
            assert near.get_write_buffer_limits() == (10, 40)
            with pytest.raises(ValueError, match="high"):
                near.set_write_buffer_limits(1, 2)
            near.close()

    run(main())


def test_a_lower_mark_pauses_at_once() -> None:
    """As asyncio's transports do: the next datagram is not delayed. Below the mark nothing is called."""

    async def main() -> None:
        async with pair("tap4", cable=False) as two:
            near, client = await two.a.create_datagram_endpoint(Recorder, family=socket.AF_INET, allow_broadcast=True)
            assert isinstance(near, UdpTransport)
            while near.get_write_buffer_size() < 10_000:  # the interface's frames have no reader
                near.sendto(payload(1400), ("10.0.0.255", 9))
            size = near.get_write_buffer_size()
            near.set_write_buffer_limits(size)
            assert client.calls == ["made"]
            near.set_write_buffer_limits(size - 1)
            assert client.calls == ["made", "pause"]
            near.set_write_buffer_limits(size - 2)
            assert client.calls == ["made", "pause"]
            near.abort()

    run(main())


def test_a_protocol_that_raises_loses_its_socket() -> None:
    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
            raise RuntimeError("no")

    async def main() -> None:
        async with pair("tap4") as two:
            _, server = await two.b.create_datagram_endpoint(Failing, local_addr=(two.host, 9))
            near, _ = await two.a.create_datagram_endpoint(Recorder, remote_addr=(two.host, 9))
            near.sendto(b"x")
            assert isinstance(await server.lost, RuntimeError)
            near.close()

    _, reports = run_with_reports(main())
    assert [report["message"] for report in reports] == ["protocol.datagram_received() failed"]


def test_factories_and_protocols_that_raise_leak_nothing() -> None:
    class Refusing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise RuntimeError("no")

    def broken() -> Recorder:
        raise RuntimeError("no")

    async def main() -> None:
        async with pair("tap4") as two:
            handles = two.a.stats().core.handles
            for factory in (Refusing, broken):
                with pytest.raises(RuntimeError, match="no"):
                    await two.a.create_datagram_endpoint(factory, local_addr=(None, 9))  # type: ignore[arg-type]
            await iterations(3)
            assert two.a.stats().core.handles == handles

    run(main())


def test_closing_the_stack() -> None:
    async def main() -> None:
        async with pair("tap4") as two:
            near, client = await two.a.create_datagram_endpoint(Recorder, remote_addr=(two.host, 9))
            await two.a.aclose()
            assert isinstance(await client.lost, StackClosedError)
            near.sendto(b"late")
            near.close()

    run(main())
