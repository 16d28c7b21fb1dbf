"""For tests of captures: a link with delay and loss, and a transfer over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

from tcpip_wasm import Interface, TapInterface, connect, create_stack
from tcpip_wasm.capture import Observation, Trace, capture
from tcpip_wasm.engine import split_records
from tests.kit.core_network import payload

ALICE, BOB = "10.0.0.1", "10.0.0.2"


class LossyLink:
    """Carries frames between two interfaces with delay and loss, and reports each to an observer.

    Args:
        a, b: the interfaces.
        observe: called with each frame.
        bandwidth: bit/s.
        delay: seconds.
        loss: probability.
        queue: the longest queueing delay in seconds.
    """

    def __init__(
        self,
        a: Interface,
        b: Interface,
        observe: Callable[[Observation], None],
        *,
        bandwidth: float = 10e6,
        delay: float = 0.01,
        loss: float = 0.0,
        queue: float = 0.05,
        seed: int = 1,
    ) -> None:
        self.observe, self.bandwidth, self.delay, self.loss, self.queue = observe, bandwidth, delay, loss, queue
        a.attach(_End(self, b, True, Random(f"{seed}/0")))
        b.attach(_End(self, a, False, Random(f"{seed}/1")))


class _End:
    def __init__(self, link: LossyLink, destination: Interface, outgoing: bool, random: Random) -> None:
        self.link, self.destination, self.outgoing, self.random = link, destination, outgoing, random
        self.free = 0.0

    def transmit(self, records: memoryview) -> int:
        loop, link = self.destination.driver.loop, self.link
        now = loop.time()
        for view in split_records(records):
            frame, comment = bytes(view), None
            begin = max(now, self.free)
            if begin - now > link.queue:
                comment = "queue"
            elif self.random.random() < link.loss:
                comment = "loss"
            else:
                self.free = begin + len(frame) * 8 / link.bandwidth
                loop.call_at(self.free + link.delay, self.destination.inject, frame)
            link.observe(Observation(now, "link0", self.outgoing, frame, comment))
        return len(records)

    def detached(self, error: Exception | None) -> None:
        """Do nothing."""


async def transfer(trace: Trace, size: int = 2_000_000, **link: float) -> bytes:
    """Send bytes from Alice to Bob over a `LossyLink`, and return the bytes that arrived."""
    async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
        ends = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
        LossyLink(*ends, trace, **link)  # type: ignore[arg-type]
        listener = await bob.listen_tcp(80)
        reader, writer = await alice.open_connection(BOB, 80)
        connection = await listener.accept()
        writer.write(payload(size))
        writer.write_eof()
        received = b""
        async for chunk in connection.readable:
            received += chunk
        writer.close()
        await connection.close()
        await writer.wait_closed()
        await reader.read()
        return received


async def cable_of(
    to: object, count: int = 1, size: int = 100_000, **options: object
) -> tuple[tuple[TapInterface, TapInterface], list[bytes]]:
    """Exchange data over a cable while both of its ends are captured; return the interfaces, and the data."""
    async with await create_stack(seed=1) as alice, await create_stack(seed=2) as bob:
        ends = await alice.create_tap_interface(ip=f"{ALICE}/24"), await bob.create_tap_interface(ip=f"{BOB}/24")
        connect(*ends)
        sent = []
        with capture({"alice": ends[0], "bob": ends[1]}, to, **options):  # type: ignore[arg-type]
            for number in range(count):
                sent.append(payload(size + number))
                assert await echo(alice, bob, BOB, sent[-1]) == sent[-1]
        return ends, sent


async def echo(client: object, server: object, host: str, data: bytes) -> bytes:
    """Let a server echo a client's data, and return the echo."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(-1))
        await writer.drain()
        writer.close()

    async with await server.start_server(serve, port=7):  # type: ignore[attr-defined]
        reader, writer = await client.open_connection(host, 7)  # type: ignore[attr-defined]
        writer.write(data)
        writer.write_eof()
        answer: bytes = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return answer


def stream_of(packets: Iterable[object], source_port: int) -> bytes:
    """Reassemble the data of TCP segments from a port by their sequence numbers."""
    chunks: dict[int, bytes] = {}
    first = None
    for packet in packets:
        tcp = packet.tcp  # type: ignore[attr-defined]
        if tcp is None or tcp.source_port != source_port:
            continue
        if tcp.syn:
            first = tcp.sequence + 1
        elif packet.payload:  # type: ignore[attr-defined]
            assert first is not None
            chunks[tcp.sequence - first & 0xFFFFFFFF] = packet.payload  # type: ignore[attr-defined]
    data = b""
    for at in sorted(chunks):
        assert at <= len(data), f"{at - len(data)} bytes are missing at {len(data)}"
        data = data[:at] + chunks[at]
    return data
