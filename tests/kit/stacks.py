"""Pairs of connected stacks on a real event loop, for tests of interfaces and sockets.

Tests run in `run`: it bounds the time, and fails a test that leaks tasks or reports errors to the loop.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from tcpip_wasm import (
    Cable,
    NetworkStack,
    TapInterface,
    TcpConnection,
    TcpTransport,
    TunInterface,
    connect,
    create_stack,
)
from tests.kit.core_network import Rule

T = TypeVar("T")
Wire = TapInterface | TunInterface

WAYS = ("tap4", "tap6", "tun4", "tun6", "loopback4", "loopback6")
"""Interface and IP version of the connection between two stacks, for parametrised tests."""


loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
"""Creates the loop of `run`; None creates asyncio's default. Tests that run on several loops set it."""


def set_loop_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` create loops of a kind, ``"asyncio"`` or ``"uvloop"``, for one test; skip it where that is missing."""
    if kind == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        monkeypatch.setattr(f"{__name__}.loop_factory", uvloop.new_event_loop)


def run(main: Coroutine[Any, Any, T], *, seconds: float = 120.0) -> T:
    """Run a test's coroutine, with a time limit; fail if it leaks a task, or an error is reported to the loop.

    Args:
        main: the test.
        seconds: the limit.
    """
    result, reports = run_with_reports(main, seconds=seconds)
    assert not reports, reports
    return result


def run_with_reports(main: Coroutine[Any, Any, T], *, seconds: float = 120.0) -> tuple[T, list[dict[str, Any]]]:
    """Like `run`, but return the reports to the loop's exception handler, too."""
    reports: list[dict[str, Any]] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(seconds):
            result = await main
        await iterations(5)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(guarded())
    gc.collect()
    return result, reports


async def iterations(count: int) -> None:
    """Let the loop run some iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(done: Callable[[], bool], *, limit: int = 200_000) -> None:
    """Let the loop run until a condition is true."""
    for _ in range(limit):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not become true")


@dataclass
class Pair:
    """Two connected stacks; over a loopback interface they are the same stack.

    Attributes:
        host: address of `b`, to which `a` connects.
        own: address of `a`, from which it connects.
    """

    a: NetworkStack
    b: NetworkStack
    host: str
    own: str
    wires: tuple[Wire, ...] = ()
    cable: Cable | None = None

    @property
    def interfaces(self) -> tuple[Wire, Wire]:
        """The interfaces that are connected, unless it is a loopback interface."""
        first, second = self.wires
        return first, second

    async def connections(self, port: int = 80, **options: Any) -> tuple[TcpConnection, TcpConnection]:
        """Return both ends of a new connection, the client's first."""
        async with await self.b.listen_tcp(port, **options) as listener:
            client = await self.a.connect_tcp(self.host, port)
            return client, await listener.accept()


@asynccontextmanager
async def pair(way: str = "tap4", *, cable: bool = True, mtu: int = 1500, seed: int = 7) -> AsyncIterator[Pair]:
    """Create two connected stacks.

    Args:
        way: one of `WAYS`.
        cable: whether the TAP or TUN interfaces are connected by a cable.
        mtu: of the interfaces, in bytes.
        seed: of the first stack; the second has the next number.
    """
    kind, family = way[:-1], int(way[-1])
    async with await create_stack(seed=seed) as a:
        if kind == "loopback":
            host = "127.0.0.1" if family == 4 else "::1"
            yield Pair(a, a, host, host)
            return
        async with await create_stack(seed=seed + 1) as b:
            ends = ("10.0.0.1", "10.0.0.2") if family == 4 else ("fd00::1", "fd00::2")
            interfaces: list[Wire] = []
            for stack, address in zip((a, b), ends, strict=True):
                ip = f"{address}/{24 if family == 4 else 64}"
                if kind == "tap":
                    interfaces.append(await stack.create_tap_interface(ip=ip, mtu=mtu))
                else:
                    interfaces.append(await stack.create_tun_interface(ip=ip, mtu=mtu))
            link = connect(interfaces[0], interfaces[1]) if cable else None
            yield Pair(a, b, ends[1], ends[0], tuple(interfaces), link)


class FrameRelay:
    """Carries frames between two interfaces through their streams, by a rule; a context manager.

    Args:
        a, b: the interfaces.
        rule: decides which frames arrive; a delay of any length puts a frame after the next one of its direction.
    """

    def __init__(self, a: Wire, b: Wire, rule: Rule) -> None:
        self._ways = ((a, b), (b, a))
        self._rule = rule
        self._tasks: list[asyncio.Task[None]] = []
        self.count = 0

    async def __aenter__(self) -> FrameRelay:
        self._tasks = [asyncio.create_task(self._carry(*way)) for way in self._ways]
        await iterations(1)  # both streams have readers before the first frame
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _carry(self, source: Wire, destination: Wire) -> None:
        held: list[bytes] = []
        with destination.writable.get_writer() as writer:
            async for frame in source.readable:
                arriving = self._rule(self.count, frame)
                self.count += 1
                late = [copy for delay, copy in arriving if delay > 0]
                for copy in [copy for delay, copy in arriving if delay == 0] + held:
                    await writer.write(copy)
                held = late


async def raises_errno(number: int, awaitable: Awaitable[object]) -> None:
    """Assert that an awaitable raises `OSError` with an errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is compared
        await awaitable
    assert caught.value.errno == number, caught.value


async def read_all(connection: TcpConnection) -> bytes:
    """Return all bytes that arrive on a connection until its end."""
    return b"".join([chunk async for chunk in connection])


async def send_all(connection: TcpConnection, data: bytes, *, chunk: int = 65536) -> None:
    """Write data in chunks, then send FIN."""
    with connection.writable.get_writer() as writer:
        for at in range(0, len(data), chunk):
            await writer.write(data[at : at + chunk])
        await writer.close()


class Recorder(asyncio.Protocol):
    """A protocol that records its callbacks and checks their order.

    Attributes:
        calls: names of the callbacks, in order.
        data: the bytes that arrived.
        lost: done when the connection is lost, with the error or None.
        keep_open: the result of `eof_received`.
    """

    def __init__(self, *, keep_open: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.keep_open = keep_open
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.eof: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: TcpTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        assert self.calls == []
        self.calls.append("made")
        self.transport = transport
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        assert "eof" not in self.calls
        assert "lost" not in self.calls
        self.data += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        self.eof.set_result(None)  # raises the second time
        return self.keep_open

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(error)  # raises the second time

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


async def recorders(
    two: Pair, *, client_keeps: bool = False, server_keeps: bool = False, port: int = 80
) -> tuple[Recorder, Recorder]:
    """Return the protocols at both ends of a new connection, the client's first."""
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder(keep_open=server_keeps))
        return accepted[0]

    server = await two.b.create_server(accept, two.host, port)
    _, client = await two.a.create_connection(lambda: Recorder(keep_open=client_keeps), two.host, port)
    await until(lambda: bool(accepted) and accepted[0].made.done())
    server.close()
    return client, accepted[0]


class BatchingPort:
    """A port that collects frames for some loop iterations and then delivers all of them at once, as a wire with delay
    and coalesced interrupts does.

    Args:
        destination: the interface to which it delivers.
        iterations: how many loop iterations it collects.
    """

    def __init__(self, destination: Wire, iterations: int = 10) -> None:
        self._far = destination
        self._iterations = iterations
        self._kept: list[bytes] = []

    def transmit(self, records: memoryview) -> int:
        self._kept.append(bytes(records))
        if len(self._kept) == 1:
            self._wait(self._iterations)
        return len(records)

    def _wait(self, iterations: int) -> None:
        if iterations > 0:
            asyncio.get_running_loop().call_soon(self._wait, iterations - 1)
            return
        records = b"".join(self._kept)
        self._kept.clear()
        view = self._far.receive_buffer()
        view[: len(records)] = records
        self._far.commit_received(len(records))

    def detached(self, error: Exception | None) -> None:
        self._kept.clear()


def connect_batched(two: Pair) -> None:
    """Connect two hosts without a cable by `BatchingPort`s."""
    a, b = two.interfaces
    a.attach(BatchingPort(b))
    b.attach(BatchingPort(a))
