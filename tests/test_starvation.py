"""Peers with tiny segments and windows, and many peers, cost bounded work: counted in calls, polls and events."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.engine import abi
from tcpip_wasm.simulation import run_virtually
from tests.kit.frames import ACK, RST, SYN, ipv4, tcp

OWN, PEER = "10.0.0.1", "10.0.0.2"
PORT = 80
AMOUNT = 65536
TIMESTAMPS = struct.pack("!BBBBII", 1, 1, 8, 10, 1, 0)

KINDS = {
    "MSS 1": (65535, struct.pack("!BBH", 2, 4, 1)),
    "window 2": (2, struct.pack("!BBH", 2, 4, 1460)),
    "MSS 12 with timestamps": (65535, struct.pack("!BBH", 2, 4, 12) + TIMESTAMPS),
}


class Program(asyncio.Protocol):
    """Records its transport."""

    def __init__(self, opened: asyncio.Queue[Program]) -> None:
        self._opened = opened
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._opened.put_nowait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Silent:
    """The peer on a TUN interface: it opens connections and answers nothing else."""

    def __init__(self, stack: NetworkStack) -> None:
        self.stack = stack
        self.programs: list[Program] = []
        self.ports: dict[int, int] = {}

    async def open(self, count: int, window: int, options: bytes) -> None:
        interface = await self.stack.create_tun_interface(ip=f"{OWN}/24")
        opened: asyncio.Queue[Program] = asyncio.Queue()
        await self.stack.create_server(lambda: Program(opened), OWN, PORT, backlog=255)
        reader, self.writer = interface.readable.get_reader(), interface.writable.get_writer()
        later = TIMESTAMPS if options.endswith(TIMESTAMPS) else b""
        for port in range(2000, 2000 + count):
            await self.send(port, sequence=1, flags=SYN, window=window, options=options)
            packet = await reader.read()
            while packet is not None and packet[33] != SYN | ACK:
                packet = await reader.read()
            assert packet is not None
            [sequence] = struct.unpack_from("!I", packet, 24)
            self.ports[port] = sequence + 1
            await self.send(port, flags=ACK, window=window, options=later)
            self.programs.append(await opened.get())
        self.task = asyncio.create_task(self.drain(reader))

    async def drain(self, reader: object) -> None:
        while True:
            await reader.read()  # type: ignore[attr-defined]

    async def send(self, port: int, *, sequence: int = 2, flags: int, window: int = 0, options: bytes = b"") -> None:
        segment = tcp(
            (PEER, port), (OWN, PORT), sequence=sequence, acknowledgement=self.ports.get(port, 0), flags=flags,
            window=window, options=options,
        )  # fmt: skip
        await self.writer.write(ipv4(PEER, OWN, 6, segment))


@asynccontextmanager
async def silent(count: int, kind: str) -> AsyncIterator[Silent]:
    async with await create_stack(seed=1) as stack:
        peers = Silent(stack)
        await peers.open(count, *KINDS[kind])
        try:
            yield peers
        finally:
            peers.task.cancel()


@pytest.mark.parametrize("kind", KINDS)
def test_writes_to_peers_that_accept_nothing(kind: str) -> None:
    """A hundred programs write 64 KiB to peers of tiny segments.

    Each call takes what fits, none takes nothing, and the stack is polled for its clock alone once all is queued.
    """

    async def main() -> None:
        async with silent(100, kind) as peers:
            core = peers.stack._driver.core
            calls: list[int] = []
            handed: list[int] = []
            send = core.tcp_send

            def counted(handle: int, data: bytes | memoryview, now: float = 0.0) -> int:
                handed.append(len(data))
                calls.append(send(handle, data, now))
                return calls[-1]

            core.tcp_send = counted  # type: ignore[method-assign]
            for program in peers.programs:
                program.transport.write(bytes(AMOUNT))
            await asyncio.sleep(1)
            assert sum(calls) == 100 * AMOUNT, "all is queued"
            assert 0 not in calls, "a try that takes nothing"
            assert sum(handed) <= 100 * 3.5 * AMOUNT, "what does not fit is not copied into the module again and again"
            assert len(calls) <= 100 * (AMOUNT // (128 * 36) + 1), "parts of 128 segments"
            assert core.statistics().heap_used < 100 * 2**20
            iterations = peers.stack._driver.turns
            before = len(calls)
            await asyncio.sleep(10)
            assert len(calls) == before
            assert peers.stack._driver.turns - iterations <= 10 * 40 + 10, "one poll for each tick of TCP"

    run_virtually(main())


@pytest.mark.parametrize("kind", KINDS)
def test_such_connections_end_as_others(kind: str) -> None:
    async def main() -> None:
        async with silent(3, kind) as peers:
            for program in peers.programs:
                program.transport.write(bytes(AMOUNT))
            await asyncio.sleep(100)
            assert not any(program.lost for program in peers.programs), "RFC 1122, section 4.2.3.5"
            await asyncio.sleep(600)
            assert all(program.lost for program in peers.programs)

    run_virtually(main())


def test_resets_are_reported_in_parts() -> None:
    """Three hundred connections are reset in one poll; the loop has an iteration between parts of the reports."""

    async def main() -> None:
        async with silent(300, "MSS 1") as peers:
            driver = peers.stack._driver
            parts: list[int] = []
            events = driver.core.events

            def counted() -> list[tuple[int, int, int, object]]:
                latest = events()
                parts.append(sum(kind == abi.EVENT_CLOSED for kind, *_ in latest))
                return latest

            driver.core.events = counted  # type: ignore[method-assign]
            iterations = 0
            for port in peers.ports:
                await peers.send(port, flags=RST)
            while not all(program.lost for program in peers.programs):
                iterations += 1
                await asyncio.sleep(0)
            assert max(parts) <= 32
            assert sum(parts) == 300
            assert iterations >= 300 // 32

    run_virtually(main())
