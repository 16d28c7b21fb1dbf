"""Real stacks on a real event loop, joined in pairs: what the tests of interfaces and sockets stand on.

`run` is the one way in: it bounds the time and fails a test whose tasks or callbacks left something behind.
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
from tests.support import Rule

T = TypeVar("T")
Wire = TapInterface | TunInterface

WAYS = ("tap4", "tap6", "tun4", "tun6", "loopback4", "loopback6")
"""The ways from one end to the other, for parametrised tests."""


loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
"""What makes the loop of `run`; None is asyncio's own. Tests that run on several loops set it."""


def set_loop_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` make loops of a kind, ``"asyncio"`` or ``"uvloop"``, for one test; skip it where there is none."""
    if kind == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        monkeypatch.setattr(f"{__name__}.loop_factory", uvloop.new_event_loop)


def run(main: Coroutine[Any, Any, T], *, seconds: float = 120.0) -> T:
    """Run a test's coroutine: within a time, with no task left and nothing reported to the loop.

    Args:
        main: the test.
        seconds: after which it has hung.
    """
    result, reports = run_with_reports(main, seconds=seconds)
    assert not reports, reports
    return result


def run_with_reports(main: Coroutine[Any, Any, T], *, seconds: float = 120.0) -> tuple[T, list[dict[str, Any]]]:
    """Like `run`, and return also what was reported to the loop's exception handler."""
    reports: list[dict[str, Any]] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(seconds):
            result = await main
        await turns(5)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(guarded())
    gc.collect()
    return result, reports


async def turns(count: int) -> None:
    """Let the loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(done: Callable[[], bool], *, limit: int = 200_000) -> None:
    """Let the loop go round until something is so."""
    for _ in range(limit):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to pass")


@dataclass
class Pair:
    """Two stacks and the way between them; on a loopback way they are the same stack.

    Attributes:
        host: address of `b` as `a` reaches it.
        own: address of `a` as `b` sees it.
    """

    a: NetworkStack
    b: NetworkStack
    host: str
    own: str
    wires: tuple[Wire, ...] = ()
    cable: Cable | None = None

    @property
    def interfaces(self) -> tuple[Wire, Wire]:
        """The interfaces of the way, where there are any."""
        first, second = self.wires
        return first, second

    async def connections(self, port: int = 80, **options: Any) -> tuple[TcpConnection, TcpConnection]:
        """Return both ends of a new connection, the one that connected first."""
        async with await self.b.listen_tcp(port, **options) as listener:
            client = await self.a.connect_tcp(self.host, port)
            return client, await listener.accept()


@asynccontextmanager
async def pair(way: str = "tap4", *, cable: bool = True, mtu: int = 1500, seed: int = 7) -> AsyncIterator[Pair]:
    """Join two new stacks.

    Args:
        way: one of `WAYS`.
        cable: whether a cable is put between taps or tuns.
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


class Middleman:
    """Carries frames between two interfaces through their streams, by a rule; as a context manager it stops.

    Args:
        a, b: the interfaces.
        rule: the fate of each frame; a delay of any length puts it behind the next frame of its direction.
    """

    def __init__(self, a: Wire, b: Wire, rule: Rule) -> None:
        self._ways = ((a, b), (b, a))
        self._rule = rule
        self._tasks: list[asyncio.Task[None]] = []
        self.count = 0

    async def __aenter__(self) -> Middleman:
        self._tasks = [asyncio.create_task(self._carry(*way)) for way in self._ways]
        await turns(1)  # both listen before anything is sent
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _carry(self, near: Wire, far: Wire) -> None:
        held: list[bytes] = []
        with far.writable.get_writer() as writer:
            async for frame in near.readable:
                arriving = self._rule(self.count, frame)
                self.count += 1
                late = [copy for delay, copy in arriving if delay > 0]
                for copy in [copy for delay, copy in arriving if delay == 0] + held:
                    await writer.write(copy)
                held = late


async def fails(number: int, awaitable: Awaitable[object]) -> None:
    """Await what must raise an `OSError` with this number."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is compared
        await awaitable
    assert caught.value.errno == number, caught.value


async def read_all(connection: TcpConnection) -> bytes:
    """Return everything that arrives on a connection until its end."""
    return b"".join([chunk async for chunk in connection])


async def send_all(connection: TcpConnection, data: bytes, *, piece: int = 65536) -> None:
    """Write data in pieces, then say FIN."""
    with connection.writable.get_writer() as writer:
        for at in range(0, len(data), piece):
            await writer.write(data[at : at + piece])
        await writer.close()


class Recorder(asyncio.Protocol):
    """A protocol that writes down its callbacks and checks their order.

    Attributes:
        calls: names of the callbacks, in order.
        data: what arrived.
        lost: done when the connection is lost, with the error or None.
        keep_open: what `eof_received` answers.
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
    """Return the protocols at both ends of a new connection, the one that connected first."""
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder(keep_open=server_keeps))
        return accepted[0]

    server = await two.b.create_server(accept, two.host, port)
    _, client = await two.a.create_connection(lambda: Recorder(keep_open=client_keeps), two.host, port)
    await until(lambda: bool(accepted) and accepted[0].made.done())
    server.close()
    return client, accepted[0]


class Together:
    """A port that keeps what leaves for some loop iterations and then lets all of it arrive at once, as a wire with
    some delay and interrupts that are coalesced do.

    Args:
        far: where it arrives.
        iterations: how many.
    """

    def __init__(self, far: Wire, iterations: int = 10) -> None:
        self._far = far
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


def join_together(two: Pair) -> None:
    """Join two hosts that have no cable so that what one sends in some loop iterations arrives at once."""
    a, b = two.interfaces
    a.attach(Together(b))
    b.attach(Together(a))
